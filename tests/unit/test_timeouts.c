/* The mailbox of timeouts: whole, in order, once, whoever dies in between; and the event that a note becomes. */
#include "unit.h"

#include "../../pyshim/slowwatch/timeout_abi.h"
#include "ending.h"
#include "timeouts.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH   128
#define WRITERS 8
#ifdef __SANITIZE_THREAD__ /* ten times slower there */
#define POSTS_EACH 2000
#else
#define POSTS_EACH 20000
#endif

static struct sw_mailbox *box; /* shared, as in life */
static struct sw_timeout_data data;
static struct sw_report_data scratch;
static struct sw_redact redact;
static char arena_bytes[256 * 1024], json[SW_EVENT_MAX_BYTES];
static struct sw_arena arena;

static const struct slowwatch_timeout_frame two[] = {{"/srv/app/views.py", "order", 41},
                                                     {"/srv/app/db.py", "fetch", 88}};

static struct slowwatch_timeout raised(void)
{
    return (struct slowwatch_timeout){.abi = SLOWWATCH_TIMEOUT_ABI,
                                      .outcome = "raised",
                                      .exception = "RuntimeError",
                                      .limit_us = 500000,
                                      .late_us = 1200,
                                      .thread = pthread_self(),
                                      .frames = two,
                                      .frame_count = 2,
                                      .truncated = 3};
}

