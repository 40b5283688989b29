/* render_headline.c - the first line of an entry: which request or worker, and what happened to it. */
#include "render.h"

#include <string.h>

#define URI_CHARS          200   /* of a request */
#define WHOLE_SECONDS_FROM 10000 /* ms from which a time still to come is shown in whole seconds */
#define THOUSAND           1000

static const char just_harakiri[] = "harakiri"; /* the reason that needs no explanation */
static const char just_ok[] = "ok";

static const char *const titles[SW_EVENT_KINDS] = {
    [SW_EVENT_SLOW_REQUEST] = "slow request",
    [SW_EVENT_SLOW_REQUEST_UPDATE] = "still running",
    [SW_EVENT_REQUEST_FINISHED] = "slow request finished",
    [SW_EVENT_REQUEST_KILLED] = "slow request killed",
    [SW_EVENT_WORKER_DIED] = "worker died in slow request",
    [SW_EVENT_TIMEOUT] = "timeout",
    [SW_EVENT_WARMUP] = "warm-up",
};

static void put_safe(struct sw_text *out, const char *s)
{
    sw_text_put_escaped(out, s, strlen(s));
}

/* ---- numbers ---- */

static void put_harakiri(struct sw_text *out, int64_t ms)
{
    if (ms <= 0) {
        sw_text_put(out, ", harakiri is due");
        return;
    }
    sw_text_put(out, ", harakiri in ");
    const uint64_t half = SW_MS_PER_SEC / 2;
    if (ms >= WHOLE_SECONDS_FROM)
        sw_text_printf(out, "%llu s", (unsigned long long)(sw_add_sat((uint64_t)ms, half) / SW_MS_PER_SEC));
    else
        sw_text_put_seconds(out, (uint64_t)ms);
}

/* The limit as the code has it, so that people find it there: "0.5 s", "20 s", "0.25 s". */
static void put_limit(struct sw_text *out, uint64_t us)
{
    unsigned digits = 6;
    uint64_t part = us % SW_US_PER_SEC;
    for (; digits > 0 && part % 10 == 0; digits--)
        part /= 10;
    sw_text_printf(out, "%llu", (unsigned long long)(us / SW_US_PER_SEC));
    if (digits > 0)
        sw_text_printf(out, ".%0*llu", (int)digits, (unsigned long long)part);
    sw_text_put(out, " s");
}

/* 1,234,567 */
static void put_grouped(struct sw_text *out, uint64_t n)
{
    uint64_t unit = 1;
    while (n / unit >= THOUSAND)
        unit *= THOUSAND;
    sw_text_printf(out, "%llu", (unsigned long long)(n / unit));
    while (unit > 1) {
        unit /= THOUSAND;
        sw_text_printf(out, ",%03u", (unsigned)(n / unit % THOUSAND));
    }
}

/* ---- who ---- */

static void put_uri(struct sw_text *out, const char *uri)
{
    const size_t n = strlen(uri);
    size_t end = 0;
    for (unsigned chars = 0; chars < URI_CHARS && end < n; chars++) {
        const size_t len = sw_utf8_len(uri + end, n - end);
        end += len ? len : 1;
    }
    sw_text_put_escaped(out, uri, end);
    if (end < n)
        sw_text_put(out, "…");
}

static void put_request(const struct sw_event *e, struct sw_text *out)
{
    if (e->request.method) {
        put_safe(out, e->request.method);
        sw_text_put(out, " ");
    }
    if (e->request.uri)
        put_uri(out, e->request.uri);
    else
        sw_text_put(out, e->core < 0 ? "outside of a request" : "a request not read yet");
}

static void put_where(const struct sw_event *e, struct sw_text *out)
{
    sw_text_printf(out, " on worker %d", e->worker);
    if (e->core >= 0)
        sw_text_printf(out, " core %d", e->core);
    sw_text_printf(out, " (pid %ld): ", (long)e->pid);
}

/* ---- what happened ---- */

/* "killed by harakiri after 30.2 s", "after 12.0 s: signal 9"; a reason that is not yet in `how` follows. */
static void put_end(struct sw_text *out, const char *how, const struct sw_event *e)
{
    sw_text_put(out, how);
    sw_text_put(out, "after ");
    sw_text_put_seconds(out, e->elapsed_ms);
    if (e->reason && strcmp(e->reason, just_harakiri) != 0) {
        sw_text_put(out, ": ");
        put_safe(out, e->reason);
    }
}

