/* mail_delivery.h - one delivery of one mail: a short-lived child that speaks SMTP, watched from outside.
 * Owns:    the child and the pipe its result comes over, from _start until sw_delivery_busy() says no.
 * Callers: reporter, one thread, one delivery at a time. No call waits for the network or for the child.
 * Clock:   none; callers pass CLOCK_MONOTONIC nanoseconds.
 * Fork:    that is what it does. The child closes all other descriptors, restores the signals, dies with its parent
 *          and leaves by _exit.
 * Why a child: libESMTP has no deadline for name resolution and connect, a second session in one process has crashed,
 * and a process that holds the password should live shortly. */
#ifndef SW_MAIL_DELIVERY_H
#define SW_MAIL_DELIVERY_H

#include "sink_mail.h"
#include <sys/types.h>

#define SW_REPLY_MAX 200 /* of a server's words, or ours about it */

enum sw_recipient_verdict {
    SW_RECIPIENT_LATER,   /* failed for now */
    SW_RECIPIENT_SENT,    /* the server took it */
    SW_RECIPIENT_REFUSED, /* the server refused it for good (5xx) */
};

struct sw_delivery_result {
    enum sw_recipient_verdict verdict[SW_MAIL_RECIPIENTS_MAX];
    char reply[SW_MAIL_RECIPIENTS_MAX][SW_REPLY_MAX]; /* to each that was not sent; on one line */
    bool server_fault;      /* the server could not be used at all: other mails would fare no better */
    bool login_refused;     /* and not in a hurry: it takes neither our name nor our password */
    char why[SW_REPLY_MAX]; /* what failed, in words; "" = nothing */
};

struct sw_delivery_job { /* borrowed during _start only */
    const struct sw_mail_config *config;
    const char *from;
    const char *const *to;
    unsigned to_count;
    const char *message; /* as sw_mail_message_build made it */
    size_t message_bytes;
};

struct sw_delivery; /* the seam: tests put a scripted one in its place */

struct sw_delivery_ops {
    struct sw_delivery *(*create)(void);
    /* 0: it runs; -errno: no process, no descriptor, no memory */
    int (*start)(struct sw_delivery *d, const struct sw_delivery_job *job, uint64_t now_ns);
    /* True once for each started delivery, as soon as its outcome is known. The child may then still be saying QUIT:
     * call on until it is not busy. */
    bool (*poll)(struct sw_delivery *d, struct sw_delivery_result *out, uint64_t now_ns);
    bool (*busy)(const struct sw_delivery *d);
    /* readable when there is something to poll for; -1 = nothing but time */
    int (*fd)(const struct sw_delivery *d);
    /* when to poll even if it stays silent; SW_NS_NEVER = not busy */
    uint64_t (*next_ns)(const struct sw_delivery *d, uint64_t now_ns);
    /* kills a child that is under way; its outcome stays unknown */
    void (*cancel)(struct sw_delivery *d);
    void (*destroy)(struct sw_delivery *d);
};

extern const struct sw_delivery_ops sw_delivery_smtp;

#endif
