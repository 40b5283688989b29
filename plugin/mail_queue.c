#include "mail_queue.h"

#include "log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REOPEN_LOCKED_NS (UINT64_C(1) * SW_NS_PER_SEC)  /* an older reporter still holds it: it leaves soon */
#define REOPEN_BROKEN_NS (UINT64_C(60) * SW_NS_PER_SEC) /* missing or not ours: somebody may repair it */

void sw_mail_queue_init(struct sw_mail_queue *q, const char *spool_dir)
{
    *q = (struct sw_mail_queue){.spool_dir = spool_dir, .spool = SW_SPOOL_CLOSED};
    q->end = &q->first;
    q->spool_next_ns = spool_dir ? 0 : SW_NS_NEVER;
}

void sw_mail_queue_fini(struct sw_mail_queue *q)
{
    for (struct sw_mail *m = q->first, *next; m; m = next) {
        next = m->next;
        sw_mail_free(m);
    }
    sw_spool_close(&q->spool);
    sw_mail_queue_init(q, NULL);
}

/* ---- spool ---- */

static void say_failing(struct sw_mail_queue *q, const char *why)
{
    if (!q->spool_failing)
        sw_log("mail: spool %s; unsent mail is in memory only", why);
    q->spool_failing = true;
}

static void say_working(struct sw_mail_queue *q)
{
    if (q->spool_failing)
        sw_log("mail: spool %s can be used again", q->spool_dir);
    q->spool_failing = false;
}

/* The folder was removed: what we hold open is a name no more. One that is made again is opened at a later step. */
static void lose_spool(struct sw_mail_queue *q)
{
    sw_spool_close(&q->spool);
    q->spool_next_ns = 0;
    for (struct sw_mail *m = q->first; m; m = m->next)
        m->spooled = false;
}

void sw_mail_queue_save(struct sw_mail_queue *q, struct sw_mail *m)
{
    size_t n = 0;
    if (q->spool.dir < 0)
        return;
    char *json = sw_mail_to_json(m, &n);
    const int err = json ? sw_spool_put(&q->spool, m->name, json, n) : -ENOMEM;
    free(json);
    if (err) {
        char why_at[512];
        struct sw_text why;
        sw_text_init(&why, why_at, sizeof why_at);
        sw_text_printf(&why, "%s cannot be written: %s", q->spool_dir, strerror(-err));
        say_failing(q, why_at);
        if (err == -ENOENT)
            lose_spool(q);
        return;
    }
    m->spooled = true;
    say_working(q);
}

static void unspool(struct sw_mail_queue *q, struct sw_mail *m)
{
    if (!m->spooled || q->spool.dir < 0)
        return;
    const int err = sw_spool_remove(&q->spool, m->name);
    if (err)
        sw_log("mail: %s cannot be removed from the spool, it may be sent again: %s", m->name,
               strerror(-err));
}

struct loading {
    struct sw_mail_queue *q;
    uint64_t now_ns, wall_us;
    unsigned loaded, senseless;
};

static bool is_full(const struct sw_mail_queue *q, size_t more_bytes)
{
    return q->count >= SW_MAIL_QUEUE_MAX || q->bytes + more_bytes > SW_MAIL_QUEUE_BYTES_MAX;
}

static void append(struct sw_mail_queue *q, struct sw_mail *m)
{
    m->next = NULL;
    *q->end = m;
    q->end = &m->next;
    q->count++;
    q->bytes += sw_mail_bytes(m);
}

static bool in_queue(const struct sw_mail_queue *q, const char *name)
{
    for (const struct sw_mail *m = q->first; m; m = m->next)
        if (strcmp(m->name, name) == 0)
            return true;
    return false;
}

static bool load_one(const char *name, const char *json, size_t n, void *arg)
{
    struct loading *l = arg;
    if (in_queue(l->q, name))
        return true;
    if (is_full(l->q, n)) {
        l->q->spool_more = true;
        return false;
    }
    struct sw_mail *m = sw_mail_from_json(name, json, n);
    if (!m) {
        const int err = sw_spool_set_aside(&l->q->spool, name);
        l->senseless += err == 0;
        return true;
    }
    const uint64_t age_us = sw_sub_floor(l->wall_us, m->queued_us);
    const uint64_t age_ns =
        age_us > SW_MAIL_AGE_MAX_NS / SW_NS_PER_US ? SW_MAIL_AGE_MAX_NS : age_us * SW_NS_PER_US;
    m->next_ns = l->now_ns;
    m->expires_ns = sw_add_sat(l->now_ns, SW_MAIL_AGE_MAX_NS - age_ns);
    append(l->q, m);
    l->loaded++;
    return true;
}

