#include "master.h"

#include "ending.h"
#include "log.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

_Static_assert(SW_REPORTER_DRAIN_NS < SW_DRAIN_WAIT_NS, "the reporter must have ended before it is killed");

#define RESPAWN_PAUSE_MIN_NS SW_NS_PER_SEC
#define RESPAWN_PAUSE_MAX_NS (30 * SW_NS_PER_SEC)
#define REPORTER_LIVED_NS    (60 * SW_NS_PER_SEC) /* after this its next start is at once again */
#define WAIT_STEP_MS         5

static struct {
    struct sw_master_setup setup;
    struct sw_emitter emitter;
    pid_t pid;      /* of the master itself: known from its first cycle on, after daemonize */
    pid_t reporter; /* 0 = none */
    uint64_t started_ns, respawn_at_ns, respawn_pause_ns;
} master;

void sw_master_init(const struct sw_master_setup *setup)
{
    master.setup = *setup;
    master.respawn_pause_ns = RESPAWN_PAUSE_MIN_NS;
    /* Slot 0 always exists; what the master loses is counted there. */
    sw_emitter_init(&master.emitter, setup->channel, &sw_shared_slot(setup->shared, 0)->dropped, NULL,
                    setup->host, setup->config->log);
    master.emitter.counts = &sw_shared_slot(setup->shared, 0)->counts;
}

/* ---- the reporter ---- */

static void raise_alarm(const char *name, char *text, size_t n)
{
    uwsgi_alarm_trigger((char *)name, text, n);
}

/* It keeps its three standard descriptors, the channel and the way to the alarm thread; above all it must not keep
 * the listening sockets, or the port stays taken when everybody else is gone. */
static void close_range_of(unsigned first, unsigned last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    const long limit = sysconf(_SC_OPEN_MAX); /* a kernel before 5.9 */
    for (unsigned fd = first; fd <= last && (limit < 0 || fd < (unsigned long)limit); fd++)
        close((int)fd);
}

static void close_inherited(void)
{
    const unsigned channel = (unsigned)master.setup.channel->read_fd;
    const unsigned alarm = uwsgi.alarm_thread ? (unsigned)uwsgi.alarm_thread->pipe[0] : channel;
    const unsigned low = channel < alarm ? channel : alarm, high = channel < alarm ? alarm : channel;
    const unsigned first = STDERR_FILENO + 1;
    close_range_of(first, low - 1);
    close_range_of(low < first ? first : low + 1, high - 1);
    close_range_of(high < first ? first : high + 1, UINT_MAX);
    master.setup.channel->write_fd = -1;
}

