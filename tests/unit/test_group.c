/* Which events belong together, and when a mail may go: examples, then random runs against a naive model. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEC  SW_NS_PER_SEC
#define HOUR SW_RATE_WINDOW_NS

/* ---- route ---- */

static void identifiers_leave_the_route(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *route;
    } cases[] = {
        {"/", "/"},
        {"", "/"},
        {"?x=1", "/"},
        {"/orders/17", "/orders/:id"},
        {"/orders/17/", "/orders/:id/"},
        {"/orders/17?a=b/9", "/orders/:id"},
        {"/orders/17#frag", "/orders/:id"},
        {"/orders//x", "/orders//x"},
        {"/v1/users/list", "/v1/users/list"},
        {"/report/2024-05-06", "/report/:id"},
        {"/at/12.5,7.1", "/at/:id"},
        {"/u/123e4567-e89b-12d3-a456-426614174000/x", "/u/:id/x"},
        {"/u/123e4567-e89b-12d3-a456-42661417400g/x", "/u/123e4567-e89b-12d3-a456-42661417400g/x"},
        {"/c/3f9a01bc", "/c/:id"},
        {"/c/deadbeef", "/c/deadbeef"},
        {"/c/3f9a", "/c/3f9a"},
        {"/t/dGhpcyBpcyBhbiBpZA", "/t/:id"},
        {"/t/eyJhbGciOiJ9.eyJzdWIiOiIx.SflKxwRJ", "/t/:id"},
        {"/api/ListCustomerOpenOrders", "/api/ListCustomerOpenOrders"},
        {"/doc/a-very-long-title-about-2024-things", "/doc/a-very-long-title-about-2024-things"},
        {"/export/17.json", "/export/:id.json"},
        {"/static/app.js", "/static/app.js"},
        {"/reset/[redacted]", "/reset/:id"},
        {"/reset/eyJh…", "/reset/:id"},
        {"/cart;jsessionid=ABC/pay", "/cart/pay"},
        {"/a\n\xff/1", "/a\\n\\xff/:id"},
        {"relative/5", "relative/:id"},
    };
    for (unsigned i = 0; i < SW_COUNT(cases); i++) {
        char buffer[128];
        struct sw_text out;
        sw_text_init(&out, buffer, sizeof buffer);
        sw_group_route(cases[i].uri, strlen(cases[i].uri), &out);
        assert_string_equal(buffer, cases[i].route);
    }
}

/* ---- fingerprint ---- */

static const char *fingerprint(const char *method, const char *uri, struct sw_frame *frames, unsigned count)
{
    static char results[4][SW_FINGERPRINT_CHARS + 1];
    static unsigned next;
    char *out = results[next++ % SW_COUNT(results)];
    const struct sw_event e = {
        .request = {.method = method, .uri = uri}, .has_stack = count > 0, .stack = {frames, count, 0, NULL}};
    sw_group_fingerprint(&e, out);
    assert_int_equal(strlen(out), SW_FINGERPRINT_CHARS);
    assert_int_equal(strspn(out, "0123456789abcdef"), SW_FINGERPRINT_CHARS);
    return out;
}

#define LIB "/usr/lib/python3.11/"

