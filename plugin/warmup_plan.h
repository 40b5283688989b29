/* warmup_plan.h - which requests warm a worker up, as the options say, and how they look on the wire. No uWSGI, no
 * clock, no state.
 * Owns:    nothing; the strings are the host's own and outlive us.
 * Callers: the setters: set-up process (config.c). The rest: the main thread of a new worker.
 * Fork:    nothing to do. */
#ifndef SW_WARMUP_PLAN_H
#define SW_WARMUP_PLAN_H

#include "text.h"
#include <sys/types.h>

#define SW_WARMUP_HITS_MAX       32
#define SW_WARMUP_HEADERS_MAX    32
#define SW_WARMUP_METHOD_CHARS   31
#define SW_WARMUP_VARIABLE_CHARS 127
#define SW_WARMUP_TIMEOUT_MIN_NS (10 * SW_NS_PER_MS)
#define SW_WARMUP_PARALLEL_MAX   10000
#define SW_WARMUP_ATTEMPTS       3 /* after these the worker accepts, warm or not, unless warm is required */
#define SW_WARMUP_USER_AGENT     "slowwatch-warmup"

struct sw_warmup_hit {
    char method[SW_WARMUP_METHOD_CHARS + 1];
    const char *uri; /* path and query, as written */
};

struct sw_warmup_header {
    char variable[SW_WARMUP_VARIABLE_CHARS + 1]; /* "HTTP_X_FORWARDED_PROTO" */
    const char *value;
};

struct sw_warmup_plan {
    struct sw_warmup_hit hits[SW_WARMUP_HITS_MAX]; /* in the order given */
    unsigned hit_count;                            /* 0 = no warm-up */
    struct sw_warmup_header headers[SW_WARMUP_HEADERS_MAX];
    unsigned header_count;
    const char *host;
    uint64_t timeout_ns; /* of each hit */
    bool required;
    unsigned parallel; /* workers warming up at once after the first; 0 = no limit */
};

/* ---- set-up: NULL, or what the value should have been ---- */

/* "[METHOD] PATH" */
const char *sw_warmup_add_hit(struct sw_warmup_plan *plan, const char *value) SW_MUST_CHECK;
/* "NAME: VALUE"; the same name again replaces the value */
const char *sw_warmup_add_header(struct sw_warmup_plan *plan, const char *value) SW_MUST_CHECK;
/* "HOST[:PORT]" */
const char *sw_warmup_set_host(struct sw_warmup_plan *plan, const char *value) SW_MUST_CHECK;

/* ---- a new worker ---- */

/* One request in the uwsgi protocol. Its length; -EMSGSIZE: it does not fit. */
ssize_t sw_warmup_packet(const struct sw_warmup_plan *plan, const struct sw_warmup_hit *hit, char *out,
                         size_t room) SW_MUST_CHECK;

/* Where a redirect leads, from the head of a response, without its query, which may hold secrets; empty = not said. */
void sw_warmup_location(const char *head, size_t n, struct sw_text *out);

/* Has this worker failed often enough to accept cold? */
bool sw_warmup_gives_up(const struct sw_warmup_plan *plan, unsigned failed);
/* Before the next attempt: longer each time, 0 before the first. */
uint64_t sw_warmup_pause_ns(unsigned failed);

#endif
