/* emit.h - an event on its way out of a worker or the master: to the reporter, or straight into the log.
 * Owns:    the buffer it is encoded in and the sender's backlog; one struct per process.
 * Callers: the watchdog thread, or the master. No allocation after _init.
 * Fork:    a child starts with _init: a backlog belongs to who filled it. */
#ifndef SW_EMIT_H
#define SW_EMIT_H

#include "channel.h"
#include "event.h"
#include "metrics.h"
#include "recent.h"
#include "sink_log.h"
#include "source.h"

struct sw_emitter {
    struct sw_channel *channel; /* NULL: straight into the log */
    _Atomic uint64_t *dropped;
    _Atomic uint32_t *waiting; /* events of the backlog that die with the process; NULL = nobody asks */
    const char *host;
    enum sw_log_format log;   /* without a channel */
    struct sw_counts *counts; /* NULL = nobody counts; set after _init */
    struct sw_source *source; /* without a channel; NULL: no source lines */
    struct sw_recent recent;  /* without a channel */
    char json[SW_EVENT_MAX_BYTES];
    struct sw_backlog backlog;
};

void sw_emitter_init(struct sw_emitter *em, struct sw_channel *channel, _Atomic uint64_t *dropped,
                     _Atomic uint32_t *waiting, const char *host, enum sw_log_format log);
/* Completes time and host, and sends. */
void sw_emit(struct sw_emitter *em, struct sw_event *e, struct sw_arena *arena);
/* Tries again what did not fit; true when nothing waits. */
bool sw_emitter_flush(struct sw_emitter *em);
/* Is an end of a report still in the backlog? Then the report must stay, for the master to end it if we die. */
bool sw_emitter_holds_ends(const struct sw_emitter *em);
/* What still waits, but for ends, is counted as lost: the process leaves. */
void sw_emitter_give_up(struct sw_emitter *em);

#endif
