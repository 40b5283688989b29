/* recycle.h: limits are spread evenly, never raised, never 0, and apart again in each life. */
#include "recycle.h"
#include "unit.h"

static void four_workers(void **state)
{
    static const uint64_t requests[] = {5000, 4667, 4333, 4000}, seconds[] = {10, 9, 9, 8};
    (void)state;
    for (unsigned worker = 1; worker <= 4; worker++) {
        assert_int_equal(sw_recycle_limit(5000, 20, worker, 4), requests[worker - 1]);
        assert_int_equal(sw_recycle_limit(10, 20, worker, 4), seconds[worker - 1]);
        assert_int_equal(sw_recycle_limit(5000, 0, worker, 4), 5000);
        assert_int_equal(sw_recycle_limit(0, 20, worker, 4), 0);
    }
    assert_int_equal(sw_recycle_limit(5000, 20, 1, 1), 5000);
    assert_int_equal(sw_recycle_limit(5000, 20, 0, 0), 5000);
    assert_int_equal(sw_recycle_limit(5000, 20, 9, 4), 4000); /* more than there are: as the last */
}

/* all that is promised, for every percent and many limits and numbers of workers */
static void within_the_share_and_even(void **state)
{
    static const uint64_t limits[] = {
        1, 2, 3, 4, 5, 7, 10, 50, 99, 100, 1000, 1000003, UINT32_MAX, UINT64_MAX, UINT64_MAX - 1};
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(limits); i++) {
        const uint64_t limit = limits[i];
        for (unsigned percent = 0; percent <= SW_RECYCLE_SPREAD_MAX; percent++) {
            for (unsigned workers = 1; workers <= 17; workers++) {
                const uint64_t most = (uint64_t)((unsigned __int128)limit * percent / 100);
                const uint64_t gap = workers > 1 ? most / (workers - 1) : 0;
                uint64_t before = limit;
                assert_int_equal(sw_recycle_limit(limit, percent, 1, workers), limit);
                for (unsigned worker = 2; worker <= workers; worker++) {
                    const uint64_t now = sw_recycle_limit(limit, percent, worker, workers);
                    assert_true(now >= 1 && now <= before);
                    assert_true(before - now == gap || before - now == gap + 1);
                    before = now;
                }
                assert_int_equal(before, workers > 1 ? limit - most : limit);
            }
        }
    }
}

static const struct sw_recycle usual = {
    .workers = 4, .percent = 20, .max_requests = 5000, .min_lifetime_s = 10, .max_lifetime_s = 3600};

static void range_is(struct sw_recycle_range range, uint64_t most, uint64_t least)
{
    assert_int_equal(range.most, most);
    assert_int_equal(range.least, least);
}

static void ranges(void **state)
{
    (void)state;
    range_is(sw_recycle_requests(&usual), 5000, 4000);
    range_is(sw_recycle_min_lifetime_s(&usual), 10, 8);
    range_is(sw_recycle_max_lifetime_s(&usual), 3600, 2880);
    struct sw_recycle other = usual;
    other.max_requests = 0; /* then nobody asks for min-worker-lifetime either */
    range_is(sw_recycle_requests(&other), 0, 0);
    range_is(sw_recycle_min_lifetime_s(&other), 10, 10);
    other = usual;
    other.own_requests = true;
    range_is(sw_recycle_requests(&other), 5000, 5000);
    range_is(sw_recycle_min_lifetime_s(&other), 10, 10);
    range_is(sw_recycle_max_lifetime_s(&other), 3600, 2880);
    other = usual;
    other.own_lifetime = true;
    range_is(sw_recycle_requests(&other), 5000, 4000);
    range_is(sw_recycle_max_lifetime_s(&other), 3600, 3600);
    other = usual;
    other.workers = 1;
    range_is(sw_recycle_requests(&other), 5000, 5000);
    range_is(sw_recycle_max_lifetime_s(&other), 3600, 3600);
    other.workers = 0;
    range_is(sw_recycle_max_lifetime_s(&other), 3600, 3600);
    other = usual;
    other.percent = 0;
    range_is(sw_recycle_requests(&other), 5000, 5000);
    range_is(sw_recycle_max_lifetime_s(&other), 3600, 3600);
}

static void lifetimes_differ_by_whole_seconds(void **state)
{
    struct sw_recycle r = usual;
    (void)state;
    assert_int_equal(sw_recycle_step_s(&r), 240);
    r.max_lifetime_s = 0;
    assert_int_equal(sw_recycle_step_s(&r), 0);
    r.max_lifetime_s = 14; /* a fifth is 2 s, too little for three gaps */
    assert_int_equal(sw_recycle_step_s(&r), 0);
    range_is(sw_recycle_max_lifetime_s(&r), 14, 14);
    r.percent = 90;
    assert_int_equal(sw_recycle_step_s(&r), 1); /* 10 s is the least, so not 12 of 14 but 4 */
    range_is(sw_recycle_max_lifetime_s(&r), 14, 11);
    r.min_lifetime_s = 14;
    assert_int_equal(sw_recycle_step_s(&r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_workers),
        cmocka_unit_test(within_the_share_and_even),
        cmocka_unit_test(ranges),
        cmocka_unit_test(lifetimes_differ_by_whole_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