static void fingerprints_follow_route_and_application_frames(void **state)
{
    (void)state;
    struct sw_frame a[] = {
        {"/srv/v.py", "order", NULL, 1}, {LIB "ssl.py", "read", NULL, 5}, {"/srv/db.py", "get", NULL, 9}};
    struct sw_frame same[] = {{"/srv/v.py", "order", "x", 2},  {LIB "socket.py", "recv", NULL, 5},
                              {LIB "ssl.py", "do", NULL, 7},   {"/srv/db.py", "get", NULL, 10},
                              {"/srv/db.py", "get", NULL, 11}, {LIB "abc.py", "z", NULL, 1}};
    struct sw_frame function[] = {{"/srv/v.py", "order", NULL, 1}, {"/srv/db.py", "put", NULL, 9}};
    struct sw_frame file[] = {{"/srv/v.py", "order", NULL, 1}, {"/srv/dc.py", "get", NULL, 9}};
    struct sw_frame shifted[] = {{"/srv/v.py", "orde", NULL, 1}, {"r/srv/db.py", "get", NULL, 9}};
    struct sw_frame lib_a[] = {{LIB "ssl.py", "read", NULL, 1}}, lib_b[] = {{LIB "ssl.py", "write", NULL, 1}};

    const char *base = fingerprint("GET", "/o/1", a, 3);
    assert_string_equal(base, fingerprint("GET", "/o/2?x=y", same, 6));
    assert_string_not_equal(base, fingerprint("POST", "/o/1", a, 3));
    assert_string_not_equal(base, fingerprint("GET", "/p/1", a, 3));
    base = fingerprint("GET", "/o/1", a, 3);
    assert_string_not_equal(base, fingerprint("GET", "/o/1", function, 2));
    assert_string_not_equal(base, fingerprint("GET", "/o/1", file, 2));
    assert_string_not_equal(base, fingerprint("GET", "/o/1", shifted, 2));
    /* no application frame: all frames count; no stack: the route */
    assert_string_not_equal(fingerprint("GET", "/", lib_a, 1), fingerprint("GET", "/", lib_b, 1));
    assert_string_equal(fingerprint("GET", "/o/1", NULL, 0), fingerprint("GET", "/o/2", NULL, 0));
    assert_string_not_equal(fingerprint("GET", "/", NULL, 0), fingerprint("GET", "/", lib_a, 1));
    /* nothing known at all still has one */
    assert_string_equal(fingerprint(NULL, NULL, NULL, 0), fingerprint(NULL, NULL, NULL, 0));
}

static void the_fingerprint_is_the_same_in_every_version(void **state)
{
    (void)state;
    struct sw_frame f[] = {{"/srv/v.py", "order", NULL, 1}};
    /* FNV-1a of "GET\0/o/:id\0/srv/v.py\0order\0": groups in mailboxes outlive an upgrade */
    static const char bytes[] = "GET\0/o/:id\0/srv/v.py\0order";
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof bytes; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    char expected[SW_FINGERPRINT_CHARS + 1];
    snprintf(expected, sizeof expected, "%016llx", (unsigned long long)hash);
    assert_string_equal(fingerprint("GET", "/o/5", f, 1), expected);
}

/* ---- examples of the rules ---- */

#define A "aaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbb"
#define C "cccccccccccccccc"

static enum sw_group_verdict event(struct sw_groups *g, const char *name, uint64_t now)
{
    struct sw_group *group = sw_groups_at(g, name, now);
    const enum sw_group_verdict verdict = sw_groups_event(g, group, false, now);
    if (verdict == SW_GROUP_MAIL)
        sw_groups_mailed(g, group, now);
    return verdict;
}

static void one_mail_an_interval_and_a_follow_up(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(300 * SEC, 20);
    assert_true(sw_groups_next_ns(g, 5) == SW_NS_NEVER);
    assert_int_equal(event(g, A, 1 * SEC), SW_GROUP_MAIL);
    assert_true(sw_groups_next_ns(g, 1 * SEC) == SW_NS_NEVER);
    assert_int_equal(event(g, A, 2 * SEC), SW_GROUP_LATER);
    assert_int_equal(event(g, A, 300 * SEC), SW_GROUP_LATER);
    assert_int_equal(event(g, B, 300 * SEC), SW_GROUP_MAIL);
    assert_true(sw_groups_next_ns(g, 300 * SEC) == 301 * SEC);
    assert_null(sw_groups_pop_due(g, 301 * SEC - 1));
    struct sw_group *due = sw_groups_pop_due(g, 301 * SEC);
    assert_non_null(due);
    assert_string_equal(due->fingerprint, A);
    assert_int_equal(due->slow_since_mail, 2);
    assert_int_equal(due->total, 3);
    sw_groups_mailed(g, due, 301 * SEC);
    assert_null(sw_groups_pop_due(g, 301 * SEC));
    assert_int_equal(event(g, A, 400 * SEC), SW_GROUP_LATER);
    /* nobody asked when it was due: then the next event brings the count along */
    struct sw_group *late = sw_groups_at(g, A, 700 * SEC);
    assert_int_equal(sw_groups_event(g, late, true, 700 * SEC), SW_GROUP_MAIL);
    assert_int_equal(late->slow_since_mail, 1);
    assert_int_equal(late->killed_since_mail, 0);
    sw_groups_free(g);
}

