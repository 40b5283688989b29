/* glue.h - what the C files of the extension share: the objects, and who looks after what.
 * Threads: everything here needs the GIL unless it says otherwise. The order is GIL, then the lock of deadline.h.
 * Interpreters: types and counters are those of the process; extension modules of sub-interpreters share them, which is
 *          right as long as they share the GIL (the module refuses an interpreter with a GIL of its own).
 * Fork:    see deadline.h; the child finds no strands, no threads, and an interrupt that is to be prepared anew. */
#ifndef SLOWWATCH_GLUE_H
#define SLOWWATCH_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>

#include "deadline.h"

struct quota_object;
struct timeout_object;

/* One entered block. Most timeout objects are entered once at a time and use the one inside them. */
struct entry {
    struct sw_deadline deadline; /* its owner is this entry */
    struct timeout_object *block;
    struct entry *next; /* older open entries of the same object */
    PyObject *strand,
        *token;       /* of a greenlet or task: its Strand, and what its enter() returned; else NULL */
    PyObject *raised; /* the instance that was handed out, or NULL */
    PyObject *posted; /* the class set as asynchronous exception, or NULL */
    uint64_t thread_state_id; /* of deadline.context: the address alone may be used again */
    uint64_t serial;          /* never repeats: an entry is used again */
    bool told;                /* the plugin was told that it was raised */
};

struct timeout_object {
    PyObject_HEAD PyObject *exception; /* class or instance */
    struct quota_object *quota;
    double seconds; /* without a quota */
    uint64_t limit_ns;
    struct entry *open; /* newest first */
    struct entry first;
    bool expired; /* of the last block that was left */
};

struct strand_object { /* of a greenlet or task; Python subclasses it */
    PyObject_HEAD struct sw_strand strand;
    PyObject *weakrefs;
};

extern PyTypeObject sw_timeout_type, sw_shield_type, sw_quota_type, sw_strand_type, sw_done_type;

static inline uint64_t sw_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static inline double sw_seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* A number of seconds, as nanoseconds; infinity gives SW_DEADLINE_NEVER. -1 with TypeError or ValueError set. */
int sw_parse_seconds(PyObject *number, double *seconds, uint64_t *ns);

