#include "callsets.h"

#include <poll.h>
#include <sys/select.h>

#define FDS_SHOWN     3
#define POLL_FDS_READ 32
#define WORD_BITS     64

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
