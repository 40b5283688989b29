/* The schedule decides with fed-in time; nothing here sleeps. */
#include "unit.h"

#include "schedule.h"
#include <stdlib.h>
#include <string.h>

#define SEC      SW_NS_PER_SEC
#define MS       SW_NS_PER_MS
#define NOW      (1000 * SEC)
#define INTERVAL (100 * MS)

#define OFFSET_US (UINT64_C(1795000000) * SW_US_PER_SEC) /* wall clock minus monotonic clock */

static struct sw_moment moment(uint64_t ns, int64_t clock_set_s)
{
    return (struct sw_moment){ns, OFFSET_US + ns / SW_NS_PER_US +
                                      (uint64_t)(clock_set_s * (int64_t)SW_US_PER_SEC)};
}

static struct sw_identity began(uint64_t ns, int64_t clock_set_s)
{
    return (struct sw_identity){moment(ns, clock_set_s).wall_us, 7};
}

static struct sw_track running_since(uint64_t start_ns, uint64_t now_ns, uint64_t threshold_ns)
{
    struct sw_track t;
    sw_track_begin(&t, began(start_ns, 0), moment(0, 0), moment(now_ns, 0));
    sw_track_phase(&t, SW_PHASE_APPLICATION, now_ns);
    sw_track_set_threshold(&t, threshold_ns, true, now_ns);
    return t;
}

static void is_due_exactly_at_the_threshold(void **state)
{
    (void)state;
    const struct sw_track t = running_since(NOW - 3 * SEC, NOW, 10 * SEC);
    assert_int_equal(sw_track_next_ns(&t, NOW, SEC), NOW + 7 * SEC);
    assert_false(sw_track_due(&t, NOW + 7 * SEC - 1));
    assert_true(sw_track_due(&t, NOW + 7 * SEC));
}

static void threshold_zero_is_never_due(void **state)
{
    (void)state;
    const struct sw_track t = running_since(NOW - 3 * SEC, NOW, 0);
    assert_false(sw_track_due(&t, SW_NS_NEVER - 1));
    assert_true(sw_track_next_ns(&t, NOW, SEC) == SW_NS_NEVER);
}

static void a_clock_set_between_two_looks_does_not_move_the_start(void **state)
{
    (void)state;
    const int64_t steps_s[] = {3600, -3600, 86400 * 365, -86400 * 365, 20, -20};
    const uint64_t start = NOW + 4 * SEC, now = NOW + 10 * SEC;
    for (size_t i = 0; i < SW_COUNT(steps_s); i++) {
        struct sw_track t;
        /* set after the request began */
        sw_track_begin(&t, began(start, 0), moment(NOW, 0), moment(now, steps_s[i]));
        assert_true(t.start_ns == start);
        /* set before it began */
        sw_track_begin(&t, began(start, steps_s[i]), moment(NOW, 0), moment(now, steps_s[i]));
        assert_true(t.start_ns == start);
    }
}

static void a_small_step_makes_a_report_late_by_the_step_at_most(void **state)
{
    (void)state;
    struct sw_track t;
    const uint64_t start = NOW + 4 * SEC;
    for (int64_t step = -3; step <= 3; step++) {
        sw_track_begin(&t, began(start, 0), moment(NOW, 0), moment(NOW + 10 * SEC, step));
        assert_true(t.start_ns >= start && t.start_ns <= start + 3 * SEC);
    }
}

static void a_start_that_fits_nothing_counts_from_now(void **state)
{
    (void)state;
    struct sw_track t;
    sw_track_begin(&t, began(NOW, -7200), moment(NOW - SEC, 0), moment(NOW, 3600));
    assert_true(t.start_ns == NOW);
    sw_track_begin(&t, began(NOW, 7200), moment(NOW - SEC, 0), moment(NOW, 3600));
    assert_true(t.start_ns == NOW);
}

static void time_before_the_application_does_not_count(void **state)
{
    (void)state;
    struct sw_track t;
    sw_track_begin(&t, began(NOW, 0), moment(NOW, 0), moment(NOW, 0));
    sw_track_phase(&t, SW_PHASE_UWSGI, NOW);
    sw_track_phase(&t, SW_PHASE_UWSGI, NOW + 20 * SEC);
    assert_false(sw_track_due(&t, NOW + 20 * SEC));
    sw_track_phase(&t, SW_PHASE_APPLICATION, NOW + 21 * SEC);
    sw_track_set_threshold(&t, 8 * SEC, true, NOW + 21 * SEC);
    assert_false(sw_track_due(&t, NOW + 29 * SEC - 1));
    assert_true(sw_track_due(&t, NOW + 29 * SEC));
}

