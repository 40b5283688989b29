#include "pymem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* System calls are made raw: sanitizers and other interposers look at the buffers of the wrapped ones, and here a
 * bad buffer is the point. They must not be cancellation points either. */

#define PIPE_STEP_BYTES ((size_t)4096) /* a page: an empty pipe takes that much at once, whatever its limit */
#define IOV_BYTES       (2 * SW_PYMEM_RANGES_MAX * sizeof(struct iovec))

static const char *const BACKEND_NAMES[] = {"memfd", "process_vm_readv", "pipe", "off"};

const char *sw_pymem_backend_name(enum sw_pymem_backend backend)
{
    return (unsigned)backend < SW_COUNT(BACKEND_NAMES) ? BACKEND_NAMES[backend] : "off";
}

/* ---- memfd: the kernel copies from the address into a file whose pages we see ---- */

static int open_memfd(struct sw_pymem *m)
{
    struct rlimit limit;
    /* Writing past this limit raises SIGXFSZ. */
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0)
        return -errno;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < SW_PYMEM_WINDOW_BYTES)
        return -EFBIG;
    const long fd = syscall(SYS_memfd_create, "slowwatch", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    m->fd[0] = (int)fd;
    if (ftruncate(m->fd[0], (off_t)SW_PYMEM_WINDOW_BYTES) != 0)
        return -errno;
    void *window = mmap(NULL, SW_PYMEM_WINDOW_BYTES, PROT_READ, MAP_SHARED, m->fd[0], 0);
    if (window == MAP_FAILED)
        return -errno;
    m->window = window;
    return 0;
}

static int read_memfd(struct sw_pymem *m, uintptr_t address, void *out, size_t n)
{
    const long got = syscall(SYS_pwrite64, m->fd[0], address, n, 0L);
    if (got < 0)
        return -errno;
    if ((size_t)got != n)
        return -EFAULT;
    memcpy(out, m->window, n);
    return 0;
}

/* ---- process_vm_readv on ourselves ---- */

static int read_vm(struct sw_pymem *m, uintptr_t address, void *out, size_t n)
{
    const struct iovec local = {out, n}, remote = {(void *)address, n};
    const long got = syscall(SYS_process_vm_readv, m->pid, &local, 1L, &remote, 1L, 0L);
    if (got < 0)
        return -errno;
    return (size_t)got == n ? 0 : -EFAULT;
}

/* ---- a pipe: slow, and works wherever write() does ---- */

static int open_pipe(struct sw_pymem *m)
{
    return pipe2(m->fd, O_CLOEXEC | O_NONBLOCK) == 0 ? 0 : -errno;
}

/* One step never crosses a page, so it arrives whole or not at all. */
static int read_pipe_step(struct sw_pymem *m, uintptr_t address, char *out, size_t n)
{
    const long put = syscall(SYS_write, m->fd[1], address, n);
    if (put < 0)
        return -errno;
    for (size_t got = 0; got < (size_t)put;) {
        const long r = syscall(SYS_read, m->fd[0], out + got, (size_t)put - got);
        if (r <= 0)
            return r < 0 ? -errno : -EIO;
        got += (size_t)r;
    }
    return (size_t)put == n ? 0 : -EFAULT;
}

static int read_pipe(struct sw_pymem *m, uintptr_t address, char *out, size_t n)
{
    int rc = 0;
    while (n > 0 && rc == 0) {
        const size_t in_page = PIPE_STEP_BYTES - address % PIPE_STEP_BYTES;
        const size_t step = n < in_page ? n : in_page;
        rc = read_pipe_step(m, address, out, step);
        address += step;
        out += step;
        n -= step;
    }
    return rc;
}

/* ---- all of them ---- */

int sw_pymem_read(struct sw_pymem *m, uintptr_t address, void *out, size_t n)
{
    if (n > SW_PYMEM_WINDOW_BYTES)
        return -EINVAL;
    if (n == 0)
        return 0;
    if (address > UINTPTR_MAX - n)
        return -EFAULT;
    switch (m->backend) {
    case SW_PYMEM_MEMFD:
        return read_memfd(m, address, out, n);
    case SW_PYMEM_VM_READV:
        return read_vm(m, address, out, n);
    case SW_PYMEM_PIPE:
        return read_pipe(m, address, out, n);
    case SW_PYMEM_OFF:
        break;
    }
    return -ENOTCONN;
}

/* Bytes that one gathered call brought, or -errno. */
static long gather(struct sw_pymem *m, const struct iovec *remote, const struct iovec *local, unsigned count)
{
    long got;
    if (m->backend == SW_PYMEM_MEMFD)
        got = syscall(SYS_pwritev, m->fd[0], remote, (long)count, 0L, 0L);
    else
        got = syscall(SYS_process_vm_readv, m->pid, local, (long)count, remote, (long)count, 0L);
    return got < 0 ? -errno : got;
}

/* A gathered call stops at the first byte that cannot be read: what came before it arrived, the range it lies in
 * failed, and the rest is for the next call. Returns the ranges dealt with, at least one. */
