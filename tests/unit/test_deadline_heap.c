/* The heap against a plain array that is searched, with random operations and the invariants after each. */
#include "unit.h"

#include "deadline_heap.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST  300
#define STEPS 60000

static struct sw_deadline *first_of(struct sw_deadline *all, const bool *in)
{
    struct sw_deadline *first = NULL;
    for (size_t i = 0; i < MOST; i++) {
        struct sw_deadline *d = in[i] ? &all[i] : NULL;
        if (d &&
            (!first || d->wake_ns < first->wake_ns || (d->wake_ns == first->wake_ns && d->seq < first->seq)))
            first = d;
    }
    return first;
}

static void random_operations_agree_with_a_plain_array(void **state)
{
    (void)state;
    static struct sw_deadline all[MOST];
    static bool in[MOST];
    struct sw_deadline_heap h = {0};
    uint32_t count = 0;
    srand(3);
    for (int step = 0; step < STEPS; step++) {
        const size_t i = (size_t)rand() % MOST;
        const uint64_t wake_ns = (uint64_t)(rand() % 50); /* many are equal */
        const bool growing = step / 5000 % 2 == 0;
        if (!in[i] && (growing || rand() % 4 == 0)) {
            all[i].wake_ns = wake_ns;
            assert_int_equal(sw_deadline_heap_push(&h, &all[i]), 0);
            in[i] = true;
            count++;
        } else if (in[i] && rand() % 3 == 0) {
            sw_deadline_heap_move(&h, &all[i], wake_ns);
        } else if (in[i] && (!growing || rand() % 4 == 0)) {
            sw_deadline_heap_remove(&h, &all[i]);
            in[i] = false;
            count--;
        } else if (count > 0) {
            struct sw_deadline *first = sw_deadline_heap_first(&h);
            sw_deadline_heap_remove(&h, first);
            in[first - all] = false;
            count--;
        }
        assert_int_equal(sw_deadline_heap_check(&h), 0);
        assert_int_equal(h.used, count);
        assert_ptr_equal(sw_deadline_heap_first(&h), first_of(all, in));
    }
    sw_deadline_heap_free(&h);
}

static void equal_times_come_in_order_of_arrival(void **state)
{
    (void)state;
    static struct sw_deadline all[MOST];
    struct sw_deadline_heap h = {0};
    for (size_t i = 0; i < MOST; i++) {
        all[i] = (struct sw_deadline){.wake_ns = 7};
        assert_int_equal(sw_deadline_heap_push(&h, &all[i]), 0);
    }
    for (size_t i = 0; i < MOST; i++) {
        assert_ptr_equal(sw_deadline_heap_first(&h), &all[i]);
        sw_deadline_heap_remove(&h, &all[i]);
        assert_int_equal(sw_deadline_heap_check(&h), 0);
    }
    assert_null(sw_deadline_heap_first(&h));
    sw_deadline_heap_free(&h);
}

static void what_was_forgotten_can_be_filled_again(void **state)
{
    (void)state;
    struct sw_deadline_heap h = {0};
    struct sw_deadline a = {.wake_ns = 1}, b = {.wake_ns = 2};
    assert_int_equal(sw_deadline_heap_push(&h, &a), 0);
    sw_deadline_heap_forget(&h);
    assert_null(sw_deadline_heap_first(&h));
    assert_int_equal(sw_deadline_heap_push(&h, &b), 0);
    assert_ptr_equal(sw_deadline_heap_first(&h), &b);
    assert_int_equal(sw_deadline_heap_check(&h), 0);
    sw_deadline_heap_free(&h);
}

static void removing_what_is_not_in_does_nothing(void **state)
{
    (void)state;
    struct sw_deadline_heap h = {0};
    struct sw_deadline a = {.wake_ns = 1}, b = {.wake_ns = 2};
    sw_deadline_heap_remove(&h, &a);
    assert_int_equal(sw_deadline_heap_push(&h, &a), 0);
    sw_deadline_heap_remove(&h, &b);
    assert_ptr_equal(sw_deadline_heap_first(&h), &a);
    assert_int_equal(h.used, 1);
    sw_deadline_heap_free(&h);
}

static void it_does_not_grow_without_end(void **state)
{
    (void)state;
    struct sw_deadline_heap h = {.used = UINT32_MAX / 2, .room = UINT32_MAX / 2};
    struct sw_deadline a = {.wake_ns = 1};
    assert_int_equal(sw_deadline_heap_push(&h, &a), -ENOMEM);
    assert_int_equal(a.heap_pos, 0);
    assert_int_equal(h.used, UINT32_MAX / 2);
}

static void the_check_finds_what_is_broken(void **state)
{
    (void)state;
    struct sw_deadline_heap h = {0};
    struct sw_deadline a = {.wake_ns = 1}, b = {.wake_ns = 2};
    assert_int_equal(sw_deadline_heap_push(&h, &a), 0);
    assert_int_equal(sw_deadline_heap_push(&h, &b), 0);
    assert_int_equal(sw_deadline_heap_check(&h), 0);
    b.wake_ns = 0;
    assert_int_not_equal(sw_deadline_heap_check(&h), 0);
    h.at[1].wake_ns = 0;
    assert_int_not_equal(sw_deadline_heap_check(&h), 0);
    b.wake_ns = h.at[1].wake_ns = 2;
    b.heap_pos = 1;
    assert_int_not_equal(sw_deadline_heap_check(&h), 0);
    sw_deadline_heap_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_plain_array),
        cmocka_unit_test(equal_times_come_in_order_of_arrival),
        cmocka_unit_test(what_was_forgotten_can_be_filled_again),
        cmocka_unit_test(removing_what_is_not_in_does_nothing),
        cmocka_unit_test(it_does_not_grow_without_end),
        cmocka_unit_test(the_check_finds_what_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
