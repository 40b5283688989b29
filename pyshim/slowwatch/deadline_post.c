#include "deadline_core.h"

/* Each strand's wish is told once, and again only much later: whoever picks is to put a new time to it. */
static bool next_errand(const void *group, uint64_t now, uint64_t *at_ns)
{
    for (struct sw_strand *s = sw_deadlines.first_listed; s; s = s->next_listed) {
        if (s->group != group || s->errand_at_ns > now)
            continue;
        s->errand_at_ns = sw_ns_add(now, SW_ERRAND_AGAIN_NS);
        const struct sw_deadline *d = s->posted ? s->posted : sw_delivery_candidate(s);
        *at_ns = d ? d->at_ns : SW_DEADLINE_NEVER;
        for (d = d ? NULL : s->innermost; d; d = d->outer) /* none yet: the lead was taken off */
            if (d->heap_pos && !sw_deadline_shielded(d))
                *at_ns = sw_ns_min(*at_ns, d->at_ns);
        if (*at_ns != SW_DEADLINE_NEVER)
            return true;
    }
    return false;
}

bool sw_deadline_await(const void *group, const _Atomic bool *closed, uint64_t *at_ns)
{
    bool found = false;
    pthread_mutex_lock(&sw_deadlines.lock);
    while (!sw_deadlines.stopped && !atomic_load(closed) &&
           !(found = next_errand(group, sw_deadline_clock_ns(), at_ns)))
        pthread_cond_wait(&sw_deadlines.attention, &sw_deadlines.lock);
    pthread_mutex_unlock(&sw_deadlines.lock);
    return found;
}

struct sw_deadline *sw_deadline_pick(void *group, uint64_t now)
{
    struct sw_deadline *d = NULL;
    pthread_mutex_lock(&sw_deadlines.lock);
    if (!sw_deadlines.stopped)
        sw_timer_expire(now);
    for (struct sw_strand *s = sw_deadlines.first_listed; s && !d; s = s->next_listed)
        if (s->group == group && s->attend_at_ns <= now)
            d = s->posted ? s->posted : sw_delivery_candidate(s);
    pthread_mutex_unlock(&sw_deadlines.lock);
    return d;
}

bool sw_deadline_post(struct sw_deadline *d, uint64_t now)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    const bool posts = d->state == SW_DEADLINE_DUE && !sw_deadline_shielded(d) && !d->strand->posted;
    if (posts) {
        sw_delivery_become_posted(d);
        sw_delivery_attend(d->strand, sw_ns_add(now, SW_STUCK_AFTER_NS));
    }
    pthread_mutex_unlock(&sw_deadlines.lock);
    return posts;
}

void sw_deadline_settle(struct sw_deadline *d, bool delivered)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    if (d->state == SW_DEADLINE_POSTED) {
        struct sw_strand *s = d->strand;
        sw_delivery_withdraw(d);
        if (delivered)
            sw_delivery_become_raised(d);
        sw_delivery_review(s);
        if (sw_delivery_candidate(s))
            sw_delivery_attend(s, sw_ns_add(sw_deadline_clock_ns(), SW_GRACE_NS));
    }
    pthread_mutex_unlock(&sw_deadlines.lock);
}

void sw_deadline_put_off(struct sw_deadline *d, uint64_t now, uint64_t until_ns)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    if (d->state == SW_DEADLINE_POSTED || (d->state == SW_DEADLINE_DUE && !sw_deadline_shielded(d))) {
        sw_timer_say_stuck(d, now);
        sw_delivery_attend(d->strand, until_ns);
    }
    pthread_mutex_unlock(&sw_deadlines.lock);
}

struct sw_deadline *sw_strand_posted(struct sw_strand *s)
{
    return __atomic_load_n(&s->posted, __ATOMIC_RELAXED);
}

struct sw_deadline *sw_deadline_posted(const struct sw_deadline *d)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    struct sw_deadline *posted = d->strand ? d->strand->posted : NULL;
    pthread_mutex_unlock(&sw_deadlines.lock);
    return posted;
}
