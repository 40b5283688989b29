#include "callwords.h"

#include "callsets.h"
#include "fdname.h"
#include "filelock.h"
#include "procfs.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_READ_BYTES    256
#define MUTEX_KIND_BITS    0x3FF
#define MUTEX_USERS_MAX    (1u << 16)
#define IDTYPE_PIDFD       3                 /* P_PIDFD; older C libraries lack the name */
#define PAGE_BYTES_ASSUMED ((uintptr_t)4096) /* the smallest page: no read of a string spans two */

#ifndef FUTEX_LOCK_PI2 /* Linux 5.14; the number is the same everywhere */
#define FUTEX_LOCK_PI2 13
#endif

bool sw_callwords_read(const struct sw_call *call, uint64_t address, void *out, size_t n)
{
    return call->mem && address && sw_pymem_read(call->mem, (uintptr_t)address, out, n) == 0;
}

/* ---- descriptors, addresses, paths ------------------------------------------------------------------------- */

void sw_callwords_put_fd(struct sw_text *t, int fd)
{
    sw_text_printf(t, "fd %d → ", fd);
    sw_fdname_put(t, fd);
}

static void put_one_fd(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    const enum sw_syscall_shape shape = call->kind->shape;
    out->fd = sw_callwords_int(call->arg[0]);
    out->fd_read = shape == SW_SHAPE_FD_READ;
    out->fd_write = shape == SW_SHAPE_FD_WRITE;
    sw_callwords_put_fd(t, out->fd);
}

/* The peer from the arguments when they name one: connect, and sendto on an unconnected socket. */
static void put_fd_to_address(struct sw_text *t, const struct sw_call *call, uint64_t address, uint64_t bytes,
                              struct sw_waitstate *out)
{
    struct sockaddr_storage peer = {0};
    out->fd = sw_callwords_int(call->arg[0]);
    out->fd_write = true;
    const size_t n = bytes < sizeof peer ? (size_t)bytes : sizeof peer;
    if (n && sw_callwords_read(call, address, &peer, n)) {
        sw_text_printf(t, "fd %d → ", out->fd);
        if (!sw_fdname_put_address(t, &peer, n))
            sw_fdname_put(t, out->fd);
    } else {
        sw_callwords_put_fd(t, out->fd);
    }
}

static void put_two_fds(struct sw_text *t, int from, int to)
{
    sw_callwords_put_fd(t, from);
    sw_text_put(t, " to ");
    sw_callwords_put_fd(t, to);
}

static bool put_path(struct sw_text *t, const struct sw_call *call, uint64_t address)
{
    char path[PATH_READ_BYTES];
    size_t used = 0;
    const char *end = NULL;
    while (used < sizeof path && !end) {
        const uintptr_t at = (uintptr_t)address + used;
        const size_t in_page = PAGE_BYTES_ASSUMED - at % PAGE_BYTES_ASSUMED;
        const size_t n = sizeof path - used < in_page ? sizeof path - used : in_page;
        if (!sw_callwords_read(call, at, path + used, n))
            return false;
        end = memchr(path + used, 0, n);
        used += n;
    }
    const size_t n = end ? (size_t)(end - path) : sw_utf8_floor(path, sizeof path);
    sw_text_put(t, "\"");
    sw_fdname_put_path(t, path, n);
    sw_text_put(t, end ? "\"" : "…\"");
    return true;
}

static void put_paths(struct sw_text *t, const struct sw_call *call, uint64_t first, uint64_t second)
{
    if (!put_path(t, call, first))
        sw_text_put(t, "…");
    if (!second)
        return;
    sw_text_put(t, ", ");
    if (!put_path(t, call, second))
        sw_text_put(t, "…");
}

/* Not what it watches: the kernel makes that list under the lock that the application's event loop needs. */
static void put_epoll(struct sw_text *t, const struct sw_call *call)
{
    sw_text_printf(t, "fd %d", sw_callwords_int(call->arg[0]));
}

/* ---- times ----------------------------------------------------------------------------------------------- */

#define FRACTION_US SW_US_PER_SEC
#define FRACTION_NS SW_NS_PER_SEC

/* A timespec or timeval (64-bit kernel layout) in nanoseconds; false when absent, unreadable or nonsense. */
static bool read_time(const struct sw_call *call, uint64_t address, uint64_t per_sec, uint64_t *ns)
{
    int64_t raw[2];
    if (!sw_callwords_read(call, address, raw, sizeof raw))
        return false;
    if (raw[0] < 0 || raw[1] < 0 || (uint64_t)raw[1] >= per_sec)
        return false;
    const uint64_t sec = sw_min_u64((uint64_t)raw[0], SW_NS_NEVER / SW_NS_PER_SEC - 1);
    *ns = sec * SW_NS_PER_SEC + (uint64_t)raw[1] * (SW_NS_PER_SEC / per_sec);
    return true;
}

static void put_timeout_ns(struct sw_text *t, uint64_t ns)
{
    sw_text_put(t, ", timeout ");
    sw_text_put_seconds(t, ns / SW_NS_PER_MS);
}

