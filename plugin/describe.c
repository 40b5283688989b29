#include "describe.h"

#include <string.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

static void redact_into(struct sw_redact *redact, const char *name, const char *value, size_t bytes, char *to,
                        size_t room)
{
    struct sw_text out;
    sw_text_init(&out, to, room);
    sw_redact_value(redact, name, value, bytes, &out);
}

#define REDACT(name, field)                                                                                  \
    redact_into(redact, name, raw->field.at, raw->field.bytes, out->field, sizeof out->field)

void sw_describe_request(const struct sw_raw *raw, const struct sw_peek *peek, struct sw_redact *redact,
                         struct sw_report_request *out)
{
    const struct uwsgi_worker *me = &uwsgi.workers[uwsgi.mywid];
    struct sw_text uri, app;
    memset(out, 0, sizeof *out);
    sw_text_init(&uri, out->uri, sizeof out->uri);
    sw_redact_uri(redact, raw->uri, raw->uri_bytes, &uri);
    REDACT("method", method);
    REDACT("host", host);
    REDACT("remote-addr", remote_addr);
    REDACT("user-agent", user_agent);
    REDACT("x-request-id", request_id);
    REDACT("traceparent", traceparent);
    if (raw->app_id >= 0 && raw->app_id < me->apps_cnt) {
        const struct uwsgi_app *a = &me->apps[raw->app_id];
        sw_text_init(&app, out->app, sizeof out->app);
        sw_text_put_bytes(&app, a->mountpoint, a->mountpoint_len);
    }
    out->started_us = peek->who.start_us;
    out->body_bytes = peek->body_bytes;
}

void sw_describe_harakiri(struct sw_event *e)
{
    const struct uwsgi_worker *me = &uwsgi.workers[uwsgi.mywid];
    time_t deadline = me->harakiri;
    if (me->user_harakiri > 0 && (deadline == 0 || me->user_harakiri < deadline))
        deadline = me->user_harakiri;
    if (deadline <= 0)
        return;
    e->has_harakiri = true;
    e->harakiri_in_ms = (int64_t)deadline * 1000 - (int64_t)(uwsgi_micros() / SW_NS_PER_US);
}
