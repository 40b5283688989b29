/* A child that is forked in the middle of everything starts with nothing, and can use deadlines at once; the parent goes
 * on as if nothing had been. */
#include "unit.h"

#include "deadlines.h"
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS         30
#define BUSY_THREADS  2
#define CHILD_SECONDS 120 /* then it hangs */

/* The thread sanitizer ends the child of a process with threads when it starts one itself. Under it the child is
 * looked at only as far as it can go without; the other flavours see the rest. */
#ifdef __SANITIZE_THREAD__
#define CHILD_MAY_HAVE_THREADS false
#else
#define CHILD_MAY_HAVE_THREADS true
#endif

struct parent {
    struct sw_strand kicked, posted, shielded;
    struct sw_deadline outer, inner, post, shield;
    atomic_uint kicks;
    int group;
    atomic_bool end;
};

static struct parent p;

static void *enter_and_leave(void *unused)
{
    static _Thread_local struct sw_strand s;
    static _Thread_local struct sw_deadline outer, inner;
    (void)unused;
    sw_strand_init(&s, SW_WAY_POST, &p.group);
    while (!atomic_load(&p.end)) {
        const uint64_t now = sw_deadline_clock_ns();
        sw_deadline_enter(&outer, &s, now, now % SW_MSEC);
        sw_deadline_enter(&inner, &s, now, now % SW_MSEC / 10);
        sw_deadline_leave(&inner);
        sw_deadline_leave(&outer);
    }
    sw_strand_fini(&s);
    return NULL;
}

/* ---- the child: its own assertions, since cmocka's belong to the parent ---- */

#define check(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "in the child: %s:%d: %s\n", __FILE__, __LINE__, #condition);                    \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

static void check_that_nothing_is_open(void)
{
    struct sw_deadline *old[] = {&p.outer, &p.inner, &p.post, &p.shield};
    check(broken() == 0);
    check(sw_deadlines.heap.used == 0 && !sw_deadlines.strands && !sw_deadlines.running);
    for (size_t i = 0; i < sizeof old / sizeof *old; i++) {
        check(!sw_deadline_take(old[i], SW_DEADLINE_NEVER - 1));
        check(!sw_deadline_post(old[i], SW_DEADLINE_NEVER - 1));
        check(sw_deadline_leave(old[i]) == SW_DEADLINE_CLOSED);
    }
    check(!sw_strand_take(&p.kicked));
    check(!sw_strand_posted(&p.posted));
    check(!sw_deadline_pick(&p.group, SW_DEADLINE_NEVER - 1));
    check(p.shielded.shields == 0);
    sw_strand_unshield(&p.shielded); /* the shield's end, in the child */
    check(p.shielded.shields == 0);
}

static void check_that_all_works(void)
{
    uint64_t at_ns;
    struct sw_deadline *post;
    const unsigned kicks = atomic_load(&p.kicks);
    const uint64_t now = sw_deadline_clock_ns();
    check(sw_deadline_enter(&p.outer, &p.kicked, now, FAR_NS) == 0);
    check(sw_deadline_enter(&p.inner, &p.kicked, now, SW_MSEC) == 0);
    while (atomic_load(&p.kicks) < kicks + 3)
        nap();
    check(sw_strand_take(&p.kicked) == &p.inner);
    check(sw_deadline_enter(&p.post, &p.posted, now, SW_MSEC) == 0);
    check(sw_deadline_await(&p.group, &never, &at_ns));
    check((post = sw_deadline_pick(&p.group, sw_deadline_clock_ns())) == &p.post);
    check(sw_deadline_post(post, sw_deadline_clock_ns()));
    sw_deadline_settle(post, true);
    check(sw_deadline_leave(&p.post) == SW_DEADLINE_RAISED);
    check(sw_deadline_leave(&p.inner) == SW_DEADLINE_RAISED);
    check(broken() == 0);
}

