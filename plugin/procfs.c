#include "procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_CHARS 64
#define COMM_CHARS 64

static int open_file(const char *path)
{
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static ssize_t read_some(int fd, char *out, size_t n)
{
    ssize_t got;
    do
        got = read(fd, out, n);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

ssize_t sw_procfs_read(const char *path, char *out, size_t room)
{
    out[0] = 0;
    const int fd = open_file(path);
    if (fd < 0)
        return fd;
    size_t used = 0;
    ssize_t got = 0;
    while (used + 1 < room && (got = read_some(fd, out + used, room - 1 - used)) > 0)
        used += (size_t)got;
    close(fd);
    out[used] = 0;
    return got < 0 ? got : (ssize_t)used;
}

int sw_procfs_lines_open(struct sw_procfs_lines *l, const char *path, size_t budget)
{
    l->start = l->end = 0;
    l->budget = budget;
    l->fd = open_file(path);
    return l->fd < 0 ? l->fd : 0;
}

/* Room for one terminating zero is always left behind `end`. */
static bool refill(struct sw_procfs_lines *l)
{
    memmove(l->buf, l->buf + l->start, l->end - l->start);
    l->end -= l->start;
    l->start = 0;
    const size_t room = sizeof l->buf - 1 - l->end;
    const size_t want = l->budget < room ? l->budget : room;
    const ssize_t got = want ? read_some(l->fd, l->buf + l->end, want) : 0;
    if (got <= 0)
        return false;
    l->end += (size_t)got;
    l->budget -= (size_t)got;
    return true;
}

char *sw_procfs_lines_next(struct sw_procfs_lines *l)
{
    char *newline;
    while (!(newline = memchr(l->buf + l->start, '\n', l->end - l->start)))
        if (!refill(l))
            break;
    if (!newline && l->start == l->end)
        return NULL;
    char *line = l->buf + l->start;
    if (newline) {
        *newline = 0;
        l->start = (size_t)(newline - l->buf) + 1;
    } else {
        l->buf[l->end] = 0;
        l->start = l->end;
    }
    return line;
}

void sw_procfs_lines_close(struct sw_procfs_lines *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

void sw_procfs_put_process(struct sw_text *t, pid_t pid)
{
    char path[PATH_CHARS], comm[COMM_CHARS];
    sw_text_printf(t, "pid %ld", (long)pid);
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    ssize_t n = sw_procfs_read(path, comm, sizeof comm);
    if (n > 0 && comm[n - 1] == '\n')
        n--;
    if (n <= 0)
        return;
    sw_text_put(t, " \"");
    sw_text_put_escaped(t, comm, (size_t)n);
    sw_text_put(t, "\"");
}

static unsigned digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    return UINT32_MAX;
}

bool sw_procfs_number(const char **s, unsigned base, uint64_t *out)
{
    const char *p = *s;
    while (*p == ' ' || *p == '\t')
        p++;
    if (base == 16 && p[0] == '0' && p[1] == 'x')
        p += 2;
    if (digit_of(*p) >= base)
        return false;
    uint64_t value = 0;
    for (unsigned digit; (digit = digit_of(*p)) < base; p++)
        if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    *out = value;
    *s = p;
    return true;
}
