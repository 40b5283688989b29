/* The timer thread, in real time: it kicks, calls for attention, says what is stuck, and sleeps as long as it can.
 * Nothing here is true only on a fast machine: what must happen is waited for; that something does not happen is seen by
 * comparison with a strand beside it to which it does. What is open is static, so that it outlives a test that fails. */
#include "unit.h"

#include "deadlines.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON_NS (2 * SW_MSEC)
#define SOME    5 /* kicks: with their gaps they take 15 ms at least */
#define NOBODY  65534

struct kicked {
    struct sw_strand strand;
    struct sw_deadline d;
    atomic_uint kicks;
};

static void open_kicked(struct kicked *k, uint64_t after_ns)
{
    memset(k, 0, sizeof *k);
    sw_strand_init(&k->strand, SW_WAY_SIGNAL, &k->kicks);
    assert_int_equal(sw_deadline_enter(&k->d, &k->strand, sw_deadline_clock_ns(), after_ns), 0);
}

static void close_kicked(struct kicked *k)
{
    sw_deadline_leave(&k->d);
    sw_strand_fini(&k->strand);
}

/* Long enough for the timer thread to have kicked everybody who is to be kicked. */
static void let_the_timer_work(void)
{
    static struct kicked beside;
    open_kicked(&beside, 0);
    wait_until(atomic_load(&beside.kicks) >= SOME);
    close_kicked(&beside);
}

/* ---- kicks ---- */

static void a_strand_is_kicked_until_it_looks(void **state)
{
    (void)state;
    static struct kicked k;
    open_kicked(&k, SOON_NS);
    wait_until(atomic_load(&k.kicks) >= SOME); /* the first ones are lost */
    assert_true(sw_deadline_clock_ns() >= k.d.at_ns);
    assert_ptr_equal(sw_strand_take(&k.strand), &k.d);
    const unsigned until_then = atomic_load(&k.kicks);
    let_the_timer_work();
    assert_int_equal(atomic_load(&k.kicks), until_then);
    assert_int_equal(sw_deadline_leave(&k.d), SW_DEADLINE_RAISED);
    close_kicked(&k);
}

static void a_block_that_was_left_is_not_kicked(void **state)
{
    (void)state;
    static struct kicked k;
    open_kicked(&k, SOON_NS);
    wait_until(atomic_load(&k.kicks) >= 1);
    assert_int_equal(sw_deadline_leave(&k.d), SW_DEADLINE_DUE);
    const unsigned until_then = atomic_load(&k.kicks);
    let_the_timer_work();
    assert_int_equal(atomic_load(&k.kicks), until_then);
    close_kicked(&k);
}

static void the_gaps_between_kicks_grow(void **state)
{
    (void)state;
    static struct kicked k;
    open_kicked(&k, 0);
    wait_until(atomic_load(&world.stucks) == 1);
    const uint64_t took_ns = sw_deadline_clock_ns() - k.d.at_ns;
    /* 1, 2, 4 ... 128 ms, then one in 250 ms */
    assert_in_range(atomic_load(&k.kicks), SOME, 9 + took_ns / SW_KICK_GAP_MAX_NS);
    close_kicked(&k);
}

static void a_shielded_strand_is_left_alone_until_the_shield_ends(void **state)
{
    (void)state;
    static struct kicked k, beside;
    open_kicked(&k, SOON_NS);
    sw_strand_shield(&k.strand);
    wait_until(state_of(&k.d) == SW_DEADLINE_DUE);
    open_kicked(&beside, 0);
    wait_until(atomic_load(&world.stucks) == 1); /* for a second */
    assert_ptr_equal(atomic_load(&world.stuck), &beside.d);
    assert_int_equal(atomic_load(&k.kicks), 0);
    uint64_t at_ns;
    assert_true(sw_deadline_await(beside.strand.group, &never, &at_ns));
    close_kicked(&beside);

    const uint64_t before = sw_deadline_clock_ns();
    sw_strand_unshield(&k.strand); /* and does not take */
    wait_until(atomic_load(&k.kicks) >= SOME);
    assert_int_equal(broken(), 0);
    /* it is late by more than a second, but nobody could have raised it */
    assert_true(atomic_load(&world.stucks) == 1 || sw_deadline_clock_ns() - before >= SW_STUCK_AFTER_NS);
    assert_ptr_equal(sw_strand_take(&k.strand), &k.d);
    close_kicked(&k);
}

/* ---- attention ---- */

