/* mail_queue.h - mails that wait to be sent, bounded, and their copies in the spool.
 * Owns:    the mails, from _add to _remove; the spool.
 * Callers: reporter. Spool files are written and synced here: a slow disk holds the reporter up, nobody else.
 * Clock:   none for time spans; the age of mails from the spool is told by the wall clock at _step.
 * Fork:    a delivery child must not touch it.
 * When the queue is full the newest mail is not taken: the first mails of an incident tell most, and what the spool has
 * promised to keep stays kept. */
#ifndef SW_MAIL_QUEUE_H
#define SW_MAIL_QUEUE_H

#include "mail_item.h"

#define SW_MAIL_QUEUE_MAX       1000
#define SW_MAIL_QUEUE_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define SW_MAIL_AGE_MAX_NS      (UINT64_C(3) * 24 * 3600 * SW_NS_PER_SEC)

struct sw_mail_queue {
    struct sw_mail *first, **end;
    unsigned count;
    size_t bytes;
    const char *spool_dir; /* NULL = none */
    struct sw_spool spool;
    uint64_t spool_next_ns; /* when to open it again; SW_NS_NEVER = it is open, or there is none */
    bool spool_more;        /* it holds mails that did not fit in the queue */
    bool spool_failing;     /* and that was said */
};

void sw_mail_queue_init(struct sw_mail_queue *q, const char *spool_dir);
/* Forgets all mails; what is in the spool stays there. */
void sw_mail_queue_fini(struct sw_mail_queue *q);

/* Takes the mail, due at once, and spools it. false: the queue is full, the mail is freed. */
bool sw_mail_queue_add(struct sw_mail_queue *q, struct sw_mail *m, uint64_t now_ns) SW_MUST_CHECK;
/* Writes the mail to the spool again: recipients or attempts have changed. */
void sw_mail_queue_save(struct sw_mail_queue *q, struct sw_mail *m);
/* Delivered or given up: out of the queue, out of the spool, freed. */
void sw_mail_queue_remove(struct sw_mail_queue *q, struct sw_mail *m);
/* The mail to try first: the one that may go earliest, of those the oldest; NULL = none waits. */
struct sw_mail *sw_mail_queue_next(const struct sw_mail_queue *q);
/* Gives up the mails that are too old, all but `busy`, and says so. */
void sw_mail_queue_expire(struct sw_mail_queue *q, const struct sw_mail *busy, uint64_t now_ns);
/* Opens the spool when it is time to, loads what it holds, writes there what it does not. */
void sw_mail_queue_step(struct sw_mail_queue *q, uint64_t now_ns, uint64_t wall_us);

#endif
