#include "emit.h"

#include <string.h>

void sw_emitter_init(struct sw_emitter *em, struct sw_channel *channel, _Atomic uint64_t *dropped,
                     const char *host, enum sw_log_format log)
{
    em->channel = channel;
    em->dropped = dropped;
    em->host = host;
    em->log = log;
    em->source = channel ? NULL : sw_source_new();
    em->backlog.start = em->backlog.used = 0;
    memset(&em->recent, 0, sizeof em->recent);
}

static void write_to_log(struct sw_emitter *em, struct sw_event *e, struct sw_arena *arena)
{
    if (!sw_recent_event(&em->recent, e))
        return;
    if (em->source)
        sw_source_fill(em->source, e, arena);
    sw_sink_log_write(em->log, e, true);
}

void sw_emit(struct sw_emitter *em, struct sw_event *e, struct sw_arena *arena)
{
    e->time_us = sw_wall_us();
    e->host = em->host;
    if (!em->channel) {
        write_to_log(em, e, arena);
        return;
    }
    const ssize_t n = sw_event_encode(e, em->json, sizeof em->json);
    if (n < 0 ||
        sw_channel_send(em->channel, &em->backlog, em->json, (size_t)n, sw_event_is_end(e->kind)) < 0)
        atomic_fetch_add(em->dropped, 1); /* the reporter says so */
}

bool sw_emitter_flush(struct sw_emitter *em)
{
    return !em->channel || sw_channel_flush(em->channel, &em->backlog);
}

void sw_emitter_give_up(struct sw_emitter *em)
{
    atomic_fetch_add(em->dropped, sw_backlog_count(&em->backlog));
    em->backlog.start = em->backlog.used = 0;
}
