/* timeouts.h - what became of the application's timeouts, on its way from the threads that know it to the watchdog: a
 * mailbox of fixed size for each worker, in shared memory. So what a worker had reported when it was killed is not lost:
 * the master, or the next process of the worker, tells it.
 * Owns:    nothing. Who claims a note owns it until it is posted, who takes it until it is done.
 * Callers: claim, fill, post: any thread of the worker, with any lock held: no lock, no allocation, nothing that waits.
 *          The rest: the watchdog; of what the dead left: the master, or a new process before it starts its watchdog.
 * Fork:    shared on purpose. A note says which process holds it; one held by a dead process may be taken from it.
 * A process that died, or one that runs wild, may have left anything here: what is taken is a copy, checked. */
#ifndef SW_TIMEOUTS_H
#define SW_TIMEOUTS_H

#include "redact.h"
#include "report.h"
#include "request.h"
#include <pthread.h>

#define SW_MAILBOX_NOTES       32 /* a storm, until the watchdog has woken up */
#define SW_TIMEOUT_FRAMES_MAX  128
#define SW_TIMEOUT_TEXT_BYTES  ((size_t)24 * 1024) /* names of files and functions */
#define SW_TIMEOUT_STRING_MAX  1024                /* bytes of one of them; what is cut ends in "…" */
#define SW_TIMEOUT_OUTCOME_MAX 32
#define SW_TIMEOUT_NAME_MAX    256

enum sw_timeout_place {
    SW_TIMEOUT_IN_REQUEST,
    SW_TIMEOUT_OUTSIDE, /* of any request: a thread of the application's own */
    SW_TIMEOUT_IN_LOOP, /* of an event loop: which of its requests this belongs to is not known */
};

struct sw_timeout_span { /* of the text; always inside of it and terminated, once checked */
    uint32_t at, bytes;
};

struct sw_timeout_data {
    char outcome[SW_TIMEOUT_OUTCOME_MAX], exception[SW_TIMEOUT_NAME_MAX];
    uint64_t limit_us, late_us;
    uint64_t at_ns; /* when it was reported */
    pid_t pid;
    pthread_t thread; /* of the block */
    /* the request; what is of it is meaningful in one only */
    enum sw_timeout_place place;
    unsigned core;
    struct sw_identity who;
    uint64_t elapsed_us; /* since its start */
    struct sw_request_line line;
    /* the stack, innermost first */
    uint32_t frame_count, truncated;
    struct {
        struct sw_timeout_span file, function;
        int line;
    } frames[SW_TIMEOUT_FRAMES_MAX];
    uint32_t text_bytes;
    char text[SW_TIMEOUT_TEXT_BYTES];
};

struct sw_mailbox { /* zeroed memory is an empty one; untouched pages cost nothing */
    _Atomic uint32_t numbers;
    struct {
        _Atomic uint64_t holder; /* process and state, 0 = free */
        _Atomic uint32_t number; /* in order of arrival */
    } notes[SW_MAILBOX_NOTES];
    struct sw_timeout_data data[SW_MAILBOX_NOTES]; /* of each note; its holder's alone */
};

struct slowwatch_timeout;

/* A note is its index; -1 = none. */

/* who reports: -1 = the mailbox is full. Beside _fill the place has to be set. */
int sw_mailbox_claim(struct sw_mailbox *m, pid_t me);
/* depth: innermost frames to keep */
void sw_timeout_fill(struct sw_timeout_data *d, const struct slowwatch_timeout *t, unsigned depth);
void sw_mailbox_post(struct sw_mailbox *m, int note, pid_t me);

/* who tells: the oldest note that was posted by this process; by one that is dead. A copy is in `out`. */
int sw_mailbox_take(struct sw_mailbox *m, pid_t me, struct sw_timeout_data *out);
int sw_mailbox_take_left(struct sw_mailbox *m, pid_t me, struct sw_timeout_data *out);
/* It is told, and its place is free. */
void sw_mailbox_done(struct sw_mailbox *m, int note);
/* Notes that a process had not finished when it died are thrown away; how many. */
unsigned sw_mailbox_drop_unfinished(struct sw_mailbox *m);

/* The event of it, but for the worker. report: of that worker and core (NULL when there is none); if it is open for
 * this very request the event bears its id and its request, else those of the note, redacted. Strings point into
 * `scratch` and the arena. True if the report was. */
bool sw_timeout_to_event(const struct sw_timeout_data *d, const struct sw_report *report,
                         struct sw_redact *redact, struct sw_report_data *scratch, struct sw_event *e,
                         struct sw_arena *arena);
/* "stuck" and without frames: whoever can should look at the thread. */
bool sw_timeout_wants_look(const struct sw_timeout_data *d);

#endif
