/* schedule.h - who is due, and when to look next: the pure decision behind the watchdog.
 * Owns:    a struct sw_track per core, in the watchdog.
 * Callers: the watchdog thread. Clock: none; callers pass CLOCK_MONOTONIC nanoseconds. No I/O, no allocation.
 * Fork:    a child starts with zeroed tracks.
 *
 * Nothing tells us that a request began; we see it at a look. So the next look is at the earliest instant at which
 * any request can be due: a running one at its start + threshold, one that begins later not before now + threshold.
 * Only application time counts. What happens between two looks is not seen: while a request waits for its client
 * it is looked at more often, and time that was not proved to be the application's is not counted. */
#ifndef SW_SCHEDULE_H
#define SW_SCHEDULE_H

#include "base.h"

enum sw_phase {
    SW_PHASE_HEADERS,     /* accepted, or an idle keep-alive: no request yet */
    SW_PHASE_UWSGI,       /* routing, static files, buffering the body */
    SW_PHASE_APPLICATION, /* the one that counts */
    SW_PHASE_UPLOAD,      /* the application waits for the client's body */
    SW_PHASE_STREAMING,   /* the response waits for the client to read */
    SW_PHASE_WEBSOCKET,
};
const char *sw_phase_name(enum sw_phase phase);

struct sw_identity {   /* what cannot repeat on one core */
    uint64_t start_us; /* uWSGI's start_of_request; 0 = none */
    uint64_t requests; /* the core's counter of finished requests */
};

/* The same request? The counter goes up by one just before the request's last hooks run: it is still the same then. */
static inline bool sw_identity_same(struct sw_identity earlier, struct sw_identity now)
{
    return earlier.start_us == now.start_us && now.requests - earlier.requests <= 1;
}

struct sw_moment {    /* one instant on both clocks */
    uint64_t ns;      /* monotonic */
    uint64_t wall_us; /* the clock that start_us is read from */
};

struct sw_track {
    bool known;
    struct sw_identity who;
    bool threshold_known;
    uint64_t threshold_ns;  /* 0 = not watched */
    uint64_t start_ns;      /* when the request began, as far as the looks can tell */
    uint64_t app_since_ns;  /* the application runs since then; SW_NS_NEVER = not at the last look */
    uint64_t app_before_ns; /* application time of earlier stretches */
    uint64_t last_look_ns;
    bool outside;              /* was seen outside its application */
    uint64_t outside_since_ns; /* while app_since_ns is SW_NS_NEVER */
    bool slow;                 /* its slow_request event is out */
    uint64_t next_update_ns;   /* application time at which the next update is due */
};

/* A request is seen for the first time. It began between the previous look at this core and now. Where in between, its
 * wall-clock start tells; when that clock was set in the meantime it fits the offset between the clocks at one of the two
 * looks. If it fits both, the later start is taken; if none, it counts from now: no false report. */
void sw_track_begin(struct sw_track *t, struct sw_identity who, struct sw_moment previous,
                    struct sw_moment now);
/* Its threshold, known when the application phase is first seen. from_start: no long upload can have come before the
 * application, so its time counts from the start of the request. */
void sw_track_set_threshold(struct sw_track *t, uint64_t threshold_ns, bool from_start, uint64_t now_ns);
/* Every look tells the phase, before the threshold is set when it is new. */
void sw_track_phase(struct sw_track *t, enum sw_phase phase, uint64_t now_ns);

uint64_t sw_track_app_ns(const struct sw_track *t, uint64_t now_ns);
bool sw_track_due(const struct sw_track *t, uint64_t now_ns);
/* It is slow now; the next update is set. */
void sw_track_slow(struct sw_track *t);
/* A sample was taken; true when an update (2x, 4x, 8x ... the threshold) is due with it. */
bool sw_track_sampled(struct sw_track *t, uint64_t now_ns);

/* When this request needs a look; SW_NS_NEVER = not watched, or slow: then the sampler decides. */
uint64_t sw_track_next_ns(const struct sw_track *t, uint64_t now_ns, uint64_t least_threshold_ns);

/* All slow requests of a worker are sampled together, so that what a round costs is known and looking stays below
 * 1/SW_LOOK_SHARE of one CPU however many they are. */
#define SW_LOOK_SHARE 20

struct sw_sampler {
    uint64_t interval_ns; /* as configured */
    uint64_t next_ns;     /* SW_NS_NEVER = nothing is slow */
};

/* Something became slow; a round that is planned already stays. */
void sw_sampler_start(struct sw_sampler *s, uint64_t now_ns);
/* A round took from start_ns to end_ns; any_left: something is still slow. */
void sw_sampler_done(struct sw_sampler *s, uint64_t start_ns, uint64_t end_ns, bool any_left);

#endif