static int set_up(void **state)
{
    (void)state;
    char bytes[256];
    struct sw_text why;
    sw_text_init(&why, bytes, sizeof bytes);
    box = mmap(NULL, sizeof *box, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    return box == MAP_FAILED || sw_redact_init(&redact, &why);
}

static int tear_down(void **state)
{
    (void)state;
    sw_redact_fini(&redact);
    return munmap(box, sizeof *box);
}

static bool post(const struct slowwatch_timeout *t)
{
    const int note = sw_mailbox_claim(box, getpid());
    if (note < 0)
        return false;
    sw_timeout_fill(&box->data[note], t, DEPTH);
    box->data[note].place = SW_TIMEOUT_OUTSIDE;
    sw_mailbox_post(box, note, getpid());
    return true;
}

/* Takes the next note and tells it. */
static bool take_one(void)
{
    const int note = sw_mailbox_take(box, getpid(), &data);
    if (note < 0)
        return false;
    sw_mailbox_done(box, note);
    return true;
}

/* The event of the last one taken, which can be written and read whatever is in it. */
static struct sw_event made(const struct sw_report *report)
{
    static char back_bytes[SW_EVENT_ARENA_BYTES];
    struct sw_event e, back;
    struct sw_arena back_arena;
    char why_bytes[256];
    struct sw_text why;
    sw_arena_reset(&arena);
    sw_timeout_to_event(&data, report, &redact, &scratch, &e, &arena);
    const ssize_t n = sw_event_encode(&e, json, sizeof json);
    assert_true(n > 0);
    sw_arena_init(&back_arena, back_bytes, sizeof back_bytes);
    sw_text_init(&why, why_bytes, sizeof why_bytes);
    if (sw_event_decode(&back, &back_arena, json, (size_t)n, &why))
        fail_msg("%s", why_bytes);
    return e;
}

/* ---- one note ---- */

static void what_is_reported_becomes_an_event(void **state)
{
    (void)state;
    const struct slowwatch_timeout t = raised();
    const int note = sw_mailbox_claim(box, getpid());
    struct sw_timeout_data *d = &box->data[note];
    sw_timeout_fill(d, &t, DEPTH);
    d->place = SW_TIMEOUT_IN_REQUEST;
    d->core = 3;
    d->who = (struct sw_identity){1700000000000000, 7};
    d->elapsed_us = 612345;
    static const char uri[] = "/orders/17?token=s3cr3t&page=2";
    memcpy(d->line.method, "GET", d->line.method_bytes = 3);
    memcpy(d->line.uri, uri, d->line.uri_bytes = sizeof uri - 1);
    assert_int_equal(sw_mailbox_take(box, getpid(), &data), -1); /* not posted yet */
    sw_mailbox_post(box, note, getpid());
    assert_true(take_one());
    assert_false(take_one());
    const struct sw_event e = made(NULL);
    assert_int_equal(e.kind, SW_EVENT_TIMEOUT);
    assert_int_equal(strlen(e.id), SW_EVENT_ID_CHARS);
    assert_int_equal(e.core, 3);
    assert_int_equal(e.pid, getpid());
    assert_true(e.elapsed_ms == 612);
    assert_string_equal(e.request.method, "GET");
    assert_string_equal(e.request.uri, "/orders/17?token=[redacted]&page=2");
    assert_true(e.request.started_us == 1700000000000000);
    assert_string_equal(e.timeout.outcome, "raised");
    assert_string_equal(e.timeout.exception, "RuntimeError");
    assert_true(e.timeout.limit_us == 500000 && e.timeout.late_us == 1200);
    assert_true(e.has_stack);
    assert_int_equal(e.stack.count, 2);
    assert_int_equal(e.stack.truncated, 3);
    assert_string_equal(e.stack.frames[0].file, "/srv/app/views.py");
    assert_string_equal(e.stack.frames[1].function, "fetch");
    assert_int_equal(e.stack.frames[1].line, 88);
    assert_false(sw_timeout_wants_look(&data));
}

static void an_open_report_of_the_request_lends_its_id(void **state)
{
    (void)state;
    static struct sw_report report;
    struct slowwatch_timeout t = raised();
    post(&t);
    assert_true(take_one());
    data.place = SW_TIMEOUT_IN_REQUEST;
    data.who.start_us = 1700000000000000;
    memset(&report, 0, sizeof report);
    sw_report_new_id(report.data.id);
    report.data.request.started_us = data.who.start_us;
    report.data.threshold_ns = 10 * SW_NS_PER_SEC;
    snprintf(report.data.request.uri, sizeof report.data.request.uri, "/as/reported");
    assert_string_not_equal(made(&report).id, report.data.id); /* not open */
    sw_report_open(&report, getpid());
    assert_string_equal(made(&report).id, report.data.id);
    assert_string_equal(made(&report).request.uri, "/as/reported");
    assert_true(made(&report).threshold_ms == 10000);
    data.who.start_us++;
    assert_string_not_equal(made(&report).id, report.data.id); /* of an earlier request */
    data.who.start_us--;
    data.place = SW_TIMEOUT_OUTSIDE;
    assert_string_not_equal(made(&report).id, report.data.id);
}

static void without_a_request_it_says_why(void **state)
{
    (void)state;
    struct slowwatch_timeout t = raised();
    t.frames = NULL;
    t.outcome = "stuck";
    post(&t);
    assert_true(take_one());
    assert_true(sw_timeout_wants_look(&data));
    data.place = SW_TIMEOUT_OUTSIDE;
    assert_string_equal(made(NULL).reason, "outside of a request");
    data.place = SW_TIMEOUT_IN_LOOP;
    assert_string_equal(made(NULL).reason, "one of the requests of an event loop");
    assert_int_equal(made(NULL).core, -1);
    assert_null(made(NULL).request.uri);
    assert_string_equal(made(NULL).no_stack, "the worker was gone before it could be looked at");
    strcpy(data.outcome, "swallowed");
    assert_string_equal(made(NULL).no_stack, "none came with the report of the timeout");
}

/* ---- what is too long, or not there ---- */

static void inner_frames_are_kept_and_the_rest_is_counted(void **state)
{
    (void)state;
    static struct slowwatch_timeout_frame many[1000];
    static char file[200];
    memset(file, 'f', sizeof file - 1);
    for (int i = 0; i < 1000; i++)
        many[i] = (struct slowwatch_timeout_frame){"a.py", "f", i + 1};
    struct slowwatch_timeout t = raised();
    t.frames = many;
    t.frame_count = 1000;
    post(&t);
    assert_true(take_one());
    struct sw_event e = made(NULL);
    assert_int_equal(e.stack.count, SW_TIMEOUT_FRAMES_MAX);
    assert_int_equal(e.stack.frames[e.stack.count - 1].line, 1000);
    assert_int_equal(e.stack.frames[0].line, 1000 - SW_TIMEOUT_FRAMES_MAX + 1);
    assert_int_equal(e.stack.truncated, 1000 - SW_TIMEOUT_FRAMES_MAX + 3);

    for (int i = 0; i < 1000; i++) /* so long that their names do not fit */
        many[i].file = file;
    t.truncated = UINT32_MAX;
    post(&t);
    assert_true(take_one());
    e = made(NULL);
    assert_in_range(e.stack.count, SW_TIMEOUT_TEXT_BYTES / (sizeof file + 2) - 1,
                    SW_TIMEOUT_TEXT_BYTES / sizeof file);
    assert_int_equal(e.stack.frames[e.stack.count - 1].line, 1000);
    assert_string_equal(e.stack.frames[0].file, file);
    assert_int_equal(e.stack.truncated, UINT32_MAX);

    sw_timeout_fill(&data, &t, 2); /* slowwatch-stack-depth */
    assert_int_equal(made(NULL).stack.count, 2);
    assert_int_equal(made(NULL).stack.frames[1].line, 1000);
}

static void strings_are_cut_at_a_character(void **state)
{
    (void)state;
    char *text = malloc(1000001);
    assert_non_null(text);
    for (size_t i = 0; i < 1000000; i += 2)
        memcpy(text + i, "é", 2);
    text[1000000] = 0;
    struct slowwatch_timeout t = raised();
    const struct slowwatch_timeout_frame bad[] = {{text, text + 1, -5}, {NULL, "", 0}};
    t.outcome = t.exception = text;
    t.frames = bad;
    post(&t);
    t.outcome = t.exception = NULL;
    post(&t);
    free(text);
    assert_true(take_one());
    const struct sw_event e = made(NULL);
    assert_int_equal(strlen(e.timeout.exception), SW_TIMEOUT_NAME_MAX - 2);
    assert_in_range(strlen(e.timeout.outcome), 2, SW_TIMEOUT_OUTCOME_MAX - 1);
    const size_t n = strlen(e.stack.frames[0].file);
    assert_in_range(n, SW_TIMEOUT_STRING_MAX - 4, SW_TIMEOUT_STRING_MAX);
    assert_string_equal(e.stack.frames[0].file + n - strlen("é…"), "é…");
    assert_int_equal(e.stack.frames[0].line, 0);
    assert_string_equal(e.stack.frames[1].file, "?");
    assert_string_equal(e.stack.frames[1].function, "");
    assert_true(take_one());
    assert_string_equal(made(NULL).timeout.outcome, "?");
}

/* Whatever lies in shared memory, a copy of it can be told. */
static void garbage_does_no_harm(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252;
    for (unsigned round = 0; round < 300; round++) {
        const int note = sw_mailbox_claim(box, getpid());
        unsigned char *bytes = (unsigned char *)&box->data[note];
        for (size_t i = 0; i < sizeof box->data[note]; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            bytes[i] = round == 0 ? 0xff : (unsigned char)(seed >> 32);
        }
        if (round % 2) { /* believable up to the spans */
            box->data[note].place = SW_TIMEOUT_IN_REQUEST;
            box->data[note].frame_count = 1 + round % SW_TIMEOUT_FRAMES_MAX;
            box->data[note].text_bytes = round * 100;
            for (unsigned i = 0; i < SW_TIMEOUT_FRAMES_MAX; i += 1 + round % 3)
                box->data[note].frames[i].file = (struct sw_timeout_span){i * 7, round % 40};
        }
        sw_mailbox_post(box, note, getpid());
        assert_true(take_one());
        made(NULL);
    }
}

/* ---- the mailbox ---- */

static void they_come_in_order_and_a_full_box_says_so(void **state)
{
    (void)state;
    struct slowwatch_timeout t = raised();
    atomic_store(&box->numbers, UINT32_MAX - 5); /* the count wraps on the way */
    for (t.limit_us = 0; t.limit_us < SW_MAILBOX_NOTES; t.limit_us++)
        assert_true(post(&t));
    assert_false(post(&t));
    for (unsigned i = 0; i < SW_MAILBOX_NOTES / 2; i++) {
        assert_true(take_one());
        assert_int_equal(data.limit_us, i);
    }
    for (; t.limit_us < SW_MAILBOX_NOTES * 3 / 2; t.limit_us++)
        assert_true(post(&t));
    for (unsigned i = SW_MAILBOX_NOTES / 2; i < SW_MAILBOX_NOTES * 3 / 2; i++) {
        assert_true(take_one());
        assert_int_equal(data.limit_us, i);
    }
    assert_false(take_one());
}

/* What a process that dies at once leaves: one posted, one half written, one that it was telling. */
static void leave_three_and_die(void)
{
    const struct slowwatch_timeout t = raised();
    const pid_t child = fork();
    if (child == 0) {
        post(&t);
        sw_mailbox_take(box, getpid(), &data);
        post(&t);
        sw_mailbox_claim(box, getpid());
        _exit(0);
    }
    siginfo_t ended;
    assert_int_equal(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT), 0);
    assert_int_equal(sw_mailbox_take_left(box, getpid(), &data), -1); /* until it is reaped it may be alive */
    assert_int_equal(sw_mailbox_drop_unfinished(box), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void what_the_dead_left_is_taken_once(void **state)
{
    (void)state;
    const struct slowwatch_timeout t = raised();
    leave_three_and_die();
    post(&t); /* of a living one: not left */
    assert_true(sw_mailbox_take_left(box, getpid(), &data) >= 0);
    assert_string_equal(data.exception, "RuntimeError");
    assert_int_not_equal(data.pid, getpid());
    assert_true(sw_mailbox_take_left(box, getpid(), &data) >= 0);
    assert_int_equal(sw_mailbox_take_left(box, getpid(), &data), -1);
    assert_int_equal(sw_mailbox_drop_unfinished(box), 1);
    assert_int_equal(sw_mailbox_drop_unfinished(box), 0);
    assert_true(take_one());
    assert_int_equal(data.pid, getpid());
    assert_false(take_one());
}

static void what_the_dead_left_reaches_the_reporter(void **state)
{
    (void)state;
    static struct sw_emitter emitter;
    struct sw_shared shared;
    struct sw_channel channel;
    size_t n;
    assert_int_equal(sw_shared_create(&shared, 2, 1), 0);
    assert_int_equal(sw_channel_open(&channel), 0);
    struct sw_slot *slot = sw_shared_slot(&shared, 1);
    sw_emitter_init(&emitter, &channel, &slot->dropped, NULL, "web3", SW_LOG_JSON);
    emitter.counts = &slot->counts;
    struct sw_mailbox *mine = box;
    box = sw_shared_mailbox(&shared, 1);
    leave_three_and_die();
    box = mine;
    sw_end_timeouts_of_dead(&shared, 0, &redact, &emitter); /* nothing of the other worker */
    assert_int_equal(sw_channel_receive(&channel, json, sizeof json, &n), SW_CHANNEL_EMPTY);
    sw_end_timeouts_of_dead(&shared, 1, &redact, &emitter);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(sw_channel_receive(&channel, json, sizeof json - 1, &n), SW_CHANNEL_EVENT);
        json[n] = 0;
        assert_non_null(strstr(json, "\"event\":\"timeout\""));
        assert_non_null(strstr(json, "\"worker\":2,\"core\":-1,"));
        assert_non_null(strstr(json, "\"host\":\"web3\""));
    }
    assert_int_equal(sw_channel_receive(&channel, json, sizeof json, &n), SW_CHANNEL_EMPTY);
    assert_int_equal(atomic_load(&slot->dropped), 1);
    assert_int_equal(atomic_load(&slot->counts.timeouts), 2);
    assert_int_equal(atomic_load(&slot->counts.slow_requests), 0);
}

static void only_what_is_shown_is_counted(void **state)
{
    (void)state;
    struct sw_counts counts;
    memset(&counts, 0, sizeof counts);
    for (unsigned kind = 0; kind < SW_EVENT_KINDS; kind++)
        sw_counts_event(&counts, (enum sw_event_kind)kind);
    assert_int_equal(atomic_load(&counts.slow_requests), 1);
    assert_int_equal(atomic_load(&counts.killed_requests), 1);
    assert_int_equal(atomic_load(&counts.timeouts), 1);
}

/* ---- many threads ---- */

static _Atomic unsigned running;
static _Atomic uint64_t refused;

/* Each note says the same in each of its parts, so that a mixture would show. */
static void *write_notes(void *arg)
{
    const unsigned writer = *(unsigned *)arg;
    char name[32];
    snprintf(name, sizeof name, "writer%u", writer);
    const struct slowwatch_timeout_frame frames[] = {{name, "outer", 1}, {"inner", name, (int)writer}};
    struct slowwatch_timeout t = raised();
    t.exception = name;
    t.frames = frames;
    for (unsigned i = 0; i < POSTS_EACH; i++) {
        t.limit_us = i;
        if (!post(&t)) {
            atomic_fetch_add(&refused, 1);
            sched_yield();
        }
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void many_writers_and_nothing_is_mixed(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    unsigned numbers[WRITERS];
    int64_t last[WRITERS];
    uint64_t taken = 0;
    atomic_store(&refused, 0);
    atomic_store(&running, WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        last[i] = -1;
        assert_int_equal(pthread_create(&threads[i], NULL, write_notes, &numbers[i]), 0);
    }
    for (bool more = true; more;) {
        const bool done = atomic_load(&running) == 0;
        more = take_one();
        if (more) {
            unsigned writer = WRITERS;
            assert_int_equal(sscanf(data.exception, "writer%u", &writer), 1);
            assert_true(writer < WRITERS);
            assert_int_equal(data.frame_count, 2);
            assert_string_equal(data.text + data.frames[0].function.at, data.exception);
            assert_string_equal(data.text + data.frames[1].file.at, data.exception);
            assert_int_equal(data.frames[0].line, writer);
            assert_true((int64_t)data.limit_us > last[writer]); /* in its order, and none twice */
            last[writer] = (int64_t)data.limit_us;
            taken++;
        } else if (!done) {
            more = true;
            sched_yield();
        }
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(taken + atomic_load(&refused) == (uint64_t)WRITERS * POSTS_EACH);
    assert_true(taken >= SW_MAILBOX_NOTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_reported_becomes_an_event, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_open_report_of_the_request_lends_its_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_request_it_says_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(inner_frames_are_kept_and_the_rest_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strings_are_cut_at_a_character, set_up, tear_down),
        cmocka_unit_test_setup_teardown(garbage_does_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(they_come_in_order_and_a_full_box_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_dead_left_is_taken_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_dead_left_reaches_the_reporter, set_up, tear_down),
        cmocka_unit_test(only_what_is_shown_is_counted),
        cmocka_unit_test_setup_teardown(many_writers_and_nothing_is_mixed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