/* A look may fall into the microseconds before the application is called: that must not make the report late. */
static void the_start_of_the_application_is_known_to_an_eighth_of_the_time_before_it(void **state)
{
    (void)state;
    const uint64_t before[] = {10 * SW_NS_PER_US, 5 * MS, 700 * MS, 30 * SEC};
    for (size_t i = 0; i < SW_COUNT(before); i++) {
        struct sw_track t;
        uint64_t now = NOW;
        unsigned looks = 0;
        sw_track_begin(&t, began(NOW, 0), moment(NOW, 0), moment(NOW, 0));
        while (now < NOW + before[i]) {
            sw_track_phase(&t, SW_PHASE_UWSGI, now);
            now = sw_track_next_ns(&t, now, 10 * SEC);
            looks++;
        }
        sw_track_phase(&t, SW_PHASE_APPLICATION, now);
        sw_track_set_threshold(&t, 10 * SEC, true, now);
        const uint64_t late = now - (NOW + before[i]);
        assert_true(late <= sw_max_u64(MS, before[i] / 8));
        assert_true(looks < 100);
        assert_true(sw_track_due(&t, now + 10 * SEC));
    }
}

static void waiting_for_the_client_does_not_count(void **state)
{
    (void)state;
    struct sw_track t = running_since(NOW, NOW, 10 * SEC);
    sw_track_phase(&t, SW_PHASE_APPLICATION, NOW + 4 * SEC); /* 4 s of application proved */
    sw_track_phase(&t, SW_PHASE_STREAMING, NOW + 10 * SEC);  /* what lies between is not */
    assert_true(sw_track_app_ns(&t, NOW + 60 * SEC) == 4 * SEC);
    assert_false(sw_track_due(&t, NOW + 60 * SEC));
    sw_track_phase(&t, SW_PHASE_APPLICATION, NOW + 60 * SEC);
    assert_false(sw_track_due(&t, NOW + 66 * SEC - 1));
    assert_true(sw_track_due(&t, NOW + 66 * SEC));
}

static void a_large_upload_before_the_application_is_not_its_time(void **state)
{
    (void)state;
    struct sw_track t;
    sw_track_begin(&t, began(NOW - 9 * SEC, 0), moment(0, 0), moment(NOW, 0));
    sw_track_phase(&t, SW_PHASE_APPLICATION, NOW);
    sw_track_set_threshold(&t, 10 * SEC, false, NOW);
    assert_false(sw_track_due(&t, NOW + SEC));
    assert_true(sw_track_due(&t, NOW + 10 * SEC));
}

static void updates_come_at_2_4_8_times_the_threshold(void **state)
{
    (void)state;
    struct sw_track t = running_since(NOW, NOW, SEC);
    uint64_t updates[8];
    unsigned count = 0;
    assert_true(sw_track_due(&t, NOW + SEC));
    sw_track_slow(&t);
    assert_false(sw_track_due(&t, NOW + 2 * SEC)); /* once only */
    assert_true(sw_track_next_ns(&t, NOW + SEC, SEC) == SW_NS_NEVER);
    for (uint64_t now = NOW + SEC; now < NOW + 20 * SEC && count < 8; now += INTERVAL)
        if (sw_track_sampled(&t, now))
            updates[count++] = (now - NOW) / SEC;
    assert_int_equal(count, 4);
    const uint64_t expected[] = {2, 4, 8, 16};
    assert_memory_equal(updates, expected, sizeof expected);
}

static void a_gap_makes_one_update_not_many(void **state)
{
    (void)state;
    struct sw_track t = running_since(NOW, NOW, SEC);
    sw_track_slow(&t);
    assert_true(sw_track_sampled(&t, NOW + 100 * SEC));
    assert_false(sw_track_sampled(&t, NOW + 101 * SEC));
    assert_true(sw_track_sampled(&t, NOW + 128 * SEC));
}

