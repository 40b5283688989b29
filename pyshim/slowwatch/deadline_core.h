/* deadline_core.h - what the deadline*.c files share and nobody else sees: the one lock and all that it guards.
 * deadline.c: strands and blocks · deadline_delivery.c: what is due in a strand, and what it wants done ·
 * deadline_timer.c: the thread that finds out and does it · deadline_post.c: the side of those who post.
 * Callers: every function here wants the lock held. None blocks. */
#ifndef SLOWWATCH_DEADLINE_CORE_H
#define SLOWWATCH_DEADLINE_CORE_H

#include "deadline.h"
#include "deadline_heap.h"

#include <stddef.h>
#include <time.h>

struct sw_deadlines {
    pthread_mutex_t lock;
    pthread_cond_t timer, attention; /* the timer thread and sw_deadline_await sleep here */
    struct sw_deadline_ops ops;
    struct sw_deadline_heap heap; /* the OPEN ones that have a limit */
    struct sw_strand *strands;    /* all that ever opened a block */
    struct sw_strand *first_listed, *last_listed;
    uint64_t lead_ns;
    uint64_t sleeps_until_ns; /* 0: the timer thread is awake, and looks at everything before it sleeps */
    uint64_t wakeups;
    pthread_t thread;
    bool ready, running, stopped;
};
extern struct sw_deadlines sw_deadlines;

#define SW_NS_PER_SEC UINT64_C(1000000000)
/* What becomes deliverable by the strand's own doing it takes right away itself: only if not, it is made to look. */
#define SW_GRACE_NS SW_KICK_GAP_FIRST_NS
/* An errand that nobody could run comes again. */
#define SW_ERRAND_AGAIN_NS SW_STUCK_AFTER_NS

static inline uint64_t sw_deadline_clock_ns(void)
{
    struct timespec t = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SW_NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/* Sums saturate: a huge limit means "practically never", a wrapped sum would mean "at once". */
static inline uint64_t sw_ns_add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline uint64_t sw_ns_sub(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static inline uint64_t sw_ns_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline bool sw_deadline_shielded(const struct sw_deadline *d)
{
    return d->shields < d->strand->shields;
}

/* ---- deadline_delivery.c ---- */
/* What would be raised in it now: the outermost that is due and not held back; NULL = nothing. */
struct sw_deadline *sw_delivery_candidate(const struct sw_strand *s);
void sw_delivery_become_due(struct sw_deadline *d, uint64_t now);
void sw_delivery_become_raised(struct sw_deadline *d);
void sw_delivery_become_posted(struct sw_deadline *d);
void sw_delivery_become_closed(struct sw_deadline *d);
void sw_delivery_withdraw(struct sw_deadline *d); /* POSTED -> DUE */
/* After every such change, but the first: is there still, or again, anything to deliver? */
void sw_delivery_review(struct sw_strand *s);
void sw_delivery_attend(struct sw_strand *s, uint64_t at_ns); /* the time at which it wants attention */

/* ---- deadline_timer.c ---- */
int sw_timer_start(void); /* unless it runs; 0 or -EAGAIN */
void sw_timer_wake_by(uint64_t ns);
void sw_timer_expire(uint64_t now);                           /* what has run out, up to now, is due */
void sw_timer_say_stuck(struct sw_deadline *d, uint64_t now); /* if it is, and only once */

#endif
