/* warmup_python.h - what the warm-up needs of Python: an exception in a request that hangs, and the traceback of one that
 * failed. Python's functions are found by name; without Python all of it is off.
 * Owns:    a signal of the process and the handler that Python has for it, from _arm to _disarm.
 * Callers: the main thread; _interrupt any thread.
 * Fork:    a child of the application inherits the handler until it is disarmed here; it does not run there.
 * How it interrupts: a real-time signal that nobody uses gets a Python handler that raises. The signal makes a blocking
 * call return, and the handler runs in the frame that is stuck, at once or when a C call returns. It needs no GIL. In a
 * sub-interpreter (a further mounted application) Python runs no handlers: there it does nothing. */
#ifndef SW_WARMUP_PYTHON_H
#define SW_WARMUP_PYTHON_H

#include "event.h"
#include <pthread.h>

struct sw_interrupter {
    int signal; /* 0 = not armed */
    pthread_t thread;
    void *globals; /* a Python dict */
};

/* For the calling thread. Without Python, or if it refuses, it stays off: `signal` is 0. */
void sw_interrupter_arm(struct sw_interrupter *i);
/* Raises an exception in that thread soon. */
void sw_interrupter_fire(const struct sw_interrupter *i);
/* What was fired and has not been raised yet is forgotten: it must not hit what comes next. After the last _fire. */
void sw_interrupter_settle(const struct sw_interrupter *i);
void sw_interrupter_disarm(struct sw_interrupter *i);

#define SW_EXCEPTION_CHARS 512

struct sw_exception {
    char words[SW_EXCEPTION_CHARS]; /* "ValueError: no such table"; "" = none seen */
    struct sw_stack stack;          /* in the arena; count 0 = none */
};

/* The exception that is pending in this thread, which holds the GIL; it stays pending. */
void sw_exception_read(struct sw_exception *out, struct sw_arena *arena);

#endif
