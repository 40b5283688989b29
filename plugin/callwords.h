/* callwords.h - a system call and its arguments in words: "poll(fd 5 → 127.0.0.1:5432 IN, timeout 30.0 s)".
 * Owns:    nothing. Callers: the watchdog thread; no lock, no allocation.
 * Fork:    nothing to do.
 * The arguments are a blocked thread's registers; what they point to is read through the fallible reader and may
 * change under us, so every size in it is bounded and every name escaped. */
#ifndef SW_CALLWORDS_H
#define SW_CALLWORDS_H

#include "base.h"
#include "pymem.h"
#include "syscalls.h"
#include "text.h"
#include "waitstate.h"

#define SW_CALL_ARGS 6

struct sw_call {
    const struct sw_syscall *kind;
    uint64_t arg[SW_CALL_ARGS];
    struct sw_pymem *mem; /* NULL = leave out what would have to be read */
    pid_t tid;            /* the thread that waits */
};

/* Appends the words and sets fd, fd_read, fd_write and futex of `out`. */
void sw_callwords_put(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out);

/* Parts that callsets shares: an int among the arguments (the upper half of its register is anything); bytes of the
 * process's memory, false when they cannot be read; "fd 5 → pipe". */
static inline int sw_callwords_int(uint64_t arg)
{
    return (int)(uint32_t)arg;
}

bool sw_callwords_read(const struct sw_call *call, uint64_t address, void *out, size_t n) SW_MUST_CHECK;
void sw_callwords_put_fd(struct sw_text *t, int fd);

#endif
