#include "emit.h"

#include <string.h>

_Static_assert(SW_BACKLOG_BYTES >= SW_SINK_LOG_BYTES, "a log entry is made in the unused backlog");

void sw_emitter_init(struct sw_emitter *em, struct sw_channel *channel, _Atomic uint64_t *dropped,
                     _Atomic uint32_t *waiting, const char *host, enum sw_log_format log)
{
    em->channel = channel;
    em->dropped = dropped;
    em->waiting = waiting;
    em->host = host;
    em->log = log;
    em->counts = NULL;
    em->source = channel ? NULL : sw_source_new();
    em->backlog.start = em->backlog.used = 0;
    em->backlog.ends = em->backlog.others = 0;
    memset(&em->recent, 0, sizeof em->recent);
}

static void write_to_log(struct sw_emitter *em, struct sw_event *e, struct sw_arena *arena)
{
    if (!sw_recent_event(&em->recent, e))
        return;
    if (em->source)
        sw_source_fill(em->source, e, arena);
    sw_sink_log_write_with(em->log, e, true, em->backlog.bytes); /* without a channel nothing waits there */
}

/* In shared memory, so that a process killed with a backlog is not a silent loss. */
static void tell_waiting(struct sw_emitter *em)
{
    if (em->waiting)
        atomic_store(em->waiting, em->backlog.others);
}

void sw_emit(struct sw_emitter *em, struct sw_event *e, struct sw_arena *arena)
{
    e->time_us = sw_wall_us();
    e->host = em->host;
    if (em->counts)
        sw_counts_event(em->counts, e->kind);
    if (!em->channel) {
        write_to_log(em, e, arena);
        return;
    }
    const bool must = sw_event_is_end(e->kind);
    ssize_t n = sw_event_encode(e, em->json, sizeof em->json);
    int err = n < 0 ? (int)n : sw_channel_send(em->channel, &em->backlog, em->json, (size_t)n, must);
    if (err < 0 && must) { /* the end itself matters more than the last picture */
        n = sw_event_encode(e, em->json, SW_EVENT_ROOM_MIN);
        err = n < 0 ? (int)n : sw_channel_send(em->channel, &em->backlog, em->json, (size_t)n, must);
    }
    if (err < 0)
        atomic_fetch_add(em->dropped, 1); /* the reporter says so */
    tell_waiting(em);
}

bool sw_emitter_flush(struct sw_emitter *em)
{
    if (!em->channel)
        return true;
    const bool empty = sw_channel_flush(em->channel, &em->backlog);
    tell_waiting(em);
    return empty;
}

bool sw_emitter_holds_ends(const struct sw_emitter *em)
{
    return em->backlog.ends > 0;
}

void sw_emitter_give_up(struct sw_emitter *em)
{
    atomic_fetch_add(em->dropped, em->backlog.others);
    em->backlog.start = em->backlog.used = 0;
    em->backlog.ends = em->backlog.others = 0;
    tell_waiting(em);
}
