/* watch.h - one core of this worker under watch: seen, slow, sampled, ended. The policy of the watchdog thread.
 * Owns:    struct sw_watch, one per worker process: its buffers and what it knows of each core.
 * Callers: the watchdog thread only.
 * Fork:    a child of the worker must not use it. */
#ifndef SW_WATCH_H
#define SW_WATCH_H

#include "emit.h"
#include "look.h"
#include "request.h"
#include "watchdog.h"

/* strings and frames of one event; untouched pages cost nothing */
#define SW_ARENA_BYTES ((size_t)512 * 1024)

struct sw_core {
    struct sw_track track;
    bool unfreed; /* the end of its last report waits in the backlog */
    bool ended;   /* its end is reported; wait for the next request */
    pid_t tid;
    struct sw_moment previous_look;      /* at which this request was not there yet */
    uint64_t seen_ns, seen_cpu_ns;       /* since when its CPU time is counted, and the thread's then */
    uint64_t idle_cpu_ns, idle_requests; /* at the last look that found the core idle */
    int status;
};

struct sw_watch {
    /* set before the thread starts, then read-only */
    struct sw_watchdog_setup setup;
    pid_t pid;
    int worker; /* from 1, as uWSGI counts */
    unsigned core_count;
    pthread_t main_thread;
    struct sw_slot *slot;
    /* watchdog thread only */
    struct sw_core *cores; /* core_count of them */
    struct sw_eye eye;
    struct sw_emitter emitter;
    struct sw_raw raw;
    struct sw_waitstate wait; /* the event points into it */
    uint64_t least_threshold_ns;
    struct sw_sampler sampler;
    bool leaving; /* the process is in exit() */
    struct sw_event event;
    struct sw_report_data snapshot;
    struct sw_timeout_data timeout;
    struct sw_arena arena;
    char arena_bytes[SW_ARENA_BYTES];
};

/* Looks at one core and does what is due (sampling: also one more look at it if it is slow); returns when the next
 * look at it is needed. */
uint64_t sw_watch_core(struct sw_watch *w, unsigned core, bool sampling);
struct sw_moment sw_watch_now(void);

/* Any thread: the core that this thread serves; -1 = none. */
int sw_watch_core_of(const struct sw_watch *w, pthread_t thread);
/* What is seen of a thread (of a core; -1 = of none) now, added to the event of w. */
void sw_watch_look(struct sw_watch *w, pthread_t thread, int core);

/* watch_timeouts.c: timeouts that the application reports in this process are told by this watchdog from now on. */
void sw_watch_timeouts_open(struct sw_watch *w);
/* Tells what was reported since. Before the reports of the same requests end: they share an id. */
void sw_watch_timeouts(struct sw_watch *w);

/* Harakiri takes its aim: a last picture of every slow request. final: the kill follows, so the reports end; without
 * it (a graceful signal first) they get an update. When nothing is slow yet, the longest-running request is. */
void sw_watch_harakiri(struct sw_watch *w, bool final);

/* The worker leaves: ends what is open. */
void sw_watch_leave(struct sw_watch *w, const char *reason);

/* Ends that had to wait in the backlog are sent: their reports are free again. */
void sw_watch_free_sent(struct sw_watch *w);

#endif