static void interval_0_and_limit_0_mail_every_event(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(0, 0);
    for (unsigned i = 0; i < 2 * SW_RATE_MAILS_MAX; i++)
        assert_int_equal(event(g, A, 7 * SEC), SW_GROUP_MAIL);
    assert_true(sw_groups_next_ns(g, 7 * SEC) == SW_NS_NEVER);
    sw_groups_free(g);
}

static void count_events(const struct sw_group *group, void *arg)
{
    *(uint64_t *)arg += group->slow_since_mail + group->killed_since_mail;
}

static void over_the_limit_one_digest(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(60 * SEC, 2);
    assert_int_equal(event(g, A, 10 * SEC), SW_GROUP_MAIL);
    assert_int_equal(event(g, B, 20 * SEC), SW_GROUP_MAIL);
    assert_int_equal(event(g, C, 30 * SEC), SW_GROUP_DIGEST);
    assert_int_equal(event(g, A, 40 * SEC), SW_GROUP_LATER);
    assert_int_equal(event(g, A, 90 * SEC), SW_GROUP_DIGEST);
    assert_null(sw_groups_pop_due(g, 100 * SEC));
    assert_true(sw_groups_next_ns(g, 100 * SEC) == 10 * SEC + HOUR);
    assert_false(sw_groups_digest_due(g, 10 * SEC + HOUR - 1));
    assert_true(sw_groups_digest_due(g, 10 * SEC + HOUR));
    assert_null(sw_groups_pop_due(g, 10 * SEC + HOUR)); /* the digest tells it, not a mail of its own */
    uint64_t told = 0;
    sw_groups_digest(g, 10 * SEC + HOUR, count_events, &told);
    assert_int_equal(told, 3);
    assert_false(sw_groups_digest_due(g, 11 * SEC + HOUR));
    assert_true(sw_groups_next_ns(g, 11 * SEC + HOUR) == SW_NS_NEVER);
    /* the digest was no mail: one of the two places of the hour is free again; then the next digest is an hour away */
    assert_int_equal(event(g, C, 12 * SEC + HOUR), SW_GROUP_MAIL);
    assert_int_equal(event(g, A, 13 * SEC + HOUR), SW_GROUP_DIGEST);
    assert_true(sw_groups_next_ns(g, 14 * SEC + HOUR) == 10 * SEC + 2 * HOUR);
    sw_groups_free(g);
}

static void a_digest_with_nothing_left_is_not_due(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(0, 1);
    assert_int_equal(event(g, A, 10 * SEC), SW_GROUP_MAIL);
    assert_int_equal(event(g, A, 20 * SEC), SW_GROUP_DIGEST);
    assert_int_equal(event(g, A, 10 * SEC + HOUR), SW_GROUP_MAIL); /* told what was counted */
    assert_false(sw_groups_digest_due(g, 10 * SEC + HOUR));
    assert_true(sw_groups_next_ns(g, 10 * SEC + HOUR) == SW_NS_NEVER);
    sw_groups_free(g);
}

static void huge_times_do_not_wrap(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(UINT64_MAX, 1);
    const uint64_t late = UINT64_MAX - 10;
    assert_int_equal(event(g, A, late), SW_GROUP_MAIL);
    assert_int_equal(event(g, A, late + 5), SW_GROUP_LATER);
    assert_int_equal(event(g, B, late + 5), SW_GROUP_DIGEST);
    assert_null(sw_groups_pop_due(g, late + 6));
    sw_groups_free(g);
}