/* poll and epoll: milliseconds in a register, negative = none */
static void put_timeout_ms(struct sw_text *t, uint64_t arg)
{
    const int ms = sw_callwords_int(arg);
    if (ms < 0)
        sw_text_put(t, ", no timeout");
    else
        put_timeout_ns(t, (uint64_t)ms * SW_NS_PER_MS);
}

static void put_timeout_at(struct sw_text *t, const struct sw_call *call, uint64_t address, uint64_t per_sec)
{
    uint64_t ns;
    if (!address)
        sw_text_put(t, ", no timeout");
    else if (read_time(call, address, per_sec, &ns))
        put_timeout_ns(t, ns);
}

static void put_left(struct sw_text *t, uint64_t until_ns, clockid_t clock)
{
    sw_text_put_seconds(t, sw_sub_floor(until_ns, sw_clock_ns(clock)) / SW_NS_PER_MS);
    sw_text_put(t, " left");
}

static void put_clock_sleep(struct sw_text *t, const struct sw_call *call)
{
    const clockid_t clock = (clockid_t)call->arg[0];
    uint64_t ns;
    if (!read_time(call, call->arg[2], FRACTION_NS, &ns))
        return;
    if (call->arg[1] & TIMER_ABSTIME) {
        if (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME)
            put_left(t, ns, clock);
    } else {
        sw_text_put_seconds(t, ns / SW_NS_PER_MS);
    }
}

/* ---- locks ------------------------------------------------------------------------------------------------ */

static bool is_our_thread(pid_t tid)
{
    return tid > 0 && syscall(SYS_tgkill, getpid(), tid, 0) == 0;
}

/* Who holds what a futex guards, when that can be known: the word of a priority-inheriting lock is its owner, and
 * glibc's pthread_mutex_t keeps {lock, count, owner, users, kind} and waits with lock = 2. Other things wait with
 * that value too, so the rest must look like a mutex, and its owner must be another thread of ours. */
static pid_t futex_owner(const struct sw_call *call, unsigned operation)
{
    enum { LOCK, COUNT, OWNER, USERS, KIND, FIELDS };
    enum { LOCKED_WITH_WAITERS = 2 };
    uint32_t mutex[FIELDS];
    pid_t owner = 0;
    if (operation == FUTEX_LOCK_PI || operation == FUTEX_LOCK_PI2) {
        if (sw_callwords_read(call, call->arg[0], mutex, sizeof mutex[LOCK]))
            owner = (pid_t)(mutex[LOCK] & FUTEX_TID_MASK);
    } else if (operation == FUTEX_WAIT && (uint32_t)call->arg[2] == LOCKED_WITH_WAITERS) {
        if (sw_callwords_read(call, call->arg[0], mutex, sizeof mutex) &&
            mutex[LOCK] == LOCKED_WITH_WAITERS && mutex[USERS] > 0 && mutex[USERS] < MUTEX_USERS_MAX &&
            !(mutex[KIND] & ~(uint32_t)MUTEX_KIND_BITS))
            owner = (pid_t)mutex[OWNER];
    }
    return owner != call->tid && is_our_thread(owner) ? owner : 0;
}

static void put_futex(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    const unsigned flags = (unsigned)call->arg[1];
    const unsigned operation = flags & (unsigned)FUTEX_CMD_MASK;
    const bool absolute = operation != FUTEX_WAIT;
    const bool real_time = flags & FUTEX_CLOCK_REALTIME || operation == FUTEX_LOCK_PI;
    uint64_t ns;

    switch (operation) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_WAIT_REQUEUE_PI:
        break;
    default: /* wakes others, waits for nothing */
        return;
    }
    out->futex = (uintptr_t)call->arg[0];
    const pid_t owner = futex_owner(call, operation);
    const bool timed = read_time(call, call->arg[3], FRACTION_NS, &ns);
    if (!owner && !timed)
        return;
    sw_text_put(t, "(");
    if (owner)
        sw_text_printf(t, "mutex held by thread %ld", (long)owner);
    if (owner && timed)
        sw_text_put(t, ", ");
    if (timed && absolute) {
        put_left(t, ns, real_time ? CLOCK_REALTIME : CLOCK_MONOTONIC);
    } else if (timed) {
        sw_text_put(t, "timeout ");
        sw_text_put_seconds(t, ns / SW_NS_PER_MS);
    }
    sw_text_put(t, ")");
}

static void put_holder(struct sw_text *t, int fd, enum sw_filelock_kind kind)
{
    const pid_t holder = sw_filelock_holder(fd, kind);
    if (holder <= 0)
        return;
    sw_text_put(t, ", held by ");
    sw_procfs_put_process(t, holder);
}

static bool is_lock_wait(const struct sw_call *call)
{
    return call->arg[1] == F_SETLKW || call->arg[1] == F_OFD_SETLKW;
}

/* ---- children ---------------------------------------------------------------------------------------------- */

