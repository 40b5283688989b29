/* Deadlines whose exception is posted by another thread, and those who want attention for it; at the end everything at
 * once, in any order. */
#include "unit.h"

#include "deadlines.h"
#include <errno.h>
#include <stdlib.h>

static void a_post_that_is_delivered_was_raised(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.inner, LIMIT);
    assert_false(sw_deadline_post(&s.outer, s.now)); /* not due */
    pass(&s, LIMIT);
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.outer);
    assert_null(sw_strand_posted(&s.strand));
    assert_true(sw_deadline_post(&s.outer, s.now));
    assert_false(sw_deadline_post(&s.outer, s.now));
    assert_false(sw_deadline_post(&s.inner, s.now)); /* one at a time */
    sound();
    assert_ptr_equal(sw_strand_posted(&s.strand), &s.outer);
    assert_ptr_equal(sw_deadline_posted(&s.inner), &s.outer);
    assert_null(sw_deadline_pick(&the_group, s.now));
    sw_deadline_settle(&s.outer, true);
    sound();
    assert_null(sw_strand_posted(&s.strand));
    assert_int_equal(s.outer.state, SW_DEADLINE_RAISED);
    assert_int_equal(s.inner.state, SW_DEADLINE_OVERTAKEN);
    sw_deadline_settle(&s.outer, false); /* settled already */
    assert_taken(&s, NULL);
    assert_null(sw_deadline_pick(&the_group, s.now + LIMIT));
    assert_left(&s.inner, SW_DEADLINE_OVERTAKEN);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

static void a_post_that_is_withdrawn_is_due_again(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_true(sw_deadline_post(&s.inner, s.now));
    sw_deadline_settle(&s.inner, false);
    sound();
    assert_null(sw_strand_posted(&s.strand));
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.inner);
    assert_taken(&s, &s.inner);
    assert_left(&s.inner, SW_DEADLINE_RAISED);

    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_true(sw_deadline_post(&s.inner, s.now));
    sw_deadline_settle(&s.inner, false);
    assert_left(&s.inner, SW_DEADLINE_DUE);
    assert_null(sw_deadline_pick(&the_group, s.now));
    end(&s);
}

static void a_post_that_nobody_settled_ends_with_its_block(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_true(sw_deadline_post(&s.inner, s.now));
    assert_left(&s.inner, SW_DEADLINE_POSTED);
    assert_null(sw_strand_posted(&s.strand));
    assert_null(sw_deadline_pick(&the_group, s.now + LIMIT));
    end(&s);
}

static void an_outer_one_that_becomes_due_makes_a_post_give_way(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.inner, LIMIT - SW_MSEC);
    pass(&s, LIMIT - SW_MSEC);
    assert_true(sw_deadline_post(&s.inner, s.now));
    assert_null(sw_deadline_pick(&the_group, s.now));
    pass(&s, SW_MSEC);
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.inner); /* to be looked at, before its time */
    sw_deadline_settle(&s.inner, false);
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.outer);
    assert_true(sw_deadline_post(&s.outer, s.now));
    sw_deadline_settle(&s.outer, true);
    assert_left(&s.inner, SW_DEADLINE_OVERTAKEN);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

static void a_post_waits_for_the_end_of_a_shield(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_true(sw_deadline_post(&s.inner, s.now));
    sw_deadline_settle(sw_strand_posted(&s.strand), false); /* as whoever shields does */
    sw_strand_shield(&s.strand);
    sound();
    assert_null(sw_deadline_pick(&the_group, s.now + LIMIT));
    sw_strand_unshield(&s.strand);
    assert_taken(&s, &s.inner);
    end(&s);
}

static void what_is_put_off_wants_attention_later(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    sw_deadline_put_off(&s.inner, s.now, s.now + 5 * SW_MSEC);
    sound();
    assert_null(sw_deadline_pick(&the_group, s.now + 5 * SW_MSEC - 1));
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now + 5 * SW_MSEC), &s.inner);
    assert_true(sw_deadline_post(&s.inner, s.now));
    assert_null(sw_deadline_pick(&the_group, s.now + SW_STUCK_AFTER_NS - 1));
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now + SW_STUCK_AFTER_NS), &s.inner);
    end(&s);
}

static void a_post_that_is_not_delivered_is_called_stuck_once(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_true(sw_deadline_post(&s.inner, s.now));
    sw_deadline_put_off(&s.inner, s.now + SW_STUCK_AFTER_NS - 1, s.now + SW_STUCK_AFTER_NS);
    assert_int_equal(world.stucks, 0);
    for (uint64_t late_ns = SW_STUCK_AFTER_NS; late_ns < 4 * SW_STUCK_AFTER_NS;
         late_ns += SW_STUCK_AFTER_NS) {
        assert_ptr_equal(sw_deadline_pick(&the_group, s.now + late_ns), &s.inner);
        sw_deadline_put_off(&s.inner, s.now + late_ns, s.now + late_ns + SW_STUCK_AFTER_NS);
        assert_int_equal(world.stucks, 1);
        assert_ptr_equal(world.stuck, &s.inner);
        assert_int_equal(world.stuck_late_ns, SW_STUCK_AFTER_NS);
    }
    sw_deadline_settle(&s.inner, true);
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    enter(&s, &s.inner, LIMIT); /* the next block may get stuck again */
    assert_false(s.inner.stuck_said);
    end(&s);
}

