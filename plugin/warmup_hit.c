#include "warmup_hit.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

/* The request plugin of modifier 0: that of Python, and of most requests. */
#define MODIFIER 0

static struct {
    struct uwsgi_socket socket; /* speaks the uwsgi protocol and listens nowhere */
    /* uWSGI's own values meanwhile */
    int harakiri, loyal, no_threads_wait;
    uint64_t max_requests, reload_on_as, reload_on_rss;
    struct wsgi_request *(*current_wsgi_req)(void);
    void (*exception_log)(struct wsgi_request *);
    /* of the request under way */
    struct sw_exception *exception;
    struct sw_arena *arena;
} hit;

/* ---- what is different meanwhile ---- */

static struct wsgi_request *request(void)
{
    return &uwsgi.workers[uwsgi.mywid].cores[0].req;
}

/* uWSGI is about to print an exception of the application. */
static void on_exception(struct wsgi_request *req)
{
    if (req == request() && hit.exception && !hit.exception->words[0])
        sw_exception_read(hit.exception, hit.arena);
    if (hit.exception_log)
        hit.exception_log(req);
}

void sw_hit_begin(void)
{
    uwsgi_proto_uwsgi_setup(&hit.socket);
    hit.socket.can_offload = 0; /* the response ends with the request */
    hit.socket.name = (char *)"slowwatch";
    hit.socket.name_len = (int)strlen(hit.socket.name);

    /* The struct is this process's own, only its workers are shared. Harakiri would kill each new process again, and
     * limits that recycle a worker would end it in the middle of its warm-up. */
    hit.harakiri = uwsgi.harakiri_options.workers;
    hit.max_requests = uwsgi.max_requests;
    hit.reload_on_as = uwsgi.reload_on_as;
    hit.reload_on_rss = uwsgi.reload_on_rss;
    uwsgi.harakiri_options.workers = 0;
    uwsgi.max_requests = uwsgi.reload_on_as = uwsgi.reload_on_rss = 0;
    /* A graceful reload joins the threads of all cores, which are not there yet. */
    hit.no_threads_wait = uwsgi.no_threads_wait;
    uwsgi.no_threads_wait = 1;
    /* Only a request of a client is a proof for the Emperor. */
    hit.loyal = uwsgi.loyal;
    uwsgi.loyal = 1;
    hit.current_wsgi_req = uwsgi.current_wsgi_req;
    uwsgi.current_wsgi_req = simple_current_wsgi_req;
    hit.exception_log = uwsgi.p[MODIFIER]->exception_log;
    if (hit.exception_log)
        uwsgi.p[MODIFIER]->exception_log = on_exception;
}

void sw_hit_finish(void)
{
    uwsgi.harakiri_options.workers = hit.harakiri;
    uwsgi.max_requests = hit.max_requests;
    uwsgi.reload_on_as = hit.reload_on_as;
    uwsgi.reload_on_rss = hit.reload_on_rss;
    uwsgi.no_threads_wait = hit.no_threads_wait;
    uwsgi.loyal = hit.loyal;
    uwsgi.current_wsgi_req = hit.current_wsgi_req;
    if (hit.exception_log)
        uwsgi.p[MODIFIER]->exception_log = hit.exception_log;
}

/* ---- one request ---- */

/* The Python plugin counts requests of an application by itself. */
static void uncount(int app_id)
{
    struct uwsgi_worker *me = &uwsgi.workers[uwsgi.mywid];
    if (app_id >= 0 && app_id < me->apps_cnt && me->apps[app_id].requests > 0)
        me->apps[app_id].requests--;
}

static void serve(struct wsgi_request *req, int server, struct sw_hit_result *out)
{
    req->fd = server;
    req->do_not_account = req->do_not_account_avg_rt = req->do_not_log = 1;
    if (wsgi_req_recv(-1, req) < 0) {
        uwsgi_destroy_request(req);
        uwsgi.workers[uwsgi.mywid].cores[0].in_request = 0;
        return;
    }
    while (req->async_status == UWSGI_AGAIN) /* an async mode, whose loop does not run yet */
        req->async_status = uwsgi.p[req->uh->modifier1]->request(req);
    out->status = req->status;
    out->bytes = req->response_size;
    const int app_id = req->app_id;
    uwsgi_close_request(req);
    uncount(app_id);
}

static int connect_pair(const char *packet, size_t n, int pair[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    const ssize_t sent = send(pair[1], packet, n, MSG_NOSIGNAL);
    if (sent == (ssize_t)n)
        return 0;
    const int err = sent < 0 ? -errno : -EMSGSIZE;
    close(pair[0]);
    close(pair[1]);
    return err;
}

int sw_hit_run(const char *packet, size_t n, uint64_t timeout_ns, const struct sw_guard_hooks *hooks,
               struct sw_hit_result *out, struct sw_arena *arena)
{
    struct sw_guard guard;
    int pair[2];
    memset(out, 0, sizeof *out);
    int err = connect_pair(packet, n, pair);
    if (err < 0)
        return err;
    wsgi_req_setup(request(), 0, &hit.socket); /* a suspended worker waits here */
    const uint64_t start_ns = sw_now_ns();
    err = sw_guard_start(&guard, pair[1], sw_add_sat(start_ns, timeout_ns), hooks);
    if (err < 0) {
        close(pair[0]);
        return err;
    }
    hit.exception = &out->exception;
    hit.arena = arena;
    serve(request(), pair[0], out);
    hit.exception = NULL;
    out->took_ns = sw_now_ns() - start_ns;
    sw_guard_end(&guard);
    out->interrupted = guard.interrupt_ns > 0;
    out->timed_out = out->interrupted && guard.leave_ns == 0;
    out->head_bytes = guard.head_bytes;
    memcpy(out->head, guard.head, guard.head_bytes);
    return 0;
}
