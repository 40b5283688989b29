/* watchdog.h - the thread in each worker that decides when to look, looks, and emits events.
 * Owns:    one thread and its state per worker process, from _start to _stop.
 * Callers: start: post_fork, main thread. stop: atexit, possibly inside a signal handler in the middle of a request,
 *          so it takes no lock and waits a bounded time.
 * The thread blocks all signals, never takes the GIL, calls no Python function, takes no lock that a request thread
 * may hold (so no malloc either) and leaves the process when told or with it.
 * Fork:    the thread is not in a child of the worker; _stop there does nothing (the saved pid differs). */
#ifndef SW_WATCHDOG_H
#define SW_WATCHDOG_H

#include "channel.h"
#include "config.h"
#include "pymem.h"
#include "pystack.h"
#include "shared.h"

struct sw_watchdog_setup {    /* made in the set-up process, read-only afterwards */
    struct sw_config *config; /* matching uses memory of its patterns */
    struct sw_shared *shared;
    struct sw_channel *channel; /* NULL: no reporter, the watchdog writes log entries itself */
    struct sw_pystack *py;      /* NULL: no stacks, no_stack says why */
    enum sw_pymem_backend backend;
    const char *no_stack;
    const char *host;
    uint64_t least_threshold_ns; /* of all thresholds that can apply; SW_NS_NEVER = nothing is watched */
};

/* 0 or -errno: the worker serves on without a watchdog. */
int sw_watchdog_start(const struct sw_watchdog_setup *setup) SW_MUST_CHECK;

/* The process is about to leave. What is open ends as worker_died, or as request_killed when harakiri without a master
 * is the reason. */
void sw_watchdog_stop(void);

#endif
