/* What becomes of a deadline, by whatever its own thread does: blocks, blocks in blocks, shields. */
#include "unit.h"

#include "deadlines.h"
#include <errno.h>

/* ---- one block ---- */

static void a_block_that_is_left_in_time_was_open(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    assert_int_equal(s.inner.limit_ns, LIMIT);
    assert_int_equal(s.inner.at_ns, s.now + LIMIT);
    pass(&s, LIMIT - 1);
    assert_taken(&s, NULL);
    assert_left(&s.inner, SW_DEADLINE_OPEN);
    pass(&s, LIMIT);
    assert_taken(&s, NULL);
    assert_left(&s.inner, SW_DEADLINE_CLOSED); /* twice does no harm */
    end(&s);
}

static void what_is_due_is_handed_out_once(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_int_equal(s.inner.state, SW_DEADLINE_DUE);
    assert_taken(&s, &s.inner);
    assert_taken(&s, NULL);
    assert_false(sw_deadline_take(&s.inner, s.now));
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    enter(&s, &s.inner, LIMIT); /* and the struct can be used again */
    pass(&s, LIMIT - 1);
    assert_taken(&s, NULL);
    assert_left(&s.inner, SW_DEADLINE_OPEN);
    end(&s);
}

static void nothing_is_handed_out_after_the_block(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_left(&s.inner, SW_DEADLINE_DUE);
    assert_taken(&s, NULL);
    assert_false(sw_deadline_take(&s.inner, s.now));
    assert_null(sw_deadline_pick(&the_group, s.now));
    assert_false(sw_deadline_post(&s.inner, s.now));
    end(&s);
}

static void no_limit_and_endless_limits_are_never_due(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    const uint64_t limits[] = {SW_DEADLINE_NEVER, SW_DEADLINE_NEVER - 1, SW_DEADLINE_NEVER - s.now};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        enter(&s, &s.inner, limits[i]);
        assert_true(s.inner.at_ns == SW_DEADLINE_NEVER);
        assert_int_equal(s.inner.heap_pos, 0);
        assert_false(sw_deadline_take(&s.inner, SW_DEADLINE_NEVER - 1));
        assert_left(&s.inner, SW_DEADLINE_OPEN);
    }
    assert_false(sw_deadlines.running); /* and need no thread */
    end(&s);
}

static void an_open_block_cannot_be_entered(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    scene_of(other, SW_WAY_POST);
    enter(&s, &s.inner, LIMIT);
    const struct sw_deadline before = s.inner;
    assert_int_equal(sw_deadline_enter(&s.inner, &other.strand, s.now, 1), -EBUSY);
    assert_memory_equal(&s.inner, &before, sizeof before);
    assert_left(&s.inner, SW_DEADLINE_OPEN);
    end(&s);
    end(&other);
}

/* ---- blocks in blocks ---- */

static void the_outermost_is_handed_out_and_overtakes(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.middle, LIMIT / 2);
    enter(&s, &s.inner, 2 * LIMIT);
    pass(&s, LIMIT);
    assert_taken(&s, &s.outer);
    assert_int_equal(s.middle.state, SW_DEADLINE_OVERTAKEN);
    assert_int_equal(s.inner.state, SW_DEADLINE_OPEN);
    assert_taken(&s, NULL);
    assert_false(sw_deadline_take(&s.middle, s.now));
    pass(&s, LIMIT); /* the innermost runs out while the outermost is on its way */
    assert_taken(&s, &s.inner);
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    assert_left(&s.middle, SW_DEADLINE_OVERTAKEN);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

static void an_inner_block_ends_alone(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.inner, LIMIT / 2);
    pass(&s, LIMIT / 2);
    assert_taken(&s, &s.inner);
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    assert_taken(&s, NULL);
    pass(&s, LIMIT / 2);
    assert_taken(&s, &s.outer);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

