/* group.h - pure decisions of the reporter: which events belong together, and when a mail may go.
 * Owns:    the table of groups, bounded; the least recently seen is forgotten first, one with nothing counted before
 *          one that still has to be told about. What a forgotten one had counted goes into the next digest.
 * Callers: reporter. No clock (callers pass now), no I/O; only _new allocates.
 * Fork:    nothing to do.
 * Rules:   1. At most one mail per group per interval; what comes within it is counted, and when the interval is over
 *             _pop_due hands the group out for one follow-up mail. Interval 0: every event is mailed.
 *          2. At most `mails_per_hour` mails of all groups in any hour (0 = no limit). What is over waits for one digest,
 *             an hour after the first mail that filled the limit; until it was sent there are no follow-up mails.
 *          3. A digest does not count as a mail, neither of the hour nor of a group, but there is at most one an hour. */
#ifndef SW_GROUP_H
#define SW_GROUP_H

#include "event.h"

#define SW_GROUPS_MAX        512
#define SW_GROUP_SUBJECT_MAX 256
#define SW_MESSAGE_ID_MAX    128
#define SW_RATE_WINDOW_NS    (UINT64_C(3600) * SW_NS_PER_SEC)
#define SW_RATE_MAILS_MAX    10000 /* upper limit of slowwatch-mail-max */

/* The path with identifiers (numbers, dates, UUIDs, long hex or base64 words, what redaction cut) replaced by ":id",
 * without query. */
void sw_group_route(const char *uri, size_t n, struct sw_text *out);
/* Of method, route and application frames (file, function; no line numbers, recursion collapsed): 16 hex digits.
 * Without application frames of all frames, without a stack of the route alone. */
void sw_group_fingerprint(const struct sw_event *e, char out[SW_FINGERPRINT_CHARS + 1]);

struct sw_group {
    char fingerprint[SW_FINGERPRINT_CHARS + 1];  /* "": the sum of forgotten groups, in a digest only */
    char subject[SW_GROUP_SUBJECT_MAX];          /* of the first mail: stable while the group is remembered */
    char first_message_id[SW_MESSAGE_ID_MAX];    /* "" until the first mail */
    uint64_t last_seen_ns, last_mail_ns;         /* SW_NS_NEVER = no mail yet */
    uint64_t slow_since_mail, killed_since_mail; /* events counted, not mailed */
    uint64_t total;
};

struct sw_groups; /* the table, and the mails of the last hour */
struct sw_groups *sw_groups_new(uint64_t mail_interval_ns, unsigned mails_per_hour); /* NULL: no memory */
void sw_groups_free(struct sw_groups *g);

enum sw_group_verdict {
    SW_GROUP_MAIL,   /* send one now; the counters hold what came between, without this event */
    SW_GROUP_LATER,  /* counted: the group had its mail within the interval */
    SW_GROUP_DIGEST, /* counted: the hour's mails are used up */
};

/* The group of this fingerprint, made if new; valid until the next call for another fingerprint. */
struct sw_group *sw_groups_at(struct sw_groups *g, const char *fingerprint, uint64_t now_ns);
/* An event of this group came (killed: request_killed or worker_died): counts it and says what to do with it.
 * On SW_GROUP_MAIL the caller sends and then calls _mailed. */
enum sw_group_verdict sw_groups_event(struct sw_groups *g, struct sw_group *group, bool killed,
                                      uint64_t now_ns);
/* A mail of this group goes out: clears its counters. */
void sw_groups_mailed(struct sw_groups *g, struct sw_group *group, uint64_t now_ns);

/* A group whose interval is over and that still has something counted, or NULL. The caller sends and calls _mailed;
 * without that call the group stays due. */
struct sw_group *sw_groups_pop_due(struct sw_groups *g, uint64_t now_ns);
bool sw_groups_digest_due(const struct sw_groups *g, uint64_t now_ns);
/* Calls f for every group with something counted, last for the sum of forgotten groups, and clears the counters.
 * May be called before it is due (shutdown). */
void sw_groups_digest(struct sw_groups *g, uint64_t now_ns, void (*f)(const struct sw_group *, void *),
                      void *arg);
/* When something may become due, SW_NS_NEVER = nothing waits. */
uint64_t sw_groups_next_ns(const struct sw_groups *g, uint64_t now_ns);

#endif
