#include "sink_mail.h"

#include "group.h"
#include "log.h"
#include "mail_delivery.h"
#include "mail_kept.h"
#include "mail_queue.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX        512
#define DIGEST_TEXT_MAX  ((size_t)64 * 1024)
#define DRAIN_LOOK_MS    1000 /* the longest single wait of a drain */
#define DROPPED_EVERY_NS (UINT64_C(60) * SW_NS_PER_SEC)

struct sw_sink_mail {
    struct sw_mail_config config; /* `to` holds the usable addresses only */
    char from[SW_MAIL_ADDRESS_MAX + 1];
    struct sw_groups *groups;
    struct sw_mail_kept *kept;
    struct sw_mail_queue queue;
    const struct sw_delivery_ops *ops;
    struct sw_delivery *delivery;
    struct sw_mail *sending; /* the mail whose outcome is awaited; NULL = none */
    unsigned server_faults;  /* in a row */
    uint64_t server_next_ns; /* no mail before */
    bool login_refused;      /* by the last try */
    uint64_t dropped;        /* mails the queue had no room for, not yet said */
    uint64_t dropped_said_ns;
};

/* ---- set-up ---- */

static void take_addresses(struct sw_sink_mail *s)
{
    struct sw_mail_config *c = &s->config;
    struct sw_text from;
    unsigned usable = 0;
    for (unsigned i = 0; i < c->to_count; i++) {
        if (sw_mail_address_ok(c->to[i]))
            c->to[usable++] = c->to[i];
        else
            sw_log("mail: %s is no usable address, it gets no mail", c->to[i]);
    }
    c->to_count = usable;
    sw_text_init(&from, s->from, sizeof s->from);
    if (c->from && sw_mail_address_ok(c->from)) {
        sw_text_put(&from, c->from);
        return;
    }
    if (c->from)
        sw_log("mail: %s is no usable address to send from", c->from);
    sw_text_put(&from, "slowwatch@");
    sw_mail_put_domain(&from, c->host, from.room - from.used - 1);
}

struct sw_sink_mail *sw_sink_mail_new_with(const struct sw_mail_config *config,
                                           const struct sw_delivery_ops *ops, uint64_t now)
{
    struct sw_sink_mail *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->config = *config;
    if (!config->host)
        s->config.host = "localhost";
    s->ops = ops;
    sw_mail_queue_init(&s->queue, config->spool_dir);
    s->groups = sw_groups_new(config->interval_ns, config->per_hour);
    s->kept = sw_mail_kept_new();
    s->delivery = ops->create();
    if (!s->groups || !s->kept || !s->delivery) {
        sw_sink_mail_free(s);
        return NULL;
    }
    take_addresses(s);
    sw_mail_queue_step(&s->queue, now, sw_wall_us());
    return s;
}

struct sw_sink_mail *sw_sink_mail_new(const struct sw_mail_config *config, uint64_t now)
{
    return sw_sink_mail_new_with(config, &sw_delivery_smtp, now);
}

void sw_sink_mail_free(struct sw_sink_mail *s)
{
    if (!s)
        return;
    if (s->delivery)
        s->ops->destroy(s->delivery);
    sw_mail_queue_fini(&s->queue);
    sw_mail_kept_free(s->kept);
    sw_groups_free(s->groups);
    free(s);
}

/* ---- making mails ---- */

static void say_dropped(struct sw_sink_mail *s, uint64_t now)
{
    if (s->dropped == 0 || now < s->dropped_said_ns)
        return;
    sw_log("mail: the queue is full (%u mails wait), %llu new mail%s not sent", s->queue.count,
           (unsigned long long)s->dropped, s->dropped == 1 ? "" : "s");
    s->dropped = 0;
    s->dropped_said_ns = sw_add_sat(now, DROPPED_EVERY_NS);
}

/* A mail to all recipients; the rest is the caller's to fill in. NULL: no memory. */
static struct sw_mail *new_mail(const struct sw_sink_mail *s)
{
    struct sw_mail *m = sw_mail_new(s->config.host, sw_wall_us());
    for (unsigned i = 0; m && i < s->config.to_count; i++) {
        if (sw_mail_add_recipient(m, s->config.to[i])) {
            sw_mail_free(m);
            m = NULL;
        }
    }
    if (!m)
        sw_log("mail: no memory for a mail, it is lost");
    return m;
}

static bool enqueue(struct sw_sink_mail *s, struct sw_mail *m, uint64_t now)
{
    if (sw_mail_queue_add(&s->queue, m, now))
        return true;
    s->dropped++;
    say_dropped(s, now);
    return false;
}

