#include "reporter.h"

#include "log.h"
#include "recent.h"
#include "source.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define EVENTS_A_ROUND 64
#define LOG_PATIENCE_NS                                                                                      \
    (5 * SW_NS_PER_SEC)       /* for a log pipe that is full; events wait in the channel meanwhile */
#define TICK_NS SW_NS_PER_SEC /* how often counters and the parent are looked at */

struct reporter {
    struct sw_reporter_setup *setup;
    struct sw_source *source;
    struct sw_sink_mail *mail; /* NULL = off */
    uint64_t lost_said_ns;
    struct sw_recent recent;
    struct sw_event event;
    struct sw_arena arena;
    char arena_bytes[SW_EVENT_ARENA_BYTES];
    char datagram[SW_EVENT_MAX_BYTES];
};

static volatile sig_atomic_t parent_signal;

static void on_parent_death(int signum)
{
    (void)signum;
    parent_signal = 1; /* it only has to interrupt poll() */
}

static void set_signals(void)
{
    /* A signal for the whole process group (Ctrl-C, die-on-term) must not end it before it has drained. */
    const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP, SIGURG};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < SW_COUNT(ignored); i++)
        sigaction(ignored[i], &action, NULL);
    action.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    action.sa_handler = on_parent_death;
    sigaction(SIGTERM, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
}

static void handle(struct reporter *r, size_t n)
{
    char why_bytes[256];
    struct sw_text why;
    sw_text_init(&why, why_bytes, sizeof why_bytes);
    sw_arena_reset(&r->arena);
    if (sw_event_decode(&r->event, &r->arena, r->datagram, n, &why) < 0) {
        sw_log("an event of %zu bytes could not be read: %s", n, why_bytes);
        return;
    }
    struct sw_event *e = &r->event;
    if (!sw_recent_event(&r->recent, e))
        return;
    if (r->source)
        sw_source_fill(r->source, e, &r->arena);
    sw_sink_log_write(r->setup->log, e, false);
    sw_sink_alarm_event(&r->setup->alarm, e);
    if (r->mail)
        sw_sink_mail_event(r->mail, e, sw_now_ns());
}

/* Reads what is queued, but not for ever: mail and counters want their turn. False when nothing more can come. */
static bool read_queue(struct reporter *r)
{
    for (unsigned i = 0; i < EVENTS_A_ROUND; i++) {
        size_t n = 0;
        switch (sw_channel_receive(r->setup->channel, r->datagram, sizeof r->datagram, &n)) {
        case SW_CHANNEL_EVENT:
            handle(r, n);
            break;
        case SW_CHANNEL_EMPTY:
            return true;
        case SW_CHANNEL_END:
        case SW_CHANNEL_EOF:
            return false;
        }
    }
    return true;
}

/* Told counts are kept in shared memory: the next reporter does not repeat them. */
static void say_lost(struct reporter *r, uint64_t now_ns, bool at_once)
{
    if (!at_once && now_ns < sw_add_sat(r->lost_said_ns, TICK_NS))
        return;
    r->lost_said_ns = now_ns;
    uint64_t lost = 0;
    for (unsigned i = 0; i < r->setup->shared->workers; i++) {
        struct sw_slot *slot = sw_shared_slot(r->setup->shared, i);
        const uint64_t dropped = atomic_load(&slot->dropped);
        lost += dropped - atomic_exchange(&slot->dropped_said, dropped);
    }
    if (lost)
        sw_log("%llu events were lost: they came faster than the reporter could take them",
               (unsigned long long)lost);
}

static bool queue_waits(const struct reporter *r)
{
    struct pollfd queue = {.fd = r->setup->channel->read_fd, .events = POLLIN};
    return poll(&queue, 1, 0) > 0;
}

static void wait_for_something(struct reporter *r, uint64_t now_ns)
{
    struct pollfd fds[2] = {{.fd = r->setup->channel->read_fd, .events = POLLIN},
                            {.fd = -1, .events = POLLIN}};
    uint64_t until_ns = now_ns + TICK_NS;
    if (r->mail) {
        fds[1].fd = sw_sink_mail_fd(r->mail);
        until_ns = sw_min_u64(until_ns, sw_sink_mail_next_ns(r->mail, now_ns));
    }
    const uint64_t wait_ns = sw_sub_floor(until_ns, now_ns);
    poll(fds, SW_COUNT(fds), (int)((wait_ns + SW_NS_PER_MS - 1) / SW_NS_PER_MS));
}

int sw_reporter_run(struct sw_reporter_setup *setup)
{
    struct reporter *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    set_signals();
    sw_log_set_patience(LOG_PATIENCE_NS);
    r->setup = setup;
    sw_arena_init(&r->arena, r->arena_bytes, sizeof r->arena_bytes);
    r->source = sw_source_new();
    r->mail = setup->mail->to_count ? sw_sink_mail_new(setup->mail, sw_now_ns()) : NULL;
    if (setup->mail->to_count && !r->mail)
        sw_log("no memory for mail: it is off until the reporter is restarted");

    bool more = true;
    while (more) {
        const bool orphan = getppid() != setup->master;
        more = read_queue(r);
        if (orphan)
            more = more && queue_waits(r);
        const uint64_t now_ns = sw_now_ns();
        say_lost(r, now_ns, !more);
        if (r->mail)
            sw_sink_mail_step(r->mail, now_ns);
        if (more)
            wait_for_something(r, sw_now_ns());
    }
    if (r->mail) {
        sw_sink_mail_drain(r->mail, sw_now_ns() + SW_REPORTER_DRAIN_NS);
        sw_sink_mail_free(r->mail);
    }
    sw_source_free(r->source);
    free(r);
    return 0;
}
