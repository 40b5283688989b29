#include "mail_kept.h"

#include <stdlib.h>
#include <string.h>

struct kept {
    char fingerprint[SW_FINGERPRINT_CHARS + 1];
    char *json; /* NULL = free slot */
    size_t bytes;
    bool killed;
    uint64_t turn;
};

struct sw_mail_kept {
    struct kept slots[SW_GROUPS_MAX];
    uint64_t turn;
};

struct sw_mail_kept *sw_mail_kept_new(void)
{
    return calloc(1, sizeof(struct sw_mail_kept));
}

void sw_mail_kept_free(struct sw_mail_kept *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < SW_GROUPS_MAX; i++)
        free(k->slots[i].json);
    free(k);
}

static struct kept *find(struct sw_mail_kept *k, const char *fingerprint)
{
    for (size_t i = 0; i < SW_GROUPS_MAX; i++)
        if (k->slots[i].json && strcmp(k->slots[i].fingerprint, fingerprint) == 0)
            return &k->slots[i];
    return NULL;
}

static void clear(struct kept *slot)
{
    free(slot->json);
    *slot = (struct kept){.json = NULL};
}

static struct kept *make_room(struct sw_mail_kept *k)
{
    struct kept *oldest = &k->slots[0];
    for (size_t i = 0; i < SW_GROUPS_MAX; i++) {
        if (!k->slots[i].json)
            return &k->slots[i];
        if (k->slots[i].turn < oldest->turn)
            oldest = &k->slots[i];
    }
    clear(oldest);
    return oldest;
}

void sw_mail_kept_put(struct sw_mail_kept *k, const char *fingerprint, const struct sw_event *e, bool killed)
{
    struct kept *slot = find(k, fingerprint);
    if (slot && slot->killed && !killed)
        return;
    char *json = malloc(SW_MAIL_KEPT_BYTES);
    const ssize_t n = json ? sw_event_encode(e, json, SW_MAIL_KEPT_BYTES) : -1;
    char *fit = n > 0 ? realloc(json, (size_t)n) : NULL;
    if (!fit) {
        free(json);
        return;
    }
    if (slot)
        clear(slot);
    else
        slot = make_room(k);
    strncpy(slot->fingerprint, fingerprint, SW_FINGERPRINT_CHARS);
    slot->json = fit;
    slot->bytes = (size_t)n;
    slot->killed = killed;
    slot->turn = k->turn++;
}

void sw_mail_kept_take(struct sw_mail_kept *k, const char *fingerprint, struct sw_mail *m)
{
    struct kept *slot = find(k, fingerprint);
    if (!slot)
        return;
    free(m->event);
    m->event = slot->json;
    m->event_bytes = slot->bytes;
    slot->json = NULL;
    clear(slot);
}

void sw_mail_kept_drop(struct sw_mail_kept *k, const char *fingerprint)
{
    struct kept *slot = find(k, fingerprint);
    if (slot)
        clear(slot);
}
