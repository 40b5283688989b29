#include "warmup_guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_BYTES    ((size_t)256 * 1024)
#define LOOK_NS        (100 * SW_NS_PER_MS) /* how often it is looked whether the process is to leave */
#define READ_BYTES     16384
#define LOST_RACE_WAIT (10 * SW_NS_PER_MS)

/* ---- the client ---- */

/* Reads what is there; the head is kept, the rest only taken. */
static void drain(struct sw_guard *g)
{
    char bytes[READ_BYTES];
    for (;;) {
        const ssize_t n = read(g->client, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            g->open = n < 0 && errno == EAGAIN;
            return;
        }
        const size_t keep = sw_min_u64((size_t)n, sizeof g->head - g->head_bytes);
        memcpy(g->head + g->head_bytes, bytes, keep);
        g->head_bytes += keep;
    }
}

/* ---- the time limit ---- */

static bool is_running(struct sw_guard *g)
{
    return atomic_load(&g->state) == SW_GUARD_RUNNING;
}

static void replace(struct sw_guard *g, uint64_t now_ns)
{
    uint32_t expected = SW_GUARD_RUNNING;
    if (!atomic_compare_exchange_strong(&g->state, &expected, SW_GUARD_REPLACING))
        return; /* it has just ended */
    g->hooks->replace();
    g->replace_ns = now_ns + SW_GUARD_PATIENCE_NS;
    atomic_store(&g->state, SW_GUARD_RUNNING);
}

static void look(struct sw_guard *g, uint64_t now_ns)
{
    if (g->leave_ns == 0 && g->hooks->leaving())
        g->leave_ns = now_ns;
    const uint64_t leave_ns = g->leave_ns ? g->leave_ns + SW_GUARD_LEAVE_NS : SW_NS_NEVER;
    if (now_ns < sw_min_u64(g->limit_ns, leave_ns))
        return;
    if (g->interrupt_ns == 0) {
        g->interrupt_ns = g->again_ns = now_ns;
        g->replace_ns = now_ns + SW_GUARD_PATIENCE_NS;
    }
    if (now_ns >= g->replace_ns)
        replace(g, now_ns);
    if (now_ns >= g->again_ns) {
        g->again_ns = now_ns + SW_GUARD_AGAIN_NS;
        g->hooks->interrupt();
    }
}

static int wait_ms(const struct sw_guard *g)
{
    const uint64_t left_ns = sw_sub_floor(g->limit_ns, sw_now_ns());
    return (int)((left_ns > 0 && left_ns < LOOK_NS ? left_ns : LOOK_NS) / SW_NS_PER_MS) + 1;
}

static void *guard_thread(void *arg)
{
    struct sw_guard *g = arg;
    while (is_running(g)) {
        struct pollfd fds[] = {{.fd = g->done, .events = POLLIN},
                               {.fd = g->open ? g->client : -1, .events = POLLIN}};
        poll(fds, SW_COUNT(fds), wait_ms(g));
        drain(g);
        if (is_running(g))
            look(g, sw_now_ns());
    }
    drain(g);
    return NULL;
}

/* ---- start and end ---- */

static int start_thread(struct sw_guard *g)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);
    if (err)
        return -err;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&g->thread, &attr, guard_thread, g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}

int sw_guard_start(struct sw_guard *g, int client, uint64_t limit_ns, const struct sw_guard_hooks *hooks)
{
    memset(g, 0, sizeof *g);
    g->hooks = hooks;
    g->limit_ns = limit_ns;
    g->client = client;
    g->open = true;
    g->done = eventfd(0, EFD_CLOEXEC);
    int err = g->done < 0 ? -errno : start_thread(g);
    if (err < 0) {
        if (g->done >= 0)
            close(g->done);
        close(client);
    }
    return err;
}

void sw_guard_end(struct sw_guard *g)
{
    const struct timespec pause = {0, LOST_RACE_WAIT};
    uint32_t expected = SW_GUARD_RUNNING;
    while (!atomic_compare_exchange_strong(&g->state, &expected, SW_GUARD_DONE)) {
        expected = SW_GUARD_RUNNING;
        nanosleep(&pause, NULL); /* the guard was first: the process ends, or it could not be and we go on */
    }
    const uint64_t one = 1;
    while (write(g->done, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(g->thread, NULL);
    close(g->done);
    close(g->client);
}
