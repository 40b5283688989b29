/* channel.h - events from workers and master to the reporter: one datagram is one event.
 * Owns:    a SOCK_SEQPACKET pair, made in post_init before the first fork; a sender's own backlog.
 * Callers: send: the watchdog thread, or the master; never blocks. receive: the reporter.
 * Fork:    all processes inherit both ends; the reporter closes the write end, so that it sees the end of file when
 *          the last worker and the master are gone. Datagrams queued for a reporter that died stay queued: the
 *          next one reads them.
 * A sender whose datagram does not fit keeps it in its backlog and tries again; when the backlog is full the event is
 * dropped and counted.
 * Mules, gateways and the emperor inherit the ends too: end of file is not what ends the reporter, its parent is. */
#ifndef SW_CHANNEL_H
#define SW_CHANNEL_H

#include "base.h"
#include <stdatomic.h>
#include <sys/types.h>

#define SW_CHANNEL_SEND_BYTES (1024 * 1024) /* asked of the kernel; it may give less */
#define SW_BACKLOG_BYTES      ((size_t)1024 * 1024)
#define SW_BACKLOG_RESERVE    ((size_t)512 * 1024) /* of it, for what must not be lost: the ends of reports */

struct sw_channel {
    int read_fd, write_fd; /* -1 = closed */
};

int sw_channel_open(struct sw_channel *c) SW_MUST_CHECK;

struct sw_backlog {
    size_t start, used;    /* whole entries between them */
    unsigned ends, others; /* how many: what must not be lost, and the rest */
    char bytes[SW_BACKLOG_BYTES];
};

/* Sends what the backlog holds, then this; 0 = sent or kept, -ENOBUFS = dropped. */
int sw_channel_send(struct sw_channel *c, struct sw_backlog *b, const char *event, size_t n,
                    bool must) SW_MUST_CHECK;
/* Sends what the backlog holds; true when it is empty. */
bool sw_channel_flush(struct sw_channel *c, struct sw_backlog *b);

/* master: tells the reporter that nothing more comes */
int sw_channel_send_end(struct sw_channel *c);

enum sw_channel_got { SW_CHANNEL_EVENT, SW_CHANNEL_END, SW_CHANNEL_EMPTY, SW_CHANNEL_EOF };
enum sw_channel_got sw_channel_receive(struct sw_channel *c, char *event, size_t room, size_t *n);

#endif
