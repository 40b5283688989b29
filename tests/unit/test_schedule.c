/* The schedule decides with fed-in time; nothing here sleeps. */
#include "unit.h"

#include "schedule.h"
#include <stdlib.h>
#include <string.h>

#define SEC      SW_NS_PER_SEC
#define MS       SW_NS_PER_MS
#define NOW      (1000 * SEC)
#define INTERVAL (100 * MS)

static const struct sw_identity someone = {123456, 7};

static struct sw_track running_since(uint64_t start_ns, uint64_t now_ns, uint64_t threshold_ns)
{
    struct sw_track t;
    sw_track_begin(&t, someone, now_ns - start_ns, 0, now_ns);
    sw_track_phase(&t, SW_PHASE_APPLICATION, now_ns);
    sw_track_set_threshold(&t, threshold_ns, true, now_ns);
    return t;
}

static void is_due_exactly_at_the_threshold(void **state)
{
    (void)state;
    const struct sw_track t = running_since(NOW - 3 * SEC, NOW, 10 * SEC);
    assert_int_equal(sw_track_next_ns(&t, NOW, SEC, INTERVAL), NOW + 7 * SEC);
    assert_false(sw_track_due(&t, NOW + 7 * SEC - 1));
    assert_true(sw_track_due(&t, NOW + 7 * SEC));
}

static void threshold_zero_is_never_due(void **state)
{
    (void)state;
    const struct sw_track t = running_since(NOW - 3 * SEC, NOW, 0);
    assert_false(sw_track_due(&t, SW_NS_NEVER - 1));
    assert_true(sw_track_next_ns(&t, NOW, SEC, INTERVAL) == SW_NS_NEVER);
}

static void wall_clock_jumps_neither_make_nor_hide(void **state)
{
    (void)state;
    struct sw_track t;
    /* forward by an hour: the request seems old, but the look a second ago did not see it */
    sw_track_begin(&t, someone, 3600 * SEC, NOW - SEC, NOW);
    assert_true(t.start_ns == NOW - SEC);
    /* back by an hour: its start seems to lie ahead (the age is floored at 0) */
    sw_track_begin(&t, someone, 0, NOW - SEC, NOW);
    assert_true(t.start_ns == NOW);
    sw_track_phase(&t, SW_PHASE_APPLICATION, NOW);
    sw_track_set_threshold(&t, 10 * SEC, true, NOW);
    assert_true(sw_track_due(&t, NOW + 10 * SEC));
}

static void time_before_the_application_does_not_count(void **state)
{
    (void)state;
    struct sw_track t;
    sw_track_begin(&t, someone, 0, NOW, NOW);
    sw_track_phase(&t, SW_PHASE_UWSGI, NOW);
    const uint64_t next_ns = sw_track_next_ns(&t, NOW, 8 * SEC, INTERVAL);
    assert_true(next_ns == NOW + SEC); /* an eighth of the threshold */
    sw_track_phase(&t, SW_PHASE_UWSGI, NOW + 20 * SEC);
    assert_false(sw_track_due(&t, NOW + 20 * SEC));
    sw_track_phase(&t, SW_PHASE_APPLICATION, NOW + 21 * SEC);
    sw_track_set_threshold(&t, 8 * SEC, true, NOW + 21 * SEC);
    assert_false(sw_track_due(&t, NOW + 29 * SEC - 1));
    assert_true(sw_track_due(&t, NOW + 29 * SEC));
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
    sw_track_begin(&t, someone, 9 * SEC, 0, NOW);
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
    sw_track_slow(&t, NOW + SEC, INTERVAL);
    assert_false(sw_track_due(&t, NOW + 2 * SEC)); /* once only */
    for (uint64_t now = NOW + SEC; now < NOW + 20 * SEC && count < 8;) {
        now = sw_track_next_ns(&t, now, SEC, INTERVAL);
        assert_true(sw_track_sample_due(&t, now));
        if (sw_track_sampled(&t, now, INTERVAL))
            updates[count++] = (now - NOW) / SEC;
    }
    assert_int_equal(count, 4);
    const uint64_t expected[] = {2, 4, 8, 16};
    assert_memory_equal(updates, expected, sizeof expected);
}

static void a_gap_makes_one_update_not_many(void **state)
{
    (void)state;
    struct sw_track t = running_since(NOW, NOW, SEC);
    sw_track_slow(&t, NOW + SEC, INTERVAL);
    assert_true(sw_track_sampled(&t, NOW + 100 * SEC, INTERVAL));
    assert_false(sw_track_sampled(&t, NOW + 101 * SEC, INTERVAL));
    assert_true(sw_track_sampled(&t, NOW + 128 * SEC, INTERVAL));
}

static void looking_keeps_to_its_share_of_a_cpu(void **state)
{
    (void)state;
    assert_int_equal(sw_schedule_interval(INTERVAL, MS), INTERVAL);
    assert_int_equal(sw_schedule_interval(INTERVAL, 50 * MS), SEC);
    assert_true(sw_schedule_interval(INTERVAL, SW_NS_NEVER - 1) == SW_NS_NEVER);
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
                const uint64_t jump = rand() % 4 == 0 ? (uint64_t)(rand() % 7200) * SEC : 0;
                sw_track_begin(&t, someone, now - start + jump, previous_look, now);
                sw_track_phase(&t, SW_PHASE_APPLICATION, now);
                sw_track_set_threshold(&t, threshold, true, now);
                assert_true(t.start_ns >= previous_look && t.start_ns <= now && t.start_ns <= start + jump);
                if (jump == 0)
                    assert_true(t.start_ns == start);
            } else if (t.known) {
                sw_track_phase(&t, SW_PHASE_APPLICATION, now);
            }
            if (sw_track_due(&t, now) && t.known) {
                reported = now;
                break;
            }
            previous_look = now;
            const uint64_t idle = now + threshold, next = sw_track_next_ns(&t, now, threshold, INTERVAL);
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
        cmocka_unit_test(wall_clock_jumps_neither_make_nor_hide),
        cmocka_unit_test(time_before_the_application_does_not_count),
        cmocka_unit_test(waiting_for_the_client_does_not_count),
        cmocka_unit_test(a_large_upload_before_the_application_is_not_its_time),
        cmocka_unit_test(updates_come_at_2_4_8_times_the_threshold),
        cmocka_unit_test(a_gap_makes_one_update_not_many),
        cmocka_unit_test(looking_keeps_to_its_share_of_a_cpu),
        cmocka_unit_test(random_requests_are_reported_on_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
