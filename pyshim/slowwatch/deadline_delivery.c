#include "deadline_core.h"

/* ---- what a strand wants: the timer thread looks at those that are listed ---- */

static void list(struct sw_strand *s)
{
    if (s->listed)
        return;
    s->listed = true;
    s->next_listed = NULL;
    s->previous_listed = sw_deadlines.last_listed;
    *(sw_deadlines.last_listed ? &sw_deadlines.last_listed->next_listed : &sw_deadlines.first_listed) = s;
    sw_deadlines.last_listed = s;
}

static void unlist(struct sw_strand *s)
{
    if (!s->listed)
        return;
    s->listed = false;
    *(s->previous_listed ? &s->previous_listed->next_listed : &sw_deadlines.first_listed) = s->next_listed;
    *(s->next_listed ? &s->next_listed->previous_listed : &sw_deadlines.last_listed) = s->previous_listed;
}

/* The strand's own thread looks at these two without the lock. */
static void count_due(struct sw_strand *s, int change)
{
    __atomic_store_n(&s->due, s->due + (uint32_t)change, __ATOMIC_RELAXED);
}

static void set_posted(struct sw_strand *s, struct sw_deadline *d)
{
    __atomic_store_n(&s->posted, d, __ATOMIC_RELAXED);
}

void sw_delivery_attend(struct sw_strand *s, uint64_t at_ns)
{
    s->attend_at_ns = s->errand_at_ns = at_ns;
    list(s);
    sw_timer_wake_by(at_ns);
}

struct sw_deadline *sw_delivery_candidate(const struct sw_strand *s)
{
    struct sw_deadline *found = NULL;
    for (struct sw_deadline *d = s->due ? s->innermost : NULL; d; d = d->outer)
        if (d->state == SW_DEADLINE_DUE && !sw_deadline_shielded(d))
            found = d;
    return found;
}

static void begin_delivery(struct sw_strand *s, uint64_t now)
{
    s->due_since_ns = now;
    s->kick_failed = false;
    s->kick_at_ns = s->way == SW_WAY_SIGNAL ? now : SW_DEADLINE_NEVER;
    s->kick_gap_ns = SW_KICK_GAP_FIRST_NS;
    sw_delivery_attend(s, s->way == SW_WAY_POST     ? now
                          : s->way == SW_WAY_SIGNAL ? sw_ns_add(now, SW_STUCK_AFTER_NS)
                                                    : SW_DEADLINE_NEVER);
    sw_timer_wake_by(sw_ns_min(s->kick_at_ns, sw_ns_add(now, SW_STUCK_AFTER_NS)));
}

void sw_delivery_review(struct sw_strand *s)
{
    if (!s->listed)
        return;
    if (s->posted || sw_delivery_candidate(s)) {
        if (s->due_since_ns == SW_DEADLINE_NEVER)
            begin_delivery(s, sw_ns_add(sw_deadline_clock_ns(), SW_GRACE_NS));
        return;
    }
    s->due_since_ns = s->kick_at_ns = s->attend_at_ns = s->errand_at_ns = SW_DEADLINE_NEVER;
    if (s->due == 0)
        unlist(s);
}

void sw_delivery_become_due(struct sw_deadline *d, uint64_t now)
{
    struct sw_strand *s = d->strand;
    sw_deadline_heap_remove(&sw_deadlines.heap, d);
    d->state = SW_DEADLINE_DUE;
    count_due(s, 1);
    list(s);
    if (sw_deadline_shielded(d))
        return;
    if (s->due_since_ns == SW_DEADLINE_NEVER)
        begin_delivery(s, now);
    else if (s->posted)
        sw_delivery_attend(s, now); /* the post is perhaps of one inside this one, which is to give way */
}

void sw_delivery_become_raised(struct sw_deadline *d)
{
    struct sw_strand *s = d->strand;
    d->state = SW_DEADLINE_RAISED;
    count_due(s, -1);
    for (struct sw_deadline *inner = s->innermost; inner && inner != d; inner = inner->outer)
        if (inner->state == SW_DEADLINE_DUE) {
            inner->state = SW_DEADLINE_OVERTAKEN;
            count_due(s, -1);
        }
}

void sw_delivery_become_posted(struct sw_deadline *d)
{
    d->state = SW_DEADLINE_POSTED;
    set_posted(d->strand, d);
}

void sw_delivery_withdraw(struct sw_deadline *d)
{
    d->state = SW_DEADLINE_DUE;
    set_posted(d->strand, NULL);
}

void sw_delivery_become_closed(struct sw_deadline *d)
{
    struct sw_strand *s = d->strand;
    if (d->state == SW_DEADLINE_DUE || d->state == SW_DEADLINE_POSTED)
        count_due(s, -1);
    if (s->posted == d)
        set_posted(s, NULL);
    sw_deadline_heap_remove(&sw_deadlines.heap, d);
    d->state = SW_DEADLINE_CLOSED;
    d->strand = NULL;
}
