#include "mail_item.h"

#include "render.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_VERSION 1
#define BODY_MAX       ((size_t)256 * 1024) /* of a mail's text; an event rendered in full stays below */
#define SECOND_CHARS   19                   /* of an RFC 3339 time, without its fraction */

struct sw_mail *sw_mail_new(const char *host, uint64_t wall_us)
{
    static unsigned serial;
    struct sw_mail *m = calloc(1, sizeof *m);
    struct sw_text t;
    if (!m)
        return NULL;
    m->queued_us = wall_us;
    /* time first: the spool is read in the order of names */
    sw_text_init(&t, m->name, sizeof m->name);
    sw_text_printf(&t, "%016llx-%x-%x", (unsigned long long)wall_us, (unsigned)getpid(), serial++);
    sw_text_init(&t, m->message_id, sizeof m->message_id);
    sw_text_printf(&t, "%s@", m->name);
    sw_mail_put_domain(&t, host, t.room - t.used - 1);
    return m;
}

void sw_mail_free(struct sw_mail *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->to_count; i++)
        free(m->to[i]);
    free(m->event);
    free(m->text);
    free(m);
}

int sw_mail_add_recipient(struct sw_mail *m, const char *address)
{
    if (m->to_count == SW_MAIL_RECIPIENTS_MAX)
        return -ENOSPC;
    m->to[m->to_count] = strdup(address);
    if (!m->to[m->to_count])
        return -ENOMEM;
    m->to_count++;
    return 0;
}

void sw_mail_drop_recipient(struct sw_mail *m, unsigned i)
{
    free(m->to[i]);
    m->to_count--;
    memmove(m->to + i, m->to + i + 1, (m->to_count - i) * sizeof m->to[0]);
}

int sw_mail_set_event(struct sw_mail *m, const struct sw_event *e, size_t room)
{
    char *json = malloc(room);
    if (!json)
        return -ENOMEM;
    const ssize_t n = sw_event_encode(e, json, room);
    char *fit = n > 0 ? realloc(json, (size_t)n) : NULL;
    if (!fit) {
        free(json);
        return n < 0 ? (int)n : -ENOMEM;
    }
    free(m->event);
    m->event = fit;
    m->event_bytes = (size_t)n;
    return 0;
}

size_t sw_mail_bytes(const struct sw_mail *m)
{
    size_t n = sizeof *m + m->event_bytes + (m->text ? strlen(m->text) : 0);
    for (unsigned i = 0; i < m->to_count; i++)
        n += strlen(m->to[i]);
    return n;
}

/* ---- as JSON ---- */

char *sw_mail_to_json(const struct sw_mail *m, size_t *n)
{
    char *out = NULL;
    json_t *to = json_array();
    for (unsigned i = 0; i < m->to_count; i++)
        json_array_append_new(to, json_string(m->to[i]));
    json_t *root = json_pack("{si, ss, ss, ss, ss, so, sI, sI, sI, sI, sI}", "record", RECORD_VERSION,
                             "message_id", m->message_id, "references", m->references, "subject", m->subject,
                             "fingerprint", m->fingerprint, "to", to, "queued_us", (json_int_t)m->queued_us,
                             "attempts", (json_int_t)m->attempts, "slow", (json_int_t)m->slow, "killed",
                             (json_int_t)m->killed, "since_us", (json_int_t)m->since_us);
    if (!root)
        return NULL;
    if (m->event && json_object_set_new(root, "event", json_loadb(m->event, m->event_bytes, 0, NULL)) < 0)
        goto done;
    if (m->text && json_object_set_new(root, "text", json_string(m->text)) < 0)
        goto done;
    out = json_dumps(root, JSON_COMPACT);
    *n = out ? strlen(out) : 0;
done:
    json_decref(root);
    return out;
}

/* A string that fits, is one line and holds no NUL; `out` may be NULL to check only. */
static bool take_string(const json_t *root, const char *key, char *out, size_t room)
{
    const json_t *value = json_object_get(root, key);
    const char *s = json_string_value(value);
    if (!s || json_string_length(value) >= room || strlen(s) != json_string_length(value) ||
        strpbrk(s, "\r\n"))
        return false;
    memcpy(out, s, strlen(s) + 1);
    return true;
}