/* A generator's block is entered first, and left while a block of its consumer is open. */
static void leaving_a_block_does_not_touch_a_younger_one(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.middle, LIMIT);
    enter(&s, &s.inner, LIMIT);
    assert_left(&s.outer, SW_DEADLINE_OPEN);
    pass(&s, LIMIT);
    assert_left(&s.inner, SW_DEADLINE_DUE);
    assert_taken(&s, &s.middle);
    assert_left(&s.middle, SW_DEADLINE_RAISED);
    end(&s);
}

static void a_block_that_is_never_left_ends_with_its_strand(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.middle, LIMIT);
    enter(&s, &s.inner, 2 * LIMIT);
    pass(&s, LIMIT);
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.outer);
    assert_true(sw_deadline_post(&s.outer, s.now));
    end(&s);
    struct sw_deadline *all[] = {&s.outer, &s.middle, &s.inner};
    for (size_t i = 0; i < 3; i++) {
        assert_null(all[i]->strand);
        assert_int_equal(all[i]->heap_pos, 0);
        sw_deadline_settle(all[i], false);
        sw_deadline_put_off(all[i], s.now, s.now);
        assert_false(sw_deadline_post(all[i], s.now));
        assert_false(sw_deadline_take(all[i], s.now));
        assert_null(sw_deadline_posted(all[i]));
        assert_left(all[i], SW_DEADLINE_CLOSED);
    }
    end(&s); /* twice does no harm */
}

static void a_group_is_dropped_as_a_whole(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    scene_of(other, SW_WAY_POST);
    other.strand.group = &another_group;
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.inner, LIMIT);
    enter(&other, &other.inner, 3 * LIMIT);
    pass(&s, LIMIT);
    sw_strand_shield(&s.strand);
    sw_deadline_drop_group(&the_group);
    sound();
    assert_taken(&s, NULL);
    assert_left(&s.inner, SW_DEADLINE_CLOSED);
    assert_left(&s.outer, SW_DEADLINE_CLOSED);
    enter(&s, &s.inner, LIMIT); /* the strand itself can go on */
    pass(&s, LIMIT);
    assert_taken(&s, &s.inner);
    assert_left(&other.inner, SW_DEADLINE_OPEN);
    end(&s);
    end(&other);
}

/* ---- another timer ---- */

static void another_timer_may_be_the_first_to_say_it(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_NONE);
    enter(&s, &s.inner, LIMIT);
    assert_false(sw_deadline_take(&s.inner, s.now + LIMIT - 1));
    assert_int_equal(s.inner.state, SW_DEADLINE_OPEN);
    assert_true(sw_deadline_take(&s.inner, s.now + LIMIT));
    sound();
    assert_int_equal(s.inner.heap_pos, 0);
    assert_false(sw_deadline_take(&s.inner, s.now + LIMIT));
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    assert_false(sw_deadline_take(&s.inner, s.now + LIMIT));
    end(&s);
}

static void another_timer_of_an_inner_block_waits_for_that_of_the_outer(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_NONE);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.inner, LIMIT);
    assert_false(sw_deadline_take(&s.inner, s.now + LIMIT));
    sound();
    assert_true(sw_deadline_take(&s.outer, s.now + LIMIT));
    sound();
    assert_int_equal(s.inner.state, SW_DEADLINE_OVERTAKEN);
    assert_false(sw_deadline_take(&s.inner, s.now + LIMIT));
    assert_left(&s.inner, SW_DEADLINE_OVERTAKEN);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

/* ---- shields ---- */