static void put_wait4(struct sw_text *t, const struct sw_call *call)
{
    const pid_t pid = (pid_t)call->arg[0];
    if (pid > 0)
        sw_procfs_put_process(t, pid);
    else if (pid == -1)
        sw_text_put(t, "any child");
    else
        sw_text_printf(t, "process group %ld", pid ? -(long)pid : (long)getpgrp());
}

static void put_waitid(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    switch (call->arg[0]) {
    case P_PID:
        sw_procfs_put_process(t, (pid_t)call->arg[1]);
        break;
    case P_PGID:
        sw_text_printf(t, "process group %ld", (long)(pid_t)call->arg[1]);
        break;
    case IDTYPE_PIDFD:
        out->fd = sw_callwords_int(call->arg[1]);
        sw_callwords_put_fd(t, out->fd);
        break;
    default:
        sw_text_put(t, "any child");
    }
}

/* ---- all of it --------------------------------------------------------------------------------------------- */

static void put_arguments(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    const uint64_t *arg = call->arg;
    uint64_t ns;

    switch (call->kind->shape) {
    case SW_SHAPE_PLAIN:
    case SW_SHAPE_FUTEX:
        break;
    case SW_SHAPE_FD:
    case SW_SHAPE_FD_READ:
    case SW_SHAPE_FD_WRITE:
    case SW_SHAPE_FLOCK:
        put_one_fd(t, call, out);
        break;
    case SW_SHAPE_FCNTL:
        put_one_fd(t, call, out);
        if (is_lock_wait(call))
            sw_text_put(t, arg[1] == F_SETLKW ? ", F_SETLKW" : ", F_OFD_SETLKW");
        break;
    case SW_SHAPE_SENDTO:
        put_fd_to_address(t, call, arg[4], arg[5], out);
        break;
    case SW_SHAPE_CONNECT:
        put_fd_to_address(t, call, arg[1], arg[2], out);
        break;
    case SW_SHAPE_FD_TO_FD:
        put_two_fds(t, sw_callwords_int(arg[0]), sw_callwords_int(arg[1]));
        break;
    case SW_SHAPE_SPLICE:
        put_two_fds(t, sw_callwords_int(arg[0]), sw_callwords_int(arg[2]));
        break;
    case SW_SHAPE_SENDFILE: /* the file is there; it is the receiver that lets us wait */
        put_two_fds(t, sw_callwords_int(arg[1]), sw_callwords_int(arg[0]));
        out->fd = sw_callwords_int(arg[0]);
        out->fd_write = true;
        break;
    case SW_SHAPE_POLL:
        sw_callsets_put_poll(t, call, out);
        put_timeout_ms(t, arg[2]);
        break;
    case SW_SHAPE_PPOLL:
        sw_callsets_put_poll(t, call, out);
        put_timeout_at(t, call, arg[2], FRACTION_NS);
        break;
    case SW_SHAPE_SELECT:
        sw_callsets_put_select(t, call, out);
        put_timeout_at(t, call, arg[4], FRACTION_US);
        break;
    case SW_SHAPE_PSELECT:
        sw_callsets_put_select(t, call, out);
        put_timeout_at(t, call, arg[4], FRACTION_NS);
        break;
    case SW_SHAPE_EPOLL:
        put_epoll(t, call);
        put_timeout_ms(t, arg[3]);
        break;
    case SW_SHAPE_EPOLL_PWAIT2:
        put_epoll(t, call);
        put_timeout_at(t, call, arg[3], FRACTION_NS);
        break;
    case SW_SHAPE_SLEEP:
        if (read_time(call, arg[0], FRACTION_NS, &ns))
            sw_text_put_seconds(t, ns / SW_NS_PER_MS);
        break;
    case SW_SHAPE_CLOCK_SLEEP:
        put_clock_sleep(t, call);
        break;
    case SW_SHAPE_WAIT4:
        put_wait4(t, call);
        break;
    case SW_SHAPE_WAITID:
        put_waitid(t, call, out);
        break;
    case SW_SHAPE_PATH:
        put_paths(t, call, arg[0], 0);
        break;
    case SW_SHAPE_PATH_PATH:
        put_paths(t, call, arg[0], arg[1]);
        break;
    case SW_SHAPE_AT_PATH:
        put_paths(t, call, arg[1], 0);
        break;
    case SW_SHAPE_AT_PATH_PATH:
        put_paths(t, call, arg[1], arg[3]);
        break;
    }
}

void sw_callwords_put(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    const enum sw_syscall_shape shape = call->kind->shape;
    sw_text_put(t, call->kind->name);
    if (shape == SW_SHAPE_FUTEX)
        put_futex(t, call, out);
    if (shape == SW_SHAPE_FUTEX || shape == SW_SHAPE_PLAIN)
        return;
    sw_text_put(t, "(");
    put_arguments(t, call, out);
    sw_text_put(t, ")");
    if (shape == SW_SHAPE_FLOCK)
        put_holder(t, out->fd, SW_FILELOCK_FLOCK);
    else if (shape == SW_SHAPE_FCNTL && is_lock_wait(call))
        put_holder(t, out->fd, SW_FILELOCK_POSIX);
}
