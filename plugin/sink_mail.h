/* sink_mail.h - events to mailboxes: which ones, when, how often again, never lost.
 * Owns:    the queue of mails not yet sent and the spool (mail_queue.h), the groups (group.h), the newest counted event
 *          of each (mail_kept.h), the delivery under way (mail_delivery.h).
 * Callers: reporter only, one thread. Never blocks on the network: each delivery is a short-lived child
 *          (libESMTP has no deadline for connect and DNS, and a second session in one process has crashed);
 *          its result comes over a pipe, and it is killed at its deadline.
 * Fork:    a delivery child closes everything it does not need and leaves by _exit.
 *
 * When it goes: the first event of a group at once; what else happens to the group within its interval is counted and
 * follows at the interval's end, with the newest event (a kill rather than a slow request); what is over the hourly
 * limit becomes one digest.
 * When it fails: for now (no connection, no answer, 4xx, TLS): again after growing pauses, for three days. A server that
 * cannot be used pauses all mail (one that refuses the login for the longest pause at once), a mail that is not taken
 * only itself. For good (5xx to MAIL, DATA, the message, RCPT): the server's words are logged and nothing is tried
 * again; recipients stand for themselves. */
#ifndef SW_SINK_MAIL_H
#define SW_SINK_MAIL_H

#include "event.h"

#define SW_MAIL_RECIPIENTS_MAX 32

enum sw_smtp_tls { SW_TLS_OPTIONAL, SW_TLS_OFF, SW_TLS_REQUIRED };

struct sw_mail_config { /* strings are the options' own, for the life of the process */
    const char *to[SW_MAIL_RECIPIENTS_MAX];
    unsigned to_count;  /* 0 = mail is off */
    const char *from;   /* envelope sender and From:; NULL = slowwatch@<host> */
    const char *host;   /* this machine, for subjects and Message-IDs */
    const char *server; /* "host:port" */
    enum sw_smtp_tls tls;
    const char *ca_file;       /* NULL = the system's */
    const char *user;          /* NULL = no AUTH */
    const char *password_file; /* read by each delivery child, first line, never logged */
    uint64_t timeout_ns;       /* outer deadline of one delivery */
    uint64_t interval_ns;      /* per group */
    unsigned per_hour;         /* all groups */
    const char *spool_dir;     /* NULL = unsent mail lives in memory only */
    uint64_t retry_ns;         /* pause after a first failure, growing from there; 0 = SW_MAIL_RETRY_NS */
};

#define SW_MAIL_RETRY_NS     (UINT64_C(5) * SW_NS_PER_SEC) /* then three times as long, and so on ... */
#define SW_MAIL_RETRY_FACTOR 3
#define SW_MAIL_RETRY_MAX_NS (UINT64_C(15) * 60 * SW_NS_PER_SEC) /* ... up to this */

struct sw_sink_mail;
struct sw_delivery_ops;

/* Loads what the spool holds. NULL: no memory. What is wrong with the spool is logged once and mail goes on
 * without it. */
struct sw_sink_mail *sw_sink_mail_new(const struct sw_mail_config *config, uint64_t now_ns);
/* For tests: with another way to deliver (mail_delivery.h). */
struct sw_sink_mail *sw_sink_mail_new_with(const struct sw_mail_config *config,
                                           const struct sw_delivery_ops *ops, uint64_t now_ns);
void sw_sink_mail_free(struct sw_sink_mail *s);

/* Counts the event and queues a mail for it if one may go. Only slow_request, request_killed and worker_died count. */
void sw_sink_mail_event(struct sw_sink_mail *s, const struct sw_event *e, uint64_t now_ns);
/* Starts what is due, collects what is done, kills what is over its deadline. */
void sw_sink_mail_step(struct sw_sink_mail *s, uint64_t now_ns);
/* Readable when a delivery has a result; -1 = none under way. */
int sw_sink_mail_fd(const struct sw_sink_mail *s);
/* When _step must be called next even if the descriptor stays silent; SW_NS_NEVER = no need. */
uint64_t sw_sink_mail_next_ns(const struct sw_sink_mail *s, uint64_t now_ns);
/* Shutdown: flush what groups have counted into the queue, go on delivering until deadline_ns, keep the rest in the
 * spool; what cannot be kept is counted and said in the log. */
void sw_sink_mail_drain(struct sw_sink_mail *s, uint64_t deadline_ns);

#endif
