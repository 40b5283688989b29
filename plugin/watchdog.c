#include "watchdog.h"

#include "ending.h"
#include "hook.h"
#include "log.h"
#include "warmup.h"
#include "watch.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

#define STACK_BYTES      ((size_t)512 * 1024)
#define STOP_MAX_NS      (300 * SW_NS_PER_MS) /* a worker that leaves waits no longer for its watchdog */
#define BACKLOG_RETRY_NS (5 * SW_NS_PER_MS)
#define LAST_FLUSH_NS    (200 * SW_NS_PER_MS)
#define ANSWER_FLUSH_NS  (200 * SW_NS_PER_MS) /* below what the master waits */

static struct {
    pthread_t thread;
    bool running; /* main thread */
    _Atomic bool stop;
    const char *_Atomic reason;
    _Atomic bool harakiri; /* leaving because of it */
    struct sw_watch *watch;
} dog;

/* Looks at every core; when to look next. */
static uint64_t pass(struct sw_watch *w)
{
    const uint64_t start_ns = sw_now_ns();
    const bool sampling = start_ns >= w->sampler.next_ns;
    uint64_t next_ns = sw_add_sat(start_ns, sw_min_u64(w->least_threshold_ns, sw_warmup_hang_ns()));
    for (unsigned i = 0; i < w->core_count; i++)
        next_ns = sw_min_u64(next_ns, sw_watch_core(w, i, sampling));
    if (sampling)
        sw_sampler_done(&w->sampler, start_ns, sw_now_ns(), sw_hook_count() > 0);
    return sw_min_u64(next_ns, w->sampler.next_ns);
}

static void flush_until(struct sw_watch *w, uint64_t until_ns)
{
    while (!sw_emitter_flush(&w->emitter) && sw_now_ns() < until_ns)
        poll(NULL, 0, (int)(BACKLOG_RETRY_NS / SW_NS_PER_MS));
    sw_watch_free_sent(w);
}

/* The last words of a worker: the channel may be full of those of others. */
static void flush_or_count(struct sw_watch *w)
{
    flush_until(w, sw_now_ns() + LAST_FLUSH_NS);
    sw_emitter_give_up(&w->emitter);
}

static void answer(struct sw_watch *w)
{
    const uint32_t question = atomic_load(&w->slot->asked);
    if (question == atomic_load(&w->slot->answered))
        return;
    sw_watch_harakiri(w, atomic_load(&w->slot->kill_follows));
    /* The kill follows the answer: what is in the backlog then is lost, so the master may as well wait a little. */
    flush_until(w, sw_now_ns() + ANSWER_FLUSH_NS);
    sw_slot_answer(w->slot, question);
}

static void *watch_thread(void *arg)
{
    struct sw_watch *w = arg;
    atomic_store(&w->slot->watchdog_tid, (pid_t)syscall(SYS_gettid));
    for (unsigned i = 0; i < w->core_count; i++)
        w->cores[i].previous_look = sw_watch_now();

    for (;;) {
        /* Read the word before looking: a wake-up after this makes the wait return at once. */
        const uint32_t seen = atomic_load(&w->slot->wake);
        if (atomic_load(&dog.stop))
            break;
        sw_watch_timeouts(w);
        answer(w);
        uint64_t next_ns = pass(w);
        if (!sw_emitter_flush(&w->emitter))
            next_ns = sw_add_sat(sw_now_ns(), BACKLOG_RETRY_NS);
        sw_watch_free_sent(w);
        sw_slot_wait(w->slot, seen, next_ns);
    }
    w->leaving = true;
    sw_watch_timeouts(w);
    if (atomic_load(&dog.harakiri))
        sw_watch_harakiri(w, true);
    sw_watch_leave(w, atomic_load(&dog.reason));
    flush_or_count(w);
    sw_eye_close(&w->eye);
    return NULL;
}