static bool take_count(const json_t *root, const char *key, uint64_t *out)
{
    const json_t *value = json_object_get(root, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static bool take_recipients(const json_t *root, struct sw_mail *m)
{
    const json_t *to = json_object_get(root, "to");
    const size_t count = json_array_size(to);
    if (count == 0 || count > SW_MAIL_RECIPIENTS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *address = json_string_value(json_array_get(to, i));
        if (!address || !sw_mail_address_ok(address) || sw_mail_add_recipient(m, address))
            return false;
    }
    return true;
}

static bool take_body(const json_t *root, struct sw_mail *m)
{
    const json_t *event = json_object_get(root, "event"), *text = json_object_get(root, "text");
    if ((event && !json_is_object(event)) || (text && !json_is_string(text)) || (!event && !text))
        return false;
    if (event) {
        m->event = json_dumps(event, JSON_COMPACT);
        m->event_bytes = m->event ? strlen(m->event) : 0;
    }
    if (text)
        m->text = strdup(json_string_value(text));
    return (!event || m->event) && (!text || m->text);
}

struct sw_mail *sw_mail_from_json(const char *name, const char *json, size_t n)
{
    uint64_t version = 0, attempts = 0;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, NULL);
    struct sw_mail *m = root ? calloc(1, sizeof *m) : NULL;
    if (!m)
        goto failed;
    struct sw_text t;
    sw_text_init(&t, m->name, sizeof m->name);
    sw_text_put(&t, name);
    if (!take_count(root, "record", &version) || version != RECORD_VERSION ||
        !take_string(root, "message_id", m->message_id, sizeof m->message_id) ||
        !take_string(root, "references", m->references, sizeof m->references) ||
        !take_string(root, "subject", m->subject, sizeof m->subject) ||
        !take_string(root, "fingerprint", m->fingerprint, sizeof m->fingerprint) ||
        !take_count(root, "queued_us", &m->queued_us) || !take_count(root, "attempts", &attempts) ||
        !take_count(root, "slow", &m->slow) || !take_count(root, "killed", &m->killed) ||
        !take_count(root, "since_us", &m->since_us) || !take_recipients(root, m) || !take_body(root, m))
        goto failed;
    m->attempts = (unsigned)sw_min_u64(attempts, UINT32_MAX);
    m->spooled = true;
    json_decref(root);
    return m;

failed:
    sw_mail_free(m);
    json_decref(root);
    return NULL;
}

/* ---- as a message ---- */

static void put_counts(const struct sw_mail *m, struct sw_text *out)
{
    if (m->slow == 0 && m->killed == 0)
        return;
    if (m->slow)
        sw_text_printf(out, "%llu more slow request%s", (unsigned long long)m->slow, m->slow == 1 ? "" : "s");
    if (m->killed)
        sw_text_printf(out, "%s%llu kill%s", m->slow ? " and " : "", (unsigned long long)m->killed,
                       m->killed == 1 ? "" : "s");
    sw_text_put(out, " of this group since the last mail");
    if (m->since_us) {
        char at[40];
        struct sw_text t;
        sw_text_init(&t, at, sizeof at);
        sw_text_put_rfc3339(&t, m->since_us);
        sw_text_printf(out, " at %.*sZ", SECOND_CHARS, at);
    }
    sw_text_put(out, ".\n\n");
}

/* The event's part of the body, and its id. */
static int put_event(const struct sw_mail *m, struct sw_text *out, char id[SW_EVENT_ID_CHARS + 1],
                     struct sw_text *why)
{
    struct sw_event event = {0};
    struct sw_arena arena;
    void *room = malloc(SW_EVENT_ARENA_BYTES);
    if (!room)
        return -ENOMEM;
    sw_arena_init(&arena, room, SW_EVENT_ARENA_BYTES);
    const int err = sw_event_decode(&event, &arena, m->event, m->event_bytes, why);
    if (!err) {
        snprintf(id, SW_EVENT_ID_CHARS + 1, "%s", event.id ? event.id : "");
        sw_render_event(&event, out);
    }
    free(room);
    return err;
}

int sw_mail_compose(const struct sw_mail *m, const char *from, const char *host, char **message, size_t *n,
                    struct sw_text *why)
{
    char id[SW_EVENT_ID_CHARS + 1] = "";
    char *body_at = malloc(BODY_MAX), *out_at = NULL;
    struct sw_text body, out;
    int err = -ENOMEM;
    if (!body_at)
        goto done;
    sw_text_init(&body, body_at, BODY_MAX);
    put_counts(m, &body);
    err = m->event ? put_event(m, &body, id, why) : 0;
    if (err)
        goto done;
    if (m->text)
        sw_text_put(&body, m->text);
    const size_t room = SW_MAIL_MESSAGE_ROOM(body.used);
    out_at = malloc(room);
    if (!out_at) {
        err = -ENOMEM;
        goto done;
    }
    const struct sw_mail_message parts = {.from = from,
                                          .to = (const char *const *)m->to,
                                          .to_count = m->to_count,
                                          .subject = m->subject,
                                          .message_id = m->message_id,
                                          .references = m->references,
                                          .date_us = m->queued_us,
                                          .host = host,
                                          .fingerprint = m->fingerprint[0] ? m->fingerprint : NULL,
                                          .id = id[0] ? id : NULL,
                                          .body = body_at,
                                          .body_bytes = body.used};
    sw_text_init(&out, out_at, room);
    err = sw_mail_message_build(&parts, &out);
    if (err) {
        sw_text_put(why, "the message does not fit");
        free(out_at);
        goto done;
    }
    *message = out_at;
    *n = out.used;
done:
    free(body_at);
    return err;
}