static void a_shield_holds_back_what_is_around_it(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    sw_strand_shield(&s.strand);
    sw_strand_shield(&s.strand);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    assert_false(sw_deadline_take(&s.outer, s.now));
    assert_int_equal(s.outer.state, SW_DEADLINE_DUE);
    assert_taken(&s, &s.inner); /* entered inside, so not held back */
    assert_taken(&s, NULL);
    assert_left(&s.inner, SW_DEADLINE_RAISED);
    assert_null(sw_deadline_pick(&the_group, s.now));
    sw_strand_unshield(&s.strand);
    assert_taken(&s, NULL);
    sw_strand_unshield(&s.strand);
    sound();
    assert_taken(&s, &s.outer);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

static void a_shield_counts_also_when_it_comes_after_the_time(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    pass(&s, LIMIT);
    assert_ptr_equal(sw_deadline_pick(&the_group, s.now), &s.outer);
    sw_strand_shield(&s.strand);
    sound();
    assert_taken(&s, NULL);
    assert_null(sw_deadline_pick(&the_group, s.now));
    assert_false(sw_deadline_post(&s.outer, s.now));
    assert_left(&s.outer, SW_DEADLINE_DUE);
    sw_strand_unshield(&s.strand);
    assert_taken(&s, NULL);
    end(&s);
}

/* The timer thread may not have had a CPU yet. */
static void what_passed_inside_a_shield_is_known_at_its_end(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    enter(&s, &s.middle, LIMIT + 1);
    sw_strand_shield(&s.strand);
    sw_strand_expire(&s.strand, s.now + LIMIT);
    sound();
    assert_int_equal(s.outer.state, SW_DEADLINE_DUE);
    assert_int_equal(s.middle.state, SW_DEADLINE_OPEN);
    assert_taken(&s, NULL);
    sw_strand_unshield(&s.strand);
    assert_taken(&s, &s.outer);
    assert_left(&s.middle, SW_DEADLINE_OPEN);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

static void a_shield_in_a_shield_stands_between_two_that_are_due(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    enter(&s, &s.outer, LIMIT);
    sw_strand_shield(&s.strand);
    enter(&s, &s.middle, LIMIT);
    sw_strand_shield(&s.strand);
    enter(&s, &s.inner, LIMIT);
    pass(&s, LIMIT);
    sw_strand_unshield(&s.strand);
    assert_taken(&s, &s.middle); /* the outermost of those that are not held back */
    assert_int_equal(s.inner.state, SW_DEADLINE_OVERTAKEN);
    sw_strand_unshield(&s.strand);
    assert_taken(&s, &s.outer);
    assert_left(&s.inner, SW_DEADLINE_OVERTAKEN);
    assert_left(&s.middle, SW_DEADLINE_RAISED);
    assert_left(&s.outer, SW_DEADLINE_RAISED);
    end(&s);
}

static void a_shield_that_ends_early_or_twice_does_no_harm(void **state)
{
    (void)state;
    scene_of(s, SW_WAY_POST);
    sw_strand_unshield(&s.strand);
    sw_strand_shield(&s.strand);
    enter(&s, &s.inner, LIMIT);
    sw_strand_unshield(&s.strand); /* a generator's, begun before the block and finished in it */
    sound();
    pass(&s, LIMIT);
    sw_strand_shield(&s.strand);
    assert_taken(&s, NULL); /* the block was entered before this one */
    sw_strand_unshield(&s.strand);
    assert_taken(&s, &s.inner);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(a_block_that_is_left_in_time_was_open),
        world_test(what_is_due_is_handed_out_once),
        world_test(nothing_is_handed_out_after_the_block),
        world_test(no_limit_and_endless_limits_are_never_due),
        world_test(an_open_block_cannot_be_entered),
        world_test(the_outermost_is_handed_out_and_overtakes),
        world_test(an_inner_block_ends_alone),
        world_test(leaving_a_block_does_not_touch_a_younger_one),
        world_test(a_block_that_is_never_left_ends_with_its_strand),
        world_test(a_group_is_dropped_as_a_whole),
        world_test(another_timer_may_be_the_first_to_say_it),
        world_test(another_timer_of_an_inner_block_waits_for_that_of_the_outer),
        world_test(a_shield_holds_back_what_is_around_it),
        world_test(a_shield_counts_also_when_it_comes_after_the_time),
        world_test(what_passed_inside_a_shield_is_known_at_its_end),
        world_test(a_shield_in_a_shield_stands_between_two_that_are_due),
        world_test(a_shield_that_ends_early_or_twice_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
