#include "unit.h"

#include "channel.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENT_BYTES 8192

static struct sw_backlog backlog;
static char event[EVENT_BYTES], got[EVENT_BYTES * 2];

static void make_event(unsigned number)
{
    memset(event, 'x', sizeof event);
    snprintf(event, sizeof event, "{%u", number);
}

static unsigned number_of(const char *bytes)
{
    return (unsigned)strtoul(bytes + 1, NULL, 10);
}

static void a_full_channel_keeps_then_drops_and_counts(void **state)
{
    (void)state;
    struct sw_channel c;
    _Atomic uint64_t dropped = 0;
    unsigned sent = 0, received = 0;
    backlog.start = backlog.used = 0;
    assert_int_equal(sw_channel_open(&c), 0);
    for (; sent < 100000; sent++) { /* nobody reads */
        make_event(sent);
        const int err = sw_channel_send(&c, &backlog, event, sizeof event, &dropped);
        if (err) {
            assert_int_equal(err, -ENOBUFS);
            break;
        }
    }
    assert_int_equal(dropped, 1);
    assert_true(sent > SW_BACKLOG_BYTES / EVENT_BYTES); /* the channel itself held some */
    /* what was taken arrives, in order, whole */
    for (bool flushed = false, empty = false; !(flushed && empty);) {
        size_t n;
        flushed = sw_channel_flush(&c, &backlog);
        for (empty = true; sw_channel_receive(&c, got, sizeof got, &n) == SW_CHANNEL_EVENT; empty = false) {
            assert_int_equal(n, EVENT_BYTES);
            assert_int_equal(number_of(got), received);
            received++;
        }
    }
    assert_int_equal(received, sent);
    close(c.read_fd);
    sw_channel_close_write(&c);
}

static void an_event_outlives_its_sender(void **state)
{
    (void)state;
    struct sw_channel c;
    _Atomic uint64_t dropped = 0;
    backlog.start = backlog.used = 0;
    assert_int_equal(sw_channel_open(&c), 0);
    make_event(7);
    const pid_t child = fork();
    if (child == 0) {
        (void)sw_channel_send(&c, &backlog, event, sizeof event, &dropped);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    size_t n;
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_EVENT);
    assert_int_equal(number_of(got), 7);
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_EMPTY);
    assert_int_equal(sw_channel_send_end(&c), 0);
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_END);
    sw_channel_close_write(&c);
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_EOF);
    close(c.read_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_channel_keeps_then_drops_and_counts),
        cmocka_unit_test(an_event_outlives_its_sender),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
