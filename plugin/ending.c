#include "ending.h"

#include <string.h>
#include <unistd.h>

#define ARENA_BYTES         (SW_TIMELINE_MAX * sizeof(struct sw_timeline_place) + _Alignof(max_align_t))
#define TIMEOUT_ARENA_BYTES (2 * sizeof(struct sw_timeout_data)) /* frames as pointers take more room */

unsigned sw_end_reports(const struct sw_shared *shared, unsigned worker, enum sw_event_kind kind,
                        const char *reason, bool owner_is_dead, struct sw_emitter *emitter)
{
    static struct sw_report_data snapshot; /* too large for any stack, and one thread calls */
    unsigned ended = 0;
    for (unsigned core = 0; core < shared->cores; core++) {
        struct sw_report *r = sw_shared_report(shared, worker, core);
        char bytes[ARENA_BYTES];
        struct sw_arena arena;
        struct sw_event e;
        if (atomic_load(&r->state) == SW_REPORT_FREE || !sw_report_claim(r, getpid(), owner_is_dead))
            continue;
        sw_arena_init(&arena, bytes, sizeof bytes);
        memset(&e, 0, sizeof e);
        sw_report_snapshot(r, &snapshot);
        snapshot.elapsed_ns = sw_sub_floor(sw_now_ns(), snapshot.start_ns);
        sw_report_to_event(&snapshot, &e, &arena);
        e.kind = kind;
        e.reason = reason;
        sw_emit(emitter, &e, &arena);
        sw_report_free(r);
        ended++;
    }
    return ended;
}

void sw_end_reports_of_dead(const struct sw_shared *shared, unsigned worker, struct sw_emitter *emitter)
{
    struct sw_slot *slot = sw_shared_slot(shared, worker);
    if (!slot)
        return;
    const bool killed = atomic_load(&slot->kill_follows);
    atomic_fetch_add(&slot->dropped, atomic_exchange(&slot->waiting, 0));
    sw_end_reports(shared, worker, killed ? SW_EVENT_REQUEST_KILLED : SW_EVENT_WORKER_DIED,
                   killed ? "harakiri" : "the worker process died", true, emitter);
}

void sw_end_timeouts_of_dead(const struct sw_shared *shared, unsigned worker, struct sw_redact *redact,
                             struct sw_emitter *emitter)
{
    static struct sw_timeout_data data; /* too large for any stack, and one thread calls */
    static struct sw_report_data snapshot;
    static char bytes[TIMEOUT_ARENA_BYTES];
    struct sw_slot *slot = sw_shared_slot(shared, worker);
    struct sw_mailbox *box = sw_shared_mailbox(shared, worker);
    int note;
    if (!box)
        return;
    while ((note = sw_mailbox_take_left(box, getpid(), &data)) >= 0) {
        struct sw_arena arena;
        struct sw_event e;
        sw_arena_init(&arena, bytes, sizeof bytes);
        sw_timeout_to_event(&data, sw_shared_report(shared, worker, data.core), redact, &snapshot, &e,
                            &arena);
        e.worker = (int)worker + 1;
        sw_emit(emitter, &e, &arena);
        sw_mailbox_done(box, note);
    }
    atomic_fetch_add(&slot->dropped, sw_mailbox_drop_unfinished(box));
}
