#include "channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char end_mark[] = "END"; /* an event begins with '{' */

int sw_channel_open(struct sw_channel *c)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
        return -errno;
    const int bytes = SW_CHANNEL_SEND_BYTES;
    /* FORCE passes net.core.wmem_max but needs CAP_NET_ADMIN; without it the kernel caps the request. */
    if (setsockopt(fd[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        (void)setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    *c = (struct sw_channel){fd[0], fd[1]};
    return 0;
}

static int send_one(struct sw_channel *c, const char *event, size_t n)
{
    ssize_t sent;
    do {
        sent = send(c->write_fd, event, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)n ? 0 : -errno;
}

struct entry {
    size_t n;
    bool must;
};

bool sw_channel_flush(struct sw_channel *c, struct sw_backlog *b)
{
    while (b->used > b->start) {
        struct entry entry;
        memcpy(&entry, b->bytes + b->start, sizeof entry);
        if (send_one(c, b->bytes + b->start + sizeof entry, entry.n) < 0)
            return false;
        b->start += sizeof entry + entry.n;
        *(entry.must ? &b->ends : &b->others) -= 1;
    }
    b->start = b->used = 0;
    return true;
}

static bool keep(struct sw_backlog *b, const char *event, size_t n, bool must)
{
    const struct entry entry = {n, must};
    const size_t need = sizeof entry + n, room = sizeof b->bytes - (must ? 0 : SW_BACKLOG_RESERVE);
    if (b->used + need > room && b->start > 0) {
        memmove(b->bytes, b->bytes + b->start, b->used - b->start);
        b->used -= b->start;
        b->start = 0;
    }
    if (b->used + need > room)
        return false;
    memcpy(b->bytes + b->used, &entry, sizeof entry);
    memcpy(b->bytes + b->used + sizeof entry, event, n);
    b->used += need;
    *(must ? &b->ends : &b->others) += 1;
    return true;
}

int sw_channel_send(struct sw_channel *c, struct sw_backlog *b, const char *event, size_t n, bool must)
{
    if (sw_channel_flush(c, b) && send_one(c, event, n) == 0)
        return 0;
    return keep(b, event, n, must) ? 0 : -ENOBUFS;
}

int sw_channel_send_end(struct sw_channel *c)
{
    return send_one(c, end_mark, sizeof end_mark - 1);
}

enum sw_channel_got sw_channel_receive(struct sw_channel *c, char *event, size_t room, size_t *n)
{
    ssize_t got;
    do {
        got = recv(c->read_fd, event, room, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? SW_CHANNEL_EMPTY : SW_CHANNEL_EOF;
    if (got == 0)
        return SW_CHANNEL_EOF;
    *n = (size_t)got;
    if (*n == sizeof end_mark - 1 && memcmp(event, end_mark, *n) == 0)
        return SW_CHANNEL_END;
    return SW_CHANNEL_EVENT;
}
