#include "mail_delivery.h"

#include "mail_smtp.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESULT_FD    3                             /* the only descriptor above 2 that the child keeps */
#define QUIT_NS      (UINT64_C(2) * SW_NS_PER_SEC) /* for a polite end once the outcome is known */
#define REAP_NS      (UINT64_C(20) * SW_NS_PER_MS) /* between looks whether a dying child is gone */
#define CLOSE_MAX    65536 /* descriptors closed one by one on a kernel without close_range */
#define CANCEL_LOOKS 50    /* of a millisecond */

enum state {
    IDLE,
    RUNNING, /* no outcome yet */
    ENDING,  /* outcome told; the child says QUIT, or was killed and is not reaped yet */
};

struct sw_delivery {
    enum state state;
    pid_t pid;
    int fd; /* -1 once the child has closed its end */
    unsigned to_count;
    uint64_t started_ns;
    uint64_t kill_ns; /* when the child is killed, whatever it does */
    bool killed;
    unsigned phase;
    bool in_result;
    size_t result_used;
    union {
        struct sw_delivery_result at;
        char bytes[sizeof(struct sw_delivery_result)];
    } result;
};

/* ---- the child ---- */

static void close_others(void)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, RESULT_FD + 1, ~0U, 0) == 0)
        return;
#endif
    for (int fd = RESULT_FD + 1; fd < CLOSE_MAX; fd++)
        close(fd);
}

static void reset_signals(void)
{
    const struct sigaction standard = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &standard, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void child_main(const struct sw_delivery_job *job, int fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it went before the line above */
        _exit(1);
    reset_signals();
    prctl(PR_SET_NAME, "slowwatch mail");
    prctl(PR_SET_DUMPABLE, 0); /* the password must not end in a core file */
    if (fd != RESULT_FD && dup2(fd, RESULT_FD) < 0)
        _exit(1);
    const int nothing = open("/dev/null", O_RDWR);
    for (int standard = 0; standard < RESULT_FD; standard++)
        if (dup2(nothing, standard) < 0)
            _exit(1);
    close_others();
    sw_smtp_run(job, RESULT_FD);
    _exit(0);
}

/* ---- the parent ---- */

static struct sw_delivery *delivery_create(void)
{
    struct sw_delivery *d = calloc(1, sizeof *d);
    if (d)
        d->fd = -1;
    return d;
}

static int delivery_start(struct sw_delivery *d, const struct sw_delivery_job *job, uint64_t now)
{
    int ends[2];
    sigset_t all, before;
    if (d->state != IDLE)
        return -EBUSY;
    if (job->to_count == 0 || job->to_count > SW_MAIL_RECIPIENTS_MAX)
        return -EINVAL;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    /* No handler of the host may run in the child, not even for a moment. */
    const pid_t parent = getpid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t pid = fork();
    const int err = pid < 0 ? -errno : 0;
    if (pid == 0)
        child_main(job, ends[1], parent);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (err) {
        close(ends[0]);
        return err;
    }
    *d = (struct sw_delivery){.state = RUNNING,
                              .pid = pid,
                              .fd = ends[0],
                              .to_count = job->to_count,
                              .started_ns = now,
                              .kill_ns = sw_add_sat(now, job->config->timeout_ns)};
    return 0;
}

static void kill_child(struct sw_delivery *d)
{
    if (!d->killed)
        kill(d->pid, SIGKILL);
    d->killed = true;
}

static void close_pipe(struct sw_delivery *d)
{
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}

/* Bytes from the child: phases, then the result. True when the result is whole. */
static bool take(struct sw_delivery *d, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!d->in_result) {
            d->in_result = bytes[i] == SW_SMTP_RESULT;
            d->phase = bytes[i];
        } else if (d->result_used < sizeof d->result.bytes) {
            d->result.bytes[d->result_used++] = (char)bytes[i];
        }
    }
    return d->result_used == sizeof d->result.bytes;
}

