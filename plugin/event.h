/* event.h - the one thing all parts speak: what was seen of one request at one moment (schema 1).
 * Owns:    a struct sw_event owns nothing; its strings and arrays are borrowed from the arena of whoever built it.
 * Callers: encode: any thread, allocation-free (the watchdog calls it). decode: the reporter only (uses malloc).
 * Fork:    nothing to do.
 * On the wire an event is one JSON object in valid UTF-8 on one line, at most SW_EVENT_MAX_BYTES. Strings in the
 * struct may hold any bytes; encode escapes those that are not UTF-8 as \xNN text. Times on the wire have
 * milliseconds. What is unknown (NULL, 0) is left out. */
#ifndef SW_EVENT_H
#define SW_EVENT_H

#include "base.h"
#include "text.h"
#include <sys/types.h>

#define SW_EVENT_SCHEMA      1
#define SW_EVENT_MAX_BYTES   ((size_t)64 * 1024)  /* one datagram of the channel */
#define SW_EVENT_ROOM_MIN    ((size_t)4096)       /* an event can always be cut down to this */
#define SW_EVENT_ARENA_BYTES ((size_t)512 * 1024) /* holds any decoded event, with room for source lines */
#define SW_EVENT_ID_CHARS    32                   /* hex digits of an event id, without the zero */
#define SW_FINGERPRINT_CHARS 16                   /* hex digits of a fingerprint */
#define SW_STACK_FRAMES_MAX  1024                 /* upper limit of slowwatch-stack-depth */
#define SW_EVENT_THREADS_MAX 32
#define SW_THREAD_FRAMES_MAX 12 /* innermost frames kept of each of the other threads */
#define SW_TIMELINE_MAX      16 /* distinct places kept; further ones are summed into `other_looks` */

enum sw_event_kind {
    SW_EVENT_SLOW_REQUEST,
    SW_EVENT_SLOW_REQUEST_UPDATE,
    SW_EVENT_REQUEST_FINISHED,
    SW_EVENT_REQUEST_KILLED,
    SW_EVENT_WORKER_DIED, /* up to here: of the report of one request */
    SW_EVENT_TIMEOUT,
    SW_EVENT_WARMUP,
    SW_EVENT_KINDS
};

struct sw_frame {
    const char *file, *function;
    const char *source; /* NULL until the reporter adds it */
    int line;           /* 1 and up; 0 = the frame has no line */
};

struct sw_stack {
    struct sw_frame *frames; /* outermost first */
    unsigned count;
    unsigned truncated;  /* outer frames left out */
    const char *partial; /* NULL = verified; else why the read is not clean, in words */
};

struct sw_event_thread { /* one of the other Python threads */
    uint64_t ident;      /* as threading.get_ident() */
    pid_t tid;           /* 0 = unknown */
    bool gil;            /* it holds the GIL */
    struct sw_stack stack;
};

struct sw_timeline_place {
    const char *file, *function;
    int line;
    uint64_t looks;
};

struct sw_event_request {
    const char *method, *uri, *host, *remote_addr, *user_agent, *request_id,
        *traceparent;    /* NULL = not there */
    const char *phase;   /* "application", "upload", "streaming", "websocket", "uwsgi" */
    uint64_t started_us; /* wall clock */
    uint64_t body_bytes; /* of the request body, 0 = none */
    int status;          /* 0 = not known yet */
};

struct sw_event_state {
    const char *state;              /* "running", "waiting", "stopped"; NULL = unknown */
    const char *syscall;            /* name, NULL = unknown */
    const char *wait;               /* in words, NULL = nothing to say */
    const char *gil;                /* "held", "wanted", "released"; NULL = unknown */
    uint64_t gil_holder;            /* thread ident of the holder when `gil` is "wanted", 0 = unknown */
    uint64_t cpu_ms, cpu_window_ms; /* CPU time used in the last cpu_window_ms of the request */
};

struct sw_event_timeout {
    const char *outcome;   /* "raised", "swallowed", "stuck": see timeout_abi.h */
    const char *exception; /* name of its class */
    uint64_t limit_us, late_us;
};

struct sw_event_warmup {
    const char *method, *path;
    const char *result; /* "ok", "failed", "timed out", "gave up", ... */
    const char *why;    /* why this worker started: "first start", "harakiri", ...; NULL = unknown */
    int status;         /* of the response, 0 = none */
    unsigned attempt;   /* from 1; 0 = not counted */
    uint64_t took_us, bytes;
};

struct sw_event {
    enum sw_event_kind kind;
    const char *id;   /* SW_EVENT_ID_CHARS hex digits */
    uint64_t time_us; /* wall clock */
    const char *host, *app;
    int worker, core;
    pid_t pid, tid;
    struct sw_event_request request;
    uint64_t elapsed_ms, threshold_ms;
    bool has_harakiri;
    int64_t harakiri_in_ms;
    struct sw_event_state thread;
    bool has_stack; /* false: `no_stack` says why */
    const char *no_stack;
    struct sw_stack stack;
    struct sw_event_thread *threads;
    unsigned thread_count;
    unsigned threads_dropped;           /* other threads that did not fit */
    struct sw_timeline_place *timeline; /* most looks first */
    unsigned timeline_count;
    uint64_t looks, other_looks; /* all looks; those at places that did not fit */
    const char *reason;      /* request_killed: "harakiri", or more in words; worker_died, warmup: in words */
    const char *fingerprint; /* NULL until the reporter adds it */
    struct sw_event_timeout timeout; /* of SW_EVENT_TIMEOUT; its `core` is -1 outside of a request */
    struct sw_event_warmup warmup;   /* of SW_EVENT_WARMUP */
};

const char *sw_event_kind_name(enum sw_event_kind kind);
/* request_finished, request_killed, worker_died: a report has exactly one of them */
bool sw_event_is_end(enum sw_event_kind kind);
/* From slow_request to its end. The others open and close no report, but a timeout bears the id of the one that is open
 * for its request. */
bool sw_event_is_of_report(enum sw_event_kind kind);

/* Encodes into at most `room` bytes, no zero at the end. What is over is cut in this order, and marked: other
 * threads (the one that holds the GIL stays longest), outer frames (`truncated` grows), user agent and URI, in the
 * end every long string (they end in "…") and the timeline. Returns the length, or -EMSGSIZE when even that is too
 * long, which only room < SW_EVENT_ROOM_MIN can cause. */
ssize_t sw_event_encode(const struct sw_event *e, char *out, size_t room) SW_MUST_CHECK;

/* Decodes one datagram. Strings and arrays go to the arena. 0; -EINVAL with one line in `why` (not a JSON object,
 * wrong schema, a required field missing, a field of the wrong type, a count over the limits); -ENOMEM when the
 * arena is smaller than SW_EVENT_ARENA_BYTES and too small. Fields that schema 1 does not know are ignored. */
int sw_event_decode(struct sw_event *e, struct sw_arena *arena, const char *json, size_t n,
                    struct sw_text *why) SW_MUST_CHECK;

#endif
