/* look.h - one look at a thread: what the kernel says, what Python says, put into an event.
 * Owns:    the Python reader and the tid finder of this process, from _open to _close.
 * Callers: open: set-up (it starts a helper thread for a moment). The rest: the watchdog thread only. No GIL, no lock, no
 *          allocation.
 * Fork:    a child opens its own. */
#ifndef SW_LOOK_H
#define SW_LOOK_H

#include "event.h"
#include "pystack.h"
#include "waitstate.h"

struct sw_eye {
    struct sw_pystack *py; /* NULL: no stacks in this process, no_stack says why */
    const char *no_stack;
    struct sw_tid_finder finder;
    unsigned depth;
    bool shared_thread; /* the loop runs many requests on one thread */
};

/* py may be NULL. Never fails: what cannot be opened is off, and `no_stack` says so in the events. */
void sw_eye_open(struct sw_eye *eye, struct sw_pystack *py, enum sw_pymem_backend backend,
                 const char *no_stack);
void sw_eye_close(struct sw_eye *eye);

/* The kernel's id of a thread; 0 = unknown. */
pid_t sw_eye_tid(struct sw_eye *eye, pthread_t thread);

/* Cheap: what the kernel says. False when the thread is gone. */
bool sw_eye_wait(struct sw_eye *eye, pid_t tid, struct sw_waitstate *out);

/* The stack of the thread (state: its Python thread state when the host knows, else 0), and what it has to do with the
 * GIL; strings go to the arena or point into `wait`.
 * with_threads: the other threads too, shorter. */
void sw_eye_look(struct sw_eye *eye, pthread_t thread, uintptr_t state, const struct sw_waitstate *wait,
                 bool with_threads, struct sw_arena *arena, struct sw_event *e);

/* The frame that says where the application stands: the innermost of its own, else the innermost; NULL = none. */
const struct sw_frame *sw_stack_place(const struct sw_stack *s);

#endif