static void put_timeout(const struct sw_event_timeout *t, struct sw_text *out)
{
    const char *outcome = t->outcome ? t->outcome : "?";
    if (!strcmp(outcome, "stuck")) {
        sw_text_put(out, "the limit of ");
        put_limit(out, t->limit_us);
        sw_text_put(out, " passed ");
        sw_text_put_seconds(out, t->late_us / (SW_US_PER_SEC / SW_MS_PER_SEC));
        sw_text_put(out, " ago, and ");
        put_safe(out, t->exception ? t->exception : "?");
        sw_text_put(out, " could not be raised: the thread is in a call that does not return");
        return;
    }
    const bool swallowed = !strcmp(outcome, "swallowed");
    put_safe(out, t->exception ? t->exception : "?");
    sw_text_put(out, swallowed ? " was raised" : " ");
    if (!swallowed)
        put_safe(out, outcome);
    sw_text_put(out, " after ");
    put_limit(out, t->limit_us);
    if (swallowed)
        sw_text_put(out, " and swallowed: the block went on");
}

/* What happened, in the words behind the colon. */
static void put_outcome(const struct sw_event *e, struct sw_text *out)
{
    switch (e->kind) {
    case SW_EVENT_REQUEST_FINISHED:
        sw_text_put(out, "took ");
        sw_text_put_seconds(out, e->elapsed_ms);
        if (e->request.status)
            sw_text_printf(out, ", status %d", e->request.status);
        break;
    case SW_EVENT_REQUEST_KILLED:
        put_end(out, !e->reason || !strcmp(e->reason, just_harakiri) ? "killed by harakiri " : "killed ", e);
        break;
    case SW_EVENT_WORKER_DIED:
        put_end(out, "", e);
        break;
    case SW_EVENT_TIMEOUT:
        put_timeout(&e->timeout, out);
        break;
    case SW_EVENT_SLOW_REQUEST:
    case SW_EVENT_SLOW_REQUEST_UPDATE:
    case SW_EVENT_WARMUP:
    case SW_EVENT_KINDS:
        sw_text_put_seconds(out, e->elapsed_ms);
        sw_text_put(out, " so far");
        if (e->has_harakiri)
            put_harakiri(out, e->harakiri_in_ms);
        break;
    }
}

/* "warm-up of worker 2 (pid 4711): GET /health → 200, 1,234 bytes in 1503 ms (first start)";
 * "warm-up of worker 2 (pid 4711) timed out: GET /health → no answer in 30000 ms (harakiri, attempt 2): what to do" */
static void put_warmup(const struct sw_event *e, struct sw_text *out)
{
    const struct sw_event_warmup *u = &e->warmup;
    const bool ok = u->result && !strcmp(u->result, just_ok);
    sw_text_printf(out, " of worker %d (pid %ld)", e->worker, (long)e->pid);
    if (!ok) {
        sw_text_put(out, " ");
        put_safe(out, u->result ? u->result : "failed");
    }
    sw_text_put(out, ": ");
    put_safe(out, u->method ? u->method : "?");
    sw_text_put(out, " ");
    put_uri(out, u->path ? u->path : "?");
    if (u->status) {
        sw_text_printf(out, " → %d, ", u->status);
        put_grouped(out, u->bytes);
        sw_text_put(out, u->bytes == 1 ? " byte" : " bytes");
    } else {
        sw_text_put(out, " → no answer");
    }
    sw_text_printf(out, " in %llu ms", (unsigned long long)(u->took_us / (SW_US_PER_SEC / SW_MS_PER_SEC)));
    if (u->why) {
        sw_text_put(out, " (");
        put_safe(out, u->why);
    }
    if (u->attempt > 1)
        sw_text_printf(out, "%sattempt %u", u->why ? ", " : " (", u->attempt);
    if (u->why || u->attempt > 1)
        sw_text_put(out, ")");
    if (!ok && e->reason) {
        sw_text_put(out, ": ");
        put_safe(out, e->reason);
    }
}

void sw_render_headline(const struct sw_event *e, struct sw_text *out)
{
    sw_text_put(out, (unsigned)e->kind < SW_EVENT_KINDS ? titles[e->kind] : "event");
    if (e->kind == SW_EVENT_WARMUP) {
        put_warmup(e, out);
        return;
    }
    sw_text_put(out, " ");
    put_safe(out, e->id ? e->id : "?");
    sw_text_put(out, ": ");
    put_request(e, out);
    put_where(e, out);
    put_outcome(e, out);
}
