#include "group.h"

#include <stdlib.h>
#include <string.h>

struct sw_groups {
    uint64_t interval_ns;
    unsigned per_hour; /* 0 = no limit */
    struct sw_group slots[SW_GROUPS_MAX];
    unsigned count;
    struct sw_group forgotten; /* sum of what evicted groups had counted */
    uint64_t digest_ns;        /* when the digest is due; SW_NS_NEVER = no one waits for it */
    uint64_t last_digest_ns;   /* SW_NS_NEVER = none yet */
    unsigned oldest, mails;    /* ring of the mails within the window */
    uint64_t mailed_ns[];      /* per_hour of them */
};

static const char forgotten_subject[] = "[slowwatch] other groups";

struct sw_groups *sw_groups_new(uint64_t mail_interval_ns, unsigned mails_per_hour)
{
    const unsigned per_hour = mails_per_hour < SW_RATE_MAILS_MAX ? mails_per_hour : SW_RATE_MAILS_MAX;
    struct sw_groups *g = calloc(1, sizeof *g + per_hour * sizeof g->mailed_ns[0]);
    if (!g)
        return NULL;
    g->interval_ns = mail_interval_ns;
    g->per_hour = per_hour;
    g->digest_ns = g->last_digest_ns = g->forgotten.last_mail_ns = SW_NS_NEVER;
    memcpy(g->forgotten.subject, forgotten_subject, sizeof forgotten_subject);
    return g;
}

void sw_groups_free(struct sw_groups *g)
{
    free(g);
}

/* ---- what waits ---- */

static bool has_counted(const struct sw_group *group)
{
    return group->slow_since_mail || group->killed_since_mail;
}

static void clear_counted(struct sw_group *group)
{
    group->slow_since_mail = group->killed_since_mail = 0;
}

/* An interval that is over, or a group that was never mailed. */
static uint64_t may_mail_from(const struct sw_groups *g, const struct sw_group *group)
{
    return group->last_mail_ns == SW_NS_NEVER ? 0 : sw_add_sat(group->last_mail_ns, g->interval_ns);
}

/* ---- the hour ---- */

static void forget_old_mails(struct sw_groups *g, uint64_t now_ns)
{
    while (g->mails > 0 && sw_add_sat(g->mailed_ns[g->oldest], SW_RATE_WINDOW_NS) <= now_ns) {
        g->oldest = (g->oldest + 1) % g->per_hour;
        g->mails--;
    }
}

static bool hour_is_full(struct sw_groups *g, uint64_t now_ns)
{
    forget_old_mails(g, now_ns);
    return g->per_hour > 0 && g->mails >= g->per_hour;
}

static void note_mail(struct sw_groups *g, uint64_t now_ns)
{
    if (g->per_hour == 0)
        return;
    forget_old_mails(g, now_ns);
    if (g->mails == g->per_hour) { /* mailed against the verdict: the window keeps the latest */
        g->oldest = (g->oldest + 1) % g->per_hour;
        g->mails--;
    }
    g->mailed_ns[(g->oldest + g->mails++) % g->per_hour] = now_ns;
}

/* From now on a digest is waited for. The time is fixed once: mails that go out meanwhile do not put it off. */
static void want_digest(struct sw_groups *g, uint64_t now_ns)
{
    if (g->digest_ns != SW_NS_NEVER)
        return;
    forget_old_mails(g, now_ns);
    g->digest_ns = sw_add_sat(g->mails > 0 ? g->mailed_ns[g->oldest] : now_ns, SW_RATE_WINDOW_NS);
    if (g->last_digest_ns != SW_NS_NEVER)
        g->digest_ns = sw_max_u64(g->digest_ns, sw_add_sat(g->last_digest_ns, SW_RATE_WINDOW_NS));
}

/* ---- the table ---- */

/* Frees a slot of the full table. */
static struct sw_group *evict(struct sw_groups *g, uint64_t now_ns)
{
    struct sw_group *victim = &g->slots[0];
    for (unsigned i = 1; i < g->count; i++) {
        struct sw_group *group = &g->slots[i];
        const bool counted = has_counted(group), victim_counted = has_counted(victim);
        if (counted != victim_counted ? victim_counted : group->last_seen_ns < victim->last_seen_ns)
            victim = group;
    }
    if (has_counted(victim)) {
        g->forgotten.slow_since_mail = sw_add_sat(g->forgotten.slow_since_mail, victim->slow_since_mail);
        g->forgotten.killed_since_mail =
            sw_add_sat(g->forgotten.killed_since_mail, victim->killed_since_mail);
        g->forgotten.last_seen_ns = sw_max_u64(g->forgotten.last_seen_ns, victim->last_seen_ns);
        want_digest(g, now_ns);
    }
    return victim;
}

