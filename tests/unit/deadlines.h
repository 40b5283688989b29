/* deadlines.h - what the tests of pyshim/slowwatch/deadline*.c share: a world that counts what the core asks of it, and
 * a check of everything that must always hold. Include after unit.h. */
#ifndef DEADLINES_H
#define DEADLINES_H

#include "deadline_core.h"

#include <stdatomic.h>
#include <string.h>

#define SEC    SW_NS_PER_SEC
#define FAR_NS (3600 * SEC) /* further away than any test takes */
#ifndef PATIENCE_NS
#define PATIENCE_NS (60 * SEC) /* for what must happen, however busy the machine is */
#endif
#define POLL_NS (SW_MSEC / 2)

static const _Atomic bool never; /* for sw_deadline_await */

/* ---- the invariants ---- */

static inline bool in_strand(const struct sw_deadline *d)
{
    const struct sw_deadline *at = d->strand ? d->strand->innermost : NULL;
    while (at && at != d)
        at = at->outer;
    return at == d;
}

/* Does the timer thread sleep longer than this strand wants? */
static inline bool oversleeps(const struct sw_strand *s)
{
    const uint64_t until = sw_deadlines.sleeps_until_ns;
    const struct sw_deadline *d = sw_delivery_candidate(s);
    if (d && until > s->kick_at_ns)
        return true;
    if (d && !d->stuck_said && until > d->at_ns + SW_STUCK_AFTER_NS &&
        until > s->due_since_ns + SW_STUCK_AFTER_NS)
        return true;
    /* what is over was told when the thread was awake */
    return until > s->errand_at_ns && s->errand_at_ns > sw_deadline_clock_ns();
}

static inline int broken_strand(const struct sw_strand *s, uint32_t *in_heap)
{
    uint32_t due = 0, shields = s->shields;
    const struct sw_deadline *posted = NULL;
    for (const struct sw_deadline *d = s->innermost; d; d = d->outer) {
        if (d->strand != s || d->state == SW_DEADLINE_CLOSED)
            return __LINE__;
        if (d->shields > shields) /* one further out has as many shields before it, or fewer */
            return __LINE__;
        shields = d->shields;
        if (d->heap_pos != 0 &&
            (d->state != SW_DEADLINE_OPEN || sw_deadlines.heap.at[d->heap_pos - 1].deadline != d))
            return __LINE__;
        *in_heap += d->heap_pos != 0;
        due += d->state == SW_DEADLINE_DUE || d->state == SW_DEADLINE_POSTED;
        if (d->state == SW_DEADLINE_POSTED && posted)
            return __LINE__;
        posted = d->state == SW_DEADLINE_POSTED ? d : posted;
    }
    if (due != s->due || posted != s->posted || (s->due > 0 && !s->listed))
        return __LINE__;
    const bool delivers = posted || sw_delivery_candidate(s);
    if (delivers != (s->due_since_ns != SW_DEADLINE_NEVER) || (delivers && !s->listed))
        return __LINE__;
    if (s->way != SW_WAY_SIGNAL && s->kick_at_ns != SW_DEADLINE_NEVER)
        return __LINE__;
    return s->listed && oversleeps(s) ? __LINE__ : 0;
}

static inline int broken_lists(void)
{
    const struct sw_strand *previous = NULL;
    uint32_t in_heap = 0;
    for (const struct sw_strand *s = sw_deadlines.strands; s; previous = s, s = s->next) {
        const int line = s->known && s->previous == previous ? broken_strand(s, &in_heap) : __LINE__;
        if (line)
            return line;
    }
    const struct sw_deadline *first = sw_deadline_heap_first(&sw_deadlines.heap);
    if (in_heap != sw_deadlines.heap.used || (first && sw_deadlines.sleeps_until_ns > first->wake_ns))
        return __LINE__;
    previous = NULL;
    for (const struct sw_strand *s = sw_deadlines.first_listed; s; previous = s, s = s->next_listed)
        if (!s->known || !s->listed || s->previous_listed != previous)
            return __LINE__;
    return sw_deadlines.last_listed == previous ? 0 : __LINE__;
}

/* 0, or the line that found something broken. */
static inline int broken(void)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    int line = sw_deadline_heap_check(&sw_deadlines.heap);
    if (!line)
        line = broken_lists();
    pthread_mutex_unlock(&sw_deadlines.lock);
    return line;
}

/* ---- the world ---- */

static struct {
    atomic_uint stucks, wrong_kicks;
    atomic_bool cannot_kick;
    _Atomic(const struct sw_deadline *) stuck; /* the last one */
    atomic_ullong stuck_late_ns;
} world;

