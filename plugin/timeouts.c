#include "timeouts.h"

#include "../pyshim/slowwatch/timeout_abi.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define ELLIPSIS    "…"
#define HOLDER_BITS 32

static const char stuck[] = "stuck";

enum state { FREE, FILLING, POSTED, TELLING };

static uint64_t holder(pid_t pid, enum state state)
{
    return state == FREE ? 0 : (uint64_t)state << HOLDER_BITS | (uint32_t)pid;
}

static enum state state_of(uint64_t held)
{
    return (enum state)(held >> HOLDER_BITS);
}

static bool is_of_dead(uint64_t held)
{
    return held != 0 && kill((pid_t)(uint32_t)held, 0) < 0 && errno == ESRCH;
}

/* ---- the mailbox ---- */

int sw_mailbox_claim(struct sw_mailbox *m, pid_t me)
{
    for (int i = 0; i < SW_MAILBOX_NOTES; i++) {
        uint64_t free = holder(0, FREE);
        if (atomic_compare_exchange_strong(&m->notes[i].holder, &free, holder(me, FILLING))) {
            atomic_store(&m->notes[i].number, atomic_fetch_add(&m->numbers, 1));
            return i;
        }
    }
    return -1;
}

void sw_mailbox_post(struct sw_mailbox *m, int note, pid_t me)
{
    atomic_store(&m->notes[note].holder, holder(me, POSTED));
}

void sw_mailbox_done(struct sw_mailbox *m, int note)
{
    atomic_store(&m->notes[note].holder, holder(0, FREE));
}

static bool may_take(uint64_t held, pid_t me, bool left)
{
    if (!left)
        return held == holder(me, POSTED);
    /* One that the dead was just telling may have been sent or not: better twice than not at all. */
    return (state_of(held) == POSTED || state_of(held) == TELLING) && is_of_dead(held);
}

#define TERMINATE(array) ((array)[sizeof(array) - 1] = 0)

static void check_span(const struct sw_timeout_data *d, struct sw_timeout_span *s)
{
    if (s->at >= d->text_bytes || s->bytes >= d->text_bytes - s->at || d->text[s->at + s->bytes] != 0)
        *s = (struct sw_timeout_span){d->text_bytes, 0};
}

static void check(struct sw_timeout_data *d)
{
    TERMINATE(d->outcome);
    TERMINATE(d->exception);
    TERMINATE(d->text);
    d->line.method_bytes = sw_min_u64(d->line.method_bytes, sizeof d->line.method);
    d->line.uri_bytes = sw_min_u64(d->line.uri_bytes, sizeof d->line.uri);
    d->text_bytes = (uint32_t)sw_min_u64(d->text_bytes, sizeof d->text - 1);
    d->text[d->text_bytes] = 0; /* what a bad span means: "" */
    d->frame_count = (uint32_t)sw_min_u64(d->frame_count, SW_TIMEOUT_FRAMES_MAX);
    for (unsigned i = 0; i < d->frame_count; i++) {
        check_span(d, &d->frames[i].file);
        check_span(d, &d->frames[i].function);
    }
}

static int take(struct sw_mailbox *m, pid_t me, bool left, struct sw_timeout_data *out)
{
    for (;;) {
        int oldest = -1;
        uint64_t oldest_held = 0;
        uint32_t oldest_number = 0;
        for (int i = 0; i < SW_MAILBOX_NOTES; i++) {
            const uint64_t held = atomic_load(&m->notes[i].holder);
            const uint32_t number = atomic_load(&m->notes[i].number);
            if (!may_take(held, me, left) || (oldest >= 0 && (int32_t)(number - oldest_number) > 0))
                continue; /* the numbers may wrap */
            oldest = i;
            oldest_held = held;
            oldest_number = number;
        }
        if (oldest < 0)
            return -1;
        if (!atomic_compare_exchange_strong(&m->notes[oldest].holder, &oldest_held, holder(me, TELLING)))
            continue; /* somebody else takes it */
        memcpy(out, &m->data[oldest], sizeof *out);
        check(out);
        return oldest;
    }
}

int sw_mailbox_take(struct sw_mailbox *m, pid_t me, struct sw_timeout_data *out)
{
    return take(m, me, false, out);
}

int sw_mailbox_take_left(struct sw_mailbox *m, pid_t me, struct sw_timeout_data *out)
{
    return take(m, me, true, out);
}

unsigned sw_mailbox_drop_unfinished(struct sw_mailbox *m)
{
    unsigned dropped = 0;
    for (unsigned i = 0; i < SW_MAILBOX_NOTES; i++) {
        uint64_t held = atomic_load(&m->notes[i].holder);
        if (state_of(held) == FILLING && is_of_dead(held))
            dropped += atomic_compare_exchange_strong(&m->notes[i].holder, &held, holder(0, FREE));
    }
    return dropped;
}

/* ---- filling a note ---- */

/* False when there is no room for it. */
static bool keep(struct sw_timeout_data *d, const char *s, struct sw_timeout_span *to)
{
    if (!s)
        s = "?";
    const size_t mark = sizeof ELLIPSIS - 1;
    size_t n = strnlen(s, SW_TIMEOUT_STRING_MAX + 1), kept = n;
    if (n > SW_TIMEOUT_STRING_MAX) {
        kept = sw_utf8_floor(s, SW_TIMEOUT_STRING_MAX - mark);
        n = kept + mark;
    }
    if (n + 1 > sizeof d->text - d->text_bytes)
        return false;
    char *at = d->text + d->text_bytes;
    memcpy(at, s, kept);
    memcpy(at + kept, ELLIPSIS, n - kept);
    at[n] = 0;
    *to = (struct sw_timeout_span){d->text_bytes, (uint32_t)n};
    d->text_bytes += (uint32_t)n + 1;
    return true;
}

