/* base.h - the few definitions every module shares: attributes, units of time, small arithmetic.
 * Owns nothing, calls nothing, holds no state: any thread, any process. */
#ifndef SW_BASE_H
#define SW_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define SW_MUST_CHECK   __attribute__((warn_unused_result))
#define SW_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define SW_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define SW_NS_PER_US  UINT64_C(1000)
#define SW_NS_PER_MS  UINT64_C(1000000)
#define SW_NS_PER_SEC UINT64_C(1000000000)
#define SW_US_PER_SEC UINT64_C(1000000)
#define SW_MS_PER_SEC UINT64_C(1000)
#define SW_NS_NEVER   UINT64_MAX

/* The only places where a clock is read; everything that decides takes the result as an argument. */
static inline uint64_t sw_clock_ns(clockid_t clock)
{
    struct timespec ts = {0, 0};
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * SW_NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static inline uint64_t sw_now_ns(void)
{
    return sw_clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t sw_wall_us(void)
{
    return sw_clock_ns(CLOCK_REALTIME) / SW_NS_PER_US;
}

/* Sums of times saturate: a huge delay means "practically never", a wrapped one would mean "at once". */
static inline uint64_t sw_add_sat(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline uint64_t sw_sub_floor(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static inline uint64_t sw_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t sw_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
