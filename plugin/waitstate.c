#include "waitstate.h"

#include "callwords.h"
#include "procfs.h"
#include "syscalls.h"
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROC_PATH_CHARS 64
#define STAT_CHARS      256 /* enough for "tid (comm) state" */
#define SYSCALL_CHARS   256
#define WCHAN_CHARS     64
#define STATE_UNKNOWN   '?'
#define READS_MAX       3 /* state and system call are two files: read again while they contradict each other */

/* ---- CPU time ----------------------------------------------------------------------------------------------- */

/* The kernel's clock id for the CPU time of any thread of this process (include/linux/posix-timers.h). */
static clockid_t cpu_clock_of(pid_t tid)
{
    enum { PER_THREAD = 4, SCHEDULED = 2, ID_SHIFT = 3 };
    return (clockid_t)((~(unsigned)tid << ID_SHIFT) | PER_THREAD | SCHEDULED);
}

uint64_t sw_waitstate_cpu_ns(pid_t tid)
{
    return tid > 0 ? sw_clock_ns(cpu_clock_of(tid)) : 0;
}

/* ---- what /proc says ----------------------------------------------------------------------------------------- */

static ssize_t read_task_file(pid_t tid, const char *name, char *out, size_t room)
{
    char path[PROC_PATH_CHARS];
    snprintf(path, sizeof path, "/proc/self/task/%ld/%s", (long)tid, name);
    return sw_procfs_read(path, out, room);
}

/* 0 = gone. The name in parentheses may itself hold parentheses, blanks and newlines. */
static char read_state(pid_t tid)
{
    char stat[STAT_CHARS];
    if (read_task_file(tid, "stat", stat, sizeof stat) > 0) {
        const char *paren = strrchr(stat, ')');
        if (paren && paren[1] == ' ' && paren[2])
            return paren[2];
    }
    return syscall(SYS_tgkill, getpid(), tid, 0) == 0 ? STATE_UNKNOWN : 0; /* signal 0 only asks */
}

struct call_line {
    bool known, running;
    long nr; /* -1: blocked, but not by a system call */
    uint64_t arg[SW_CALL_ARGS];
};

/* "running", "-1 0x<sp> 0x<pc>", or the number, six arguments, sp and pc. */
static void read_call(pid_t tid, struct call_line *out)
{
    char text[SYSCALL_CHARS];
    uint64_t nr;
    *out = (struct call_line){.nr = -1};
    if (read_task_file(tid, "syscall", text, sizeof text) <= 0)
        return;
    const char *s = text;
    out->running = strncmp(s, "running", strlen("running")) == 0;
    out->known = out->running || strncmp(s, "-1 ", strlen("-1 ")) == 0;
    if (out->known || !sw_procfs_number(&s, 10, &nr) || nr > INT32_MAX)
        return;
    for (size_t i = 0; i < SW_CALL_ARGS; i++)
        if (!sw_procfs_number(&s, 16, &out->arg[i]))
            return;
    out->nr = (long)nr;
    out->known = true;
}

/* ---- without the system call ---------------------------------------------------------------------------------- */

/* Kernel functions in which threads sleep, by the start of their names; the first match counts. They are no
 * interface: names differ between kernels, so both old and new ones are here. */
