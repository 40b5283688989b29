/* warmup_report.h - what became of a request of the warm-up, as an event, and in words that say what to do.
 * Owns:    nothing. A struct sw_warmup_voice is one sender with its buffers, about 1.5 MB of which little is touched.
 * Callers: the main thread of a worker that warms up; its guard instead, once it ends the process.
 * Fork:    a child of the worker must not use its voice. */
#ifndef SW_WARMUP_REPORT_H
#define SW_WARMUP_REPORT_H

#include "emit.h"
#include "warmup_hit.h"
#include "warmup_plan.h"

#define SW_WARMUP_ARENA_BYTES ((size_t)256 * 1024)

enum sw_warmup_outcome {
    SW_WARMUP_OK,
    SW_WARMUP_REDIRECTED, /* no failure */
    SW_WARMUP_FAILED,
    SW_WARMUP_TIMED_OUT,
    SW_WARMUP_STUCK,   /* timed out and could not be interrupted: the process ends */
    SW_WARMUP_WEDGED,  /* the same where nobody would start another process: it waits on */
    SW_WARMUP_DIED,    /* the last process of the worker died in it */
    SW_WARMUP_GAVE_UP, /* after the last attempt */
};

struct sw_warmup_voice {
    int worker;
    const char *why; /* this process was started */
    const struct sw_warmup_plan *plan;
    struct sw_emitter emitter;
    struct sw_event event;
    struct sw_arena arena; /* what a result points into */
    char arena_bytes[SW_WARMUP_ARENA_BYTES];
};

enum sw_warmup_outcome sw_warmup_outcome(const struct sw_hit_result *r);

/* uri: redacted. attempt: which one it was, from 1. pause_ns: before the next one, SW_NS_NEVER = there is none.
 * since_ns: when the warm-up of this process began. */
struct sw_warmup_story {
    const char *method, *uri;
    unsigned attempt;
    uint64_t pause_ns, since_ns;
};
void sw_warmup_tell(struct sw_warmup_voice *v, const struct sw_warmup_story *story,
                    enum sw_warmup_outcome outcome, const struct sw_hit_result *r);

#endif