static void be_a_child(void)
{
    alarm(CHILD_SECONDS);
    check_that_nothing_is_open();
    if (!CHILD_MAY_HAVE_THREADS)
        _exit(0);
    check_that_all_works();
    const pid_t grandchild = fork();
    if (grandchild == 0) {
        check(broken() == 0 && sw_deadlines.heap.used == 0);
        check(sw_deadline_leave(&p.outer) == SW_DEADLINE_CLOSED);
        check_that_all_works();
        _exit(0);
    }
    int status = -1;
    check(waitpid(grandchild, &status, 0) == grandchild && status == 0);
    check(sw_deadline_leave(&p.outer) == SW_DEADLINE_OPEN);
    sw_deadline_stop();
    _exit(0);
}

/* ---- the parent ---- */

static void open_everything(void)
{
    const uint64_t now = sw_deadline_clock_ns();
    sw_strand_init(&p.kicked, SW_WAY_SIGNAL, &p.kicks);
    sw_strand_init(&p.posted, SW_WAY_POST, &p.group);
    sw_strand_init(&p.shielded, SW_WAY_POST, &p.group);
    assert_int_equal(sw_deadline_enter(&p.outer, &p.kicked, now, FAR_NS), 0);
    assert_int_equal(sw_deadline_enter(&p.inner, &p.kicked, now, 0), 0);
    assert_int_equal(sw_deadline_enter(&p.post, &p.posted, now, 0), 0);
    assert_int_equal(sw_deadline_enter(&p.shield, &p.shielded, now, 0), 0);
    sw_strand_shield(&p.shielded);
    wait_until(state_of(&p.post) == SW_DEADLINE_DUE && state_of(&p.shield) == SW_DEADLINE_DUE);
    assert_true(sw_deadline_post(&p.post, sw_deadline_clock_ns()));
    wait_until(atomic_load(&p.kicks) >= 1);
}

static void assert_that_all_is_as_it_was(void)
{
    const unsigned kicks = atomic_load(&p.kicks);
    assert_int_equal(broken(), 0);
    wait_until(atomic_load(&p.kicks) > kicks);
    assert_ptr_equal(sw_strand_take(&p.kicked), &p.inner);
    assert_ptr_equal(sw_strand_posted(&p.posted), &p.post);
    sw_deadline_settle(&p.post, true);
    sw_strand_unshield(&p.shielded);
    assert_ptr_equal(sw_strand_take(&p.shielded), &p.shield);
    assert_int_equal(sw_deadline_leave(&p.inner), SW_DEADLINE_RAISED);
    assert_int_equal(sw_deadline_leave(&p.outer), SW_DEADLINE_OPEN);
    assert_int_equal(sw_deadline_leave(&p.post), SW_DEADLINE_RAISED);
    assert_int_equal(sw_deadline_leave(&p.shield), SW_DEADLINE_RAISED);
    sw_strand_fini(&p.kicked);
    sw_strand_fini(&p.posted);
    sw_strand_fini(&p.shielded);
}

static void *fork_and_wait(void *status)
{
    const pid_t child = fork();
    if (child == 0)
        be_a_child();
    if (child < 0 || waitpid(child, status, 0) != child)
        *(int *)status = -1;
    return NULL;
}

static void a_child_starts_clean_whatever_went_on(void **state)
{
    (void)state;
    pthread_t busy[BUSY_THREADS], forking;
    memset(&p, 0, sizeof p);
    for (int i = 0; i < BUSY_THREADS; i++)
        assert_int_equal(pthread_create(&busy[i], NULL, enter_and_leave, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        int status = -1;
        open_everything();
        if (i % 2) { /* not from the thread that opened the blocks */
            assert_int_equal(pthread_create(&forking, NULL, fork_and_wait, &status), 0);
            pthread_join(forking, NULL);
        } else {
            fork_and_wait(&status);
        }
        assert_int_equal(status, 0);
        assert_that_all_is_as_it_was();
    }
    atomic_store(&p.end, true);
    for (int i = 0; i < BUSY_THREADS; i++)
        pthread_join(busy[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {world_test(a_child_starts_clean_whatever_went_on)};
    pthread_atfork(sw_deadline_fork_prepare, sw_deadline_fork_parent, sw_deadline_fork_child);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
