/* The log on descriptor 2, which a test replaces by a pipe of packets as log-master does. */
#include "unit.h"

#include "log.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_BYTES 8192

static int saved_stderr, reader;
static char packet[PACKET_BYTES + 1];

static int packets(void **state)
{
    (void)state;
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd) < 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    dup2(fd[1], STDERR_FILENO);
    close(fd[1]);
    reader = fd[0];
    return saved_stderr < 0 ? -1 : 0;
}

static int restore(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(reader);
    sw_log_set_prefix(NULL);
    sw_log_set_write_max(SW_LOG_WRITE_MAX);
    return 0;
}

static bool next_packet(void)
{
    const ssize_t n = recv(reader, packet, PACKET_BYTES, 0);
    if (n > 0)
        packet[n] = 0;
    return n > 0;
}

static size_t date(char *to, size_t room)
{
    return (size_t)snprintf(to, room, "today - ");
}

static void a_line_is_one_packet_with_its_prefix(void **state)
{
    (void)state;
    sw_log_set_prefix(date);
    sw_log("hello\n%s", "w\rorld");
    assert_true(next_packet());
    assert_string_equal(packet, "today - slowwatch: hello\\nw\\rorld\n");
    assert_false(next_packet());
    sw_log_entry_raw("raw\n", 4);
    assert_true(next_packet());
    assert_string_equal(packet, "raw\n");
}

static void an_entry_is_split_at_line_ends(void **state)
{
    (void)state;
    static char entry[20000];
    size_t n = 0;
    for (unsigned i = 0; i < 200; i++)
        n += (size_t)snprintf(entry + n, sizeof entry - n, "line %u %060u\n", i, i);
    sw_log_set_write_max(4096);
    sw_log_entry(entry, n);
    size_t got = 0;
    while (next_packet()) {
        assert_true(strlen(packet) <= 4096 && packet[strlen(packet) - 1] == '\n');
        assert_memory_equal(packet, entry + got, strlen(packet));
        got += strlen(packet);
    }
    assert_int_equal(got, n);
    sw_log_set_write_max(1); /* a limit that nothing fits into still lets something through */
    assert_true(sw_log_write_max() >= 64);
}

static void what_a_full_pipe_does_not_take_is_counted_and_told(void **state)
{
    (void)state;
    static char entry[4000];
    memset(entry, 'x', sizeof entry);
    unsigned sent = 0, got = 0, told = 0, count;
    for (; sent < 10000; sent++)
        sw_log_entry(entry, sizeof entry); /* nobody reads: some are lost */
    for (int last = 0; last < 2; last++) { /* what was taken; then what a log that is read again is told */
        while (next_packet())
            if (sscanf(packet, "slowwatch: %u writes to the log were lost", &count) == 1)
                told += count;
            else
                got += packet[0] == 'x';
        sw_log("after");
    }
    assert_true(got > 0 && got < sent);
    assert_int_equal(got + told, sent);
    assert_string_equal(packet, "slowwatch: after\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_is_one_packet_with_its_prefix, packets, restore),
        cmocka_unit_test_setup_teardown(an_entry_is_split_at_line_ends, packets, restore),
        cmocka_unit_test_setup_teardown(what_a_full_pipe_does_not_take_is_counted_and_told, packets, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
