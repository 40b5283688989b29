#include "callsets.h"

#include "procfs.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

#define FDS_SHOWN          3
#define POLL_FDS_READ      32
#define EPOLL_BUDGET_BYTES ((size_t)16 * 1024) /* of the list of what an epoll watches */
#define EPOLL_LINES_MAX    256
#define PROC_PATH_CHARS    64
#define WORD_BITS          64

struct watched {
    size_t count; /* all of them; the first FDS_SHOWN are kept */
    struct {
        int fd;
        uint32_t events;
    } first[FDS_SHOWN];
};

static void watch(struct watched *w, int fd, uint32_t events)
{
    if (w->count < FDS_SHOWN) {
        w->first[w->count].fd = fd;
        w->first[w->count].events = events;
    }
    w->count++;
}

/* The bits of poll and epoll are the same numbers. */
static void put_events(struct sw_text *t, uint32_t events)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLRDHUP, "RDHUP"}};
    const char *between = " ";
    for (size_t i = 0; i < SW_COUNT(names); i++)
        if (events & names[i].bit) {
            sw_text_put(t, between);
            sw_text_put(t, names[i].name);
            between = "|";
        }
}

static void put_watched(struct sw_text *t, const struct watched *w, struct sw_waitstate *out)
{
    if (!w->count)
        sw_text_put(t, "no fd");
    const size_t shown = w->count < FDS_SHOWN ? w->count : FDS_SHOWN;
    for (size_t i = 0; i < shown; i++) {
        if (i)
            sw_text_put(t, ", ");
        sw_callwords_put_fd(t, w->first[i].fd);
        put_events(t, w->first[i].events);
    }
    if (w->count > shown)
        sw_text_printf(t, ", %zu more", w->count - shown);
    if (w->count != 1)
        return;
    out->fd = w->first[0].fd;
    out->fd_read = w->first[0].events & (POLLIN | POLLPRI | POLLRDHUP);
    out->fd_write = w->first[0].events & POLLOUT;
}

void sw_callsets_put_poll(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    struct pollfd fds[POLL_FDS_READ];
    struct watched w = {0};
    const size_t all = (size_t)(uint32_t)call->arg[1];
    const size_t n = all < POLL_FDS_READ ? all : POLL_FDS_READ;
    if (n && !sw_callwords_read(call, call->arg[0], fds, n * sizeof fds[0])) {
        sw_text_printf(t, "%zu fds", all);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (fds[i].fd >= 0) /* the kernel skips negative ones */
            watch(&w, fds[i].fd, (uint16_t)fds[i].events);
    w.count += all - n;
    put_watched(t, &w, out);
}

void sw_callsets_put_select(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    static const uint32_t events[] = {POLLIN, POLLOUT, POLLPRI};
    uint64_t set[SW_COUNT(events)][FD_SETSIZE / WORD_BITS] = {{0}};
    struct watched w = {0};
    const int count = sw_callwords_int(call->arg[0]);
    const size_t n = count < 0 ? 0 : count > FD_SETSIZE ? FD_SETSIZE : (size_t)count;
    const size_t words = (n + WORD_BITS - 1) / WORD_BITS;

    for (size_t s = 0; s < SW_COUNT(events) && words; s++)
        if (call->arg[1 + s] &&
            !sw_callwords_read(call, call->arg[1 + s], set[s], words * sizeof set[s][0])) {
            sw_text_printf(t, "fds below %d", count);
            return;
        }
    for (size_t fd = 0; fd < n; fd++) {
        uint32_t asked = 0;
        for (size_t s = 0; s < SW_COUNT(events); s++)
            if (set[s][fd / WORD_BITS] >> fd % WORD_BITS & 1)
                asked |= events[s];
        if (asked)
            watch(&w, (int)fd, asked);
    }
    put_watched(t, &w, out);
}

/* fdinfo of an epoll names what it watches: "tfd: 9 events: 19 data: ..." */
void sw_callsets_put_epoll(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out)
{
    char path[PROC_PATH_CHARS];
    struct sw_procfs_lines lines;
    struct watched w = {0};
    const int epoll = sw_callwords_int(call->arg[0]);
    sw_text_printf(t, "fd %d", epoll);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll);
    if (sw_procfs_lines_open(&lines, path, EPOLL_BUDGET_BYTES))
        return;
    const char *line;
    for (unsigned i = 0; i < EPOLL_LINES_MAX && (line = sw_procfs_lines_next(&lines)); i++) {
        uint64_t fd, events;
        if (strncmp(line, "tfd:", strlen("tfd:")) != 0)
            continue;
        line += strlen("tfd:");
        if (!sw_procfs_number(&line, 10, &fd) || fd > INT32_MAX || !(line = strstr(line, "events:")))
            continue;
        line += strlen("events:");
        if (sw_procfs_number(&line, 16, &events))
            watch(&w, (int)fd, (uint32_t)events);
    }
    sw_procfs_lines_close(&lines);
    sw_text_put(t, " watching ");
    put_watched(t, &w, out);
}
