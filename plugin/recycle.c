#include "recycle.h"

static uint64_t part(uint64_t whole, uint64_t percent)
{
    return whole / 100 * percent + whole % 100 * percent / 100; /* no product that could wrap */
}

uint64_t sw_recycle_limit(uint64_t limit, unsigned percent, unsigned worker, unsigned workers)
{
    if (workers < 2 || worker < 2)
        return limit;
    const uint64_t gaps = workers - 1, before = sw_min_u64(worker, workers) - 1;
    const uint64_t range = part(limit, percent);
    /* to the nearest: few seconds still differ between as many workers as they can */
    return limit - range / gaps * before - (range % gaps * before + gaps / 2) / gaps;
}

uint64_t sw_recycle_step_s(const struct sw_recycle *r)
{
    if (r->workers < 2 || r->own_lifetime)
        return 0;
    const uint64_t room = sw_sub_floor(r->max_lifetime_s, r->min_lifetime_s);
    return sw_min_u64(part(r->max_lifetime_s, r->percent), room) / (r->workers - 1);
}

static struct sw_recycle_range range_of(const struct sw_recycle *r, uint64_t limit)
{
    if (r->max_requests == 0 || r->own_requests)
        return (struct sw_recycle_range){limit, limit};
    return (struct sw_recycle_range){limit, sw_recycle_limit(limit, r->percent, r->workers, r->workers)};
}

struct sw_recycle_range sw_recycle_requests(const struct sw_recycle *r)
{
    return range_of(r, r->max_requests);
}

struct sw_recycle_range sw_recycle_min_lifetime_s(const struct sw_recycle *r)
{
    return range_of(r, r->min_lifetime_s);
}

struct sw_recycle_range sw_recycle_max_lifetime_s(const struct sw_recycle *r)
{
    const uint64_t most = r->max_lifetime_s;
    return (struct sw_recycle_range){most,
                                     r->workers < 2 ? most : most - sw_recycle_step_s(r) * (r->workers - 1)};
}
