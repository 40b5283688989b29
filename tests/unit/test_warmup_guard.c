/* warmup_guard.h: the client of a request that answers, takes too long, or cannot be ended. */
#include "unit.h"

#include "warmup_guard.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEVER_NS  (60 * SW_NS_PER_SEC)
#define BIG_BYTES (4 * 1024 * 1024)

/* The hooks' side: what they were called for, and how they answer. */
static struct {
    _Atomic bool leaving, ends_on_interrupt, can_replace;
    _Atomic unsigned interrupts, replaces;
    int server, wake[2];
} scene;

static struct sw_guard guard;

static bool leaving(void)
{
    return atomic_load(&scene.leaving);
}

static void interrupt(void)
{
    atomic_fetch_add(&scene.interrupts, 1);
    if (atomic_load(&scene.ends_on_interrupt))
        assert_int_equal(write(scene.wake[1], "x", 1), 1);
}

static void replace(void)
{
    atomic_fetch_add(&scene.replaces, 1);
    assert_int_equal(write(scene.wake[1], "x", 1), 1); /* in place of the end of the process */
}

static const struct sw_guard_hooks hooks = {leaving, interrupt, replace};

static void start(uint64_t limit_ns)
{
    int pair[2];
    memset(&scene, 0, sizeof scene);
    assert_int_equal(pipe(scene.wake), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
    scene.server = pair[0];
    assert_int_equal(sw_guard_start(&guard, pair[1], limit_ns, &hooks), 0);
}

static void answer(const char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t written = write(scene.server, bytes, n);
        assert_true(written > 0);
        bytes += written;
        n -= (size_t)written;
    }
}

static void end(void)
{
    if (scene.server >= 0)
        close(scene.server);
    sw_guard_end(&guard);
    close(scene.wake[0]);
    close(scene.wake[1]);
}

/* the request hangs until a hook ends it */
static void hang(void)
{
    struct pollfd wake = {.fd = scene.wake[0], .events = POLLIN};
    assert_int_equal(poll(&wake, 1, (int)(NEVER_NS / SW_NS_PER_MS)), 1);
}

static void an_answer_in_time(void **state)
{
    (void)state;
    start(sw_now_ns() + NEVER_NS);
    answer("HTTP/1.1 200 OK\r\n\r\nbody", 23);
    end();
    assert_int_equal(guard.head_bytes, 23);
    assert_memory_equal(guard.head, "HTTP/1.1 200 OK\r\n\r\nbody", 23);
    assert_int_equal(guard.interrupt_ns, 0);
    assert_int_equal(atomic_load(&scene.interrupts), 0);
}

static void an_answer_that_is_still_in_the_socket_at_the_end(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        start(sw_now_ns() + NEVER_NS);
        answer("late", 4);
        sw_guard_end(&guard); /* the connection stays open, as if a child of the application had it */
        assert_int_equal(guard.head_bytes, 4);
        close(scene.server);
        close(scene.wake[0]);
        close(scene.wake[1]);
    }
}

static void a_big_answer_is_taken(void **state)
{
    (void)state;
    char *big = malloc(BIG_BYTES);
    assert_non_null(big);
    memset(big, 'b', BIG_BYTES);
    start(sw_now_ns() + NEVER_NS);
    answer(big, BIG_BYTES); /* would block if nobody read */
    end();
    assert_int_equal(guard.head_bytes, SW_GUARD_HEAD_BYTES);
    assert_memory_equal(guard.head, big, SW_GUARD_HEAD_BYTES);
    free(big);
}

static void no_answer_at_all(void **state)
{
    (void)state;
    start(sw_now_ns() + NEVER_NS);
    end();
    assert_int_equal(guard.head_bytes, 0);
}

static void interrupted_at_its_limit(void **state)
{
    (void)state;
    const uint64_t begin_ns = sw_now_ns(), limit_ns = begin_ns + 150 * SW_NS_PER_MS;
    start(limit_ns);
    atomic_store(&scene.ends_on_interrupt, true);
    hang();
    const uint64_t ended_ns = sw_now_ns();
    end();
    assert_true(ended_ns >= limit_ns);
    assert_true(ended_ns < limit_ns + 3 * SW_NS_PER_SEC);
    assert_true(guard.interrupt_ns >= limit_ns);
    assert_int_equal(atomic_load(&scene.interrupts), 1);
    assert_int_equal(atomic_load(&scene.replaces), 0);
}

static void interrupted_again_and_then_replaced(void **state)
{
    (void)state;
    const uint64_t begin_ns = sw_now_ns();
    start(begin_ns);
    hang();
    const uint64_t took_ns = sw_now_ns() - begin_ns;
    end();
    assert_true(took_ns >= SW_GUARD_PATIENCE_NS);
    assert_true(took_ns < 3 * SW_GUARD_PATIENCE_NS);
    const unsigned most = (unsigned)(SW_GUARD_PATIENCE_NS / SW_GUARD_AGAIN_NS) + 1;
    assert_in_range(atomic_load(&scene.interrupts), 2, most);
    assert_int_equal(atomic_load(&scene.replaces), 1); /* which could not be, so the request went on */
}

static void a_process_that_is_to_leave_does_not_wait(void **state)
{
    (void)state;
    start(sw_now_ns() + NEVER_NS);
    atomic_store(&scene.ends_on_interrupt, true);
    atomic_store(&scene.leaving, true);
    const uint64_t begin_ns = sw_now_ns();
    hang();
    const uint64_t took_ns = sw_now_ns() - begin_ns;
    end();
    assert_true(took_ns >= SW_GUARD_LEAVE_NS);
    assert_true(took_ns < SW_GUARD_LEAVE_NS + 3 * SW_NS_PER_SEC);
    assert_true(guard.leave_ns > 0);
}

static void a_request_that_ends_at_its_limit(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        start(sw_now_ns() + SW_NS_PER_MS);
        usleep((useconds_t)(900 + i % 200)); /* around the limit: each side may be first */
        end();
        const unsigned interrupts = atomic_load(&scene.interrupts);
        assert_true(interrupts <= 1);
        assert_true((interrupts == 1) ==
                    (guard.interrupt_ns > 0)); /* the caller knows what it has to settle */
    }
}

static void no_thread(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    /* no more descriptors: the end of a connection must not leak then */
    int held[4096];
    unsigned count = 0;
    while (count < SW_COUNT(held) && (held[count] = dup(pair[0])) >= 0)
        count++;
    if (count < SW_COUNT(held)) {
        assert_int_equal(sw_guard_start(&guard, pair[1], 0, &hooks), -EMFILE);
        assert_int_equal(fcntl(pair[1], F_GETFD), -1);
    }
    while (count-- > 0)
        close(held[count]);
    close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_in_time),
        cmocka_unit_test(an_answer_that_is_still_in_the_socket_at_the_end),
        cmocka_unit_test(a_big_answer_is_taken),
        cmocka_unit_test(no_answer_at_all),
        cmocka_unit_test(interrupted_at_its_limit),
        cmocka_unit_test(interrupted_again_and_then_replaced),
        cmocka_unit_test(a_process_that_is_to_leave_does_not_wait),
        cmocka_unit_test(a_request_that_ends_at_its_limit),
        cmocka_unit_test(no_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
