/* pymem.h - reading memory of this process that may be gone: a bad address is an error return, never a signal.
 * Owns:    its descriptors and mapping, from _open to _close.
 * Callers: one thread per struct. No lock, no allocation after _open.
 * Fork:    a child must not use the parent's (the memfd would be shared, the pid is another): _close, then _open. */
#ifndef SW_PYMEM_H
#define SW_PYMEM_H

#include "base.h"
#include <sys/types.h>
#include <sys/uio.h>

/* in the order in which they are tried */
enum sw_pymem_backend { SW_PYMEM_MEMFD, SW_PYMEM_VM_READV, SW_PYMEM_PIPE, SW_PYMEM_OFF };

/* The most one read can bring. Its touched pages stay resident with memfd, so it is no larger than it needs to be. */
#define SW_PYMEM_WINDOW_BYTES ((size_t)64 * 1024)
#define SW_PYMEM_RANGES_MAX   1024 /* ranges the kernel takes in one call (its UIO_MAXIOV) */

struct sw_pymem {
    enum sw_pymem_backend backend;
    pid_t pid;         /* vm_readv */
    int fd[2];         /* memfd in [0]; pipe ends */
    char *window;      /* mapping of the memfd, read only */
    struct iovec *iov; /* 2 * SW_PYMEM_RANGES_MAX: remote, local */
};

const char *sw_pymem_backend_name(enum sw_pymem_backend backend);

/* The first backend from `first` on that passes a probe made in a forked child (a seccomp filter may kill on a
 * forbidden call). 0, or -errno with backend OFF. */
int sw_pymem_open(struct sw_pymem *m, enum sw_pymem_backend first) SW_MUST_CHECK;
/* fine when _open failed, twice, and on zeroed memory */
void sw_pymem_close(struct sw_pymem *m);

/* All n bytes, or -EFAULT (not mapped), -EINVAL (n over the window), other -errno. */
int sw_pymem_read(struct sw_pymem *m, uintptr_t address, void *out, size_t n) SW_MUST_CHECK;

/* Several ranges in as few system calls as the backend allows; ok[i] tells which arrived whole.
 * Returns how many did. A range over the window fails alone. */
struct sw_pymem_range {
    uintptr_t address;
    void *out;
    size_t bytes;
    bool ok;
};
unsigned sw_pymem_read_ranges(struct sw_pymem *m, struct sw_pymem_range *ranges, unsigned count);

#endif