static void load(struct sw_mail_queue *q, uint64_t now, uint64_t wall_us)
{
    struct loading l = {.q = q, .now_ns = now, .wall_us = wall_us};
    q->spool_more = false;
    const int bad = sw_spool_each(&q->spool, load_one, &l);
    if (bad < 0)
        sw_log("mail: spool %s cannot be read: %s", q->spool_dir, strerror(-bad));
    if (l.loaded)
        sw_log("mail: %u unsent mail%s found in the spool%s", l.loaded, l.loaded == 1 ? "" : "s",
               q->spool_more ? ", more will follow" : "");
    const unsigned unreadable = (bad > 0 ? (unsigned)bad : 0) + l.senseless;
    if (unreadable)
        sw_log("mail: %u file%s in the spool %s cannot be read, renamed to *.bad", unreadable,
               unreadable == 1 ? "" : "s", q->spool_dir);
}

static void open_spool(struct sw_mail_queue *q, uint64_t now, uint64_t wall_us)
{
    char why_at[512];
    struct sw_text why;
    sw_text_init(&why, why_at, sizeof why_at);
    const int err = sw_spool_open(&q->spool, q->spool_dir, &why);
    if (err) {
        q->spool_next_ns = sw_add_sat(now, err == -EWOULDBLOCK ? REOPEN_LOCKED_NS : REOPEN_BROKEN_NS);
        say_failing(q, why_at);
        return;
    }
    q->spool_next_ns = SW_NS_NEVER;
    say_working(q);
    load(q, now, wall_us);
    for (struct sw_mail *m = q->first; m; m = m->next)
        if (!m->spooled)
            sw_mail_queue_save(q, m);
}

void sw_mail_queue_step(struct sw_mail_queue *q, uint64_t now, uint64_t wall_us)
{
    if (now >= q->spool_next_ns)
        open_spool(q, now, wall_us);
    else if (q->spool_more && q->count == 0)
        load(q, now, wall_us);
}

/* ---- queue ---- */

bool sw_mail_queue_add(struct sw_mail_queue *q, struct sw_mail *m, uint64_t now)
{
    if (is_full(q, sw_mail_bytes(m))) {
        sw_mail_free(m);
        return false;
    }
    m->next_ns = now;
    m->expires_ns = sw_add_sat(now, SW_MAIL_AGE_MAX_NS);
    append(q, m);
    sw_mail_queue_save(q, m);
    return true;
}

static void take_out(struct sw_mail_queue *q, struct sw_mail *m)
{
    struct sw_mail **at = &q->first;
    while (*at && *at != m)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = m->next;
    if (!*at)
        q->end = at;
    q->count--;
    q->bytes = 0;
    for (const struct sw_mail *left = q->first; left; left = left->next)
        q->bytes += sw_mail_bytes(left); /* recipients go one by one: a running sum would drift */
}

void sw_mail_queue_remove(struct sw_mail_queue *q, struct sw_mail *m)
{
    unspool(q, m);
    take_out(q, m);
    sw_mail_free(m);
}

struct sw_mail *sw_mail_queue_next(const struct sw_mail_queue *q)
{
    struct sw_mail *best = q->first;
    for (struct sw_mail *m = best; m; m = m->next)
        if (m->next_ns < best->next_ns)
            best = m;
    return best;
}

void sw_mail_queue_expire(struct sw_mail_queue *q, const struct sw_mail *busy, uint64_t now)
{
    unsigned expired = 0;
    char subject[SW_GROUP_SUBJECT_MAX] = "";
    for (struct sw_mail *m = q->first, *next; m; m = next) {
        next = m->next;
        if (m == busy || now < m->expires_ns)
            continue;
        if (expired++ == 0)
            memcpy(subject, m->subject, sizeof subject);
        sw_mail_queue_remove(q, m);
    }
    if (expired)
        sw_log("mail: %u mail%s given up after 3 days, the first: %s", expired, expired == 1 ? "" : "s",
               subject);
}
