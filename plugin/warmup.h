/* warmup.h - no request meets a cold worker: each new process of a worker sends itself the requests of slowwatch-warmup
 * before it accepts.
 * Owns:    the shared memory of warmup_turn.h; what is under way in this worker.
 * Callers: see each.
 * Fork:    shared memory is made before the first fork. A child of the worker does nothing here. */
#ifndef SW_WARMUP_H
#define SW_WARMUP_H

#include "config.h"
#include "shared.h"
#include "channel.h"

struct sw_warmup_setup { /* made in the set-up process, read-only afterwards */
    struct sw_config *config;
    struct sw_shared *shared;
    struct sw_channel *channel; /* NULL: no reporter */
    const char *host;
};

/* post_init, before the first fork: nothing without slowwatch-warmup. A failure is said, and there is no warm-up. */
void sw_warmup_create(const struct sw_warmup_setup *setup);
/* hijack_worker: everything is loaded and nothing accepted yet. Returns when the worker may accept; leaves the process
 * when it is asked to. */
void sw_warmup_worker(void);
/* atexit, possibly inside a signal handler in the middle of a request: takes no lock, does not wait. */
void sw_warmup_leave(void);

/* ---- the watchdog thread ---- */

/* A request of the warm-up that runs this long is taken to hang, and reported; SW_NS_NEVER = none is under way. Others
 * of the warm-up are not, however slow. */
uint64_t sw_warmup_hang_ns(void);
/* Requests of the warm-up that this process has finished: uWSGI does not count them. */
uint64_t sw_warmup_count(void);

#endif
