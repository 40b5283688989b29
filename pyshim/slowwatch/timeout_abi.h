/* timeout_abi.h - what the extension tells the uWSGI plugin about a timeout: the one contract between the two.
 * The plugin exports SLOWWATCH_TIMEOUT_SYMBOL; the extension finds it with dlsym, outside uWSGI it finds nothing.
 * Both may be of different releases: the plugin ignores a report whose `abi` it does not know.
 * Owns:    nothing; the plugin copies what it keeps before it returns.
 * Callers: raised, swallowed: the thread that ran the block, or one that holds the GIL for it. stuck: a native thread
 *          without the GIL and with a lock held that request threads take. So the function never blocks, allocates
 *          nothing, and calls nothing of Python.
 * Fork:    a child of a worker may call it; the plugin drops what does not come from a worker's own process. */
#ifndef SLOWWATCH_TIMEOUT_ABI_H
#define SLOWWATCH_TIMEOUT_ABI_H

#include <pthread.h>
#include <stdint.h>

#define SLOWWATCH_TIMEOUT_ABI    1
#define SLOWWATCH_TIMEOUT_SYMBOL "slowwatch_timeout_report"

struct slowwatch_timeout_frame {
    const char *file, *function; /* UTF-8, never NULL */
    int line;                    /* 0 = none */
};

struct slowwatch_timeout {
    uint32_t abi; /* SLOWWATCH_TIMEOUT_ABI */
    const char
        *outcome; /* "raised"; "swallowed": it was raised, and the block went on to a normal end or another
                              exception; "stuck": nothing could be raised, the thread sits in a call that does not look */
    const char *exception;                        /* name of its class */
    uint64_t limit_us;                            /* the seconds of the block */
    uint64_t late_us;                             /* from the deadline to this report */
    pthread_t thread;                             /* the thread of the block */
    const struct slowwatch_timeout_frame *frames; /* outermost first, where the exception was raised */
    uint32_t frame_count; /* 0: none given; of a stuck thread the plugin looks itself */
    uint32_t truncated;   /* outer frames left out */
};

typedef void slowwatch_timeout_report_fn(const struct slowwatch_timeout *t);

#endif
