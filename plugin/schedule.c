#include "schedule.h"

/* A request outside its application is looked at again after this part of the time it has been there, so that the
 * start of its application is known to within that part: most leave for it within microseconds, some upload for
 * minutes. */
#define OUTSIDE_PART     8
#define OUTSIDE_LEAST_NS SW_NS_PER_MS

const char *sw_phase_name(enum sw_phase phase)
{
    switch (phase) {
    case SW_PHASE_HEADERS:
        return "headers";
    case SW_PHASE_UWSGI:
        return "uwsgi";
    case SW_PHASE_APPLICATION:
        return "application";
    case SW_PHASE_UPLOAD:
        return "upload";
    case SW_PHASE_STREAMING:
        return "streaming";
    case SW_PHASE_WEBSOCKET:
        return "websocket";
    }
    return "unknown";
}

/* The monotonic time of a wall-clock time, by the offset between the clocks at this moment; 0 = before all time. */
static uint64_t monotonic_of(uint64_t wall_us, struct sw_moment at)
{
    if (wall_us <= at.wall_us)
        return sw_sub_floor(at.ns, (at.wall_us - wall_us) * SW_NS_PER_US);
    return sw_add_sat(at.ns, (wall_us - at.wall_us) * SW_NS_PER_US);
}

static uint64_t start_between(uint64_t start_us, struct sw_moment previous, struct sw_moment now)
{
    uint64_t start_ns = 0;
    const uint64_t by[] = {monotonic_of(start_us, previous), monotonic_of(start_us, now)};
    for (size_t i = 0; i < SW_COUNT(by); i++)
        if (by[i] >= previous.ns && by[i] <= now.ns)
            start_ns = sw_max_u64(start_ns, by[i]);
    return start_ns ? start_ns : now.ns;
}

void sw_track_begin(struct sw_track *t, struct sw_identity who, struct sw_moment previous,
                    struct sw_moment now)
{
    *t = (struct sw_track){
        .known = true,
        .who = who,
        .start_ns = start_between(who.start_us, previous, now),
        .app_since_ns = SW_NS_NEVER,
        .last_look_ns = now.ns,
    };
    t->outside_since_ns = t->start_ns;
}

void sw_track_set_threshold(struct sw_track *t, uint64_t threshold_ns, bool from_start, uint64_t now_ns)
{
    t->threshold_known = true;
    t->threshold_ns = threshold_ns;
    if (t->app_since_ns == SW_NS_NEVER)
        t->app_since_ns = from_start && !t->outside ? t->start_ns : now_ns;
}

void sw_track_phase(struct sw_track *t, enum sw_phase phase, uint64_t now_ns)
{
    const bool app = phase == SW_PHASE_APPLICATION;
    if (app && t->threshold_known && t->app_since_ns == SW_NS_NEVER) {
        t->app_since_ns = now_ns;
    } else if (!app && t->app_since_ns != SW_NS_NEVER) {
        t->app_before_ns += sw_sub_floor(t->last_look_ns, t->app_since_ns);
        t->app_since_ns = SW_NS_NEVER;
        t->outside_since_ns = now_ns;
    }
    t->outside = t->outside || !app;
    t->last_look_ns = now_ns;
}

uint64_t sw_track_app_ns(const struct sw_track *t, uint64_t now_ns)
{
    if (t->app_since_ns == SW_NS_NEVER)
        return t->app_before_ns;
    return t->app_before_ns + sw_sub_floor(now_ns, t->app_since_ns);
}

static bool watched(const struct sw_track *t)
{
    return t->known && !(t->threshold_known && t->threshold_ns == 0);
}

bool sw_track_due(const struct sw_track *t, uint64_t now_ns)
{
    return watched(t) && t->threshold_known && !t->slow && t->app_since_ns != SW_NS_NEVER &&
           sw_track_app_ns(t, now_ns) >= t->threshold_ns;
}

void sw_track_slow(struct sw_track *t)
{
    t->slow = true;
    t->next_update_ns = sw_add_sat(t->threshold_ns, t->threshold_ns);
}

bool sw_track_sampled(struct sw_track *t, uint64_t now_ns)
{
    const uint64_t app_ns = sw_track_app_ns(t, now_ns);
    if (app_ns < t->next_update_ns)
        return false;
    /* After a long gap (a stopped process) one update stands for all that were missed. */
    while (t->next_update_ns <= app_ns)
        t->next_update_ns = sw_add_sat(t->next_update_ns, t->next_update_ns);
    return true;
}

uint64_t sw_track_next_ns(const struct sw_track *t, uint64_t now_ns, uint64_t least_threshold_ns)
{
    if (!watched(t) || t->slow)
        return SW_NS_NEVER;
    if (t->app_since_ns == SW_NS_NEVER) {
        const uint64_t threshold_ns = t->threshold_known ? t->threshold_ns : least_threshold_ns;
        const uint64_t outside_ns = sw_sub_floor(now_ns, t->outside_since_ns);
        const uint64_t pause_ns = sw_min_u64(outside_ns, threshold_ns) / OUTSIDE_PART;
        return sw_add_sat(now_ns, sw_max_u64(pause_ns, OUTSIDE_LEAST_NS));
    }
    return sw_add_sat(t->app_since_ns, sw_sub_floor(t->threshold_ns, t->app_before_ns));
}

void sw_sampler_start(struct sw_sampler *s, uint64_t now_ns)
{
    if (s->next_ns == SW_NS_NEVER)
        s->next_ns = sw_add_sat(now_ns, s->interval_ns);
}

void sw_sampler_done(struct sw_sampler *s, uint64_t start_ns, uint64_t end_ns, bool any_left)
{
    const uint64_t cost_ns = sw_sub_floor(end_ns, start_ns);
    const uint64_t rest_ns = cost_ns > SW_NS_NEVER / SW_LOOK_SHARE ? SW_NS_NEVER : cost_ns * SW_LOOK_SHARE;
    s->next_ns = any_left ? sw_add_sat(end_ns, sw_max_u64(s->interval_ns, rest_ns)) : SW_NS_NEVER;
}