struct sw_group *sw_groups_at(struct sw_groups *g, const char *fingerprint, uint64_t now_ns)
{
    for (unsigned i = 0; i < g->count; i++)
        if (!strncmp(g->slots[i].fingerprint, fingerprint, SW_FINGERPRINT_CHARS)) {
            g->slots[i].last_seen_ns = now_ns;
            return &g->slots[i];
        }
    struct sw_group *group = g->count < SW_GROUPS_MAX ? &g->slots[g->count++] : evict(g, now_ns);
    memset(group, 0, sizeof *group);
    memcpy(group->fingerprint, fingerprint, strnlen(fingerprint, SW_FINGERPRINT_CHARS));
    group->last_seen_ns = now_ns;
    group->last_mail_ns = SW_NS_NEVER;
    return group;
}

/* ---- events, mails, digest ---- */

enum sw_group_verdict sw_groups_event(struct sw_groups *g, struct sw_group *group, bool killed,
                                      uint64_t now_ns)
{
    enum sw_group_verdict verdict = SW_GROUP_MAIL;
    group->total++;
    if (now_ns < may_mail_from(g, group))
        verdict = SW_GROUP_LATER;
    else if (hour_is_full(g, now_ns))
        verdict = SW_GROUP_DIGEST;
    if (verdict == SW_GROUP_MAIL)
        return verdict;
    if (killed)
        group->killed_since_mail++;
    else
        group->slow_since_mail++;
    if (verdict == SW_GROUP_DIGEST)
        want_digest(g, now_ns);
    return verdict;
}

/* A digest with nothing to say is not waited for: its time would put off the follow-ups of later. */
static void drop_empty_digest(struct sw_groups *g)
{
    if (has_counted(&g->forgotten))
        return;
    for (unsigned i = 0; i < g->count; i++)
        if (has_counted(&g->slots[i]))
            return;
    g->digest_ns = SW_NS_NEVER;
}

void sw_groups_mailed(struct sw_groups *g, struct sw_group *group, uint64_t now_ns)
{
    note_mail(g, now_ns);
    group->last_mail_ns = now_ns;
    clear_counted(group);
    drop_empty_digest(g);
}

struct sw_group *sw_groups_pop_due(struct sw_groups *g, uint64_t now_ns)
{
    if (g->digest_ns != SW_NS_NEVER)
        return NULL;
    for (unsigned i = 0; i < g->count; i++) {
        struct sw_group *group = &g->slots[i];
        if (!has_counted(group) || now_ns < may_mail_from(g, group))
            continue;
        if (!hour_is_full(g, now_ns))
            return group;
        want_digest(g, now_ns);
        return NULL;
    }
    return NULL;
}

bool sw_groups_digest_due(const struct sw_groups *g, uint64_t now_ns)
{
    return g->digest_ns != SW_NS_NEVER && now_ns >= g->digest_ns;
}

void sw_groups_digest(struct sw_groups *g, uint64_t now_ns, void (*f)(const struct sw_group *, void *),
                      void *arg)
{
    bool told = false;
    for (unsigned i = 0; i <= g->count; i++) {
        struct sw_group *group = i < g->count ? &g->slots[i] : &g->forgotten;
        if (!has_counted(group))
            continue;
        f(group, arg);
        clear_counted(group);
        told = true;
    }
    g->digest_ns = SW_NS_NEVER;
    if (told)
        g->last_digest_ns = now_ns;
}

uint64_t sw_groups_next_ns(const struct sw_groups *g, uint64_t now_ns)
{
    uint64_t next = g->digest_ns;
    if (next == SW_NS_NEVER)
        for (unsigned i = 0; i < g->count; i++)
            if (has_counted(&g->slots[i]))
                next = sw_min_u64(next, may_mail_from(g, &g->slots[i]));
    return next == SW_NS_NEVER ? next : sw_max_u64(next, now_ns);
}