/* ---- _deadline.c: the methods that are written in Python (slowwatch._wrap) ---- */
/* Calls one of its functions; takes the reference to the arguments. */
PyObject *sw_call_wrap(const char *function, PyObject *arguments);
PyObject *sw_decorate(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- awaitable.c ---- */
PyObject *sw_async_enter(PyObject *self, PyObject *none);
PyObject *sw_async_exit(PyObject *self, PyObject *args);

/* ---- quota.c ---- */
uint64_t sw_quota_left_ns(const struct quota_object *q, uint64_t now);
void sw_quota_start(struct quota_object *q, uint64_t now);
void sw_quota_stop(struct quota_object *q, uint64_t now);

/* ---- strand.c: which strand runs now ---- */
int sw_strands_setup(void);
/* The strand of the current greenlet or task (*object: a new reference) or thread (*object: NULL). NULL with an
 * exception set, or without one when the interpreter is closing: then blocks do nothing. */
struct sw_strand *sw_strand_current(PyObject **object);
/* Like it, but creates nothing: NULL = this thread has no block open. For the signal handler. */
struct sw_strand *sw_strand_of_thread(void);
extern _Thread_local int
    sw_in_coop; /* this thread runs slowwatch._coop: no exception of ours may begin there */
struct sw_strand *sw_strand_of_owner(PyObject **object);
/* The interpreter closes. */
void sw_strands_close(PyInterpreterState *interp);
void sw_strands_open(PyInterpreterState *interp);
/* Before sw_deadline_fork_child: an exception that is set in this thread was the parent's. */
void sw_strands_fork_child(void);

/* ---- interrupt.c: making the main thread look ---- */
extern const struct sw_deadline_ops sw_interrupt_ops;
/* Is this the main thread of the main interpreter? If so the signal is ready afterwards. -1 with an exception set. */
int sw_interrupt_prepare(void);
/* Main thread, as each block is opened: if somebody took our signal meanwhile, another one is chosen. */
int sw_interrupt_refresh(void);
/* Handler context: the same signal once more, for the very next look. */
void sw_interrupt_again(void);
/* The main interpreter closes: its objects are gone, should there be another one in this process. */
void sw_interrupt_close(void);
PyObject *sw_interrupt_set_signal(PyObject *module, PyObject *signum);
/* Any live thread: a blocking call of it returns and looks. Nothing, when the signal is not ours. */
void sw_interrupt_nudge(pthread_t thread);
void sw_interrupt_fork_child(void);

/* ---- post.c: exceptions for other threads ---- */
int sw_post_setup(void);          /* once for each interpreter */
void sw_post_start(void *interp); /* any thread, core lock or not: its posting thread is needed */
/* A posted exception of this strand is taken back (its deadline is DUE again) or found delivered. */
void sw_post_settle(struct sw_strand *s);
/* The same for the strand of this deadline, when its thread is another one, which may be about to end. */
void sw_post_settle_with(struct sw_deadline *d);
/* The interpreter closes: waits until the posting thread has done with it. */
void sw_post_close(PyInterpreterState *interp);
void sw_post_fork_child(void);

/* ---- entry.c ---- */
/* Not yet open. NULL with an exception set. */
struct entry *sw_entry_new(struct timeout_object *t);
/* Takes it out of the object's list, if it is in there, and drops what it holds. May run Python code. */
void sw_entry_free(struct entry *e);
/* The open entry with this serial; NULL = left meanwhile. */
struct entry *sw_entry_find(const struct timeout_object *block, uint64_t serial);
/* The newest that is open in the strand that runs, or NULL. */
struct entry *sw_entry_of_strand(const struct timeout_object *t);
/* The same; when there is none, the newest: a generator may have moved to another thread. NULL = none is open. */
struct entry *sw_entry_current(const struct timeout_object *t);
/* Was it entered in this thread, or in a greenlet or task? Then its strand cannot go meanwhile. */
bool sw_entry_strand_is_safe(const struct entry *e);
/* The timer of its event loop, if it has one: 0 or -1 with an exception set; stopping, 1: the exception in flight, of
 * this kind, stands for ours. */
int sw_entry_start_timer(struct entry *e, uint64_t limit_ns);
int sw_entry_stop_timer(struct entry *e, PyObject *kind);
/* Leaves the deadline: the state in which it was. Nothing of it can be raised by anybody afterwards. */
enum sw_deadline_state sw_entry_leave(struct entry *e);

/* ---- exception.c ---- */
/* A new reference to the instance to raise; NULL with an exception set: that of its constructor. */
PyObject *sw_exception_make(PyObject *exception, uint64_t limit_ns);
/* The same, for elsewhere: then the exception of the constructor is what is to be raised. NULL: no memory. */
PyObject *sw_exception_make_any(PyObject *exception, uint64_t limit_ns);
/* Raises it here and now, and tells the plugin; always returns NULL. The deadline must have been taken. */
PyObject *sw_exception_raise(struct entry *e);
/* A class that makes this instance when it is instantiated: what an asynchronous exception can carry. */
PyObject *sw_exception_carrier(PyObject *instance);
/* Is `wanted` the exception `value`, its cause or its context, at any depth? */
bool sw_exception_within(PyObject *value, PyObject *wanted);

/* ---- safepoint.c ---- */
/* May an exception be raised where this frame (borrowed; NULL = unknown) stands? If not, a moment later. Main thread. */
bool sw_safepoint(PyFrameObject *frame);
/* The same of the places where another thread, which waits for the GIL, may take what is set now. */
bool sw_safepoint_next(PyFrameObject *frame);

/* ---- report.c: telling the uWSGI plugin ---- */
void sw_report_setup(void);
/* frame: innermost, borrowed; NULL = none to give. No exception is set or changed. raised: tells once per entry. */
void sw_report_raised(struct entry *e, PyFrameObject *frame);
void sw_report_swallowed(const struct entry *e);
void sw_report_stuck(const struct sw_deadline *d, uint64_t late_ns); /* no GIL */

#endif
