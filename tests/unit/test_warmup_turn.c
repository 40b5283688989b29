/* warmup_turn.h: at most so many at once, over processes that die in the middle. */
#include "unit.h"

#include "warmup_turn.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS     8
#define TURNS       200
#define DEADLINE_NS (20 * SW_NS_PER_SEC)

static struct sw_turns turns;

static int set_up(void **state)
{
    (void)state;
    return sw_turns_create(&turns, WORKERS);
}

/* The first is over: from here on `parallel` counts. */
static void after_the_first(void)
{
    const int place = sw_turn_take(&turns, 1, getpid());
    assert_int_equal(place, 0);
    sw_turn_give(&turns, place, getpid());
    assert_int_equal(sw_turns_given(&turns), 1);
}

static void a_fresh_mapping_is_zero(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(atomic_load(&turns.worker[i].failed), 0);
        assert_int_equal(atomic_load(&turns.places[i]), 0);
    }
    assert_int_equal(sw_turns_given(&turns), 0);
}

static void the_first_is_alone(void **state)
{
    (void)state;
    const pid_t me = getpid(), other = getppid();
    const int place = sw_turn_take(&turns, 5, me);
    assert_int_equal(place, 0);
    assert_int_equal(sw_turn_take(&turns, 5, other), -EAGAIN);
    sw_turn_give(&turns, place, me);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sw_turn_take(&turns, 5, me), i);
    assert_int_equal(sw_turn_take(&turns, 5, other), -EAGAIN);
}

static void no_limit(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * WORKERS; i++) {
        const int place = sw_turn_take(&turns, 0, getpid());
        assert_true(place >= 0);
        if (i % 2)
            sw_turn_give(&turns, place, getpid()); /* nothing to give */
    }
    assert_int_equal(sw_turns_given(&turns), 0);
}

static void more_than_there_are_workers(void **state)
{
    (void)state;
    after_the_first();
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(sw_turn_take(&turns, 1000, getpid()), i);
    assert_int_equal(sw_turn_take(&turns, 1000, getpid()), -EAGAIN);
}

static void only_the_holder_gives_back(void **state)
{
    (void)state;
    const int place = sw_turn_take(&turns, 1, getpid());
    sw_turn_give(&turns, place, getppid());
    sw_turn_give(&turns, -1, getpid());
    sw_turn_give(&turns, WORKERS, getpid());
    assert_int_equal(sw_turns_given(&turns), 0);
    assert_int_equal(sw_turn_take(&turns, 1, getppid()), -EAGAIN);
}

static pid_t in_child(void (*action)(void))
{
    const pid_t child = fork();
    if (child == 0) {
        action();
        _exit(0);
    }
    assert_true(child > 0);
    return child;
}

static void take_and_die(void)
{
    if (sw_turn_take(&turns, 1, getpid()) >= 0)
        kill(getpid(), SIGKILL);
}

static void the_place_of_a_dead_worker_is_free(void **state)
{
    (void)state;
    int status;
    const pid_t child = in_child(take_and_die);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(atomic_load(&turns.places[0]), child);
    assert_int_equal(sw_turn_take(&turns, 1, getpid()), 0);
    assert_int_equal(sw_turns_given(&turns), 1); /* a death is progress too */
}

static void give_soon(void)
{
    atomic_store(&turns.places[0], getpid());
    usleep(20000); /* so that the other one is likely to be waiting already; it works either way */
    sw_turn_give(&turns, 0, getpid());
}

static void waiting_ends_when_a_place_is_given_back(void **state)
{
    (void)state;
    const uint64_t begin_ns = sw_now_ns();
    const pid_t child = in_child(give_soon);
    while (sw_turns_given(&turns) == 0 && sw_now_ns() < begin_ns + DEADLINE_NS)
        sw_turns_wait(&turns, 0, begin_ns + DEADLINE_NS);
    assert_true(sw_now_ns() < begin_ns + DEADLINE_NS / 2);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void waiting_ends_in_time(void **state)
{
    (void)state;
    const uint64_t begin_ns = sw_now_ns();
    sw_turns_wait(&turns, 0, begin_ns + 20 * SW_NS_PER_MS);
    assert_true(sw_now_ns() >= begin_ns + 20 * SW_NS_PER_MS);
    sw_turns_wait(&turns, 1, begin_ns + DEADLINE_NS); /* the word is another one */
    assert_true(sw_now_ns() < begin_ns + DEADLINE_NS / 2);
}

static struct {
    _Atomic int inside, most, done;
} * crowd;

static void come_and_go(void)
{
    for (int i = 0; i < TURNS; i++) {
        int place;
        while ((place = sw_turn_take(&turns, 3, getpid())) < 0)
            sw_turns_wait(&turns, sw_turns_given(&turns), sw_now_ns() + SW_NS_PER_MS);
        const int inside = atomic_fetch_add(&crowd->inside, 1) + 1;
        int most = atomic_load(&crowd->most);
        while (inside > most && !atomic_compare_exchange_weak(&crowd->most, &most, inside))
            ;
        sched_yield();
        atomic_fetch_sub(&crowd->inside, 1);
        sw_turn_give(&turns, place, getpid());
    }
    atomic_fetch_add(&crowd->done, 1);
}

static void never_more_than_allowed(void **state)
{
    (void)state;
    pid_t children[WORKERS];
    crowd = mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(crowd, MAP_FAILED);
    after_the_first();
    for (unsigned i = 0; i < WORKERS; i++)
        children[i] = in_child(come_and_go);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
    assert_int_equal(atomic_load(&crowd->done), WORKERS);
    assert_true(atomic_load(&crowd->most) > 1);
    assert_true(atomic_load(&crowd->most) <= 3);
    assert_int_equal(sw_turns_given(&turns), 1 + WORKERS * TURNS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_fresh_mapping_is_zero, set_up),
        cmocka_unit_test_setup(the_first_is_alone, set_up),
        cmocka_unit_test_setup(no_limit, set_up),
        cmocka_unit_test_setup(more_than_there_are_workers, set_up),
        cmocka_unit_test_setup(only_the_holder_gives_back, set_up),
        cmocka_unit_test_setup(the_place_of_a_dead_worker_is_free, set_up),
        cmocka_unit_test_setup(waiting_ends_when_a_place_is_given_back, set_up),
        cmocka_unit_test_setup(waiting_ends_in_time, set_up),
        cmocka_unit_test_setup(never_more_than_allowed, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
