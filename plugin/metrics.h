/* metrics.h - what happened since the server started, as numbers: uWSGI's metrics system (enable-metrics) shows them.
 * Owns:    nothing; the words are in shared memory, one set for each worker, and what is shown is their sum.
 * Callers: sw_counts_event: whoever emits. sw_metrics_register: post_init, in the set-up process; afterwards uWSGI's
 *          collector thread in the master reads the words once a second.
 * Fork:    shared on purpose; a word is never set back, so a worker that dies takes nothing with it. */
#ifndef SW_METRICS_H
#define SW_METRICS_H

#include "event.h"
#include <stdatomic.h>

struct sw_counts { /* zeroed memory is valid */
    _Atomic uint64_t slow_requests, killed_requests, timeouts;
};

void sw_counts_event(struct sw_counts *counts, enum sw_event_kind kind);

struct sw_shared;
/* slowwatch.slow_requests, .killed_requests, .timeouts, .lost_events; nothing without enable-metrics */
void sw_metrics_register(const struct sw_shared *shared);

#endif
