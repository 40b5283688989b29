/* request.h - a safe copy of what a core of uWSGI is doing.
 * Owns:    nothing. Callers: the watchdog thread; the master for the cores of a dead worker; where it says so any thread
 *          of the worker.
 * A core's struct wsgi_request and its buffer lie in memory that lives as long as the process and is changed by the
 * request thread at any time: words are read once, pointers are only followed into the core's own buffer and
 * its vector of variables, and a copy counts only if the same request is still there afterwards.
 * Lists that uWSGI allocates per request (logvars, headers) are never followed: they may be gone.
 * Fork:    nothing to do. */
#ifndef SW_REQUEST_H
#define SW_REQUEST_H

#include "schedule.h"
#include "text.h"

struct uwsgi_core;

struct sw_peek { /* a look that costs nanoseconds */
    bool running;
    struct sw_identity who;
    enum sw_phase phase;
    int fd;              /* of the client */
    int status;          /* 0 = no response yet */
    uint64_t body_bytes; /* Content-Length */
    bool body_missing;   /* not all of it was read */
};

void sw_request_peek(const struct uwsgi_core *core, struct sw_peek *out);

#define SW_RAW_URI_BYTES   ((size_t)65536)
#define SW_RAW_VALUE_BYTES ((size_t)1024)

struct sw_raw { /* bytes as the client sent them, cut to the room here */
    char uri[SW_RAW_URI_BYTES];
    size_t uri_bytes;
    struct {
        char at[SW_RAW_VALUE_BYTES];
        size_t bytes;
    } method, host, remote_addr, user_agent, request_id, traceparent, threshold;
    int app_id;
};

/* 0; -EAGAIN: this request (who) is gone or changed meanwhile */
int sw_request_copy(const struct uwsgi_core *core, struct sw_identity who, struct sw_raw *out) SW_MUST_CHECK;

struct sw_request_line { /* the least that names a request: bytes of the client, cut to the room here */
    char method[32], uri[4096];
    size_t method_bytes, uri_bytes;
};

/* Any thread of the worker; else as sw_request_copy. */
int sw_request_copy_line(const struct uwsgi_core *core, struct sw_identity who,
                         struct sw_request_line *out) SW_MUST_CHECK;

/* the path of a URI: up to the first '?' or '#' */
size_t sw_request_path_bytes(const struct sw_raw *raw);

#endif
