/* pystack.h - Python frames of any thread of this process, without the GIL, without stopping anybody.
 * Owns:    its read buffers and the memory backend, from _open to _close.
 * Callers: _attach: set-up, any thread, no GIL needed. _open/_close/_capture/_threads/_gil: one thread (the
 *          watchdog), which never calls a Python function: symbols are only looked up by name, and memory is only
 *          read through pymem.h. No lock, no allocation after _open.
 * Fork:    a child attaches nothing anew but must _open again: a memfd mapping would be shared with the parent.
 * Every size, pointer and count read is hostile; loops are bounded; see docs/internals.md for the verification. */
#ifndef SW_PYSTACK_H
#define SW_PYSTACK_H

#include "event.h"
#include "pymem.h"
#include <pthread.h>

struct sw_pystack;

enum sw_gil_state { SW_GIL_UNKNOWN, SW_GIL_HELD, SW_GIL_WANTED, SW_GIL_RELEASED };

struct sw_gil {
    enum sw_gil_state state; /* of the asked thread */
    uint64_t holder;         /* thread ident of the holder, 0 = nobody or unknown */
    pid_t holder_tid;        /* 0 = unknown (before 3.11) */
};

/* Finds the interpreter of this process and its layout. 0, or -ENOENT (no Python here), -ENOTSUP (unknown version,
 * free-threaded, two of them), with one line in `why`. On success `version` says e.g. "CPython 3.11.2". */
int sw_pystack_attach(struct sw_pystack **out, struct sw_text *version, struct sw_text *why) SW_MUST_CHECK;
void sw_pystack_detach(struct sw_pystack *p);

/* Opens the first memory backend that works, from `first` on; 0, or -errno: no stacks in this process. */
int sw_pystack_open(struct sw_pystack *p, enum sw_pymem_backend first) SW_MUST_CHECK;
void sw_pystack_close(struct sw_pystack *p);
struct sw_pymem *sw_pystack_mem(struct sw_pystack *p);

/* Which thread state the asked thread runs on from now on, when the host knows (0 = it does not): a thread may have
 * several, and those that another thread made for it carry that thread's id. Believed only if the interpreter lists
 * it. Without one (0) the state of the main interpreter is taken before those of others. */
void sw_pystack_prefer(struct sw_pystack *p, uintptr_t state);

/* The stack of the thread with this pthread_self(); strings and frames go to the arena, at most `depth` innermost
 * frames. 0 with out->partial NULL (verified) or a reason; -ESRCH: no Python frame on that thread;
 * other -errno: could not be read at all. */
int sw_pystack_capture(struct sw_pystack *p, pthread_t thread, unsigned depth, struct sw_arena *arena,
                       struct sw_stack *out) SW_MUST_CHECK;

/* Every Python thread but `except`, each with at most `depth` frames; returns how many were put (<= room). */
unsigned sw_pystack_threads(struct sw_pystack *p, pthread_t except, unsigned depth, struct sw_arena *arena,
                            struct sw_event_thread *out, unsigned room);

/* What the thread has to do with the GIL. futex: the address it waits on as the kernel says, 0 = none known. */
void sw_pystack_gil(struct sw_pystack *p, pthread_t thread, uintptr_t futex, struct sw_gil *out);

/* ---- start-up, on a thread that holds the GIL (or may take it): pycheck.c ---- */

/* Builds a few known stacks with the interpreter's own C API (looked up by name) and compares what the reader says of
 * this very thread with what the interpreter says. 0, or -EILSEQ with the first difference in `why`: then stacks
 * must stay off; -ENOTSUP when the check itself could not be made. */
int sw_pystack_self_check(struct sw_pystack *p, struct sw_text *why) SW_MUST_CHECK;

#endif
