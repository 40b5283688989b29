#include "warmup_report.h"

#include "config_value.h"
#include "log.h"
#include "report.h"
#include <string.h>
#include <unistd.h>

#define REASON_CHARS 1024

enum { /* statuses with a remedy of their own */
       STATUS_REDIRECTS = 300,
       STATUS_ERRORS = 400,
       STATUS_BAD_REQUEST = 400,
       STATUS_UNAUTHORIZED = 401,
       STATUS_FORBIDDEN = 403,
       STATUS_NOT_FOUND = 404,
       STATUS_METHOD_NOT_ALLOWED = 405,
};

enum sw_warmup_outcome sw_warmup_outcome(const struct sw_hit_result *r)
{
    if (r->timed_out)
        return SW_WARMUP_TIMED_OUT;
    if (r->status == 0 || r->status >= STATUS_ERRORS || r->exception.words[0])
        return SW_WARMUP_FAILED;
    return r->status >= STATUS_REDIRECTS ? SW_WARMUP_REDIRECTED : SW_WARMUP_OK;
}

/* ---- what happened, and what to do ---- */

static const char *remedy_for(int status)
{
    switch (status) {
    case 0:
        return "no application answers there; see the log of uWSGI above, and whether the path is right";
    case STATUS_BAD_REQUEST:
        return "if the application checks the host, set slowwatch-warmup-host to one that it accepts";
    case STATUS_UNAUTHORIZED:
    case STATUS_FORBIDDEN:
        return "take a path that needs no login, or send credentials with slowwatch-warmup-header";
    case STATUS_NOT_FOUND:
        return "there is no such page for this host; correct slowwatch-warmup or slowwatch-warmup-host";
    case STATUS_METHOD_NOT_ALLOWED:
        return "give the method in front of the path: slowwatch-warmup = HEAD /path";
    default:
        return "see the log of the application for the reason";
    }
}

static void put_failed(const struct sw_hit_result *r, struct sw_text *out)
{
    if (r->exception.words[0])
        sw_text_printf(out, "%s; correct what raises it, or take another path", r->exception.words);
    else
        sw_text_put(out, remedy_for(r->status));
}

static void put_redirected(const struct sw_hit_result *r, struct sw_text *out)
{
    sw_text_put(out, "to ");
    const size_t before = out->used;
    sw_warmup_location(r->head, r->head_bytes, out);
    if (out->used == before)
        sw_text_put(out, "somewhere else");
    sw_text_put(
        out,
        ", which is not followed: give the path of the page itself, or the header that a proxy would send "
        "(slowwatch-warmup-header = X-Forwarded-Proto: https)");
}

static void put_limit(const struct sw_warmup_plan *plan, struct sw_text *out)
{
    sw_value_put_seconds(out, plan->timeout_ns);
    sw_text_put(out, " s");
}

static void put_cause(const struct sw_warmup_voice *v, enum sw_warmup_outcome outcome,
                      const struct sw_hit_result *r, struct sw_text *out)
{
    switch (outcome) {
    case SW_WARMUP_OK:
        break;
    case SW_WARMUP_REDIRECTED:
        put_redirected(r, out);
        break;
    case SW_WARMUP_FAILED:
        put_failed(r, out);
        break;
    case SW_WARMUP_TIMED_OUT:
        sw_text_put(out, "interrupted after ");
        put_limit(v->plan, out);
        sw_text_put(out, "; see what it waits for, or raise slowwatch-warmup-timeout if it needs longer");
        break;
    case SW_WARMUP_STUCK:
        sw_text_put(out, "it took longer than ");
        put_limit(v->plan, out);
        sw_text_put(out,
                    " and could not be interrupted, so this process of the worker ends; its slow request "
                    "says where it is stuck");
        break;
    case SW_WARMUP_WEDGED:
        sw_text_put(out, "it takes longer than ");
        put_limit(v->plan, out);
        sw_text_put(out,
                    " and cannot be interrupted; without a master nobody would start another process, so the "
                    "server waits for it and accepts nothing; its slow request says where it is stuck");
        break;
    case SW_WARMUP_DIED:
        sw_text_put(out, "the last process of the worker died in this request; see the log above for how");
        break;
    case SW_WARMUP_GAVE_UP:
        sw_text_printf(out,
                       "%d attempts failed, so the worker accepts requests although it is not warm, and its "
                       "first ones may be slow; correct what is said above",
                       SW_WARMUP_ATTEMPTS);
        break;
    }
}

static void put_next(const struct sw_warmup_voice *v, const struct sw_warmup_story *story,
                     struct sw_text *out)
{
    if (v->plan->required) {
        sw_text_put(out, "; the worker accepts nothing until this works (slowwatch-warmup-required)");
        if (story->attempt > SW_WARMUP_ATTEMPTS) {
            sw_text_put(out, ", for ");
            sw_text_put_seconds(out, sw_sub_floor(sw_now_ns(), story->since_ns) / SW_NS_PER_MS);
            sw_text_put(out, " so far");
        }
    }
    if (story->pause_ns != SW_NS_NEVER) {
        sw_text_put(out, "; next attempt in ");
        sw_value_put_seconds(out, story->pause_ns);
        sw_text_put(out, " s");
    }
}

/* ---- the event ---- */

static const char *const words[] = {
    [SW_WARMUP_OK] = "ok",         [SW_WARMUP_REDIRECTED] = "redirected",
    [SW_WARMUP_FAILED] = "failed", [SW_WARMUP_TIMED_OUT] = "timed out",
    [SW_WARMUP_STUCK] = "hangs",   [SW_WARMUP_WEDGED] = "hangs",
    [SW_WARMUP_DIED] = "died",     [SW_WARMUP_GAVE_UP] = "gave up",
};

static bool is_failure(enum sw_warmup_outcome outcome)
{
    return outcome != SW_WARMUP_OK && outcome != SW_WARMUP_REDIRECTED;
}

void sw_warmup_tell(struct sw_warmup_voice *v, const struct sw_warmup_story *story,
                    enum sw_warmup_outcome outcome, const struct sw_hit_result *r)
{
    struct sw_event *e = &v->event;
    char id[SW_EVENT_ID_CHARS + 1], reason_bytes[REASON_CHARS];
    struct sw_text reason;
    sw_text_init(&reason, reason_bytes, sizeof reason_bytes);
    put_cause(v, outcome, r, &reason);
    if (is_failure(outcome) && outcome != SW_WARMUP_GAVE_UP)
        put_next(v, story, &reason);
    memset(e, 0, sizeof *e);
    sw_report_new_id(id);
    e->kind = SW_EVENT_WARMUP;
    e->id = id;
    e->worker = v->worker;
    e->pid = getpid();
    e->elapsed_ms = r->took_ns / SW_NS_PER_MS;
    e->warmup = (struct sw_event_warmup){
        .method = story->method,
        .path = story->uri,
        .result = words[outcome],
        .why = v->why,
        .status = r->status,
        .attempt = story->attempt,
        .took_us = r->took_ns / SW_NS_PER_US,
        .bytes = r->bytes,
    };
    if (r->exception.stack.count > 0) {
        e->has_stack = true;
        e->stack = r->exception.stack;
    }
    e->reason = reason.used ? reason_bytes : NULL;
    sw_emit(&v->emitter, e, &v->arena);
    if (v->emitter.log == SW_LOG_OFF && is_failure(outcome)) /* reports are off, this is more than a report */
        sw_log("warm-up of worker %d %s: %s %s: %s", v->worker, words[outcome], story->method, story->uri,
               reason_bytes);
}