struct told {
    uint64_t forgotten, remembered, groups;
};

static void count_told(const struct sw_group *group, void *arg)
{
    struct told *t = arg;
    if (group->fingerprint[0])
        t->remembered += group->slow_since_mail + group->killed_since_mail;
    else
        t->forgotten += group->slow_since_mail + group->killed_since_mail;
    assert_int_not_equal(group->subject[0] == 0, group->fingerprint[0] == 0);
    t->groups++;
}

static void forgotten_groups_are_not_forgotten_silently(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(1000 * SEC, 0);
    char name[SW_FINGERPRINT_CHARS + 1];
    uint64_t now = SEC;
    /* One group with nothing counted among a full table of others: it goes first although it is the latest. */
    for (unsigned i = 0; i < SW_GROUPS_MAX; i++) {
        snprintf(name, sizeof name, "%016x", i);
        event(g, name, ++now);
        if (i != 400)
            assert_int_equal(event(g, name, ++now), SW_GROUP_LATER);
    }
    snprintf(name, sizeof name, "%016x", 400);
    assert_int_equal(sw_groups_at(g, name, ++now)->total, 1);
    assert_int_equal(event(g, A, ++now), SW_GROUP_MAIL);
    assert_int_equal(event(g, A, ++now), SW_GROUP_LATER);
    assert_int_equal(sw_groups_at(g, "0000000000000000", ++now)->total, 2);
    /* Everyone has something counted: the longest unseen one goes, number 1, since 0 was just looked at. */
    assert_int_equal(event(g, B, ++now), SW_GROUP_MAIL);
    assert_int_equal(sw_groups_at(g, "0000000000000000", ++now)->total, 2);
    assert_int_equal(sw_groups_at(g, A, ++now)->total, 2);
    struct told t = {0, 0, 0};
    assert_true(sw_groups_next_ns(g, now) != SW_NS_NEVER);
    sw_groups_digest(g, now, count_told, &t);
    assert_int_equal(t.forgotten, 1);
    assert_int_equal(t.remembered, SW_GROUPS_MAX - 1); /* all but 1, 400 and B, and A */
    t = (struct told){0, 0, 0};
    sw_groups_digest(g, now, count_told, &t);
    assert_int_equal(t.groups, 0);
    sw_groups_free(g);
}

/* ---- the model: every mail and event remembered, every answer found by looking through all of them ---- */

#define MODEL_GROUPS 12
#define MODEL_STEPS  4000
#define MODEL_MAILS  (2 * MODEL_STEPS)

struct model {
    uint64_t interval, per_hour;
    uint64_t mail_ns[MODEL_MAILS];
    unsigned mail_group[MODEL_MAILS], mails;
    uint64_t slow[MODEL_GROUPS], killed[MODEL_GROUPS];
    uint64_t digest_ns, last_digest_ns;
};

static unsigned model_in_hour(const struct model *m, uint64_t now, uint64_t *oldest)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->mails; i++)
        if (m->mail_ns[i] + HOUR > now && n++ == 0)
            *oldest = m->mail_ns[i];
    return n;
}

static bool model_within_interval(const struct model *m, unsigned group, uint64_t now)
{
    for (unsigned i = 0; i < m->mails; i++)
        if (m->mail_group[i] == group && m->mail_ns[i] + m->interval > now)
            return true;
    return false;
}

static bool model_full(const struct model *m, uint64_t now)
{
    uint64_t oldest;
    return m->per_hour && model_in_hour(m, now, &oldest) >= m->per_hour;
}

static void model_wait_for_digest(struct model *m, uint64_t now)
{
    uint64_t oldest = now;
    if (m->digest_ns != SW_NS_NEVER)
        return;
    model_in_hour(m, now, &oldest);
    m->digest_ns = oldest + HOUR;
    if (m->last_digest_ns != SW_NS_NEVER && m->last_digest_ns + HOUR > m->digest_ns)
        m->digest_ns = m->last_digest_ns + HOUR;
}

