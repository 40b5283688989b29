/* watch_timeouts.c - both ends of the mailbox in a worker: the function that the Python package calls when a timeout fired,
 * and the watchdog's part, which makes an event of each. */
#include "../pyshim/slowwatch/timeout_abi.h"
#include "describe.h"
#include "log.h"
#include "watch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

static struct sw_watch *_Atomic listener; /* NULL: nobody would tell it */

static struct uwsgi_core *host_core(unsigned core)
{
    return &uwsgi.workers[uwsgi.mywid].cores[core];
}

static struct sw_mailbox *mailbox_of(const struct sw_watch *w)
{
    return sw_shared_mailbox(w->setup.shared, (unsigned)w->worker - 1);
}

void sw_watch_timeouts_open(struct sw_watch *w)
{
    atomic_store(&listener, w);
}

/* ---- any thread of the worker ---- */

/* Which request this is, and what there may be no more of when the watchdog asks. */
static void note_place(const struct sw_watch *w, struct sw_timeout_data *d)
{
    struct sw_peek peek;
    const int core = sw_watch_core_of(w, d->thread);
    d->place = SW_TIMEOUT_OUTSIDE;
    if (core < 0)
        return;
    if (w->eye.shared_thread) {
        d->place = SW_TIMEOUT_IN_LOOP;
        return;
    }
    sw_request_peek(host_core((unsigned)core), &peek);
    if (!peek.running || sw_request_copy_line(host_core((unsigned)core), peek.who, &d->line) < 0)
        return;
    d->place = SW_TIMEOUT_IN_REQUEST;
    d->core = (unsigned)core;
    d->who = peek.who;
    d->elapsed_us = sw_sub_floor(uwsgi_micros(), peek.who.start_us);
}

__attribute__((visibility("default"))) slowwatch_timeout_report_fn slowwatch_timeout_report;

void slowwatch_timeout_report(const struct slowwatch_timeout *t)
{
    const int saved_errno = errno;
    struct sw_watch *w = atomic_load(&listener);
    if (!t || t->abi != SLOWWATCH_TIMEOUT_ABI || !w || getpid() != w->pid)
        return; /* in a child of the worker nobody waits for it */
    struct sw_mailbox *box = mailbox_of(w);
    const int note = sw_mailbox_claim(box, w->pid);
    if (note >= 0) {
        sw_timeout_fill(&box->data[note], t, w->eye.depth);
        note_place(w, &box->data[note]);
        sw_mailbox_post(box, note, w->pid);
        sw_slot_wake(w->slot);
    } else {
        atomic_fetch_add(&w->slot->dropped, 1);
    }
    errno = saved_errno;
}

/* ---- the watchdog thread ---- */

static bool is_running(const struct sw_timeout_data *d, struct sw_peek *peek)
{
    sw_request_peek(host_core(d->core), peek);
    return peek->running && sw_identity_same(d->who, peek->who);
}

/* All that can be said of a request that still runs. */
static void describe(struct sw_watch *w, bool has_report, const struct sw_peek *peek)
{
    const struct sw_timeout_data *d = &w->timeout;
    struct sw_event *e = &w->event;
    if (!has_report && sw_request_copy(host_core(d->core), d->who, &w->raw) == 0) {
        sw_describe_request(&w->raw, peek, &w->setup.config->redact, &w->snapshot.request);
        sw_report_request_to_event(&w->snapshot.request, e);
    }
    e->request.phase = sw_phase_name(peek->phase);
    e->request.status = peek->status;
    sw_describe_harakiri(e);
}

/* The wall clock may have been set since the request began; a request that was seen before is known by the other. */
static void time_by_track(struct sw_watch *w)
{
    const struct sw_timeout_data *d = &w->timeout;
    const struct sw_track *track = &w->cores[d->core].track;
    if (!track->known || !sw_identity_same(track->who, d->who))
        return;
    w->event.elapsed_ms = sw_sub_floor(d->at_ns, track->start_ns) / SW_NS_PER_MS;
    w->event.threshold_ms = track->threshold_ns / SW_NS_PER_MS;
}

static void tell(struct sw_watch *w)
{
    const struct sw_timeout_data *d = &w->timeout;
    const bool in_request = d->place == SW_TIMEOUT_IN_REQUEST && d->core < w->core_count;
    struct sw_event *e = &w->event;
    struct sw_peek peek;
    sw_arena_reset(&w->arena);
    const struct sw_report *report =
        in_request ? sw_shared_report(w->setup.shared, (unsigned)w->worker - 1, d->core) : NULL;
    const bool has_report =
        sw_timeout_to_event(d, report, &w->setup.config->redact, &w->snapshot, e, &w->arena);
    e->worker = w->worker;
    const bool running = in_request && is_running(d, &peek);
    if (running)
        describe(w, has_report, &peek);
    if (in_request)
        time_by_track(w);
    if (sw_timeout_wants_look(d)) {
        sw_watch_look(w, d->thread, e->core);
        if (in_request && !(running && is_running(d, &peek))) { /* what was seen may be of another one */
            e->has_stack = false;
            e->no_stack = "the request was over before it could be looked at";
            memset(&e->thread, 0, sizeof e->thread);
        }
    }
    sw_emit(&w->emitter, e, &w->arena);
}

/* With a reporter it is the one who says so. */
static void say_lost(struct sw_watch *w)
{
    const uint64_t dropped = atomic_load(&w->slot->dropped);
    const uint64_t lost = dropped - atomic_exchange(&w->slot->dropped_said, dropped);
    char bytes[128];
    struct sw_text text;
    if (lost == 0)
        return;
    sw_text_init(&text, bytes, sizeof bytes);
    sw_text_printf(&text, "slowwatch: %llu events were lost: they came faster than they could be logged\n",
                   (unsigned long long)lost);
    sw_log_entry_raw(text.at, text.used);
}

void sw_watch_timeouts(struct sw_watch *w)
{
    struct sw_mailbox *box = mailbox_of(w);
    /* Those that come meanwhile wake the watchdog once more; they do not keep it from its other work. */
    for (unsigned i = 0; i < SW_MAILBOX_NOTES; i++) {
        const int note = sw_mailbox_take(box, w->pid, &w->timeout);
        if (note < 0)
            break;
        tell(w);
        sw_mailbox_done(box, note);
    }
    if (!w->setup.channel)
        say_lost(w);
}
