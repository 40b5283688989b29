#include "deadline_core.h"

#include <errno.h>

struct sw_deadlines sw_deadlines = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- once per process, and after fork ---- */

static void init_conditions(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&sw_deadlines.timer, &attributes);
    pthread_cond_init(&sw_deadlines.attention, &attributes);
    pthread_condattr_destroy(&attributes);
}

void sw_deadline_setup(const struct sw_deadline_ops *ops)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    if (!sw_deadlines.ready)
        init_conditions();
    sw_deadlines.ready = true;
    sw_deadlines.stopped = false;
    sw_deadlines.ops = *ops;
    pthread_mutex_unlock(&sw_deadlines.lock);
}

void sw_deadline_set_lead(uint64_t lead_ns)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    sw_deadlines.lead_ns = lead_ns;
    pthread_mutex_unlock(&sw_deadlines.lock);
}

static void close_all_of(struct sw_strand *s)
{
    for (struct sw_deadline *d; (d = s->innermost);) {
        s->innermost = d->outer;
        sw_delivery_become_closed(d);
    }
    s->shields = 0;
    sw_delivery_review(s);
}

/* A strand that opens no block costs nothing and need not be known. */
static void know(struct sw_strand *s)
{
    if (s->known)
        return;
    s->known = true;
    s->previous = NULL;
    s->next = sw_deadlines.strands;
    if (s->next)
        s->next->previous = s;
    sw_deadlines.strands = s;
}

static void forget(struct sw_strand *s)
{
    close_all_of(s);
    if (!s->known)
        return;
    s->known = false;
    *(s->previous ? &s->previous->next : &sw_deadlines.strands) = s->next;
    if (s->next)
        s->next->previous = s->previous;
}

void sw_deadline_fork_prepare(void)
{
    pthread_mutex_lock(&sw_deadlines.lock);
}

void sw_deadline_fork_parent(void)
{
    pthread_mutex_unlock(&sw_deadlines.lock);
}

/* The lock is ours, so everything is whole, and nobody else is there. The strands of the other threads are forgotten
 * too: nobody will end them, and their memory may be gone soon. */
void sw_deadline_fork_child(void)
{
    sw_deadline_heap_forget(&sw_deadlines.heap);
    for (struct sw_strand *s; (s = sw_deadlines.strands);) {
        for (struct sw_deadline *d = s->innermost; d; d = d->outer)
            d->heap_pos = 0;
        forget(s);
    }
    sw_deadlines.running = false;
    sw_deadlines.sleeps_until_ns = sw_deadlines.wakeups = 0;
    if (sw_deadlines.ready)
        init_conditions(); /* the parent's threads may sleep in them */
    pthread_mutex_unlock(&sw_deadlines.lock);
}

void sw_deadline_drop_group(void *group)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    for (struct sw_strand *s = sw_deadlines.strands; s; s = s->next)
        if (s->group == group)
            close_all_of(s);
    pthread_cond_broadcast(&sw_deadlines.attention);
    pthread_mutex_unlock(&sw_deadlines.lock);
}

/* ---- the strand's own thread ---- */

void sw_strand_init(struct sw_strand *s, enum sw_deadline_way way, void *group)
{
    *s = (struct sw_strand){.way = way, .thread = pthread_self(), .group = group};
    s->due_since_ns = s->kick_at_ns = s->attend_at_ns = s->errand_at_ns = SW_DEADLINE_NEVER;
}

void sw_strand_fini(struct sw_strand *s)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    forget(s);
    pthread_mutex_unlock(&sw_deadlines.lock);
}

static int watch(struct sw_deadline *d)
{
    if (d->at_ns == SW_DEADLINE_NEVER || sw_deadlines.stopped)
        return 0;
    const int error = sw_timer_start();
    if (error)
        return error;
    d->wake_ns = d->strand->way == SW_WAY_POST ? sw_ns_sub(d->at_ns, sw_deadlines.lead_ns) : d->at_ns;
    return sw_deadline_heap_push(&sw_deadlines.heap, d);
}

int sw_deadline_enter(struct sw_deadline *d, struct sw_strand *s, uint64_t now, uint64_t after_ns)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    int error = -EBUSY;
    if (d->state != SW_DEADLINE_CLOSED)
        goto unlock;
    d->strand = s;
    d->at_ns = d->wake_ns = sw_ns_add(now, after_ns);
    d->limit_ns = after_ns;
    d->stuck_said = false;
    error = watch(d);
    if (error) {
        d->strand = NULL;
        goto unlock;
    }
    know(s);
    d->state = SW_DEADLINE_OPEN;
    d->shields = s->shields;
    d->outer = s->innermost;
    s->innermost = d;
    sw_timer_wake_by(d->heap_pos ? d->wake_ns : SW_DEADLINE_NEVER);
unlock:
    pthread_mutex_unlock(&sw_deadlines.lock);
    return error;
}

enum sw_deadline_state sw_deadline_leave(struct sw_deadline *d)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    const enum sw_deadline_state state = d->state;
    if (state != SW_DEADLINE_CLOSED) {
        struct sw_strand *s = d->strand;
        struct sw_deadline **at = &s->innermost;
        while (*at && *at != d)
            at = &(*at)->outer;
        if (*at)
            *at = d->outer;
        sw_delivery_become_closed(d);
        sw_delivery_review(s);
    }
    pthread_mutex_unlock(&sw_deadlines.lock);
    return state;
}

void sw_strand_shield(struct sw_strand *s)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    s->shields++;
    sw_delivery_review(s);
    pthread_mutex_unlock(&sw_deadlines.lock);
}

void sw_strand_unshield(struct sw_strand *s)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    if (s->shields > 0)
        s->shields--;
    /* a suspended generator may leave its blocks in another order than it opened them */
    for (struct sw_deadline *d = s->innermost; d && d->shields > s->shields; d = d->outer)
        d->shields = s->shields;
    sw_delivery_review(s);
    pthread_mutex_unlock(&sw_deadlines.lock);
}

static void expire_from(struct sw_deadline *innermost, uint64_t now)
{
    for (struct sw_deadline *d = sw_deadlines.stopped ? NULL : innermost; d; d = d->outer)
        if (d->state == SW_DEADLINE_OPEN && d->at_ns <= now)
            sw_delivery_become_due(d, now);
}

void sw_strand_expire(struct sw_strand *s, uint64_t now)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    expire_from(s->innermost, now);
    pthread_mutex_unlock(&sw_deadlines.lock);
}

struct sw_deadline *sw_strand_take(struct sw_strand *s)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    struct sw_deadline *d = sw_delivery_candidate(s);
    if (d) {
        sw_delivery_become_raised(d);
        sw_delivery_review(s);
    }
    pthread_mutex_unlock(&sw_deadlines.lock);
    return d;
}

bool sw_deadline_take(struct sw_deadline *d, uint64_t now)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    if (d->state != SW_DEADLINE_CLOSED)
        expire_from(d, now);
    const bool taken = d->state == SW_DEADLINE_DUE && sw_delivery_candidate(d->strand) == d;
    if (taken) {
        sw_delivery_become_raised(d);
        sw_delivery_review(d->strand);
    }
    pthread_mutex_unlock(&sw_deadlines.lock);
    return taken;
}
