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

/* Sends until it is refused; returns how many were taken. */
static unsigned fill(struct sw_channel *c, unsigned from, bool must)
{
    unsigned number = from;
    for (int err = 0; err == 0 && number < 100000; number++) {
        make_event(number);
        err = sw_channel_send(c, &backlog, event, sizeof event, must);
        if (err) {
            assert_int_equal(err, -ENOBUFS);
            return number - from;
        }
    }
    fail_msg("the channel never fills");
    return 0;
}

static void a_full_channel_keeps_some_and_more_of_what_must_not_be_lost(void **state)
{
    (void)state;
    struct sw_channel c;
    unsigned received = 0;
    memset(&backlog, 0, sizeof backlog);
    assert_int_equal(sw_channel_open(&c), 0);
    unsigned sent = fill(&c, 0, false); /* nobody reads */
    assert_true(sent >
                (SW_BACKLOG_BYTES - SW_BACKLOG_RESERVE) / EVENT_BYTES); /* the channel itself held some */
    const unsigned kept = backlog.others, ends = fill(&c, sent, true);
    assert_true(ends >= SW_BACKLOG_RESERVE / EVENT_BYTES - 1);
    assert_int_equal(backlog.others, kept);
    assert_int_equal(backlog.ends, ends);
    sent += ends;
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
    assert_int_equal(backlog.others + backlog.ends, 0);
    close(c.read_fd);
    close(c.write_fd);
}

static void an_event_outlives_its_sender(void **state)
{
    (void)state;
    struct sw_channel c;
    memset(&backlog, 0, sizeof backlog);
    assert_int_equal(sw_channel_open(&c), 0);
    make_event(7);
    const pid_t child = fork();
    if (child == 0) {
        (void)!sw_channel_send(&c, &backlog, event, sizeof event, false);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    size_t n;
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_EVENT);
    assert_int_equal(number_of(got), 7);
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_EMPTY);
    assert_int_equal(sw_channel_send_end(&c), 0);
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_END);
    close(c.write_fd);
    assert_int_equal(sw_channel_receive(&c, got, sizeof got, &n), SW_CHANNEL_EOF);
    close(c.read_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_channel_keeps_some_and_more_of_what_must_not_be_lost),
        cmocka_unit_test(an_event_outlives_its_sender),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