/* The next mail of a group: of this event, or (NULL) of the newest one that was only counted. */
static void mail_group(struct sw_sink_mail *s, struct sw_group *group, const struct sw_event *e, uint64_t now)
{
    struct sw_mail *m = new_mail(s);
    if (m) {
        memcpy(m->subject, group->subject, sizeof m->subject);
        memcpy(m->references, group->first_message_id, sizeof m->references);
        memcpy(m->fingerprint, group->fingerprint, sizeof m->fingerprint);
        m->slow = group->slow_since_mail;
        m->killed = group->killed_since_mail;
        if (group->last_mail_ns != SW_NS_NEVER)
            m->since_us = sw_sub_floor(m->queued_us, sw_sub_floor(now, group->last_mail_ns) / SW_NS_PER_US);
        if (!e)
            sw_mail_kept_take(s->kept, group->fingerprint, m);
        else if (sw_mail_set_event(m, e, SW_EVENT_MAX_BYTES))
            sw_log("mail: no memory for an event, its mail goes without");
        char id[SW_MAIL_ID_MAX];
        memcpy(id, m->message_id, sizeof id);
        if (enqueue(s, m, now) && group->first_message_id[0] == 0)
            memcpy(group->first_message_id, id, sizeof id);
    }
    sw_mail_kept_drop(s->kept, group->fingerprint);
    sw_groups_mailed(s->groups, group, now);
}

static bool counts(enum sw_event_kind kind)
{
    return kind == SW_EVENT_SLOW_REQUEST || kind == SW_EVENT_REQUEST_KILLED || kind == SW_EVENT_WORKER_DIED;
}

void sw_sink_mail_event(struct sw_sink_mail *s, const struct sw_event *e, uint64_t now)
{
    char fingerprint[SW_FINGERPRINT_CHARS + 1];
    if (s->config.to_count == 0 || !counts(e->kind))
        return;
    if (e->fingerprint && strlen(e->fingerprint) == SW_FINGERPRINT_CHARS)
        memcpy(fingerprint, e->fingerprint, sizeof fingerprint);
    else
        sw_group_fingerprint(e, fingerprint);
    struct sw_group *group = sw_groups_at(s->groups, fingerprint, now);
    if (group->subject[0] == 0) {
        struct sw_text subject;
        sw_text_init(&subject, group->subject, sizeof group->subject);
        sw_mail_put_subject(&subject, e, s->config.host);
    }
    const bool killed = e->kind != SW_EVENT_SLOW_REQUEST;
    if (sw_groups_event(s->groups, group, killed, now) == SW_GROUP_MAIL)
        mail_group(s, group, e, now);
    else
        sw_mail_kept_put(s->kept, fingerprint, e, killed);
}

struct digest {
    struct sw_sink_mail *s;
    struct sw_text text;
    uint64_t slow, killed;
    unsigned groups;
};

static void put_digest_line(const struct sw_group *group, void *arg)
{
    struct digest *d = arg;
    d->slow += group->slow_since_mail;
    d->killed += group->killed_since_mail;
    d->groups++;
    sw_text_printf(&d->text, "%6llu slow %6llu killed  %s\n", (unsigned long long)group->slow_since_mail,
                   (unsigned long long)group->killed_since_mail,
                   group->fingerprint[0] ? group->subject : "(groups seen too long ago)");
    sw_mail_kept_drop(d->s->kept, group->fingerprint);
}

static void mail_digest(struct sw_sink_mail *s, uint64_t now)
{
    struct digest d = {.s = s};
    struct sw_mail *m = new_mail(s);
    char *text = malloc(DIGEST_TEXT_MAX);
    sw_text_init(&d.text, text, text ? DIGEST_TEXT_MAX : 0);
    sw_groups_digest(s->groups, now, put_digest_line, &d);
    if (!m || !text || d.groups == 0) {
        sw_mail_free(m);
        free(text);
        return;
    }
    if (d.text.cut)
        sw_log("mail: the digest of %u groups is cut to %zu bytes", d.groups, d.text.used);
    struct sw_text subject;
    sw_text_init(&subject, m->subject, sizeof m->subject);
    sw_text_printf(&subject, "[slowwatch] digest: %llu slow requests in %u group%s on ",
                   (unsigned long long)(d.slow + d.killed), d.groups, d.groups == 1 ? "" : "s");
    sw_text_put_escaped(&subject, s->config.host, strlen(s->config.host));
    m->text = text;
    enqueue(s, m, now);
}

/* ---- delivering ---- */

