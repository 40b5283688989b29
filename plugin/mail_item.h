/* mail_item.h - one mail that waits: what the queue holds and, as JSON, the spool.
 * Owns:    its strings, from _new or _from_json to _free.
 * Callers: reporter. Uses malloc.
 * Fork:    nothing to do.
 * The event is kept as JSON and rendered when the mail is sent, so that a mail reads the same after a restart. */
#ifndef SW_MAIL_ITEM_H
#define SW_MAIL_ITEM_H

#include "mail_message.h"
#include "sink_mail.h"
#include "spool.h"

struct sw_mail {
    struct sw_mail *next; /* the queue's */
    char name[SW_SPOOL_NAME_CHARS + 1];
    char message_id[SW_MAIL_ID_MAX]; /* the same at every try: a mail that arrives twice can be told */
    char references[SW_MESSAGE_ID_MAX];
    char subject[SW_GROUP_SUBJECT_MAX];
    char fingerprint[SW_FINGERPRINT_CHARS + 1]; /* "" = several groups */
    char *to[SW_MAIL_RECIPIENTS_MAX];           /* those who still have to get it */
    unsigned to_count;
    unsigned attempts;
    uint64_t queued_us; /* wall clock */
    uint64_t slow, killed,
        since_us; /* counted since the group's last mail, which went at since_us; 0 = none */
    char *event;  /* JSON; NULL = none */
    size_t event_bytes;
    char *text; /* more body, lines ended by \n; NULL = none */

    /* of this process only */
    uint64_t next_ns;    /* not tried before */
    uint64_t expires_ns; /* given up then */
    bool spooled;
};

/* An empty mail with a name and a Message-ID of its own. NULL: no memory. */
struct sw_mail *sw_mail_new(const char *host, uint64_t wall_us);
void sw_mail_free(struct sw_mail *m);
/* -ENOMEM, -ENOSPC (SW_MAIL_RECIPIENTS_MAX) */
int sw_mail_add_recipient(struct sw_mail *m, const char *address) SW_MUST_CHECK;
void sw_mail_drop_recipient(struct sw_mail *m, unsigned i);
/* Keeps a copy of the event, cut to `room` bytes. -ENOMEM, -EMSGSIZE */
int sw_mail_set_event(struct sw_mail *m, const struct sw_event *e, size_t room) SW_MUST_CHECK;
/* memory it takes, about */
size_t sw_mail_bytes(const struct sw_mail *m);

/* JSON for the spool, to be freed; NULL: no memory */
char *sw_mail_to_json(const struct sw_mail *m, size_t *n) SW_MUST_CHECK;
/* NULL: not a mail of ours, or no memory */
struct sw_mail *sw_mail_from_json(const char *name, const char *json, size_t n) SW_MUST_CHECK;

/* The message as it goes out, to be freed. 0; -ENOMEM; -EINVAL, -EMSGSIZE: it can never go, `why` says why. */
int sw_mail_compose(const struct sw_mail *m, const char *from, const char *host, char **message, size_t *n,
                    struct sw_text *why) SW_MUST_CHECK;

#endif
