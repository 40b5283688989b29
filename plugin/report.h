/* report.h - an open report: what must be known of a slow request to end it, even when its worker is gone.
 * Lives in memory shared by master and workers, one per worker and core. Written by the watchdog of that worker; when
 * the worker is dead or does not answer, the master (or the next process of this worker) ends it instead.
 * Owns:    nothing. Callers: watchdog; master; the end-of-request hook only through sw_report_request_ended.
 * Fork:    shared on purpose. No locks: `state` decides by compare-and-swap who may write the end event.
 * A process that died may have left anything here: readers take a snapshot, which is checked and terminated. */
#ifndef SW_REPORT_H
#define SW_REPORT_H

#include "event.h"
#include <stdatomic.h>

#define SW_REPORT_URI_CHARS   4096
#define SW_REPORT_VALUE_CHARS 512
#define SW_REPORT_NAME_CHARS  256

enum sw_report_state { SW_REPORT_FREE, SW_REPORT_OPEN, SW_REPORT_ENDING };

struct sw_report_place {
    char file[SW_REPORT_NAME_CHARS], function[SW_REPORT_NAME_CHARS];
    int line;
    uint64_t looks;
};

struct sw_report_request { /* redacted copies, "" = not there */
    char method[32], uri[SW_REPORT_URI_CHARS], host[SW_REPORT_NAME_CHARS], remote_addr[64];
    char user_agent[SW_REPORT_VALUE_CHARS], request_id[SW_REPORT_NAME_CHARS], traceparent[64];
    char app[SW_REPORT_NAME_CHARS];
    uint64_t started_us, body_bytes;
};

struct sw_report_data { /* what a snapshot copies */
    char id[SW_EVENT_ID_CHARS + 1];
    pid_t pid, tid;
    int worker, core;
    uint64_t start_ns, threshold_ns;
    uint64_t elapsed_ns; /* as the next event says it */
    int status;          /* of the response, once seen */
    int phase;           /* enum sw_phase at the last look */
    uint64_t looks, other_looks;
    unsigned place_count;
    struct sw_report_request request;
    struct sw_report_place places[SW_TIMELINE_MAX];
};

struct sw_report {
    _Atomic uint32_t state; /* enum sw_report_state */
    _Atomic pid_t owner;    /* who moved it to OPEN or ENDING */
    /* the end-of-request hook, on the request's own thread */
    _Atomic uint64_t hook_start_us; /* identity it may end, 0 = none */
    _Atomic uint64_t ended_ns;      /* 0 = not ended */
    _Atomic int ended_status;
    struct sw_report_data data;
};

void sw_report_new_id(char id[SW_EVENT_ID_CHARS + 1]);
/* watchdog: the data is filled, from now on the master sees the report */
void sw_report_open(struct sw_report *r, pid_t me);
/* one look: the place is where the innermost application frame stands; NULL file = no place known */
void sw_report_add_look(struct sw_report_data *d, const char *file, const char *function, int line);

/* Request thread, in the end-of-request hook: no lock, no allocation, no system call. True when this was the
 * request of this report. */
bool sw_report_request_ended(struct sw_report *r, uint64_t start_us, int status, uint64_t now_ns);

/* Takes the right to write the end event: true for exactly one caller. A report left in ENDING by a process that died
 * may be claimed again (the reporter drops a second end event of the same id). */
bool sw_report_claim(struct sw_report *r, pid_t me, bool owner_is_dead);
void sw_report_free(struct sw_report *r);

/* A checked copy: counts bounded, strings terminated. */
void sw_report_snapshot(const struct sw_report *r, struct sw_report_data *out);
/* The request of an event, and its `app`; strings point into r. */
void sw_report_request_to_event(const struct sw_report_request *r, struct sw_event *e);
/* Fills an event from a snapshot; strings and timeline point into it or into the arena. */
void sw_report_to_event(const struct sw_report_data *d, struct sw_event *e, struct sw_arena *arena);

#endif
