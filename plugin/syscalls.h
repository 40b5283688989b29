/* syscalls.h - names of the system calls of this architecture and what their arguments mean.
 * Pure data: any thread. */
#ifndef SW_SYSCALLS_H
#define SW_SYSCALLS_H

#include "base.h"

enum sw_syscall_shape {
    SW_SHAPE_PLAIN,        /* nothing among the arguments worth telling */
    SW_SHAPE_FD,           /* (fd): not a wait for readiness */
    SW_SHAPE_FD_READ,      /* (fd): until it is readable */
    SW_SHAPE_FD_WRITE,     /* (fd): until it is writable */
    SW_SHAPE_SENDTO,       /* (fd, , , , address, bytes) */
    SW_SHAPE_CONNECT,      /* (fd, address, bytes) */
    SW_SHAPE_FD_TO_FD,     /* (from, to) */
    SW_SHAPE_SPLICE,       /* (from, , to) */
    SW_SHAPE_SENDFILE,     /* (to, from) */
    SW_SHAPE_POLL,         /* (fds, count, milliseconds) */
    SW_SHAPE_PPOLL,        /* (fds, count, timespec) */
    SW_SHAPE_SELECT,       /* (count, read, write, except, timeval) */
    SW_SHAPE_PSELECT,      /* the same, timespec */
    SW_SHAPE_EPOLL,        /* (fd, , , milliseconds) */
    SW_SHAPE_EPOLL_PWAIT2, /* (fd, , , timespec) */
    SW_SHAPE_FUTEX,        /* (address, operation, value, timespec) */
    SW_SHAPE_SLEEP,        /* (timespec) */
    SW_SHAPE_CLOCK_SLEEP,  /* (clock, flags, timespec) */
    SW_SHAPE_WAIT4,        /* (pid) */
    SW_SHAPE_WAITID,       /* (kind, id) */
    SW_SHAPE_FLOCK,        /* (fd, operation) */
    SW_SHAPE_FCNTL,        /* (fd, command) */
    SW_SHAPE_PATH,         /* (path) */
    SW_SHAPE_PATH_PATH,    /* (path, path) */
    SW_SHAPE_AT_PATH,      /* (fd, path) */
    SW_SHAPE_AT_PATH_PATH, /* (fd, path, fd, path) */
};

struct sw_syscall {
    long nr;
    const char *name;
    enum sw_syscall_shape shape;
};

/* NULL = not in the table */
const struct sw_syscall *sw_syscalls_find(long nr);

#endif