static const struct {
    const char *wchan, *words;
} categories[] = {
    {"futex_", "a lock (futex)"},
    {"hrtimer_nanosleep", "sleep"},
    {"do_nanosleep", "sleep"},
    {"poll_schedule_timeout", "poll or select"},
    {"do_sys_poll", "poll or select"},
    {"do_poll", "poll or select"},
    {"do_select", "poll or select"},
    {"ep_poll", "epoll"},
    {"do_epoll_wait", "epoll"},
    {"inet_csk_accept", "an accept over TCP"},
    {"inet_csk_wait_for_connect", "an accept over TCP"},
    {"inet_wait_for_connect", "a connect over TCP"},
    {"inet_stream_connect", "a connect over TCP"},
    {"wait_woken", "a network connection (TCP)"},
    {"sk_wait_data", "a network connection (TCP)"},
    {"tcp_", "a network connection (TCP)"},
    {"sk_stream_wait", "a send to a network connection (TCP)"},
    {"unix_wait_for_peer", "a send to a Unix socket"},
    {"unix_", "a Unix socket"},
    {"__skb_wait_for_more_packets", "a datagram socket or a Unix listener"},
    {"sock_alloc_send_pskb", "a send to a socket"},
    {"sock_wait_for_wmem", "a send to a socket"},
    {"pipe_", "a pipe"},
    {"anon_pipe_", "a pipe"},
    {"wait_for_partner", "the open of a FIFO"},
    {"fifo_open", "the open of a FIFO"},
    {"do_wait", "a child process"},
    {"kernel_wait", "a child process"},
    {"locks_lock", "a file lock"},
    {"flock_lock", "a file lock"},
    {"do_lock_file_wait", "a file lock"},
    {"fcntl_setlk", "a file lock"},
    {"posix_lock", "a file lock"},
    {"eventfd_", "an eventfd"},
    {"timerfd_", "a timerfd"},
    {"signalfd_", "a signal"},
    {"do_sigtimedwait", "a signal"},
    {"sigsuspend", "a signal"},
    {"rpc_", "a network file system (NFS)"},
    {"nfs", "a network file system (NFS)"},
    {"cifs_", "a network file system (SMB)"},
    {"smb", "a network file system (SMB)"},
    {"fuse_", "a FUSE file system"},
    {"request_wait_answer", "a FUSE file system"},
    {"n_tty_", "a terminal"},
    {"io_schedule", "disk"},
    {"bit_wait", "disk"},
    {"wait_on_page", "disk"},
    {"folio_wait", "disk"},
    {"submit_bio_wait", "disk"},
    {"blk_", "disk"},
    {"jbd2_", "disk (journal)"},
    {"xlog_", "disk (journal)"},
    {"xfs_", "disk"},
    {"ext4_", "disk"},
    {"btrfs_", "disk"},
    {"rwsem_", "a lock inside the kernel"},
    {"mutex_", "a lock inside the kernel"},
    {"__mutex_lock", "a lock inside the kernel"},
    {"vfork", "the start of a child process"},
    {"do_signal_stop", "a stop signal"},
    {"ptrace_stop", "a debugger"},
    {"do_freezer_trap", "a frozen control group"},
    {"__refrigerator", "a frozen system"},
};

static void put_category(struct sw_text *t, pid_t tid)
{
    char wchan[WCHAN_CHARS];
    const ssize_t n = read_task_file(tid, "wchan", wchan, sizeof wchan);
    if (n <= 0 || strcmp(wchan, "0") == 0)
        return;
    for (size_t i = 0; i < SW_COUNT(categories); i++)
        if (strncmp(wchan, categories[i].wchan, strlen(categories[i].wchan)) == 0) {
            sw_text_put(t, categories[i].words);
            sw_text_put(t, " ");
            break;
        }
    sw_text_put(t, "[kernel: ");
    sw_text_put_escaped(t, wchan, (size_t)n);
    sw_text_put(t, "]");
}

/* ---- together ------------------------------------------------------------------------------------------------- */

static void put_words(struct sw_text *t, pid_t tid, const struct call_line *line, struct sw_pymem *mem,
                      struct sw_waitstate *out)
{
    if (!line->known) {
        put_category(t, tid);
        return;
    }
    if (line->nr < 0) { /* a page fault, a signal stop */
        if (!line->running)
            put_category(t, tid);
        return;
    }
    struct sw_call call = {.kind = sw_syscalls_find(line->nr), .mem = mem, .tid = tid};
    memcpy(call.arg, line->arg, sizeof call.arg);
    if (!call.kind) {
        sw_text_printf(t, "system call %ld", line->nr);
        return;
    }
    snprintf(out->syscall, sizeof out->syscall, "%s", call.kind->name);
    sw_callwords_put(t, &call, out);
}

int sw_waitstate_read(pid_t tid, struct sw_pymem *mem, struct sw_waitstate *out)
{
    struct call_line line;
    struct sw_text words;
    *out = (struct sw_waitstate){.nr = -1, .fd = -1};

    /* A thread inside a call it is shown to block in does not run, and one that runs shows no call. */
    for (unsigned i = 0; i < READS_MAX; i++) {
        read_call(tid, &line);
        out->state = read_state(tid);
        if (!out->state)
            return -ESRCH;
        if (!line.known || line.running == (out->state == 'R'))
            break;
    }
    if (line.known && line.running)
        out->state = 'R';
    out->known_syscall = line.known;
    out->nr = line.nr;
    out->cpu_ns = sw_waitstate_cpu_ns(tid);
    sw_text_init(&words, out->words, sizeof out->words);
    if (out->state != 'R' || line.nr >= 0)
        put_words(&words, tid, &line, mem, out);
    return 0;
}

const char *sw_waitstate_name(const struct sw_waitstate *w)
{
    switch (w->state) {
    case 'R':
        return "running";
    case 'S':
    case 'D':
    case 'I':
        return "waiting";
    case 'T':
    case 't':
        return "stopped";
    default:
        return NULL;
    }
}