static void a_strand_that_does_not_answer_is_attended(void **state)
{
    (void)state;
    static struct kicked k;
    uint64_t at_ns;
    open_kicked(&k, SOON_NS);
    assert_true(sw_deadline_await(&k.kicks, &never, &at_ns));
    const uint64_t now = sw_deadline_clock_ns();
    assert_true(at_ns == k.d.at_ns);
    assert_true(now >= k.d.at_ns + SW_STUCK_AFTER_NS);
    assert_true(atomic_load(&k.kicks) >= SOME);
    assert_ptr_equal(sw_deadline_pick(&k.kicks, now), &k.d);
    sw_deadline_put_off(&k.d, now, now + SOON_NS);
    assert_true(sw_deadline_await(&k.kicks, &never, &at_ns));
    assert_true(sw_deadline_clock_ns() >= now + SOON_NS);
    assert_true(sw_deadline_post(&k.d, sw_deadline_clock_ns()));
    wait_until(atomic_load(&world.stucks) >= 1);
    let_the_timer_work();
    assert_int_equal(atomic_load(&world.stucks), 1);
    assert_ptr_equal(sw_strand_posted(&k.strand), &k.d);
    sw_deadline_settle(&k.d, true);
    assert_int_equal(sw_deadline_leave(&k.d), SW_DEADLINE_RAISED);
    close_kicked(&k);
}

static void a_strand_that_cannot_be_kicked_is_attended_at_once(void **state)
{
    (void)state;
    static struct kicked k;
    uint64_t at_ns;
    atomic_store(&world.cannot_kick, true);
    open_kicked(&k, SOON_NS);
    assert_true(sw_deadline_await(&k.kicks, &never, &at_ns));
    pthread_mutex_lock(&sw_deadlines.lock);
    const uint64_t waited_ns = k.strand.attend_at_ns - k.strand.due_since_ns;
    pthread_mutex_unlock(&sw_deadlines.lock);
    assert_true(waited_ns < SW_KICK_GAP_FIRST_NS);

    /* it is tried again, but that is no reason to call again */
    const uint64_t now = sw_deadline_clock_ns();
    assert_ptr_equal(sw_deadline_pick(&k.kicks, now), &k.d);
    sw_deadline_put_off(&k.d, now, now + FAR_NS);
    const unsigned until_then = atomic_load(&k.kicks);
    wait_until(atomic_load(&k.kicks) >= until_then + 2);
    assert_null(sw_deadline_pick(&k.kicks, sw_deadline_clock_ns()));
    close_kicked(&k);
}

static void a_strand_for_posts_is_attended_when_it_is_due(void **state)
{
    (void)state;
    int group;
    static struct sw_strand s;
    static struct sw_deadline d;
    uint64_t at_ns;
    sw_strand_init(&s, SW_WAY_POST, &group);
    assert_int_equal(sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), SOON_NS), 0);
    assert_true(sw_deadline_await(&group, &never, &at_ns));
    assert_true(sw_deadline_clock_ns() >= d.at_ns);
    assert_true(at_ns == d.at_ns);
    assert_true(sw_deadline_await(&group, &never, &at_ns)); /* nobody did anything: it comes again */
    assert_ptr_equal(sw_deadline_pick(&group, sw_deadline_clock_ns()), &d);
    sw_strand_fini(&s);
}

static void attention_is_called_for_by_the_lead_early(void **state)
{
    (void)state;
    int group;
    static struct sw_strand s;
    static struct sw_deadline d;
    uint64_t at_ns;
    sw_deadline_set_lead(FAR_NS);
    sw_strand_init(&s, SW_WAY_POST, &group);
    assert_int_equal(sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), FAR_NS / 2), 0);
    assert_true(sw_deadline_await(&group, &never, &at_ns));
    assert_true(at_ns == d.at_ns);
    assert_null(sw_deadline_pick(&group, sw_deadline_clock_ns()));
    assert_ptr_equal(sw_deadline_pick(&group, d.at_ns), &d);
    sw_strand_fini(&s);
}

static void a_strand_with_a_timer_of_its_own_can_be_stuck(void **state)
{
    (void)state;
    static struct sw_strand s;
    static struct sw_deadline d, inner;
    sw_strand_init(&s, SW_WAY_NONE, NULL);
    assert_int_equal(sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), SOON_NS), 0);
    assert_int_equal(sw_deadline_enter(&inner, &s, sw_deadline_clock_ns(), 0), 0);
    sw_strand_shield(&s);
    wait_until(timer_sleeps_until() == SW_DEADLINE_NEVER);
    assert_int_equal(atomic_load(&world.stucks), 0);
    sw_strand_unshield(&s);
    wait_until(atomic_load(&world.stuck) == &d); /* of several the one that would be raised */
    assert_true(atomic_load(&world.stuck_late_ns) >= SW_STUCK_AFTER_NS);
    let_the_timer_work();
    assert_int_equal(atomic_load(&world.stucks), 1);
    assert_null(sw_deadline_pick(NULL, sw_deadline_clock_ns()));
    sw_strand_fini(&s);
}

/* ---- the thread ---- */