/* The lock is held: what is kicked must have an open block that is due and not held back. The group of a strand that is
 * kicked is where its kicks are counted. */
static bool world_kick(const struct sw_strand *s)
{
    const struct sw_deadline *d = sw_delivery_candidate(s);
    if (!d || !in_strand(d) || s->way != SW_WAY_SIGNAL)
        atomic_fetch_add(&world.wrong_kicks, 1);
    else
        atomic_fetch_add((atomic_uint *)s->group, 1);
    return !atomic_load(&world.cannot_kick);
}

static void world_stuck(const struct sw_deadline *d, uint64_t late_ns)
{
    atomic_store(&world.stuck, d);
    atomic_store(&world.stuck_late_ns, late_ns);
    atomic_fetch_add(&world.stucks, 1);
}

static int begin_world(void **state)
{
    static const struct sw_deadline_ops ops = {world_kick, world_stuck};
    (void)state;
    memset(&world, 0, sizeof world);
    sw_deadline_setup(&ops);
    sw_deadline_set_lead(0);
    return 0;
}

static int end_world(void **state)
{
    (void)state;
    const int line = broken();
    if (line)
        print_error("deadlines.h:%d: broken\n", line);
    sw_deadline_stop();
    const bool left_over = sw_deadlines.heap.used || sw_deadlines.strands;
    sw_deadline_fork_prepare(); /* a test that failed must not spoil the next: forget all, as a child does */
    sw_deadline_fork_child();
    return line || left_over || atomic_load(&world.wrong_kicks) ? -1 : 0;
}

#define world_test(test) cmocka_unit_test_setup_teardown(test, begin_world, end_world)

/* ---- waiting ---- */

static inline void nap(void)
{
    nanosleep(&(struct timespec){0, POLL_NS}, NULL);
}

static inline enum sw_deadline_state state_of(const struct sw_deadline *d)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    const enum sw_deadline_state state = d->state;
    pthread_mutex_unlock(&sw_deadlines.lock);
    return state;
}

static inline uint64_t timer_sleeps_until(void)
{
    pthread_mutex_lock(&sw_deadlines.lock);
    const uint64_t until = sw_deadlines.sleeps_until_ns;
    pthread_mutex_unlock(&sw_deadlines.lock);
    return until;
}

#define wait_until(condition)                                                                                \
    do {                                                                                                     \
        const uint64_t wait_end_ = sw_deadline_clock_ns() + PATIENCE_NS;                                     \
        while (!(condition)) {                                                                               \
            if (sw_deadline_clock_ns() > wait_end_)                                                          \
                fail_msg("waited in vain for: %s", #condition);                                              \
            nap();                                                                                           \
        }                                                                                                    \
    } while (0)

/* ---- a strand with fed-in time, an hour ahead of the clock, so that the timer thread finds nothing to do; after each
 * step everything that must always hold is checked ---- */

#define LIMIT (10 * SEC)

static int the_group, another_group; /* their addresses */

struct scene {
    struct sw_strand strand;
    struct sw_deadline outer, middle, inner;
    uint64_t now;
};

static inline void begin(struct scene *s, enum sw_deadline_way way)
{
    memset(s, 0, sizeof *s);
    s->now = sw_deadline_clock_ns() + FAR_NS;
    sw_strand_init(&s->strand, way, &the_group);
}

/* Static, so that it outlives a test that fails. */
#define scene_of(name, way)                                                                                  \
    static struct scene name;                                                                                \
    begin(&name, way)

static inline void sound(void)
{
    const int line = broken();
    if (line)
        fail_msg("deadlines.h:%d: broken", line);
}

static inline void enter(struct scene *s, struct sw_deadline *d, uint64_t limit_ns)
{
    assert_int_equal(sw_deadline_enter(d, &s->strand, s->now, limit_ns), 0);
    sound();
}

/* Time passes: what runs out becomes due, as when the timer thread looks. */
static inline void pass(struct scene *s, uint64_t ns)
{
    s->now += ns;
    assert_null(sw_deadline_pick(&another_group, s->now));
    sound();
}

static inline void assert_left(struct sw_deadline *d, enum sw_deadline_state expected)
{
    assert_int_equal(sw_deadline_leave(d), expected);
    assert_int_equal(d->state, SW_DEADLINE_CLOSED);
    sound();
}

static inline void assert_taken(struct scene *s, const struct sw_deadline *expected)
{
    assert_ptr_equal(sw_strand_take(&s->strand), expected);
    sound();
}

static inline void end(struct scene *s)
{
    sw_strand_fini(&s->strand);
    sound();
}

#endif