static void keep_frames(struct sw_timeout_data *d, const struct slowwatch_timeout *t, unsigned depth)
{
    const uint32_t given = t->frames ? t->frame_count : 0;
    const uint64_t most = sw_min_u64(given, sw_min_u64(depth, SW_TIMEOUT_FRAMES_MAX));
    uint32_t kept = 0;
    d->text_bytes = 0;
    for (; kept < most; kept++) {
        const struct slowwatch_timeout_frame *from = &t->frames[given - 1 - kept];
        if (!keep(d, from->file, &d->frames[kept].file) ||
            !keep(d, from->function, &d->frames[kept].function))
            break;
        d->frames[kept].line = from->line > 0 ? from->line : 0;
    }
    d->frame_count = kept;
    d->truncated = (uint32_t)sw_min_u64((uint64_t)t->truncated + (given - kept), UINT32_MAX);
}

static void copy_name(char *to, size_t room, const char *from)
{
    struct sw_text text;
    sw_text_init(&text, to, room);
    sw_text_put(&text, from ? from : "?");
}

void sw_timeout_fill(struct sw_timeout_data *d, const struct slowwatch_timeout *t, unsigned depth)
{
    copy_name(d->outcome, sizeof d->outcome, t->outcome);
    copy_name(d->exception, sizeof d->exception, t->exception);
    d->limit_us = t->limit_us;
    d->late_us = t->late_us;
    d->at_ns = sw_now_ns();
    d->pid = getpid();
    d->thread = t->thread;
    keep_frames(d, t, depth);
}

/* ---- the event of a note ---- */

bool sw_timeout_wants_look(const struct sw_timeout_data *d)
{
    return d->frame_count == 0 && strcmp(d->outcome, stuck) == 0;
}

static const char *text_at(const struct sw_timeout_data *d, const struct sw_timeout_span *s,
                           struct sw_arena *arena)
{
    return sw_arena_copy(arena, d->text + s->at, s->bytes);
}

static void stack_to_event(const struct sw_timeout_data *d, struct sw_event *e, struct sw_arena *arena)
{
    const unsigned count = d->frame_count;
    struct sw_frame *frames = count ? sw_arena_alloc(arena, count * sizeof *frames) : NULL;
    if (!frames) {
        e->no_stack = sw_timeout_wants_look(d) ? "the worker was gone before it could be looked at"
                                               : "none came with the report of the timeout";
        return;
    }
    for (unsigned i = 0; i < count; i++)
        frames[count - 1 - i] = (struct sw_frame){.file = text_at(d, &d->frames[i].file, arena),
                                                  .function = text_at(d, &d->frames[i].function, arena),
                                                  .line = d->frames[i].line};
    e->has_stack = true;
    e->stack = (struct sw_stack){.frames = frames, .count = count, .truncated = d->truncated};
}

static bool is_open_for(const struct sw_report *r, const struct sw_timeout_data *d)
{
    return r && d->place == SW_TIMEOUT_IN_REQUEST && atomic_load(&r->state) != SW_REPORT_FREE &&
           r->data.request.started_us == d->who.start_us;
}

static void describe_line(const struct sw_timeout_data *d, struct sw_redact *redact,
                          struct sw_report_request *out)
{
    struct sw_text method, uri;
    memset(out, 0, sizeof *out);
    sw_text_init(&method, out->method, sizeof out->method);
    sw_redact_value(redact, "method", d->line.method, d->line.method_bytes, &method);
    sw_text_init(&uri, out->uri, sizeof out->uri);
    sw_redact_uri(redact, d->line.uri, d->line.uri_bytes, &uri);
    out->started_us = d->who.start_us;
}

bool sw_timeout_to_event(const struct sw_timeout_data *d, const struct sw_report *report,
                         struct sw_redact *redact, struct sw_report_data *scratch, struct sw_event *e,
                         struct sw_arena *arena)
{
    const bool open = is_open_for(report, d);
    memset(e, 0, sizeof *e);
    e->kind = SW_EVENT_TIMEOUT;
    e->core = -1;
    e->pid = d->pid;
    e->timeout = (struct sw_event_timeout){sw_arena_copy(arena, d->outcome, strlen(d->outcome)),
                                           sw_arena_copy(arena, d->exception, strlen(d->exception)),
                                           d->limit_us, d->late_us};
    if (open) {
        sw_report_snapshot(report, scratch);
        e->threshold_ms = scratch->threshold_ns / SW_NS_PER_MS;
        e->tid = scratch->tid;
    } else {
        sw_report_new_id(scratch->id);
    }
    e->id = scratch->id;
    if (d->place == SW_TIMEOUT_IN_REQUEST) {
        if (!open)
            describe_line(d, redact, &scratch->request);
        sw_report_request_to_event(&scratch->request, e);
        e->core = (int)d->core;
        e->elapsed_ms = d->elapsed_us / (SW_US_PER_SEC / SW_MS_PER_SEC);
    } else {
        e->reason =
            d->place == SW_TIMEOUT_IN_LOOP ? "one of the requests of an event loop" : "outside of a request";
    }
    stack_to_event(d, e, arena);
    return open;
}
