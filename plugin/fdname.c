#include "fdname.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define LINK_CHARS       64
#define PATH_SHOWN_BYTES 120

void sw_fdname_put_path(struct sw_text *t, const char *path, size_t n)
{
    if (n > PATH_SHOWN_BYTES) {
        sw_text_put(t, "…");
        path += n - PATH_SHOWN_BYTES;
        n = PATH_SHOWN_BYTES;
        while (n && ((unsigned char)*path & 0xC0) == 0x80) /* the rest of a character that was cut */
            path++, n--;
    }
    sw_text_put_escaped(t, path, n);
}

static bool put_inet(struct sw_text *t, int family, const void *ip, in_port_t port)
{
    char digits[INET6_ADDRSTRLEN];
    if (!inet_ntop(family, ip, digits, sizeof digits))
        return false;
    sw_text_printf(t, family == AF_INET6 ? "[%s]:%u" : "%s:%u", digits, ntohs(port));
    return true;
}

static bool put_unix(struct sw_text *t, const struct sockaddr_un *un, size_t bytes)
{
    const size_t n = bytes - offsetof(struct sockaddr_un, sun_path);
    if (bytes <= offsetof(struct sockaddr_un, sun_path) || bytes > sizeof *un)
        return false;
    sw_text_put(t, "unix:");
    if (un->sun_path[0]) {
        sw_fdname_put_path(t, un->sun_path, strnlen(un->sun_path, n));
    } else { /* abstract: the name is all the bytes that follow the zero */
        sw_text_put_char(t, '@');
        sw_fdname_put_path(t, un->sun_path + 1, n - 1);
    }
    return true;
}

bool sw_fdname_put_address(struct sw_text *t, const struct sockaddr_storage *address, size_t bytes)
{
    union {
        struct sockaddr_storage any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } a = {.any = *address};

    if (bytes < sizeof a.any.ss_family)
        return false;
    if (a.any.ss_family == AF_INET && bytes >= sizeof a.in)
        return put_inet(t, AF_INET, &a.in.sin_addr, a.in.sin_port);
    if (a.any.ss_family == AF_INET6 && bytes >= offsetof(struct sockaddr_in6, sin6_scope_id))
        return put_inet(t, AF_INET6, &a.in6.sin6_addr, a.in6.sin6_port);
    if (a.any.ss_family == AF_UNIX)
        return put_unix(t, &a.un, bytes);
    return false;
}

static bool put_own_address(struct sw_text *t, int fd, const char *before)
{
    struct sockaddr_storage own = {0};
    socklen_t own_bytes = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &own_bytes))
        return false;
    /* known only after writing: take the words before it back when there was nothing to say */
    const size_t used = t->used;
    const bool cut = t->cut;
    sw_text_put(t, before);
    if (sw_fdname_put_address(t, &own, own_bytes))
        return true;
    t->used = used;
    t->cut = cut;
    if (t->room)
        t->at[used] = 0;
    return false;
}

static void put_socket(struct sw_text *t, int fd)
{
    int listening = 0, type = 0;
    socklen_t bytes = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) == 0 && listening) {
        if (!put_own_address(t, fd, "listening on "))
            sw_text_put(t, "listening");
        return;
    }
    struct sockaddr_storage peer = {0};
    socklen_t peer_bytes = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_bytes) == 0) {
        if (sw_fdname_put_address(t, &peer, peer_bytes))
            return;
        /* an accepted Unix connection: only our end has a name */
        if (!put_own_address(t, fd, "a client of "))
            sw_text_put(t, "unix socket");
        return;
    }
    if (errno == EBADF || errno == ENOTSOCK) { /* reused since the link was read */
        sw_text_put(t, "closed");
        return;
    }
    bytes = sizeof type;
    (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes);
    const char *kind = type == SOCK_DGRAM ? "datagram socket" : "unconnected socket";
    sw_text_put(t, kind);
    (void)put_own_address(t, fd, " ");
}

static const struct {
    const char *link, *name;
} special[] = {
    {"pipe:[", "pipe"},
    {"anon_inode:[eventfd", "eventfd"},
    {"anon_inode:[timerfd", "timerfd"},
    {"anon_inode:[eventpoll", "epoll"},
    {"anon_inode:[signalfd", "signalfd"},
    {"anon_inode:[pidfd", "pidfd"},
    {"anon_inode:[io_uring", "io_uring"},
    {"anon_inode:inotify", "inotify"},
    {"anon_inode:[fanotify", "fanotify"},
    {"pidfd:[", "pidfd"},
};

void sw_fdname_put(struct sw_text *t, int fd)
{
    char link[LINK_CHARS], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0) {
        sw_text_put(t, errno == ENOENT ? "closed" : "unknown");
        return;
    }
    target[n] = 0;
    if (strncmp(target, "socket:[", strlen("socket:[")) == 0) {
        put_socket(t, fd);
        return;
    }
    for (size_t i = 0; i < SW_COUNT(special); i++)
        if (strncmp(target, special[i].link, strlen(special[i].link)) == 0) {
            sw_text_put(t, special[i].name);
            return;
        }
    sw_fdname_put_path(t, target, (size_t)n);
}