static void it_is_woken_by_an_earlier_deadline_only(void **state)
{
    (void)state;
    static struct sw_strand s;
    static struct sw_deadline far, farther, near;
    const uint64_t now = sw_deadline_clock_ns();
    sw_strand_init(&s, SW_WAY_POST, NULL);
    assert_int_equal(sw_deadline_enter(&far, &s, now, FAR_NS), 0);
    wait_until(timer_sleeps_until() == far.at_ns);
    const uint64_t wakeups = sw_deadline_wakeups();
    for (uint64_t i = 0; i < 10000; i++) {
        assert_int_equal(sw_deadline_enter(&farther, &s, now, FAR_NS + i), 0);
        assert_true(timer_sleeps_until() == far.at_ns); /* 0 if it had been called */
        assert_int_equal(sw_deadline_leave(&farther), SW_DEADLINE_OPEN);
    }
    assert_int_equal(sw_deadline_wakeups(), wakeups);

    assert_int_equal(sw_deadline_enter(&near, &s, now, FAR_NS / 2), 0);
    wait_until(timer_sleeps_until() == near.at_ns);
    const uint64_t now_awake = sw_deadline_wakeups();
    assert_true(now_awake > wakeups);
    assert_int_equal(sw_deadline_leave(&near), SW_DEADLINE_OPEN);
    assert_int_equal(sw_deadline_leave(&far), SW_DEADLINE_OPEN);
    assert_true(timer_sleeps_until() == now + FAR_NS / 2); /* leaving wakes nobody */
    assert_int_equal(sw_deadline_wakeups(), now_awake);
    sw_strand_fini(&s);
}

static void it_is_woken_when_something_is_wanted_earlier(void **state)
{
    (void)state;
    static struct sw_strand s;
    static struct sw_deadline d, beside;
    static struct kicked k;
    int group;
    sw_strand_init(&s, SW_WAY_POST, &group);
    assert_int_equal(sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), 0), 0);
    wait_until(atomic_load(&world.stucks) == 1); /* or it would wait for that */
    const uint64_t now = sw_deadline_clock_ns();
    sw_deadline_put_off(&d, now, now + FAR_NS);
    wait_until(timer_sleeps_until() == now + FAR_NS);
    sw_deadline_put_off(&d, now, now + FAR_NS / 2);
    wait_until(timer_sleeps_until() == now + FAR_NS / 2);

    open_kicked(&k, 0);
    sw_strand_shield(&k.strand);
    wait_until(timer_sleeps_until() == now + FAR_NS / 2);
    assert_int_equal(sw_deadline_enter(&beside, &s, sw_deadline_clock_ns(), SW_STUCK_AFTER_NS / 2), 0);
    wait_until(timer_sleeps_until() == beside.at_ns || sw_deadline_clock_ns() > beside.at_ns);
    sw_strand_unshield(&k.strand); /* a kick is wanted before that */
    assert_int_equal(broken(), 0);
    close_kicked(&k);
    sw_strand_fini(&s);
}

static void without_deadlines_it_sleeps_for_good(void **state)
{
    (void)state;
    static struct kicked k;
    open_kicked(&k, 0);
    wait_until(atomic_load(&k.kicks) >= 1);
    close_kicked(&k);
    wait_until(timer_sleeps_until() == SW_DEADLINE_NEVER);
}

static bool read_line(const char *folder, const char *file, const char *start, char *line, size_t room)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", folder, file);
    FILE *f = fopen(path, "r");
    bool found = false;
    while (f && !found && fgets(line, (int)room, f))
        found = strncmp(line, start, strlen(start)) == 0;
    if (f)
        fclose(f);
    return found;
}

static bool is_named_and_blocks_signals(void)
{
    DIR *tasks = opendir("/proc/self/task");
    bool found = false;
    char line[128];
    for (const struct dirent *e; !found && tasks && (e = readdir(tasks));)
        found = read_line(e->d_name, "comm", "sw-deadline\n", line, sizeof line) &&
                read_line(e->d_name, "status", "SigBlk:", line, sizeof line);
    if (tasks)
        closedir(tasks);
    /* KILL, STOP and the two that glibc keeps for itself cannot be blocked */
    return found && strtoull(line + strlen("SigBlk:"), NULL, 16) == UINT64_C(0xfffffffe7ffbfeff);
}

static void it_has_a_name_and_no_signal_reaches_it(void **state)
{
    (void)state;
    static struct kicked k;
    sigset_t none, after;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    open_kicked(&k, FAR_NS);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signum = 1; signum <= SIGRTMAX; signum++)
        assert_false(sigismember(&after, signum));
    wait_until(is_named_and_blocks_signals());
    close_kicked(&k);
}

