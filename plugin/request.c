#include "request.h"

#include <errno.h>
#include <string.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

/* One read of a word that another thread may be writing. */
#define READ_ONCE(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)

static const int status_switching_protocols = 101;

static enum sw_phase phase_of(const struct wsgi_request *req)
{
    if (READ_ONCE(req->status) == status_switching_protocols)
        return SW_PHASE_WEBSOCKET;
    if (READ_ONCE(req->via) != 0) /* sendfile or offload: uWSGI sends a file by itself */
        return SW_PHASE_STREAMING;
    if (READ_ONCE(req->async_environ))
        return SW_PHASE_APPLICATION;
    return READ_ONCE(req->uri_len) || READ_ONCE(req->is_raw) ? SW_PHASE_UWSGI : SW_PHASE_HEADERS;
}

void sw_request_peek(const struct uwsgi_core *core, struct sw_peek *out)
{
    const struct wsgi_request *req = &core->req;
    *out = (struct sw_peek){
        .running = READ_ONCE(core->in_request) != 0,
        .who = {READ_ONCE(req->start_of_request), READ_ONCE(core->requests)},
    };
    /* At its end a request is zeroed before in_request is: start 0 means it is over. */
    if (!out->running || out->who.start_us == 0) {
        out->running = false;
        return;
    }
    out->phase = phase_of(req);
    out->fd = READ_ONCE(req->fd);
    /* Before the headers are out this is only what uWSGI would answer if the application failed. */
    out->status = READ_ONCE(req->headers_sent) ? READ_ONCE(req->status) : 0;
    out->body_bytes = READ_ONCE(req->post_cl);
    out->body_missing = READ_ONCE(req->post_pos) < out->body_bytes;
}

/* Copies s[0..n) if all of it lies in the core's buffer. */
static void copy_inside(const struct uwsgi_core *core, const char *s, size_t n, char *to, size_t room,
                        size_t *bytes)
{
    const char *begin = core->buffer, *end = core->buffer + sizeof(struct uwsgi_header) + uwsgi.buffer_size;
    *bytes = 0;
    if (s < begin || s > end || n > (size_t)(end - s))
        return;
    *bytes = n < room ? n : room;
    memcpy(to, s, *bytes);
}

struct variable {
    const char *name;
    char *to;
    size_t *bytes;
};

/* The CGI variables of a request: pairs of vectors, each in the core's buffer. */
static void copy_variables(const struct uwsgi_core *core, struct sw_raw *out)
{
    const struct variable wanted[] = {
        {"HTTP_HOST", out->host.at, &out->host.bytes},
        {"HTTP_USER_AGENT", out->user_agent.at, &out->user_agent.bytes},
        {"HTTP_X_REQUEST_ID", out->request_id.at, &out->request_id.bytes},
        {"HTTP_TRACEPARENT", out->traceparent.at, &out->traceparent.bytes},
        {"SLOWWATCH_THRESHOLD", out->threshold.at, &out->threshold.bytes},
    };
    const size_t count =
        sw_min_u64(READ_ONCE(core->req.var_cnt), (uint64_t)(uwsgi.vec_size > 0 ? uwsgi.vec_size : 0));
    for (size_t i = 0; i + 1 < count; i += 2) {
        char name[32];
        size_t name_bytes;
        const struct iovec key = core->hvec[i], value = core->hvec[i + 1];
        if (key.iov_len >= sizeof name)
            continue;
        copy_inside(core, key.iov_base, key.iov_len, name, sizeof name, &name_bytes);
        for (size_t w = 0; w < SW_COUNT(wanted); w++) {
            if (name_bytes == strlen(wanted[w].name) && memcmp(name, wanted[w].name, name_bytes) == 0)
                copy_inside(core, value.iov_base, value.iov_len, wanted[w].to, SW_RAW_VALUE_BYTES,
                            wanted[w].bytes);
        }
    }
}

static int still_there(const struct uwsgi_core *core, struct sw_identity who)
{
    struct sw_peek after;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the copy before the second look */
    sw_request_peek(core, &after);
    return after.running && sw_identity_same(who, after.who) ? 0 : -EAGAIN;
}

int sw_request_copy_line(const struct uwsgi_core *core, struct sw_identity who, struct sw_request_line *out)
{
    const struct wsgi_request *req = &core->req;
    copy_inside(core, READ_ONCE(req->uri), READ_ONCE(req->uri_len), out->uri, sizeof out->uri,
                &out->uri_bytes);
    copy_inside(core, READ_ONCE(req->method), READ_ONCE(req->method_len), out->method, sizeof out->method,
                &out->method_bytes);
    return still_there(core, who);
}

int sw_request_copy(const struct uwsgi_core *core, struct sw_identity who, struct sw_raw *out)
{
    const struct wsgi_request *req = &core->req;
    out->host.bytes = out->user_agent.bytes = out->request_id.bytes = out->traceparent.bytes = 0;
    out->threshold.bytes = 0;
    copy_inside(core, READ_ONCE(req->uri), READ_ONCE(req->uri_len), out->uri, sizeof out->uri,
                &out->uri_bytes);
    copy_inside(core, READ_ONCE(req->method), READ_ONCE(req->method_len), out->method.at, SW_RAW_VALUE_BYTES,
                &out->method.bytes);
    copy_inside(core, READ_ONCE(req->remote_addr), READ_ONCE(req->remote_addr_len), out->remote_addr.at,
                SW_RAW_VALUE_BYTES, &out->remote_addr.bytes);
    out->app_id = READ_ONCE(req->app_id);
    copy_variables(core, out);
    return still_there(core, who);
}

size_t sw_request_path_bytes(const struct sw_raw *raw)
{
    for (size_t i = 0; i < raw->uri_bytes; i++)
        if (raw->uri[i] == '?' || raw->uri[i] == '#')
            return i;
    return raw->uri_bytes;
}