static void looking_keeps_to_its_share_of_a_cpu(void **state)
{
    (void)state;
    struct sw_sampler s = {INTERVAL, SW_NS_NEVER};
    sw_sampler_start(&s, NOW);
    assert_true(s.next_ns == NOW + INTERVAL);
    sw_sampler_start(&s, NOW + 50 * MS); /* one more that is slow does not put the round off */
    assert_true(s.next_ns == NOW + INTERVAL);
    sw_sampler_done(&s, NOW, NOW + MS, true);
    assert_true(s.next_ns == NOW + MS + INTERVAL);
    sw_sampler_done(&s, NOW, NOW + 50 * MS, true); /* dear: 50 ms of every 1050 */
    assert_true(s.next_ns == NOW + 50 * MS + SEC);
    sw_sampler_done(&s, 0, SW_NS_NEVER - 1, true);
    assert_true(s.next_ns == SW_NS_NEVER);
    sw_sampler_done(&s, NOW, NOW + MS, false);
    assert_true(s.next_ns == SW_NS_NEVER);
}

static void the_counter_may_go_up_once_before_the_end(void **state)
{
    (void)state;
    const struct sw_identity seen = {5, 10};
    assert_true(sw_identity_same(seen, (struct sw_identity){5, 10}));
    assert_true(sw_identity_same(seen, (struct sw_identity){5, 11}));
    assert_false(sw_identity_same(seen, (struct sw_identity){5, 12}));
    assert_false(sw_identity_same(seen, (struct sw_identity){6, 11}));
}

/* One core, random requests and phases, watched as the thread does: it wakes when told and at no other time. Whatever
 * happens, a request whose application ran without a break is reported at its threshold, and one that did not
 * reach it never. */
static void random_requests_are_reported_on_time(void **state)
{
    (void)state;
    const uint64_t threshold = SEC;
    srand(20);
    uint64_t now = NOW, previous_look = NOW;
    for (int round = 0; round < 20000; round++) {
        const uint64_t start = now + (uint64_t)(rand() % 3000) * MS;
        const uint64_t runs = (uint64_t)(rand() % 2500) * MS;
        struct sw_track t = {0};
        uint64_t reported = 0;
        while (now < start + runs) {
            if (now >= start && !t.known) {
                const int64_t set_s = rand() % 4 == 0 ? rand() % 14400 - 7200 : 0;
                sw_track_begin(&t, began(start, 0), moment(previous_look, 0), moment(now, set_s));
                sw_track_phase(&t, SW_PHASE_APPLICATION, now);
                sw_track_set_threshold(&t, threshold, true, now);
                assert_true(t.start_ns >= start && t.start_ns <= now);
                if (set_s == 0 || set_s > 1 || set_s < -1)
                    assert_true(t.start_ns == start);
            } else if (t.known) {
                sw_track_phase(&t, SW_PHASE_APPLICATION, now);
            }
            if (sw_track_due(&t, now) && t.known) {
                reported = now;
                break;
            }
            previous_look = now;
            const uint64_t idle = now + threshold, next = sw_track_next_ns(&t, now, threshold);
            assert_true(next > now || next == SW_NS_NEVER);
            now = t.known ? sw_min_u64(idle, next) : idle;
        }
        if (reported && t.start_ns == start)
            assert_true(reported == start + threshold);
        if (!reported)
            assert_true(runs <= 2 * threshold); /* a jump may cost the time between two looks, never more */
        now = sw_max_u64(now, start + runs);
        previous_look = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_due_exactly_at_the_threshold),
        cmocka_unit_test(threshold_zero_is_never_due),
        cmocka_unit_test(a_clock_set_between_two_looks_does_not_move_the_start),
        cmocka_unit_test(a_small_step_makes_a_report_late_by_the_step_at_most),
        cmocka_unit_test(a_start_that_fits_nothing_counts_from_now),
        cmocka_unit_test(time_before_the_application_does_not_count),
        cmocka_unit_test(the_start_of_the_application_is_known_to_an_eighth_of_the_time_before_it),
        cmocka_unit_test(waiting_for_the_client_does_not_count),
        cmocka_unit_test(a_large_upload_before_the_application_is_not_its_time),
        cmocka_unit_test(updates_come_at_2_4_8_times_the_threshold),
        cmocka_unit_test(a_gap_makes_one_update_not_many),
        cmocka_unit_test(looking_keeps_to_its_share_of_a_cpu),
        cmocka_unit_test(the_counter_may_go_up_once_before_the_end),
        cmocka_unit_test(random_requests_are_reported_on_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
