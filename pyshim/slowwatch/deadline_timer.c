#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setname_np */
#endif
#include "deadline_core.h"

#include <errno.h>
#include <signal.h>

#define STACK_BYTES ((size_t)256 * 1024) /* enough also where thread-local memory is taken from it */
#define THREAD_NAME "sw-deadline"

/* ---- what may be called from outside, with the lock held ---- */

void sw_timer_wake_by(uint64_t ns)
{
    if (ns >= sw_deadlines.sleeps_until_ns)
        return;
    sw_deadlines.sleeps_until_ns = 0;
    pthread_cond_signal(&sw_deadlines.timer);
}

void sw_timer_expire(uint64_t now)
{
    struct sw_deadline *d;
    while ((d = sw_deadline_heap_first(&sw_deadlines.heap)) && d->wake_ns <= now) {
        if (d->at_ns <= now) {
            sw_delivery_become_due(d, now);
            continue;
        }
        sw_deadline_heap_move(&sw_deadlines.heap, d, d->at_ns);
        if (d->strand->due_since_ns == SW_DEADLINE_NEVER && !sw_deadline_shielded(d))
            sw_delivery_attend(d->strand, now); /* so that the GIL is had in time */
    }
}

static uint64_t stuck_at(const struct sw_deadline *d)
{
    const uint64_t since = d->strand->due_since_ns;
    return d->stuck_said ? SW_DEADLINE_NEVER
                         : sw_ns_add(since > d->at_ns ? since : d->at_ns, SW_STUCK_AFTER_NS);
}

void sw_timer_say_stuck(struct sw_deadline *d, uint64_t now)
{
    if (stuck_at(d) > now)
        return;
    d->stuck_said = true;
    sw_deadlines.ops.stuck(d, sw_ns_sub(now, d->at_ns));
}

static void kick(struct sw_strand *s, uint64_t now)
{
    if (!sw_deadlines.ops.kick(s) && !s->kick_failed) {
        s->kick_failed = true;
        sw_delivery_attend(s, now);
    }
    s->kick_at_ns = sw_ns_add(now, s->kick_gap_ns);
    s->kick_gap_ns = sw_ns_min(2 * s->kick_gap_ns, SW_KICK_GAP_MAX_NS);
}

/* Does for one strand what is to be done now; returns when it is to be looked at again. */
static uint64_t tend(struct sw_strand *s, uint64_t now)
{
    struct sw_deadline *d = sw_delivery_candidate(s);
    uint64_t next = SW_DEADLINE_NEVER;
    if (d) {
        if (s->kick_at_ns <= now)
            kick(s, now);
        sw_timer_say_stuck(d, now);
        next = sw_ns_min(s->kick_at_ns, stuck_at(d));
    }
    if (s->errand_at_ns > now)
        return sw_ns_min(next, s->errand_at_ns);
    pthread_cond_broadcast(&sw_deadlines.attention);
    return next;
}

static uint64_t look(uint64_t now)
{
    sw_timer_expire(now);
    const struct sw_deadline *first = sw_deadline_heap_first(&sw_deadlines.heap);
    uint64_t next = first ? first->wake_ns : SW_DEADLINE_NEVER;
    for (struct sw_strand *s = sw_deadlines.first_listed; s; s = s->next_listed)
        next = sw_ns_min(next, tend(s, now));
    return next;
}

static void sleep_until(uint64_t ns)
{
    const struct timespec at = {(time_t)(ns / SW_NS_PER_SEC), (long)(ns % SW_NS_PER_SEC)};
    sw_deadlines.sleeps_until_ns = ns;
    if (ns == SW_DEADLINE_NEVER)
        pthread_cond_wait(&sw_deadlines.timer, &sw_deadlines.lock);
    else
        pthread_cond_timedwait(&sw_deadlines.timer, &sw_deadlines.lock, &at);
    sw_deadlines.sleeps_until_ns = 0;
    sw_deadlines.wakeups++;
}

static void *timer_thread(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&sw_deadlines.lock);
    while (!sw_deadlines.stopped)
        sleep_until(look(sw_deadline_clock_ns()));
    pthread_mutex_unlock(&sw_deadlines.lock);
    return NULL;
}

int sw_timer_start(void)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (sw_deadlines.running)
        return 0;
    if (pthread_attr_init(&attributes) != 0)
        return -EAGAIN;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits the mask */
    sw_deadlines.running = pthread_create(&sw_deadlines.thread, &attributes, timer_thread, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!sw_deadlines.running)
        return -EAGAIN;
    pthread_setname_np(sw_deadlines.thread, THREAD_NAME);
    return 0;
}

void sw_deadline_stop(void)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    const bool was_running = sw_deadlines.running;
    const pthread_t thread = sw_deadlines.thread;
    sw_deadlines.stopped = true;
    sw_deadlines.running = false;
    pthread_cond_signal(&sw_deadlines.timer);
    pthread_cond_broadcast(&sw_deadlines.attention);
    pthread_mutex_unlock(&sw_deadlines.lock);
    if (was_running)
        pthread_join(thread, NULL);
}

uint64_t sw_deadline_wakeups(void)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    const uint64_t wakeups = sw_deadlines.wakeups;
    pthread_mutex_unlock(&sw_deadlines.lock);
    return wakeups;
}