static uint64_t model_counted(const struct model *m)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < MODEL_GROUPS; i++)
        sum += m->slow[i] + m->killed[i];
    return sum;
}

static void model_mail(struct model *m, unsigned group, uint64_t now)
{
    m->mail_group[m->mails] = group;
    m->mail_ns[m->mails++] = now;
    m->slow[group] = m->killed[group] = 0;
    if (model_counted(m) == 0)
        m->digest_ns = SW_NS_NEVER;
}

static bool model_due(const struct model *m, unsigned group, uint64_t now)
{
    return m->slow[group] + m->killed[group] > 0 && !model_within_interval(m, group, now);
}

static enum sw_group_verdict model_event(struct model *m, unsigned group, bool killed, uint64_t now)
{
    enum sw_group_verdict verdict = SW_GROUP_MAIL;
    if (model_within_interval(m, group, now))
        verdict = SW_GROUP_LATER;
    else if (model_full(m, now))
        verdict = SW_GROUP_DIGEST;
    if (verdict != SW_GROUP_MAIL)
        *(killed ? &m->killed[group] : &m->slow[group]) += 1;
    if (verdict == SW_GROUP_DIGEST)
        model_wait_for_digest(m, now);
    return verdict;
}

/* No group twice in an interval, no hour with more than its mails: straight from the promise. */
static void model_check_promises(const struct model *m)
{
    for (unsigned i = 0; i < m->mails; i++)
        for (unsigned k = i + 1; k < m->mails && m->mail_ns[k] < m->mail_ns[i] + m->interval; k++)
            assert_int_not_equal(m->mail_group[i], m->mail_group[k]);
    for (unsigned i = 0; m->per_hour && i + m->per_hour < m->mails; i++)
        assert_true(m->mail_ns[i + m->per_hour] - m->mail_ns[i] >= HOUR);
}

static uint64_t seed;

static unsigned below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static unsigned group_number(const struct sw_group *group)
{
    return (unsigned)strtoul(group->fingerprint, NULL, 16);
}

static struct sw_group *numbered_group(struct sw_groups *g, unsigned number, uint64_t now)
{
    char name[SW_FINGERPRINT_CHARS + 1];
    snprintf(name, sizeof name, "%016x", number);
    return sw_groups_at(g, name, now);
}

static void random_run(uint64_t interval, unsigned per_hour, unsigned pace)
{
    static struct model m;
    struct sw_groups *g = sw_groups_new(interval, per_hour);
    uint64_t now = SEC, events = 0, told = 0, own_mails = 0;
    assert_non_null(g);
    memset(&m, 0, sizeof m);
    m.interval = interval;
    m.per_hour = per_hour;
    m.digest_ns = m.last_digest_ns = SW_NS_NEVER;
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        now += below(3) == 0 ? 0 : (uint64_t)below(pace) * SEC / 2;
        const uint64_t next = sw_groups_next_ns(g, now);
        assert_int_equal(next == SW_NS_NEVER, model_counted(&m) == 0);
        if (below(4) == 0 && next != SW_NS_NEVER)
            now = next; /* the very instant, where the off-by-ones live */
        const unsigned action = below(10);
        assert_int_equal(sw_groups_digest_due(g, now), m.digest_ns != SW_NS_NEVER && now >= m.digest_ns);
        if (action < 6) {
            const unsigned number = below(MODEL_GROUPS);
            const bool killed = below(3) == 0;
            struct sw_group *group = numbered_group(g, number, now);
            const uint64_t slow_before = m.slow[number], killed_before = m.killed[number];
            const enum sw_group_verdict expected = model_event(&m, number, killed, now);
            assert_int_equal(sw_groups_event(g, group, killed, now), expected);
            assert_int_equal(group->slow_since_mail, m.slow[number]);
            assert_int_equal(group->killed_since_mail, m.killed[number]);
            events++;
            if (expected == SW_GROUP_MAIL) {
                told += 1 + slow_before + killed_before;
                sw_groups_mailed(g, group, now);
                model_mail(&m, number, now);
                own_mails++;
            }
        } else if (action < 9) {
            struct sw_group *group = sw_groups_pop_due(g, now);
            bool any = false;
            for (unsigned i = 0; i < MODEL_GROUPS; i++)
                any = any || model_due(&m, i, now);
            if (m.digest_ns != SW_NS_NEVER || !any || model_full(&m, now)) {
                assert_null(group);
                if (any)
                    model_wait_for_digest(&m, now);
            } else {
                assert_non_null(group);
                const unsigned number = group_number(group);
                assert_true(model_due(&m, number, now));
                assert_int_equal(group->slow_since_mail, m.slow[number]);
                assert_int_equal(group->killed_since_mail, m.killed[number]);
                told += group->slow_since_mail + group->killed_since_mail;
                sw_groups_mailed(g, group, now);
                model_mail(&m, number, now);
            }
        } else if (sw_groups_digest_due(g, now)) {
            uint64_t in_digest = 0;
            assert_true(m.last_digest_ns == SW_NS_NEVER || now - m.last_digest_ns >= HOUR);
            sw_groups_digest(g, now, count_events, &in_digest);
            assert_int_equal(in_digest, model_counted(&m));
            assert_true(in_digest > 0);
            told += in_digest;
            memset(m.slow, 0, sizeof m.slow);
            memset(m.killed, 0, sizeof m.killed);
            m.digest_ns = SW_NS_NEVER;
            m.last_digest_ns = now;
        }
        assert_int_equal(told + model_counted(&m), events); /* every event is told or still counted */
    }
    model_check_promises(&m);
    assert_true(own_mails > 0);
    sw_groups_free(g);
}