static uint64_t pause_ns(const struct sw_sink_mail *s, unsigned failures)
{
    uint64_t pause = s->config.retry_ns ? s->config.retry_ns : SW_MAIL_RETRY_NS;
    while (failures-- > 1 && pause < SW_MAIL_RETRY_MAX_NS)
        pause *= SW_MAIL_RETRY_FACTOR;
    return sw_min_u64(pause, SW_MAIL_RETRY_MAX_NS);
}

/* One line for all recipients that got the same answer. */
static void say_refused(const struct sw_mail *m, const struct sw_delivery_result *r)
{
    bool said[SW_MAIL_RECIPIENTS_MAX] = {false};
    for (unsigned i = 0; i < m->to_count; i++) {
        char who_at[WORDS_MAX];
        struct sw_text who;
        if (said[i] || r->verdict[i] != SW_RECIPIENT_REFUSED)
            continue;
        sw_text_init(&who, who_at, sizeof who_at);
        for (unsigned j = i; j < m->to_count; j++) {
            if (r->verdict[j] != SW_RECIPIENT_REFUSED || strcmp(r->reply[i], r->reply[j]) != 0)
                continue;
            sw_text_printf(&who, "%s%s", who.used ? ", " : "", m->to[j]);
            said[j] = true;
        }
        sw_log("mail: refused for good, to %s: %s (%s)", who_at, r->reply[i], m->subject);
    }
}

static void note_server(struct sw_sink_mail *s, const struct sw_delivery_result *r, uint64_t now)
{
    if (!r->server_fault) {
        if (s->server_faults)
            sw_log("mail: %s works again after %u failed tr%s", s->config.server, s->server_faults,
                   s->server_faults == 1 ? "y" : "ies");
        s->server_faults = 0;
        s->server_next_ns = 0;
        s->login_refused = false;
        return;
    }
    char pause_at[32];
    struct sw_text pause;
    sw_text_init(&pause, pause_at, sizeof pause_at);
    s->server_faults++;
    s->login_refused = r->login_refused;
    /* A wrong password seldom becomes right, and asking with it again and again locks accounts. */
    const uint64_t wait = r->login_refused ? SW_MAIL_RETRY_MAX_NS : pause_ns(s, s->server_faults);
    s->server_next_ns = sw_add_sat(now, wait);
    sw_text_put_seconds(&pause, wait / SW_NS_PER_MS);
    sw_log("mail: %s: %s; %u mail%s wait%s, next try in %s", s->config.server, r->why, s->queue.count,
           s->queue.count == 1 ? "" : "s", s->queue.count == 1 ? "s" : "", pause_at);
    say_dropped(s, now);
}

/* The mail stays, for those it was not taken for now. */
static void try_again(struct sw_sink_mail *s, struct sw_mail *m, const struct sw_delivery_result *r,
                      const char *reply, uint64_t now)
{
    const uint64_t wait = pause_ns(s, ++m->attempts);
    m->next_ns = sw_add_sat(now, wait);
    if (!r->server_fault) {
        char pause_at[32];
        struct sw_text pause;
        sw_text_init(&pause, pause_at, sizeof pause_at);
        sw_text_put_seconds(&pause, wait / SW_NS_PER_MS);
        sw_log("mail: not taken for now, to %s%s: %s; next try in %s (%s)", m->to[0],
               m->to_count > 1 ? " and others" : "", reply, pause_at, m->subject);
    }
    sw_mail_queue_save(&s->queue, m);
}

static void note_outcome(struct sw_sink_mail *s, const struct sw_delivery_result *r, uint64_t now)
{
    struct sw_mail *m = s->sending;
    const char *reply = r->why; /* to the first of those who have to wait */
    s->sending = NULL;
    say_refused(m, r);
    for (unsigned i = m->to_count; i-- > 0;) {
        if (r->verdict[i] != SW_RECIPIENT_LATER)
            sw_mail_drop_recipient(m, i);
        else
            reply = r->reply[i];
    }
    if (m->to_count > 0)
        try_again(s, m, r, reply, now);
    else
        sw_mail_queue_remove(&s->queue, m);
    note_server(s, r, now);
}

/* When the next delivery may start; SW_NS_NEVER = nothing waits. */
static uint64_t next_start_ns(const struct sw_sink_mail *s)
{
    const struct sw_mail *m = sw_mail_queue_next(&s->queue);
    return m ? sw_max_u64(m->next_ns, s->server_next_ns) : SW_NS_NEVER;
}

/* No process, no memory: as if the server could not be used. */
static void cannot_start(struct sw_sink_mail *s, int err, uint64_t now)
{
    struct sw_delivery_result r = {.server_fault = true};
    struct sw_text why;
    sw_text_init(&why, r.why, sizeof r.why);
    sw_text_printf(&why, "no delivery can be started: %s", strerror(-err));
    note_outcome(s, &r, now);
}