static unsigned gather_some(struct sw_pymem *m, struct sw_pymem_range *ranges, unsigned count,
                            unsigned *arrived)
{
    struct iovec *remote = m->iov, *local = m->iov + SW_PYMEM_RANGES_MAX;
    size_t bytes = 0;
    unsigned n = 0;
    for (; n < count && n < SW_PYMEM_RANGES_MAX; n++) {
        if (ranges[n].bytes > SW_PYMEM_WINDOW_BYTES - bytes)
            break;
        remote[n] = (struct iovec){(void *)ranges[n].address, ranges[n].bytes};
        local[n] = (struct iovec){ranges[n].out, ranges[n].bytes};
        bytes += ranges[n].bytes;
    }
    if (n == 0) { /* larger than the window */
        ranges[0].ok = false;
        return 1;
    }
    const long rc = gather(m, remote, local, n);
    if (rc == -EFAULT) {
        /* The first one, or one that no process could have: for that the kernel refuses the whole call. */
        ranges[0].ok = sw_pymem_read(m, ranges[0].address, ranges[0].out, ranges[0].bytes) == 0;
        *arrived += ranges[0].ok;
        return 1;
    }
    const size_t got = rc > 0 ? (size_t)rc : 0;
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        struct sw_pymem_range *r = &ranges[i];
        r->ok = r->bytes <= got - at;
        if (!r->ok)
            return i + 1;
        if (m->backend == SW_PYMEM_MEMFD)
            memcpy(r->out, m->window + at, r->bytes);
        at += r->bytes;
        (*arrived)++;
    }
    return n;
}

unsigned sw_pymem_read_ranges(struct sw_pymem *m, struct sw_pymem_range *ranges, unsigned count)
{
    unsigned arrived = 0;
    if (m->backend == SW_PYMEM_MEMFD || m->backend == SW_PYMEM_VM_READV) {
        for (unsigned done = 0; done < count;)
            done += gather_some(m, ranges + done, count - done, &arrived);
        return arrived;
    }
    for (unsigned i = 0; i < count; i++) {
        struct sw_pymem_range *r = &ranges[i];
        r->ok = sw_pymem_read(m, r->address, r->out, r->bytes) == 0;
        arrived += r->ok;
    }
    return arrived;
}

/* ---- opening ---- */

static int open_backend(struct sw_pymem *m, enum sw_pymem_backend backend)
{
    m->backend = backend;
    m->pid = (pid_t)syscall(SYS_getpid);
    switch (backend) {
    case SW_PYMEM_MEMFD:
        return open_memfd(m);
    case SW_PYMEM_VM_READV:
        return 0;
    case SW_PYMEM_PIPE:
        return open_pipe(m);
    case SW_PYMEM_OFF:
        break;
    }
    return -EINVAL;
}

static void close_backend(struct sw_pymem *m)
{
    if (m->window)
        munmap(m->window, SW_PYMEM_WINDOW_BYTES);
    for (unsigned i = 0; i < SW_COUNT(m->fd); i++)
        if (m->fd[i] >= 0)
            close(m->fd[i]);
    m->window = NULL;
    m->fd[0] = m->fd[1] = -1;
    m->backend = SW_PYMEM_OFF;
}

/* Good memory must arrive and the zero page must be refused, alone and gathered. */
static int try_backend(struct sw_pymem *m)
{
    static const char SAMPLE[] = "slowwatch reads its own memory";
    char one[sizeof SAMPLE] = "", two[sizeof SAMPLE] = "", none;
    int rc = sw_pymem_read(m, (uintptr_t)SAMPLE, one, sizeof one);
    if (rc != 0)
        return rc;
    if (memcmp(one, SAMPLE, sizeof one) != 0 || sw_pymem_read(m, 0, &none, sizeof none) == 0)
        return -EIO;
    struct sw_pymem_range ranges[] = {
        {.address = (uintptr_t)SAMPLE, .out = one, .bytes = sizeof one},
        {.address = 0, .out = &none, .bytes = sizeof none},
        {.address = (uintptr_t)SAMPLE, .out = two, .bytes = sizeof two},
    };
    const unsigned arrived = sw_pymem_read_ranges(m, ranges, SW_COUNT(ranges));
    return arrived == 2 && !ranges[1].ok && memcmp(two, SAMPLE, sizeof two) == 0 ? 0 : -EIO;
}

/* Runs in the child. Its copy of everything goes away with it. */
static int probe(struct sw_pymem *m, enum sw_pymem_backend backend)
{
    const int rc = open_backend(m, backend);
    return rc != 0 ? rc : try_backend(m);
}

/* Forks by the bare system call: no fork handler of the application runs. Without a termination signal the child is
 * invisible to its SIGCHLD handler and to its wait(). */
static int probe_in_child(struct sw_pymem *m, enum sw_pymem_backend backend)
{
    const long pid = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L);
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        syscall(SYS_exit_group, (long)(-probe(m, backend) & 0x7f));
        __builtin_unreachable();
    }
    int status;
    long waited;
    do
        waited = syscall(SYS_wait4, pid, &status, (long)__WCLONE, NULL);
    while (waited < 0 && errno == EINTR);
    if (waited < 0)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM; /* killed by a filter */
}

int sw_pymem_open(struct sw_pymem *m, enum sw_pymem_backend first)
{
    *m = (struct sw_pymem){.backend = SW_PYMEM_OFF, .fd = {-1, -1}};
    void *iov = mmap(NULL, IOV_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (iov == MAP_FAILED)
        return -errno;
    m->iov = iov;
    int rc = -EINVAL;
    for (int b = (int)first; b < SW_PYMEM_OFF; b++) {
        rc = probe_in_child(m, (enum sw_pymem_backend)b);
        if (rc == 0)
            rc = open_backend(m, (enum sw_pymem_backend)b);
        if (rc == 0)
            rc = try_backend(m);
        if (rc == 0)
            return 0;
        close_backend(m);
    }
    sw_pymem_close(m);
    return rc;
}

void sw_pymem_close(struct sw_pymem *m)
{
    if (!m->iov) /* never opened: its descriptors mean nothing */
        return;
    close_backend(m);
    munmap(m->iov, IOV_BYTES);
    m->iov = NULL;
}
