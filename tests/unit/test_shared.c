/* Slots and open reports: who may end what, also across processes. */
#include "unit.h"

#include "shared.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_NS (20 * SW_NS_PER_SEC)

static void out_of_range_is_null(void **state)
{
    (void)state;
    struct sw_shared s;
    assert_int_equal(sw_shared_create(&s, 2, 3), 0);
    assert_non_null(sw_shared_slot(&s, 1));
    assert_null(sw_shared_slot(&s, 2));
    assert_non_null(sw_shared_report(&s, 1, 2));
    assert_null(sw_shared_report(&s, 1, 3));
    assert_null(sw_shared_report(&s, 2, 0));
    assert_non_null(sw_shared_mailbox(&s, 1));
    assert_null(sw_shared_mailbox(&s, 2));
    memset(sw_shared_report(&s, 1, 2), 0xff, sizeof(struct sw_report)); /* the last one is whole */
    assert_int_equal(sw_shared_mailbox(&s, 0)->numbers, 0); /* and ends before the first of these */
    memset(sw_shared_mailbox(&s, 1), 0xff, sizeof(struct sw_mailbox));
}

static void another_process_answers(void **state)
{
    (void)state;
    struct sw_shared s;
    assert_int_equal(sw_shared_create(&s, 1, 1), 0);
    struct sw_slot *slot = sw_shared_slot(&s, 0);
    assert_false(sw_slot_can_answer(slot)); /* nobody there */
    const pid_t child = fork();
    if (child == 0) {
        atomic_store(&slot->watchdog_tid, (pid_t)syscall(SYS_gettid));
        atomic_store(&slot->pid, getpid());
        for (;;) {
            const uint32_t seen = atomic_load(&slot->wake), asked = atomic_load(&slot->asked);
            if (asked != atomic_load(&slot->answered))
                sw_slot_answer(slot, asked);
            sw_slot_wait(slot, seen, sw_now_ns() + DEADLINE_NS);
        }
    }
    const uint64_t deadline = sw_now_ns() + DEADLINE_NS;
    while (!sw_slot_can_answer(slot))
        assert_true(sw_now_ns() < deadline);
    for (int i = 0; i < 1000; i++)
        assert_true(sw_slot_await(slot, sw_slot_ask(slot, true), DEADLINE_NS));
    assert_true(atomic_load(&slot->kill_follows));

    kill(child, SIGSTOP);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    assert_false(sw_slot_can_answer(slot)); /* stopped: asking would only cost the wait */
    assert_false(sw_slot_await(slot, sw_slot_ask(slot, true), SW_NS_PER_MS));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_false(sw_slot_can_answer(slot));
}

#define CLAIMERS 4
#define ROUNDS   20000

static struct sw_report contested;
static _Atomic int winners;
static pthread_barrier_t together;

static void *claim(void *arg)
{
    const pid_t me = (pid_t)(intptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&together);
        if (sw_report_claim(&contested, me, false))
            atomic_fetch_add(&winners, 1);
        pthread_barrier_wait(&together);
        if (me == 1) {
            assert_int_equal(atomic_exchange(&winners, 0), 1);
            sw_report_free(&contested);
            sw_report_open(&contested, 99);
        }
    }
    return NULL;
}

static void exactly_one_claims_a_report(void **state)
{
    (void)state;
    pthread_t threads[CLAIMERS];
    pthread_barrier_init(&together, NULL, CLAIMERS);
    sw_report_open(&contested, 99);
    for (intptr_t i = 0; i < CLAIMERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, claim, (void *)(i + 1)), 0);
    for (int i = 0; i < CLAIMERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
}