static void *await_all(void *group)
{
    uint64_t at_ns;
    while (sw_deadline_await(group, &never, &at_ns))
        ;
    return NULL;
}

static _Atomic bool closed;

static void *await_until_closed(void *group)
{
    uint64_t at_ns;
    while (sw_deadline_await(group, &closed, &at_ns))
        ;
    return NULL;
}

static void dropping_a_group_ends_its_wait_and_no_other(void **state)
{
    (void)state;
    int group, other;
    static struct sw_strand s;
    static struct sw_deadline d;
    pthread_t waiter;
    uint64_t at_ns;
    sw_strand_init(&s, SW_WAY_POST, &other);
    assert_int_equal(pthread_create(&waiter, NULL, await_until_closed, &group), 0);
    assert_int_equal(sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), SOON_NS), 0);
    atomic_store(&closed, true);
    sw_deadline_drop_group(&group);
    pthread_join(waiter, NULL);
    assert_true(sw_deadline_await(&other, &never, &at_ns));
    assert_ptr_equal(sw_deadline_pick(&other, sw_deadline_clock_ns()), &d);
    sw_strand_fini(&s);
}

static void stopping_ends_everything_and_setup_begins_again(void **state)
{
    (void)state;
    static struct kicked k;
    pthread_t waiter;
    open_kicked(&k, 0);
    wait_until(atomic_load(&k.kicks) >= 1);
    assert_int_equal(pthread_create(&waiter, NULL, await_all, &k.kicks), 0);
    sw_deadline_stop();
    pthread_join(waiter, NULL);
    sw_deadline_stop(); /* twice does no harm */
    const unsigned until_then = atomic_load(&k.kicks);
    assert_int_equal(sw_deadline_leave(&k.d), SW_DEADLINE_DUE);
    assert_int_equal(sw_deadline_enter(&k.d, &k.strand, sw_deadline_clock_ns(), 0), 0); /* kept, never due */
    assert_int_equal(k.d.heap_pos, 0);
    assert_null(sw_deadline_pick(k.strand.group, sw_deadline_clock_ns()));
    assert_false(sw_deadline_take(&k.d, sw_deadline_clock_ns()));
    sw_strand_expire(&k.strand, sw_deadline_clock_ns());
    assert_null(sw_strand_take(&k.strand));
    assert_int_equal(sw_deadline_leave(&k.d), SW_DEADLINE_OPEN);
    assert_int_equal(atomic_load(&k.kicks), until_then);

    begin_world(NULL);
    assert_int_equal(sw_deadline_enter(&k.d, &k.strand, sw_deadline_clock_ns(), SOON_NS), 0);
    wait_until(atomic_load(&k.kicks) > until_then);
    close_kicked(&k);
}

/* In a child that may have no thread more. */
static int enter_without_threads(void)
{
    static struct sw_strand s;
    static struct sw_deadline d;
    const struct rlimit none = {0, 0};
    if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return __LINE__;
    if (setrlimit(RLIMIT_NPROC, &none) < 0)
        return __LINE__;
    sw_strand_init(&s, SW_WAY_POST, NULL);
    if (sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), SEC) != -EAGAIN)
        return __LINE__;
    if (d.strand || d.heap_pos || s.innermost || sw_deadline_leave(&d) != SW_DEADLINE_CLOSED || broken())
        return __LINE__;
    if (sw_deadline_enter(&d, &s, sw_deadline_clock_ns(), SW_DEADLINE_NEVER) != 0) /* needs none */
        return __LINE__;
    sw_strand_fini(&s);
    return 0;
}

static void without_a_thread_nothing_is_opened(void **state)
{
    (void)state;
    int status = -1;
    const pid_t child = fork();
    if (child == 0)
        _exit(enter_without_threads() != 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(without_a_thread_nothing_is_opened), /* first: as long as there is no other thread */
        world_test(a_strand_is_kicked_until_it_looks),
        world_test(a_block_that_was_left_is_not_kicked),
        world_test(the_gaps_between_kicks_grow),
        world_test(a_shielded_strand_is_left_alone_until_the_shield_ends),
        world_test(a_strand_that_does_not_answer_is_attended),
        world_test(a_strand_that_cannot_be_kicked_is_attended_at_once),
        world_test(a_strand_for_posts_is_attended_when_it_is_due),
        world_test(attention_is_called_for_by_the_lead_early),
        world_test(a_strand_with_a_timer_of_its_own_can_be_stuck),
        world_test(it_is_woken_by_an_earlier_deadline_only),
        world_test(it_is_woken_when_something_is_wanted_earlier),
        world_test(without_deadlines_it_sleeps_for_good),
        world_test(it_has_a_name_and_no_signal_reaches_it),
        world_test(dropping_a_group_ends_its_wait_and_no_other),
        world_test(stopping_ends_everything_and_setup_begins_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