static void random_runs_agree_with_the_model(void **state)
{
    (void)state;
    static const struct {
        uint64_t interval;
        unsigned per_hour, pace;
    } runs[] = {{300 * SEC, 20, 60}, {300 * SEC, 3, 300},  {0, 5, 600}, {0, 0, 10},
                {60 * SEC, 1, 900},  {7200 * SEC, 4, 120}, {1, 20, 2},  {900 * SEC, 0, 120}};
    for (unsigned i = 0; i < SW_COUNT(runs); i++) {
        seed = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        random_run(runs[i].interval, runs[i].per_hour, runs[i].pace);
    }
}

/* Many more groups than the table holds: nothing counted is ever lost. */
static void an_overflowing_table_keeps_every_count(void **state)
{
    (void)state;
    struct sw_groups *g = sw_groups_new(600 * SEC, 5);
    uint64_t now = SEC, mailed = 0, told = 0;
    const unsigned events = 20000;
    seed = 12345;
    for (unsigned i = 0; i < events; i++) {
        now += below(4) * SEC;
        struct sw_group *group = numbered_group(g, below(2 * SW_GROUPS_MAX), now);
        if (sw_groups_event(g, group, below(2) == 0, now) == SW_GROUP_MAIL) {
            mailed += 1 + group->slow_since_mail + group->killed_since_mail;
            sw_groups_mailed(g, group, now);
        }
        if (sw_groups_digest_due(g, now))
            sw_groups_digest(g, now, count_events, &told);
    }
    assert_true(told > 0); /* while it ran */
    sw_groups_digest(g, now, count_events, &told);
    assert_int_equal(mailed + told, events);
    sw_groups_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identifiers_leave_the_route),
        cmocka_unit_test(fingerprints_follow_route_and_application_frames),
        cmocka_unit_test(the_fingerprint_is_the_same_in_every_version),
        cmocka_unit_test(one_mail_an_interval_and_a_follow_up),
        cmocka_unit_test(interval_0_and_limit_0_mail_every_event),
        cmocka_unit_test(over_the_limit_one_digest),
        cmocka_unit_test(a_digest_with_nothing_left_is_not_due),
        cmocka_unit_test(huge_times_do_not_wrap),
        cmocka_unit_test(forgotten_groups_are_not_forgotten_silently),
        cmocka_unit_test(random_runs_agree_with_the_model),
        cmocka_unit_test(an_overflowing_table_keeps_every_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