static void start_reporter(uint64_t now_ns)
{
    const pid_t me = getpid();
    const pid_t pid = uwsgi_fork(NULL);
    if (pid < 0) {
        sw_log("the reporter process could not be started: %s; trying again", strerror(errno));
        master.respawn_at_ns = now_ns + RESPAWN_PAUSE_MAX_NS;
        return;
    }
    if (pid == 0) {
        uwsgi_set_processname("uwsgi slowwatch reporter");
        prctl(PR_SET_NAME, "slowwatch-rep");
        /* It opens files that workers name: with no more rights than a worker has. */
        if (uwsgi.master_as_root)
            uwsgi_as_root();
        close_inherited();
        struct sw_reporter_setup setup = {
            .channel = master.setup.channel,
            .shared = master.setup.shared,
            .master = me,
            .log = master.setup.config->log,
            .mail = &master.setup.config->mail,
            .alarm = {master.setup.config->alarm, raise_alarm},
        };
        /* _exit: handlers of exit() belong to the master and to Python. */
        _exit(sw_reporter_run(&setup) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    master.reporter = pid;
    master.started_ns = now_ns;
}

/* uWSGI's own waitpid(-1) may have taken it first: then it is no child of ours any more. */
static bool reporter_alive(void)
{
    if (master.reporter == 0)
        return false;
    if (waitpid(master.reporter, NULL, WNOHANG) == 0)
        return true;
    master.reporter = 0;
    return false;
}

static void keep_reporter(uint64_t now_ns)
{
    const bool had_one = master.reporter != 0;
    if (reporter_alive())
        return;
    if (had_one) {
        /* One that dies again and again must not become a fork bomb. */
        const bool lived = now_ns - master.started_ns >= REPORTER_LIVED_NS;
        master.respawn_pause_ns =
            lived ? RESPAWN_PAUSE_MIN_NS : sw_min_u64(2 * master.respawn_pause_ns, RESPAWN_PAUSE_MAX_NS);
        master.respawn_at_ns = master.started_ns + master.respawn_pause_ns;
        sw_log("the reporter process is gone; it is started again, queued events are kept");
    }
    if (now_ns >= master.respawn_at_ns)
        start_reporter(now_ns);
}

/* ---- workers ---- */

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

static void end_timeouts_of_dead(void)
{
    for (unsigned i = 0; i < master.setup.shared->workers; i++)
        sw_end_timeouts_of_dead(master.setup.shared, i, &master.setup.config->redact, &master.emitter);
}

static void end_reports_of_dead(void)
{
    for (unsigned i = 0; i < master.setup.shared->workers; i++) {
        struct sw_slot *slot = sw_shared_slot(master.setup.shared, i);
        const pid_t pid = atomic_load(&slot->pid);
        if (pid == 0 || uwsgi.workers[i + 1].pid == pid || !is_gone(pid))
            continue;
        sw_end_reports_of_dead(master.setup.shared, i, &master.emitter);
    }
}

void sw_master_cycle(void)
{
    master.pid = getpid();
    keep_reporter(sw_now_ns());
    end_timeouts_of_dead();
    end_reports_of_dead();
    sw_emitter_flush(&master.emitter);
}

/* With log-master the reporter's log lines go through a pipe that only the master reads: while it waits it must go on
 * reading, or the reporter and after it the workers wait for the master. */
static void read_own_log(void)
{
    if (uwsgi.log_master && !uwsgi.threaded_logger)
        while (uwsgi_master_log() == 0)
            ;
}

static void wait_a_step(void)
{
    poll(NULL, 0, WAIT_STEP_MS);
    read_own_log();
}

static bool ask_for_picture(struct sw_slot *slot, bool final)
{
    const uint64_t until_ns = sw_now_ns() + SW_LAST_PICTURE_NS;
    const uint32_t question = sw_slot_ask(slot, final);
    bool answered;
    while (!(answered = sw_slot_await(slot, question, WAIT_STEP_MS * SW_NS_PER_MS)) && sw_now_ns() < until_ns)
        read_own_log();
    return answered;
}

/* With a graceful signal first the worker may still answer its request: no end yet. */
static bool kill_follows(int worker)
{
#if UWSGI_VERSION_BASE > 2 || UWSGI_VERSION_MAJOR > 0 || UWSGI_VERSION_MINOR >= 22
    return uwsgi.harakiri_graceful_timeout <= 0 || uwsgi.workers[worker].pending_harakiri > 0;
#else
    (void)worker;
    return true;
#endif
}

void sw_master_harakiri(int worker)
{
    struct sw_slot *slot = sw_shared_slot(master.setup.shared, (unsigned)worker - 1);
    if (!slot || atomic_load(&slot->pid) != uwsgi.workers[worker].pid)
        return;
    const bool final = kill_follows(worker);
    atomic_store(&slot->kill_follows, final);
    if (sw_slot_can_answer(slot) && ask_for_picture(slot, final))
        return;
    if (final)
        sw_end_reports(master.setup.shared, (unsigned)worker - 1, SW_EVENT_REQUEST_KILLED,
                       "harakiri; the worker could not answer for a last picture", false, &master.emitter);
}

/* ---- the end ---- */

static bool wait_until_gone(uint64_t until_ns)
{
    while (reporter_alive()) {
        if (sw_now_ns() >= until_ns)
            return false;
        wait_a_step();
    }
    return true;
}

static bool send_end(uint64_t until_ns)
{
    while (!sw_emitter_flush(&master.emitter) || sw_channel_send_end(master.setup.channel) < 0) {
        if (sw_now_ns() >= until_ns)
            return false;
        wait_a_step();
    }
    return true;
}

static bool events_wait(void)
{
    struct pollfd queue = {.fd = master.setup.channel->read_fd, .events = POLLIN};
    return poll(&queue, 1, 0) > 0;
}

void sw_master_cleanup(void)
{
    /* uWSGI calls this in each child of the master that leaves by exit(), and twice on some ways out. */
    if (master.pid != getpid())
        return;
    end_timeouts_of_dead();
    for (unsigned i = 0; i < master.setup.shared->workers; i++)
        sw_end_reports(master.setup.shared, i, SW_EVENT_WORKER_DIED,
                       "the worker was stopped while the request ran", true, &master.emitter);
    sw_emitter_flush(&master.emitter);
    if (!reporter_alive() && events_wait())
        start_reporter(sw_now_ns()); /* what is queued still has to be read */
    const uint64_t until_ns = sw_now_ns() + SW_DRAIN_WAIT_NS;
    if (master.reporter && !(send_end(until_ns) && wait_until_gone(until_ns))) {
        sw_log("the reporter did not end in time and is killed");
        kill(master.reporter, SIGKILL);
        waitpid(master.reporter, NULL, 0);
    }
    master.pid = master.reporter = 0;
}
