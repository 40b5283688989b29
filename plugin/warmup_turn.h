/* warmup_turn.h - what workers know of each other's warm-ups: who is at it now, and how often each has failed.
 * Owns:    the shared mapping, from _create (post_init, before the first fork) to the end of the last process.
 * Callers: the main thread of a worker; _leave_place also from a helper that ends the process. No locks: words are
 *          atomic and a place bears the pid of its holder, so that a worker killed at any instant blocks nobody.
 * Fork:    shared on purpose. */
#ifndef SW_WARMUP_TURN_H
#define SW_WARMUP_TURN_H

#include "base.h"
#include <stdatomic.h>
#include <sys/types.h>

struct sw_warmup_worker {       /* one per worker, over all its processes */
    _Atomic uint32_t failed;    /* attempts since the last success; one that is under way counts as failed */
    _Atomic uint32_t hit;       /* the one under way, for the next process if this one dies in it */
    _Atomic uint32_t left;      /* enum sw_warmup_left of its last process */
    _Atomic uint64_t harakiris; /* uWSGI's count when its last process started */
};

struct sw_turns {
    unsigned workers;                /* set at _create */
    struct sw_warmup_worker *worker; /* workers of them */
    _Atomic pid_t *places;           /* workers of them; 0 = free */
    _Atomic uint32_t *given;         /* futex: places given back so far */
};

/* set-up: 0 or -errno */
int sw_turns_create(struct sw_turns *t, unsigned workers) SW_MUST_CHECK;

/* A place among those that warm up now: at most `parallel` (0 = no limit), and one alone until the first has finished.
 * Its number; -EAGAIN: all are taken by processes that live. */
int sw_turn_take(struct sw_turns *t, unsigned parallel, pid_t me) SW_MUST_CHECK;
/* gives it back; only if it is ours */
void sw_turn_give(struct sw_turns *t, int place, pid_t me);

/* How many were given back so far: as long as this grows, waiting makes sense. */
uint32_t sw_turns_given(const struct sw_turns *t);
/* Sleeps until that differs from `seen`, a signal comes, or the monotonic clock says until_ns. */
void sw_turns_wait(struct sw_turns *t, uint32_t seen, uint64_t until_ns);

#endif
