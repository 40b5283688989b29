/* warmup_hit.h - one internal request through uWSGI's own request path and the application, on core 0 of this process.
 * Owns:    what it changes in uWSGI from _begin to _finish; the connection of a request.
 * Callers: the main thread of a worker that does not accept yet (hijack_worker): no other request runs.
 * Fork:    nothing to do.
 * The request is a real one: uWSGI parses it, routes it, calls the application and its hooks. It is not in the log of
 * requests, and not in the counts and averages of the worker; harakiri, memory limits and max-requests leave it alone. */
#ifndef SW_WARMUP_HIT_H
#define SW_WARMUP_HIT_H

#include "warmup_guard.h"
#include "warmup_python.h"

struct sw_hit_result {
    int status; /* 0 = no answer */
    uint64_t bytes, took_ns;
    bool interrupted;              /* by the guard, whatever came of it */
    bool timed_out;                /* ... because of its limit */
    struct sw_exception exception; /* the first that left the application */
    char head[SW_GUARD_HEAD_BYTES];
    size_t head_bytes; /* of the response */
};

void sw_hit_begin(void);
void sw_hit_finish(void);

/* Sends the packet to the application. 0; -errno: it could not be sent. Strings of the result go to the arena. */
int sw_hit_run(const char *packet, size_t n, uint64_t timeout_ns, const struct sw_guard_hooks *hooks,
               struct sw_hit_result *out, struct sw_arena *arena) SW_MUST_CHECK;

#endif