static bool read_result(struct sw_delivery *d)
{
    unsigned char bytes[4096];
    while (d->fd >= 0) {
        const ssize_t n = read(d->fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0) {
            close_pipe(d);
            return false;
        }
        if (take(d, bytes, (size_t)n))
            return true;
    }
    return false;
}

/* True when the child is gone for good; `status` as of waitpid, 0 when somebody else has reaped it. */
static bool reap(struct sw_delivery *d, int *status)
{
    *status = 0;
    const pid_t pid = waitpid(d->pid, status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return false;
    close_pipe(d);
    d->state = IDLE;
    d->pid = 0;
    return true;
}

SW_PRINTF(3, 4)
static void fail(const struct sw_delivery *d, struct sw_delivery_result *out, const char *fmt, ...)
{
    va_list ap;
    *out = (struct sw_delivery_result){.server_fault = true};
    va_start(ap, fmt);
    vsnprintf(out->why, sizeof out->why, fmt, ap);
    va_end(ap);
    for (unsigned i = 0; i < d->to_count; i++)
        memcpy(out->reply[i], out->why, sizeof out->reply[i]);
}

/* The child ended without a word about its outcome. */
static void fail_silent(const struct sw_delivery *d, struct sw_delivery_result *out, int status)
{
    const char *where = sw_smtp_phase_words(d->phase);
    if (WIFSIGNALED(status))
        fail(d, out, "%s: the delivery process died of signal %d", where, WTERMSIG(status));
    else
        fail(d, out, "%s: the delivery process left with code %d", where, WEXITSTATUS(status));
}

static bool delivery_poll(struct sw_delivery *d, struct sw_delivery_result *out, uint64_t now)
{
    int status;
    bool told = false;
    if (d->state == IDLE)
        return false;
    if (read_result(d) && d->state == RUNNING) {
        *out = d->result.at;
        d->state = ENDING;
        d->kill_ns = sw_min_u64(d->kill_ns, sw_add_sat(now, QUIT_NS));
        told = true;
    }
    if (now >= d->kill_ns)
        kill_child(d);
    if (d->killed && d->state == RUNNING) {
        fail(d, out, "%s: still nothing after %.3g s", sw_smtp_phase_words(d->phase),
             (double)(now - d->started_ns) / (double)SW_NS_PER_SEC);
        d->state = ENDING;
        told = true;
    }
    /* A child that ended by itself may have left its result in the pipe: first the end of that, then the child. */
    const bool silent = d->state == RUNNING;
    if ((d->killed || d->fd < 0) && reap(d, &status) && silent) {
        fail_silent(d, out, status);
        told = true;
    }
    return told;
}

static bool delivery_busy(const struct sw_delivery *d)
{
    return d->state != IDLE;
}

static int delivery_fd(const struct sw_delivery *d)
{
    return d->fd;
}

static uint64_t delivery_next_ns(const struct sw_delivery *d, uint64_t now)
{
    if (d->state == IDLE)
        return SW_NS_NEVER;
    if (d->killed || d->fd < 0)
        return sw_add_sat(now, REAP_NS);
    return d->kill_ns;
}

static void delivery_cancel(struct sw_delivery *d)
{
    int status;
    if (d->state == IDLE)
        return;
    kill_child(d);
    /* A killed process is gone at once; should the kernel hold it, a later poll or init reaps it. */
    for (int look = 0; look < CANCEL_LOOKS && !reap(d, &status); look++)
        nanosleep(&(struct timespec){.tv_nsec = (long)SW_NS_PER_MS}, NULL);
    if (d->state == RUNNING)
        d->state = ENDING;
}

static void delivery_destroy(struct sw_delivery *d)
{
    delivery_cancel(d);
    close_pipe(d);
    free(d);
}

const struct sw_delivery_ops sw_delivery_smtp = {
    .create = delivery_create,
    .start = delivery_start,
    .poll = delivery_poll,
    .busy = delivery_busy,
    .fd = delivery_fd,
    .next_ns = delivery_next_ns,
    .cancel = delivery_cancel,
    .destroy = delivery_destroy,
};
