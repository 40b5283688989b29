/* waitstate.h - what the kernel says a thread of this process is doing, in words.
 * Owns:    nothing. Callers: the watchdog thread; reads /proc, decodes descriptors; no lock, no allocation.
 * Fork:    nothing to do.
 * Source:  /proc/self/task/<tid>/{stat,syscall,wchan}, /proc/self/{fd,fdinfo}, /proc/locks; after a change of uid
 *          `syscall` is closed to us and only the category that `wchan` gives remains. */
#ifndef SW_WAITSTATE_H
#define SW_WAITSTATE_H

#include "base.h"
#include "pymem.h"
#include <sys/types.h>

#define SW_WAIT_SYSCALL_CHARS 32
#define SW_WAIT_WORDS_CHARS   320

struct sw_waitstate {
    char state;                          /* as in /proc/<pid>/stat: R S D T Z ...; 0 = thread is gone */
    bool known_syscall;                  /* the kernel let us see the system call */
    long nr;                             /* its number, -1 = none (running) */
    char syscall[SW_WAIT_SYSCALL_CHARS]; /* its name, "" = none or unknown */
    char words[SW_WAIT_WORDS_CHARS];     /* "recvfrom(fd 9 → 127.0.0.1:5432)", "" = nothing to say */
    int fd;                              /* the one descriptor waited on, -1 = none, several or an epoll's */
    bool fd_read, fd_write;              /* waits for it to become readable / writable */
    uintptr_t futex;                     /* address waited on, 0 = none */
    uint64_t cpu_ns;                     /* CPU time of the thread so far */
};

/* mem decodes pointers among the arguments (poll sets, paths); NULL = leave them out. 0, or -ESRCH: thread is gone. */
int sw_waitstate_read(pid_t tid, struct sw_pymem *mem, struct sw_waitstate *out) SW_MUST_CHECK;

/* "running" (R), "waiting" (S, D, I), "stopped" (T, t), else NULL */
const char *sw_waitstate_name(const struct sw_waitstate *w);

/* CPU time alone, cheaply; 0 when the thread is gone */
uint64_t sw_waitstate_cpu_ns(pid_t tid);

/* The kernel's id of a thread known by its pthread_self(). Where the C library keeps it is found once, at set-up, by
 * comparing the calling thread with a helper that lives for that moment; then it is read through the fallible
 * reader, since the thread may be gone. -ESRCH / -ENOTSUP. */
struct sw_tid_finder {
    size_t offset; /* of the tid in what pthread_t points to */
    bool ready;
};
int sw_tid_finder_init(struct sw_tid_finder *f, struct sw_pymem *mem) SW_MUST_CHECK;
pid_t sw_tid_of(const struct sw_tid_finder *f, struct sw_pymem *mem, uintptr_t thread);

#endif