static void start_next(struct sw_sink_mail *s, uint64_t now)
{
    struct sw_mail *m = sw_mail_queue_next(&s->queue);
    char why_at[WORDS_MAX], *message = NULL;
    struct sw_text why;
    size_t n = 0;
    sw_text_init(&why, why_at, sizeof why_at);
    int err = sw_mail_compose(m, s->from, s->config.host, &message, &n, &why);
    if (err && err != -ENOMEM) {
        sw_log("mail: given up, it cannot be written: %s (%s)", why_at, m->subject);
        sw_mail_queue_remove(&s->queue, m);
        return;
    }
    const struct sw_delivery_job job = {.config = &s->config,
                                        .from = s->from,
                                        .to = (const char *const *)m->to,
                                        .to_count = m->to_count,
                                        .message = message,
                                        .message_bytes = n};
    s->sending = m;
    if (!err)
        err = s->ops->start(s->delivery, &job, now);
    free(message);
    if (err)
        cannot_start(s, err, now);
}

static void collect(struct sw_sink_mail *s, uint64_t now)
{
    struct sw_delivery_result result;
    if (s->ops->poll(s->delivery, &result, now) && s->sending)
        note_outcome(s, &result, now);
}

void sw_sink_mail_step(struct sw_sink_mail *s, uint64_t now)
{
    collect(s, now);
    for (struct sw_group *group; (group = sw_groups_pop_due(s->groups, now));)
        mail_group(s, group, NULL, now);
    if (sw_groups_digest_due(s->groups, now))
        mail_digest(s, now);
    sw_mail_queue_step(&s->queue, now, sw_wall_us());
    sw_mail_queue_expire(&s->queue, s->sending, now);
    if (!s->ops->busy(s->delivery) && now >= next_start_ns(s))
        start_next(s, now);
}

int sw_sink_mail_fd(const struct sw_sink_mail *s)
{
    return s->ops->fd(s->delivery);
}

uint64_t sw_sink_mail_next_ns(const struct sw_sink_mail *s, uint64_t now)
{
    uint64_t next = sw_min_u64(sw_groups_next_ns(s->groups, now), s->queue.spool_next_ns);
    if (s->ops->busy(s->delivery))
        next = sw_min_u64(next, s->ops->next_ns(s->delivery, now));
    else
        next = sw_min_u64(next, next_start_ns(s));
    return next;
}

/* ---- shutdown ---- */

/* Everything once more, at once: there may be no later. */
static void forget_pauses(struct sw_sink_mail *s)
{
    if (!s->login_refused)
        s->server_next_ns = 0;
    for (struct sw_mail *m = s->queue.first; m; m = m->next)
        m->next_ns = 0;
}

static void wait_for_news(const struct sw_sink_mail *s, uint64_t until, uint64_t now)
{
    const uint64_t wait_ms = (sw_sub_floor(until, now) + SW_NS_PER_MS - 1) / SW_NS_PER_MS;
    struct pollfd news = {.fd = sw_sink_mail_fd(s), .events = POLLIN};
    poll(&news, 1, (int)sw_min_u64(wait_ms, DRAIN_LOOK_MS));
}

static void settle_rest(struct sw_sink_mail *s)
{
    unsigned kept = 0, lost = 0;
    for (struct sw_mail *m = s->queue.first; m; m = m->next) {
        if (!m->spooled)
            sw_mail_queue_save(&s->queue, m);
        if (m->spooled)
            kept++;
        else
            lost++;
    }
    if (kept)
        sw_log("mail: %u unsent mail%s kept in the spool", kept, kept == 1 ? "" : "s");
    if (lost || s->dropped)
        sw_log("mail: %llu unsent mail%s lost", (unsigned long long)(lost + s->dropped),
               lost + s->dropped == 1 ? "" : "s");
}

void sw_sink_mail_drain(struct sw_sink_mail *s, uint64_t deadline)
{
    uint64_t now = sw_now_ns();
    mail_digest(s, now);
    forget_pauses(s);
    for (; now < deadline; now = sw_now_ns()) {
        sw_sink_mail_step(s, now);
        const bool busy = s->ops->busy(s->delivery);
        if (!busy && next_start_ns(s) >= deadline)
            break;
        wait_for_news(s, sw_min_u64(deadline, sw_sink_mail_next_ns(s, now)), now);
    }
    collect(s, now);
    s->ops->cancel(s->delivery);
    s->sending = NULL;
    settle_rest(s);
}
