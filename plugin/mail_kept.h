/* mail_kept.h - the event to show in the next mail of a group: of those only counted, the newest, a kill preferred.
 * Owns:    short copies (SW_MAIL_KEPT_BYTES) of at most SW_GROUPS_MAX events; the oldest goes first.
 * Callers: reporter. No clock, no I/O; uses malloc. */
#ifndef SW_MAIL_KEPT_H
#define SW_MAIL_KEPT_H

#include "mail_item.h"

#define SW_MAIL_KEPT_BYTES ((size_t)16 * 1024) /* JSON of one event; with all groups 8 MiB */

struct sw_mail_kept;
struct sw_mail_kept *sw_mail_kept_new(void); /* NULL: no memory */
void sw_mail_kept_free(struct sw_mail_kept *k);

/* Without memory the event is not kept: the mail then has the counts alone. */
void sw_mail_kept_put(struct sw_mail_kept *k, const char *fingerprint, const struct sw_event *e, bool killed);
/* Moves the group's event, if there is one, to the mail. */
void sw_mail_kept_take(struct sw_mail_kept *k, const char *fingerprint, struct sw_mail *m);
void sw_mail_kept_drop(struct sw_mail_kept *k, const char *fingerprint);

#endif