static void what_a_dead_process_left_ending_may_be_claimed_again(void **state)
{
    (void)state;
    struct sw_report r;
    memset(&r, 0, sizeof r);
    assert_false(sw_report_claim(&r, 1, true)); /* free: nothing to end */
    sw_report_open(&r, 10);
    assert_true(sw_report_claim(&r, 10, false));
    assert_false(sw_report_claim(&r, 20, false)); /* 10 lives and is about to write */
    assert_true(sw_report_claim(&r, 20, true));   /* 10 died in between */
    sw_report_free(&r);
    assert_false(sw_report_claim(&r, 20, true));
}

static void the_hook_ends_only_its_own_request(void **state)
{
    (void)state;
    struct sw_report r;
    memset(&r, 0, sizeof r);
    assert_false(sw_report_request_ended(&r, 5, 200, 1));
    r.data.request.started_us = 5;
    sw_report_open(&r, 10);
    assert_false(sw_report_request_ended(&r, 6, 200, 1));
    assert_false(sw_report_request_ended(&r, 0, 200, 1));
    assert_true(sw_report_request_ended(&r, 5, 503, 77));
    assert_int_equal(atomic_load(&r.ended_ns), 77);
    assert_int_equal(atomic_load(&r.ended_status), 503);
    sw_report_free(&r);
    assert_false(sw_report_request_ended(&r, 5, 200, 1));
}

static void the_timeline_counts_places_and_keeps_the_most_looked_at_first(void **state)
{
    (void)state;
    static struct sw_report r;
    static struct sw_report_data snapshot;
    static char bytes[8192];
    struct sw_arena arena;
    struct sw_event e;
    sw_report_add_look(&r.data, "a.py", "f", 1);
    for (int i = 0; i < 3; i++)
        sw_report_add_look(&r.data, "b.py", "g", 2);
    sw_report_add_look(&r.data, NULL, NULL, 0);
    for (int i = 0; i < SW_TIMELINE_MAX; i++)
        sw_report_add_look(&r.data, "c.py", "h", 100 + i);
    sw_report_snapshot(&r, &snapshot);
    sw_arena_init(&arena, bytes, sizeof bytes);
    memset(&e, 0, sizeof e);
    sw_report_to_event(&snapshot, &e, &arena);
    assert_int_equal(e.looks, 5 + SW_TIMELINE_MAX);
    assert_int_equal(e.timeline_count, SW_TIMELINE_MAX);
    assert_int_equal(e.other_looks, 3); /* one without a place, two that found no room */
    assert_string_equal(e.timeline[0].file, "b.py");
    assert_int_equal(e.timeline[0].looks, 3);
}

static void a_snapshot_of_garbage_is_terminated(void **state)
{
    (void)state;
    static struct sw_report r;
    static struct sw_report_data d;
    memset(&r, 0xff, sizeof r);
    sw_report_snapshot(&r, &d);
    assert_true(d.place_count <= SW_TIMELINE_MAX);
    assert_int_equal(strlen(d.request.uri), sizeof d.request.uri - 1);
    assert_int_equal(strlen(d.id), SW_EVENT_ID_CHARS);
    for (unsigned i = 0; i < d.place_count; i++)
        assert_int_equal(strlen(d.places[i].function), sizeof d.places[i].function - 1);
}

static void ids_are_hex_and_differ(void **state)
{
    (void)state;
    char a[SW_EVENT_ID_CHARS + 1], b[SW_EVENT_ID_CHARS + 1];
    sw_report_new_id(a);
    sw_report_new_id(b);
    assert_int_equal(strspn(a, "0123456789abcdef"), SW_EVENT_ID_CHARS);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_of_range_is_null),
        cmocka_unit_test(another_process_answers),
        cmocka_unit_test(exactly_one_claims_a_report),
        cmocka_unit_test(what_a_dead_process_left_ending_may_be_claimed_again),
        cmocka_unit_test(the_hook_ends_only_its_own_request),
        cmocka_unit_test(the_timeline_counts_places_and_keeps_the_most_looked_at_first),
        cmocka_unit_test(a_snapshot_of_garbage_is_terminated),
        cmocka_unit_test(ids_are_hex_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