static void each_group_is_picked_from_alone(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    scene_of(other, SW_WAY_POST);
    other.strand.group = &another_group;
    other.now = s.now;
    enter(&s, &s.inner, LIMIT);
    enter(&other, &other.inner, LIMIT);
    s.now += LIMIT;
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.inner);
    assert_ptr_equal(sw_deadline_pick(&another_group, s.now), &other.inner);
    sw_deadline_put_off(&s.inner, s.now, s.now + SEC);
    assert_null(sw_deadline_pick(&the_group, s.now));
    assert_ptr_equal(sw_deadline_pick(&another_group, s.now), &other.inner);
    sound();
    end(&s);
    end(&other);
}

/* The lead is for having the GIL in time; raised it is not before its time. */
static void what_is_attended_early_is_not_due_early(void **state)
{
    (void)state;
    sw_deadline_set_lead(5 * SW_MSEC);
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT - 5 * SW_MSEC);
    assert_int_equal(s.inner.state, SW_DEADLINE_OPEN);
    assert_true(s.strand.listed);
    assert_null(sw_deadline_pick(&the_group, s.now));
    assert_null(sw_deadline_pick(&the_group, s.now + 5 * SW_MSEC - 1));
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now + 5 * SW_MSEC), &s.inner);
    assert_left(&s.inner, SW_DEADLINE_DUE);
    assert_false(s.strand.listed);

    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_left(&s.inner, SW_DEADLINE_DUE);
    enter(&s, &s.inner, SW_MSEC); /* shorter than the lead */
    pass(&s, 0);
    assert_int_equal(s.inner.state, SW_DEADLINE_OPEN);
    assert_left(&s.inner, SW_DEADLINE_OPEN);
    assert_false(s.strand.listed);
    end(&s);
}

static void the_lead_of_one_disturbs_no_other(void **state)
{
    (void)state;
    sw_deadline_set_lead(5 * SW_MSEC);
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT + 8 * SW_MSEC);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_true(sw_deadline_post(&s.inner, s.now));
    pass(&s, 3 * SW_MSEC);
    assert_null(sw_deadline_pick(&the_group, s.now)); /* the post has its second */
    sw_deadline_settle(&s.inner, true);
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    assert_left(&s.outer, SW_DEADLINE_OPEN);

    enter(&s, &s.outer, LIMIT);
    sw_strand_shield(&s.strand);
    pass(&s, LIMIT - SW_MSEC);
    assert_false(s.strand.listed); /* nobody is to come for it */
    end(&s);
}

/* ---- anything, in any order ---- */

#define BLOCKS 8
#define STEPS  40000

static void random_operations_leave_everything_whole(void **state)
{
    (void)state;
    static struct sw_deadline blocks[2][BLOCKS];
    static struct sw_strand strands[2];
    uint64_t now = sw_deadline_clock_ns() + FAR_NS;
    srand(3);
    sw_deadline_set_lead(2 * SW_MSEC);
    sw_strand_init(&strands[0], SW_WAY_POST, &the_group);
    sw_strand_init(&strands[1], SW_WAY_NONE, &the_group);
    for (int step = 0; step < STEPS; step++) {
        const int which = rand() % 2;
        struct sw_strand *s = &strands[which];
        struct sw_deadline *d = &blocks[which][rand() % BLOCKS], *picked;
        const enum sw_deadline_state before = d->state;
        switch (rand() % 10) {
        case 0:
        case 1:
            assert_int_equal(sw_deadline_enter(d, s, now, (uint64_t)(rand() % 20) * SW_MSEC / 2),
                             before == SW_DEADLINE_CLOSED ? 0 : -EBUSY);
            break;
        case 2:
            assert_int_equal(sw_deadline_leave(d), before);
            break;
        case 3:
            sw_strand_shield(s);
            break;
        case 4:
        case 5:
            sw_strand_unshield(s);
            break;
        case 6:
            picked = sw_strand_take(s);
            assert_true(!picked || (picked->state == SW_DEADLINE_RAISED && picked->shields == s->shields));
            break;
        case 7:
            if (sw_deadline_take(d, now))
                assert_true((before == SW_DEADLINE_OPEN || before == SW_DEADLINE_DUE) && d->at_ns <= now);
            break;
        case 8:
            picked = sw_deadline_pick(&the_group, now);
            if (!picked)
                break;
            if (picked->state == SW_DEADLINE_POSTED)
                sw_deadline_settle(picked, rand() % 2);
            else if (rand() % 4 == 0)
                sw_deadline_put_off(picked, now, now + SW_MSEC);
            else
                assert_true(sw_deadline_post(picked, now));
            break;
        default:
            now += (uint64_t)(rand() % 3) * SW_MSEC;
            if (sw_strand_posted(s) && rand() % 2)
                sw_deadline_settle(sw_strand_posted(s), rand() % 2);
        }
        sound();
    }
    sw_strand_fini(&strands[0]);
    sw_strand_fini(&strands[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(a_post_that_is_delivered_was_raised),
        world_test(a_post_that_is_withdrawn_is_due_again),
        world_test(a_post_that_nobody_settled_ends_with_its_block),
        world_test(an_outer_one_that_becomes_due_makes_a_post_give_way),
        world_test(a_post_waits_for_the_end_of_a_shield),
        world_test(what_is_put_off_wants_attention_later),
        world_test(a_post_that_is_not_delivered_is_called_stuck_once),
        world_test(each_group_is_picked_from_alone),
        world_test(what_is_attended_early_is_not_due_early),
        world_test(the_lead_of_one_disturbs_no_other),
        world_test(random_operations_leave_everything_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
