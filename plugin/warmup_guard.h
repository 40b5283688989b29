/* warmup_guard.h - the helper thread of one internal request: it plays the client, and ends what takes too long.
 * Owns:    the thread and both descriptors, from _start to _end.
 * Callers: start, end: the thread that runs the request. The hooks run in the guard's own thread, which blocks all
 *          signals, never takes the GIL and never waits for the request: so it can act whatever the request does.
 * Fork:    a child has no guard and must not use it.
 * Steps of a request that takes too long: at its limit it is interrupted, each SW_GUARD_AGAIN_NS again; if that does not
 * end it within SW_GUARD_PATIENCE_NS, the process is replaced. When the process is asked to leave, the limit is near. */
#ifndef SW_WARMUP_GUARD_H
#define SW_WARMUP_GUARD_H

#include "base.h"
#include <pthread.h>
#include <stdatomic.h>

#define SW_GUARD_HEAD_BYTES  4096 /* of the response, kept */
#define SW_GUARD_AGAIN_NS    SW_NS_PER_SEC
#define SW_GUARD_PATIENCE_NS (5 * SW_NS_PER_SEC)
#define SW_GUARD_LEAVE_NS    (SW_NS_PER_SEC / 2) /* what a request may still take when the process is to leave */

struct sw_guard_hooks {
    bool (*leaving)(void);   /* is the process asked to leave? */
    void (*interrupt)(void); /* raise something in the thread of the request */
    void (*replace)(void);   /* end the process; returns only if that cannot be */
};

enum sw_guard_state { SW_GUARD_RUNNING, SW_GUARD_DONE, SW_GUARD_REPLACING };

struct sw_guard {
    /* set at _start */
    const struct sw_guard_hooks *hooks;
    uint64_t limit_ns; /* on the monotonic clock */
    int client, done;  /* the client's end of the connection; an eventfd */
    pthread_t thread;
    _Atomic uint32_t
        state; /* enum sw_guard_state: request and guard decide by compare-and-swap who was first */
    /* the guard's; of the caller after _end */
    uint64_t interrupt_ns; /* when it was interrupted first, 0 = never */
    uint64_t again_ns, replace_ns;
    uint64_t leave_ns; /* when it was first seen that the process is to leave, 0 = it is not */
    bool open;         /* the server has not closed the connection */
    char head[SW_GUARD_HEAD_BYTES];
    size_t head_bytes;
};

/* Takes `client`. 0 or -errno: then it is closed. */
int sw_guard_start(struct sw_guard *g, int client, uint64_t limit_ns,
                   const struct sw_guard_hooks *hooks) SW_MUST_CHECK;
/* The request has ended: from the return on no hook runs. Does not return when the guard was first to replace the
 * process. */
void sw_guard_end(struct sw_guard *g);

#endif