static struct sw_watch *watch_new(const struct sw_watchdog_setup *setup)
{
    const unsigned core_count = (unsigned)uwsgi.cores;
    /* mmap: large buffers of which only the pages that get used become resident */
    struct sw_watch *w =
        mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w == MAP_FAILED)
        return NULL;
    w->cores = calloc(core_count, sizeof *w->cores);
    if (!w->cores) {
        munmap(w, sizeof *w);
        return NULL;
    }
    w->setup = *setup;
    w->pid = getpid();
    w->worker = uwsgi.mywid;
    w->core_count = core_count;
    w->main_thread = pthread_self();
    w->slot = sw_shared_slot(setup->shared, (unsigned)uwsgi.mywid - 1);
    w->least_threshold_ns = setup->least_threshold_ns;
    w->sampler = (struct sw_sampler){setup->config->sample_interval_ns, SW_NS_NEVER};
    w->eye.depth = setup->config->stack_depth;
    w->eye.shared_thread = uwsgi.async > 1;
    sw_eye_open(&w->eye, setup->py, setup->backend, setup->no_stack);
    sw_arena_init(&w->arena, w->arena_bytes, sizeof w->arena_bytes);
    sw_emitter_init(&w->emitter, setup->channel, &w->slot->dropped, &w->slot->waiting, setup->host,
                    setup->config->log);
    w->emitter.counts = &w->slot->counts;
    return w;
}

static void watch_free(struct sw_watch *w)
{
    sw_eye_close(&w->eye);
    free(w->cores);
    munmap(w, sizeof *w);
}

static int start_thread(struct sw_watch *w)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);
    if (err)
        return -err;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    /* The thread inherits the mask: it must never be the one that runs a handler of Python or uWSGI. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&dog.thread, &attr, watch_thread, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (err)
        return -err;
    pthread_setname_np(dog.thread, "slowwatch");
    return 0;
}

int sw_watchdog_start(const struct sw_watchdog_setup *setup)
{
    struct sw_watch *w = watch_new(setup);
    if (!w)
        return -ENOMEM;
    /* An earlier process of this worker may have died with reports open, faster than the master looked. */
    atomic_store(&w->slot->watchdog_tid, 0);
    sw_end_timeouts_of_dead(setup->shared, (unsigned)w->worker - 1, &setup->config->redact, &w->emitter);
    sw_end_reports_of_dead(setup->shared, (unsigned)w->worker - 1, &w->emitter);
    atomic_store(&w->slot->kill_follows, false);
    atomic_store(&w->slot->answered, atomic_load(&w->slot->asked));
    atomic_store(&w->slot->pid, w->pid);
    dog.watch = w;
    atomic_store(&dog.stop, false);
    const int err = start_thread(w);
    if (err < 0) {
        watch_free(w);
        dog.watch = NULL;
        return err;
    }
    dog.running = true;
    sw_watch_timeouts_open(w);
    return 0;
}

/* Without a master harakiri is SIGALRM, whose handler leaves by exit(): only the age of the requests tells. */
static bool is_harakiri_without_master(void)
{
    const uint64_t harakiri_us = (uint64_t)uwsgi.harakiri_options.workers * SW_US_PER_SEC;
    if (uwsgi.master_process || harakiri_us == 0)
        return false;
    for (int i = 0; i < uwsgi.cores; i++) {
        struct sw_peek peek;
        sw_request_peek(&uwsgi.workers[uwsgi.mywid].cores[i], &peek);
        /* alarm() counts from the end of the headers in whole seconds: half a second of slack is plenty */
        if (peek.running && uwsgi_micros() + SW_US_PER_SEC / 2 >= peek.who.start_us + harakiri_us)
            return true;
    }
    return false;
}

void sw_watchdog_stop(void)
{
    struct sw_watch *w = dog.watch;
    if (!dog.running || !w || w->pid != getpid())
        return;
    dog.running = false;
    atomic_store(&dog.harakiri, is_harakiri_without_master());
    atomic_store(&dog.reason, "the worker was stopped while the request ran");
    atomic_store(&dog.stop, true);
    sw_slot_wake(w->slot);
    struct timespec until;
    const uint64_t until_ns = sw_add_sat(sw_now_ns(), STOP_MAX_NS);
    until.tv_sec = (time_t)(until_ns / SW_NS_PER_SEC);
    until.tv_nsec = (long)(until_ns % SW_NS_PER_SEC);
    /* Never freed: a thread that did not answer in time may still use it until the process is gone. */
    (void)pthread_clockjoin_np(dog.thread, NULL, CLOCK_MONOTONIC, &until);
    atomic_store(&w->slot->watchdog_tid, 0);
}
