/* recycle.h - workers that start together do not recycle together: each gets a limit a little below uWSGI's.
 * Owns:    nothing. A struct sw_recycle is plain values, filled in once by the set-up process.
 * Callers: everything in recycle.c is arithmetic: any thread, any process. recycle_apply.c writes into uWSGI's own
 *          settings: _read and _in_master in the set-up process, _in_worker in a worker before it accepts.
 * Fork:    the settings of uWSGI that are changed here are not shared: a worker changes its own copy only.
 *
 * Worker 1 keeps the limit, the last worker has the largest share taken off, the others lie evenly in between. A worker
 * has the same limit in each of its lives: two that happened to start in the same second are apart again at the next
 * end. Never is a limit raised. */
#ifndef SW_RECYCLE_H
#define SW_RECYCLE_H

#include "base.h"

#define SW_RECYCLE_SPREAD_MAX 90 /* percent; more would make some workers recycle all the time */

/* what uWSGI was told, before anything is changed; 0 = not set */
struct sw_recycle {
    unsigned workers;
    unsigned percent; /* of slowwatch-recycle-spread; 0 = off */
    uint64_t max_requests;
    uint64_t min_lifetime_s; /* a worker does not recycle for its requests before this */
    uint64_t max_lifetime_s;
    bool
        own_requests; /* max-requests-delta or max-worker-lifetime-delta: uWSGI's own, upward, stagger wins */
    bool own_lifetime;
};

/* the first and the last worker's */
struct sw_recycle_range {
    uint64_t most, least;
};

/* `limit` less the share of this worker (1 to `workers`); never 0 unless limit is. */
uint64_t sw_recycle_limit(uint64_t limit, unsigned percent, unsigned worker, unsigned workers);
/* What each worker's lifetime is below that of the worker before it, in whole seconds, so that none falls below
 * min_lifetime_s; 0 = not spread. */
uint64_t sw_recycle_step_s(const struct sw_recycle *r);

/* What comes out; most == least = not spread. */
struct sw_recycle_range sw_recycle_requests(const struct sw_recycle *r);
struct sw_recycle_range sw_recycle_min_lifetime_s(const struct sw_recycle *r);
struct sw_recycle_range sw_recycle_max_lifetime_s(const struct sw_recycle *r);

/* ---- recycle_apply.c ---- */

/* What uWSGI is set to now, with this spread; own_* are the caller's. */
void sw_recycle_read(struct sw_recycle *r, unsigned percent);
void sw_recycle_in_master(const struct sw_recycle *r);
void sw_recycle_in_worker(const struct sw_recycle *r, unsigned worker);

#endif
