/* What encode writes, decode reads back; whatever comes in, decode answers and does not fall over. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNT_ALLOCATIONS 1
/* Counts what a block of code allocates, in whatever library: the program's malloc comes before the C library's. */
static _Thread_local unsigned allocations;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t k, size_t n);
void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n)
{
    allocations++;
    return __libc_malloc(n);
}
void *calloc(size_t k, size_t n)
{
    allocations++;
    return __libc_calloc(k, n);
}
void *realloc(void *p, size_t n)
{
    allocations++;
    return __libc_realloc(p, n);
}
#endif

#define ID "0123456789abcdef0123456789abcdef"
#ifdef __SANITIZE_THREAD__ /* ten times slower there, and one thread only */
#define ROUND_TRIPS 40
#define MUTATIONS   400
#else
#define ROUND_TRIPS 400
#define MUTATIONS   4000
#endif
#define WHOLE_IN_LAST_PLAN 18 /* bytes; a multiple of the length of a character */

static char json[SW_EVENT_MAX_BYTES + 1];
static char arena_bytes[SW_EVENT_ARENA_BYTES];
static char made_bytes[1024 * 1024];

/* ---- random events, the same in every run ---- */

static uint64_t seed;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static unsigned below(unsigned n)
{
    return (unsigned)(rnd() % n);
}

static bool chance(unsigned one_in)
{
    return below(one_in) == 0;
}

static const char *const pieces[] = {
    "a",  "views",    "/srv/app", "\"",   "\\",    "\n",         "\r",         "\t",
    "\1", "\x1b[m",   "\x7f",     "ä",    "→",     "日本",       "\U0001f40d", "\u2028",
    " ",  "\xc2\x85", "\u202e",   "\\n",  "\\xff", "\\u2028",    "</script>",  "\xc2\x9b",
    "%",  "'",        "\ufeff",   "{\"}", "[1,2]", "\U0010ffff", "\ud7ff",     "null"};

static const char *some_text(struct sw_arena *a)
{
    char buffer[256];
    struct sw_text t;
    sw_text_init(&t, buffer, sizeof buffer);
    for (unsigned n = below(8); n > 0; n--)
        sw_text_put(&t, pieces[below(SW_COUNT(pieces))]);
    return sw_arena_copy(a, t.at, t.used);
}

static const char *maybe_text(struct sw_arena *a)
{
    return chance(3) ? NULL : some_text(a);
}

static uint64_t some_u64(void)
{
    return chance(3) ? 0 : (rnd() & INT64_MAX) >> below(63);
}

static int some_int(void)
{
    return (int)(rnd() >> 33);
}

static uint64_t some_us(void)
{
    return some_u64() / SW_NS_PER_US * SW_NS_PER_US; /* the wire has whole ms */
}

static uint64_t some_wall(void)
{
    return (rnd() % UINT64_C(4102444800000)) * SW_NS_PER_US; /* whole ms until 2100 */
}

static void some_stack(struct sw_stack *s, unsigned most, struct sw_arena *a)
{
    s->count = below(most + 1);
    s->frames = s->count ? sw_arena_alloc(a, s->count * sizeof *s->frames) : NULL;
    for (unsigned i = 0; i < s->count; i++)
        s->frames[i] = (struct sw_frame){.file = some_text(a),
                                         .function = some_text(a),
                                         .source = maybe_text(a),
                                         .line = chance(9) ? 0 : some_int()};
    s->truncated = chance(2) ? 0 : below(1000);
    s->partial = chance(2) ? NULL : some_text(a);
}

static void some_event(struct sw_event *e, struct sw_arena *a)
{
    sw_arena_reset(a);
    memset(e, 0, sizeof *e);
    e->kind = (enum sw_event_kind)below(SW_EVENT_KINDS);
    e->id = ID;
    e->time_us = some_wall();
    e->host = maybe_text(a);
    e->app = maybe_text(a);
    e->worker = some_int();
    e->core = some_int();
    e->pid = some_int();
    e->tid = chance(3) ? 0 : some_int();
    e->request = (struct sw_event_request){.method = maybe_text(a),
                                           .uri = maybe_text(a),
                                           .host = maybe_text(a),
                                           .remote_addr = maybe_text(a),
                                           .user_agent = maybe_text(a),
                                           .request_id = maybe_text(a),
                                           .traceparent = maybe_text(a),
                                           .phase = maybe_text(a),
                                           .started_us = chance(3) ? 0 : some_wall(),
                                           .body_bytes = some_u64(),
                                           .status = chance(2) ? 0 : some_int()};
    if (chance(8))
        memset(&e->request, 0, sizeof e->request);
    e->elapsed_ms = some_u64();
    e->threshold_ms = some_u64();
    e->has_harakiri = chance(2);
    if (e->has_harakiri)
        e->harakiri_in_ms = (int64_t)rnd() >> below(63);
    if (!chance(8)) {
        e->thread = (struct sw_event_state){.state = maybe_text(a),
                                            .syscall = maybe_text(a),
                                            .wait = maybe_text(a),
                                            .gil = maybe_text(a),
                                            .gil_holder = some_u64(),
                                            .cpu_window_ms = some_u64()};
        e->thread.cpu_ms = e->thread.cpu_window_ms ? some_u64() : 0;
    }
    e->has_stack = chance(2);
    if (e->has_stack)
        some_stack(&e->stack, 40, a);
    else
        e->no_stack = maybe_text(a);
    e->thread_count = below(6);
    e->threads = e->thread_count ? sw_arena_alloc(a, e->thread_count * sizeof *e->threads) : NULL;
    for (unsigned i = 0; i < e->thread_count; i++) {
        e->threads[i].ident = some_u64();
        e->threads[i].tid = chance(2) ? 0 : some_int();
        e->threads[i].gil = chance(2);
        some_stack(&e->threads[i].stack, SW_THREAD_FRAMES_MAX, a);
    }
    e->threads_dropped = chance(2) ? 0 : below(50);
    e->timeline_count = below(SW_TIMELINE_MAX + 1);
    e->timeline = e->timeline_count ? sw_arena_alloc(a, e->timeline_count * sizeof *e->timeline) : NULL;
    for (unsigned i = 0; i < e->timeline_count; i++)
        e->timeline[i] = (struct sw_timeline_place){
            .file = some_text(a), .function = some_text(a), .line = (int)below(3000), .looks = some_u64()};
    e->looks = some_u64();
    e->other_looks = some_u64();
    e->reason = maybe_text(a);
    e->fingerprint = chance(2) ? NULL : "00ff00ff00ff00ff";
    if (e->kind == SW_EVENT_TIMEOUT)
        e->timeout = (struct sw_event_timeout){some_text(a), some_text(a), some_us(), some_us()};
    if (e->kind == SW_EVENT_WARMUP)
        e->warmup = (struct sw_event_warmup){.method = some_text(a),
                                             .path = some_text(a),
                                             .result = some_text(a),
                                             .why = maybe_text(a),
                                             .status = chance(2) ? 0 : some_int(),
                                             .attempt = below(4) * 1073741824U,
                                             .took_us = some_us(),
                                             .bytes = some_u64()};
    assert_false(a->cut);
}

/* ---- comparison, field by field: a field that the tables forget shows here ---- */

#define SAME(a, b, member) assert_true((a)->member == (b)->member)

static void same_text(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a)
        assert_string_equal(a, b);
}

static void same_stack(const struct sw_stack *a, const struct sw_stack *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->truncated, b->truncated);
    same_text(a->partial, b->partial);
    for (unsigned i = 0; i < a->count; i++) {
        same_text(a->frames[i].file, b->frames[i].file);
        same_text(a->frames[i].function, b->frames[i].function);
        same_text(a->frames[i].source, b->frames[i].source);
        assert_int_equal(a->frames[i].line, b->frames[i].line);
    }
}

static void same_event(const struct sw_event *a, const struct sw_event *b)
{
    SAME(a, b, kind);
    same_text(a->id, b->id);
    SAME(a, b, time_us);
    same_text(a->host, b->host);
    same_text(a->app, b->app);
    SAME(a, b, worker);
    SAME(a, b, core);
    SAME(a, b, pid);
    SAME(a, b, tid);
    same_text(a->request.method, b->request.method);
    same_text(a->request.uri, b->request.uri);
    same_text(a->request.host, b->request.host);
    same_text(a->request.remote_addr, b->request.remote_addr);
    same_text(a->request.user_agent, b->request.user_agent);
    same_text(a->request.request_id, b->request.request_id);
    same_text(a->request.traceparent, b->request.traceparent);
    same_text(a->request.phase, b->request.phase);
    SAME(a, b, request.started_us);
    SAME(a, b, request.body_bytes);
    SAME(a, b, request.status);
    SAME(a, b, elapsed_ms);
    SAME(a, b, threshold_ms);
    SAME(a, b, has_harakiri);
    SAME(a, b, harakiri_in_ms);
    same_text(a->thread.state, b->thread.state);
    same_text(a->thread.syscall, b->thread.syscall);
    same_text(a->thread.wait, b->thread.wait);
    same_text(a->thread.gil, b->thread.gil);
    SAME(a, b, thread.gil_holder);
    SAME(a, b, thread.cpu_ms);
    SAME(a, b, thread.cpu_window_ms);
    SAME(a, b, has_stack);
    same_text(a->no_stack, b->no_stack);
    same_stack(&a->stack, &b->stack);
    SAME(a, b, thread_count);
    SAME(a, b, threads_dropped);
    for (unsigned i = 0; i < a->thread_count; i++) {
        SAME(a, b, threads[i].ident);
        SAME(a, b, threads[i].tid);
        SAME(a, b, threads[i].gil);
        same_stack(&a->threads[i].stack, &b->threads[i].stack);
    }
    SAME(a, b, timeline_count);
    for (unsigned i = 0; i < a->timeline_count; i++) {
        same_text(a->timeline[i].file, b->timeline[i].file);
        same_text(a->timeline[i].function, b->timeline[i].function);
        SAME(a, b, timeline[i].line);
        SAME(a, b, timeline[i].looks);
    }
    SAME(a, b, looks);
    SAME(a, b, other_looks);
    same_text(a->reason, b->reason);
    same_text(a->fingerprint, b->fingerprint);
    same_text(a->timeout.outcome, b->timeout.outcome);
    same_text(a->timeout.exception, b->timeout.exception);
    SAME(a, b, timeout.limit_us);
    SAME(a, b, timeout.late_us);
    same_text(a->warmup.method, b->warmup.method);
    same_text(a->warmup.path, b->warmup.path);
    same_text(a->warmup.result, b->warmup.result);
    same_text(a->warmup.why, b->warmup.why);
    SAME(a, b, warmup.status);
    SAME(a, b, warmup.attempt);
    SAME(a, b, warmup.took_us);
    SAME(a, b, warmup.bytes);
}

/* ---- helpers ---- */

/* Bytes must come from a buffer of exactly that size, so that the sanitizers see the first one too many. */
static int decode(struct sw_event *e, const char *s, size_t n, char *why_bytes, size_t why_room)
{
    struct sw_arena arena;
    struct sw_text why;
    char *exact = malloc(n ? n : 1);
    assert_non_null(exact);
    memcpy(exact, s, n);
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    sw_text_init(&why, why_bytes, why_room);
    const int err = sw_event_decode(e, &arena, exact, n, &why);
    free(exact);
    assert_false(arena.cut);
    return err;
}

static void must_decode(struct sw_event *e, const char *s, size_t n)
{
    char why[256];
    const int err = decode(e, s, n, why, sizeof why);
    if (err)
        fail_msg("%d: %s", err, why);
}

/* Encodes into a buffer of exactly this size and checks the form: one line, valid UTF-8, nothing unprintable. */
static size_t must_encode(const struct sw_event *e, size_t room)
{
    char *exact = malloc(room);
    assert_non_null(exact);
    const ssize_t n = sw_event_encode(e, exact, room);
    assert_true(n > 0 && (size_t)n <= room);
    memcpy(json, exact, (size_t)n);
    json[n] = 0;
    free(exact);
    for (size_t i = 0; i < (size_t)n;) {
        const size_t len = sw_utf8_len(json + i, (size_t)n - i);
        assert_true(len > 0);
        assert_true((unsigned char)json[i] >= 0x20);
        i += len;
    }
    assert_null(strstr(json, "\u2028"));
    assert_null(strstr(json, "\xc2\x85"));
    assert_null(strstr(json, "\u202e"));
    return (size_t)n;
}

static struct sw_event plain_event(void)
{
    return (struct sw_event){.id = ID,
                             .time_us = UINT64_C(1700000000123000),
                             .worker = 2,
                             .pid = 4711,
                             .request = {.method = "GET", .uri = "/orders/17"},
                             .elapsed_ms = 10000,
                             .threshold_ms = 10000};
}

/* ---- encode ---- */

static void the_shape_is_the_contract(void **state)
{
    (void)state;
    struct sw_frame frames[] = {{"/srv/app/views.py", "order", "rows = db.fetch(q)", 41},
                                {"/srv/app/db.py", "fetch", NULL, 88}};
    struct sw_frame other[] = {{"/srv/app/x.py", "loop", NULL, 3}};
    struct sw_event_thread threads[] = {
        {.ident = 140, .tid = 4713, .gil = true, .stack = {other, 1, 0, NULL}}};
    struct sw_timeline_place places[] = {{"/srv/app/db.py", "fetch", 88, 91}};
    struct sw_event e = plain_event();
    e.tid = 4712;
    e.host = "web3";
    e.app = "shop";
    e.request.started_us = UINT64_C(1700000000000000) - 10 * SW_US_PER_SEC;
    e.request.status = 200;
    e.has_harakiri = true;
    e.harakiri_in_ms = 20000;
    e.thread = (struct sw_event_state){
        "waiting", "recvfrom", "recvfrom(fd 9 → 127.0.0.1:5432)", "wanted", 140, 12, 10000};
    e.has_stack = true;
    e.stack = (struct sw_stack){frames, 2, 7, "inner 3 frames were changing"};
    e.threads = threads;
    e.thread_count = 1;
    e.timeline = places;
    e.timeline_count = 1;
    e.looks = 100;
    e.other_looks = 9;
    e.fingerprint = "00ff00ff00ff00ff";
    must_encode(&e, SW_EVENT_MAX_BYTES);
    assert_string_equal(
        json,
        "{\"schema\":1,\"event\":\"slow_request\",\"id\":\"" ID "\",\"time\":\"2023-11-14T22:13:20.123Z\","
        "\"host\":\"web3\",\"worker\":2,\"core\":0,\"pid\":4711,\"tid\":4712,\"app\":\"shop\",\"elapsed_ms\":"
        "10000,"
        "\"threshold_ms\":10000,\"looks\":100,\"fingerprint\":\"00ff00ff00ff00ff\",\"harakiri_in_ms\":20000,"
        "\"request\":{\"method\":\"GET\",\"uri\":\"/orders/"
        "17\",\"started\":\"2023-11-14T22:13:10.000Z\",\"status\":200},"
        "\"thread\":{\"state\":\"waiting\",\"syscall\":\"recvfrom\",\"wait\":\"recvfrom(fd 9 → "
        "127.0.0.1:5432)\","
        "\"gil\":\"wanted\",\"gil_holder\":140,\"cpu_ms\":12,\"cpu_window_ms\":10000},"
        "\"stack\":{\"frames\":[{\"file\":\"/srv/app/views.py\",\"line\":41,\"function\":\"order\","
        "\"source\":\"rows = "
        "db.fetch(q)\"},{\"file\":\"/srv/app/db.py\",\"line\":88,\"function\":\"fetch\"}],"
        "\"truncated\":7,\"partial\":\"inner 3 frames were changing\"},"
        "\"threads\":[{\"ident\":140,\"tid\":4713,\"gil\":true,\"stack\":{\"frames\":[{\"file\":\"/srv/app/"
        "x.py\","
        "\"line\":3,\"function\":\"loop\"}]}}],"
        "\"timeline\":[{\"file\":\"/srv/app/db.py\",\"line\":88,\"function\":\"fetch\",\"looks\":91}],"
        "\"other_looks\":9}");
}

static void has(const char *part)
{
    if (!strstr(json, part))
        fail_msg("no %s in %s", part, json);
}

static void a_timeout_and_a_warmup_have_a_part_of_their_own(void **state)
{
    (void)state;
    struct sw_event e = plain_event(), back;
    e.timeout = (struct sw_event_timeout){"raised", "RuntimeError", 500000, 1499};
    e.warmup = (struct sw_event_warmup){"GET", "/health", "ok", "first start", 200, 1, 1503000, 1234};
    must_encode(&e, SW_EVENT_MAX_BYTES);
    assert_null(strstr(json, "\"timeout\""));
    assert_null(strstr(json, "\"warmup\""));
    e.kind = SW_EVENT_TIMEOUT;
    must_encode(&e, SW_EVENT_MAX_BYTES);
    has("\"event\":\"timeout\",");
    has(",\"timeout\":{\"outcome\":\"raised\",\"exception\":\"RuntimeError\",\"limit_ms\":500,\"late_ms\":1}"
        ",");
    assert_null(strstr(json, "\"warmup\""));
    has("\"elapsed_ms\":10000,\"threshold_ms\":10000,");
    e.kind = SW_EVENT_WARMUP;
    e.elapsed_ms = e.threshold_ms = 0; /* left out: only a report always has them */
    must_encode(&e, SW_EVENT_MAX_BYTES);
    assert_null(strstr(json, "elapsed_ms"));
    assert_null(strstr(json, "threshold_ms"));
    has("\"event\":\"warmup\",");
    has(",\"warmup\":{\"method\":\"GET\",\"path\":\"/health\",\"result\":\"ok\",\"why\":\"first start\","
        "\"status\":200,\"attempt\":1,\"took_ms\":1503,\"bytes\":1234},");
    e.warmup = (struct sw_event_warmup){.took_us = UINT64_MAX}; /* nothing known */
    must_decode(&back, json, must_encode(&e, SW_EVENT_MAX_BYTES));
    has(",\"warmup\":{\"method\":\"\",\"path\":\"\",\"result\":\"\",\"took_ms\":18446744073709551,\"bytes\":"
        "0},");
    assert_true(back.warmup.took_us == UINT64_MAX / SW_NS_PER_US * SW_NS_PER_US);
}

static void which_kinds_end_a_report(void **state)
{
    (void)state;
    unsigned ends = 0, of_report = 0;
    for (unsigned kind = 0; kind < SW_EVENT_KINDS; kind++) {
        assert_string_not_equal(sw_event_kind_name((enum sw_event_kind)kind), "unknown");
        ends += sw_event_is_end((enum sw_event_kind)kind);
        of_report += sw_event_is_of_report((enum sw_event_kind)kind);
    }
    assert_int_equal(ends, 3);
    assert_int_equal(of_report, 5);
    assert_false(sw_event_is_of_report(SW_EVENT_TIMEOUT) || sw_event_is_of_report(SW_EVENT_WARMUP));
    assert_false(sw_event_is_end(SW_EVENT_TIMEOUT) || sw_event_is_end(SW_EVENT_WARMUP));
}

static void random_events_come_back_as_they_were(void **state)
{
    (void)state;
    struct sw_arena made;
    struct sw_event e, back;
    sw_arena_init(&made, made_bytes, sizeof made_bytes);
    for (unsigned i = 1; i <= ROUND_TRIPS; i++) {
        seed = i * UINT64_C(0x9e3779b97f4a7c15);
        some_event(&e, &made);
        const size_t n = must_encode(&e, SW_EVENT_MAX_BYTES);
        must_decode(&back, json, n);
        same_event(&e, &back);
    }
}

static void bytes_that_are_not_text_become_text(void **state)
{
    (void)state;
    struct sw_event e = plain_event(), back;
    e.request.uri = "/a\xff\xc3(\xe2\x82\n\xed\xa0\x80\"";
    e.request.user_agent = "\xe2\x80";
    must_decode(&back, json, must_encode(&e, SW_EVENT_MAX_BYTES));
    assert_string_equal(back.request.uri, "/a\\xff\\xc3(\\xe2\\x82\n\\xed\\xa0\\x80\"");
    assert_string_equal(back.request.user_agent, "\\xe2\\x80");
}

#ifdef COUNT_ALLOCATIONS
static void encoding_allocates_nothing(void **state)
{
    (void)state;
    struct sw_arena made;
    struct sw_event e;
    sw_arena_init(&made, made_bytes, sizeof made_bytes);
    seed = 7;
    some_event(&e, &made);
    const unsigned before = allocations;
    const ssize_t n = sw_event_encode(&e, json, sizeof json),
                  small = sw_event_encode(&e, json, SW_EVENT_ROOM_MIN);
    assert_int_equal(allocations, before);
    assert_true(n > 0 && small > 0);
    free(malloc(1));
    assert_int_not_equal(allocations, before); /* the counter counts */
}
#endif

/* ---- cutting ---- */

static struct sw_frame many[SW_STACK_FRAMES_MAX + 10];

static void fill_many(const char *file)
{
    for (unsigned i = 0; i < SW_COUNT(many); i++)
        many[i] = (struct sw_frame){file, "f", NULL, (int)i + 1};
}

static void outer_frames_go_before_inner_ones(void **state)
{
    (void)state;
    struct sw_event e = plain_event(), back;
    fill_many("/srv/app/with/quite/a/long/path/so/that/not/all/of/them/fit/into/one/datagram/module.py");
    e.has_stack = true;
    e.stack = (struct sw_stack){many, SW_STACK_FRAMES_MAX, 5, NULL};
    struct sw_event_thread threads[2] = {{.ident = 1, .stack = {many, 3, 0, NULL}},
                                         {.ident = 2, .gil = true, .stack = {many, 3, 0, NULL}}};
    e.threads = threads;
    e.thread_count = 2;
    const size_t n = must_encode(&e, SW_EVENT_MAX_BYTES);
    must_decode(&back, json, n);
    assert_in_range(back.stack.count, 100, SW_STACK_FRAMES_MAX - 1);
    assert_int_equal(back.stack.truncated, 5 + SW_STACK_FRAMES_MAX - back.stack.count);
    assert_int_equal(back.stack.frames[back.stack.count - 1].line, SW_STACK_FRAMES_MAX);
    assert_int_equal(back.stack.frames[0].line, SW_STACK_FRAMES_MAX - back.stack.count + 1);
    assert_int_equal(back.thread_count, 1); /* who holds the GIL is worth more than outer frames */
    assert_int_equal(back.threads[0].ident, 2);
    assert_int_equal(back.threads_dropped, 1);
    assert_string_equal(back.request.uri, "/orders/17");
    assert_true(n > SW_EVENT_MAX_BYTES - 200); /* one more would not have fitted */
}

static void threads_go_before_frames(void **state)
{
    (void)state;
    struct sw_event e = plain_event(), back;
    fill_many("/srv/app/module.py");
    e.has_stack = true;
    e.stack = (struct sw_stack){many, 50, 0, NULL};
    struct sw_event_thread threads[20];
    for (unsigned i = 0; i < SW_COUNT(threads); i++)
        threads[i] = (struct sw_event_thread){.ident = i, .stack = {many, SW_THREAD_FRAMES_MAX, 0, NULL}};
    e.threads = threads;
    e.thread_count = SW_COUNT(threads);
    must_decode(&back, json, must_encode(&e, 8192));
    assert_int_equal(back.thread_count, 0);
    assert_int_equal(back.threads_dropped, SW_COUNT(threads));
    assert_int_equal(back.stack.count, 50);
    assert_int_equal(back.stack.truncated, 0);
}

static void more_than_the_limits_is_cut_to_them(void **state)
{
    (void)state;
    struct sw_event e = plain_event(), back;
    fill_many("m.py");
    e.has_stack = true;
    e.stack = (struct sw_stack){many, SW_COUNT(many), 0, NULL};
    static struct sw_event_thread threads[SW_EVENT_THREADS_MAX + 3];
    for (unsigned i = 0; i < SW_COUNT(threads); i++)
        threads[i] = (struct sw_event_thread){.ident = i, .stack = {many, i == 0 ? 100 : 1, 0, NULL}};
    e.threads = threads;
    e.thread_count = SW_COUNT(threads);
    static struct sw_timeline_place places[SW_TIMELINE_MAX + 2];
    for (unsigned i = 0; i < SW_COUNT(places); i++)
        places[i] = (struct sw_timeline_place){"m.py", "f", 1, 10};
    e.timeline = places;
    e.timeline_count = SW_COUNT(places);
    e.other_looks = 1;
    must_decode(&back, json, must_encode(&e, SW_EVENT_MAX_BYTES));
    assert_int_equal(back.stack.count, SW_STACK_FRAMES_MAX);
    assert_int_equal(back.stack.truncated, 10);
    assert_int_equal(back.thread_count, SW_EVENT_THREADS_MAX);
    assert_int_equal(back.threads_dropped, 3);
    assert_int_equal(back.threads[0].stack.count, SW_THREAD_FRAMES_MAX);
    assert_int_equal(back.threads[0].stack.truncated, 100 - SW_THREAD_FRAMES_MAX);
    assert_int_equal(back.timeline_count, SW_TIMELINE_MAX);
    assert_int_equal(back.other_looks, 21);
}

static void a_long_uri_leaves_room_for_frames(void **state)
{
    (void)state;
    static char uri[4000];
    memset(uri, '\1', sizeof uri - 1); /* six bytes of JSON each */
    struct sw_event e = plain_event(), back;
    e.request.uri = uri;
    e.request.user_agent = "Mozilla";
    fill_many("/srv/app/module.py");
    e.has_stack = true;
    e.stack = (struct sw_stack){many, 100, 0, NULL};
    must_decode(&back, json, must_encode(&e, 16384));
    assert_int_equal(back.stack.count, 100);
    assert_int_equal(strlen(back.request.uri), 200 + strlen("…"));
    assert_non_null(strstr(back.request.uri, "…"));
    assert_string_equal(back.request.user_agent, "Mozilla");
}

/* Every string of the worst kind: it still has to fit, innermost frame included. */
static void anything_fits_into_the_least_room(void **state)
{
    (void)state;
    static char bad[3][20000];
    memset(bad[0], '\1', sizeof bad[0] - 1);
    memset(bad[1], 0xff, sizeof bad[1] - 1);
    for (size_t i = 0; i + 3 < sizeof bad[2]; i += 3)
        memcpy(bad[2] + i, "\u2028", 3);
    for (unsigned k = 0; k < 2 * SW_COUNT(bad); k++) {
        /* as long as can be, and just short enough to stay whole in the last plan */
        const char *s = bad[k / 2] + (k % 2 ? strlen(bad[k / 2]) - WHOLE_IN_LAST_PLAN : 0);
        struct sw_frame frames[40];
        struct sw_timeline_place places[SW_TIMELINE_MAX];
        struct sw_event_thread threads[SW_EVENT_THREADS_MAX];
        for (unsigned i = 0; i < SW_COUNT(frames); i++)
            frames[i] = (struct sw_frame){s, s, s, INT32_MAX};
        for (unsigned i = 0; i < SW_COUNT(places); i++)
            places[i] = (struct sw_timeline_place){s, s, INT32_MAX, INT64_MAX};
        for (unsigned i = 0; i < SW_COUNT(threads); i++)
            threads[i] = (struct sw_event_thread){UINT64_MAX, INT32_MAX, true, {frames, 12, UINT32_MAX, s}};
        struct sw_event e = {.kind = SW_EVENT_WARMUP, /* the one with most text of its own */
                             .id = s,
                             .time_us = UINT64_MAX,
                             .host = s,
                             .app = s,
                             .worker = INT32_MIN,
                             .core = INT32_MIN,
                             .pid = INT32_MIN,
                             .tid = INT32_MIN,
                             .request = {s, s, s, s, s, s, s, s, UINT64_MAX, UINT64_MAX, INT32_MIN},
                             .elapsed_ms = UINT64_MAX,
                             .threshold_ms = UINT64_MAX,
                             .has_harakiri = true,
                             .harakiri_in_ms = INT64_MIN,
                             .thread = {s, s, s, s, UINT64_MAX, UINT64_MAX, UINT64_MAX},
                             .has_stack = true,
                             .no_stack = s,
                             .stack = {frames, 40, UINT32_MAX - 40, s},
                             .threads = threads,
                             .thread_count = SW_COUNT(threads),
                             .threads_dropped = UINT32_MAX - 32,
                             .timeline = places,
                             .timeline_count = SW_COUNT(places),
                             .looks = UINT64_MAX,
                             .other_looks = UINT64_MAX,
                             .reason = s,
                             .fingerprint = s,
                             .timeout = {s, s, UINT64_MAX, UINT64_MAX},
                             .warmup = {s, s, s, s, INT32_MIN, UINT32_MAX, UINT64_MAX, UINT64_MAX}};
        must_encode(&e, SW_EVENT_ROOM_MIN);
        e.kind = SW_EVENT_TIMEOUT;
        must_encode(&e, SW_EVENT_ROOM_MIN);
        e.id = ID;
        e.fingerprint = "00ff00ff00ff00ff";
        for (size_t room = SW_EVENT_ROOM_MIN; room <= SW_EVENT_MAX_BYTES; room = room * 5 / 4) {
            struct sw_event back;
            must_decode(&back, json, must_encode(&e, room));
            assert_in_range(back.stack.count, 1, 40);
            assert_int_equal((uint64_t)back.stack.truncated + back.stack.count, UINT32_MAX);
            assert_true(back.other_looks == INT64_MAX);
        }
    }
}

static void too_little_room_is_an_error(void **state)
{
    (void)state;
    const struct sw_event e = plain_event();
    char small[64];
    assert_int_equal(sw_event_encode(&e, small, sizeof small), -EMSGSIZE);
    assert_int_equal(sw_event_encode(&e, small, 0), -EMSGSIZE);
}

/* ---- decode ---- */

#define HEAD_OF(kind)                                                                                        \
    "{\"schema\":1,\"event\":\"" kind "\",\"id\":\"" ID "\",\"time\":\"2023-11-14T22:13:20.123Z\","
#define REST    "\"worker\":1,\"core\":0,\"pid\":9,\"elapsed_ms\":1,\"threshold_ms\":1"
#define HEAD    HEAD_OF("slow_request")
#define BASE    HEAD REST
#define TIMEOUT HEAD_OF("timeout") REST
#define WARMUP  HEAD_OF("warmup") REST

static void unknown_fields_are_ignored(void **state)
{
    (void)state;
    struct sw_event e;
    const char *s =
        BASE ",\"locals\":{\"a\":[1,{}]},\"x\":null,\"request\":{\"new\":1.5},\"stack\":{\"frames\":["
             "{\"file\":\"a\",\"function\":\"b\",\"locals\":[]}]}}";
    must_decode(&e, s, strlen(s));
    assert_int_equal(e.stack.count, 1);
    assert_int_equal(e.stack.frames[0].line, 0);
    assert_null(e.request.uri);
}

static void wrong_events_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *json, *why;
    } cases[] = {
        {"", "not JSON"},
        {"[]", "not an object"},
        {"{}", "schema"},
        {"{\"schema\":2}", "schema"},
        {"{\"schema\":\"1\"}", "schema"},
        {"{\"schema\":1}", "missing: event"},
        {"{\"schema\":1,\"event\":\"no\\nsuch\"}", "unknown event: no\\nsuch"},
        {"{\"schema\":1,\"event\":\"slow_request\"}", "missing: id"},
        {HEAD "\"core\":0,\"pid\":9,\"elapsed_ms\":1,\"threshold_ms\":1}", "missing: worker"},
        {HEAD "\"worker\":\"1\",\"core\":0,\"pid\":9,\"elapsed_ms\":1,\"threshold_ms\":1}", "range: worker"},
        {HEAD "\"worker\":4294967296,\"core\":0,\"pid\":9,\"elapsed_ms\":1,\"threshold_ms\":1}",
         "range: worker"},
        {HEAD "\"worker\":1,\"core\":0,\"pid\":9,\"elapsed_ms\":-1,\"threshold_ms\":1}", "range: elapsed_ms"},
        {HEAD "\"worker\":1,\"core\":0,\"pid\":9,\"elapsed_ms\":1.5,\"threshold_ms\":1}",
         "range: elapsed_ms"},
        {BASE ",\"app\":5}", "not a string: app"},
        {BASE ",\"app\":null}", "not a string: app"},
        {BASE ",\"app\":\"\\u0000\"}", "not JSON"},
        {BASE ",\"app\":\"\xff\"}", "not JSON"},
        {BASE ",\"app\":\"a\",\"app\":\"b\"}", "not JSON"},
        {BASE "} trailing", "not JSON"},
        {BASE ",\"fingerprint\":\"xyz\"}", "not a fingerprint: xyz"},
        {BASE ",\"fingerprint\":\"00ff00ff00ff00f\\n\"}", "not a fingerprint"},
        {BASE ",\"harakiri_in_ms\":\"soon\"}", "not a number: harakiri_in_ms"},
        {BASE ",\"request\":[]}", "not an object: request"},
        {BASE ",\"request\":{\"started\":\"yesterday\"}}", "not a time: started"},
        {BASE ",\"request\":{\"started\":\"2023-13-14T22:13:20.123Z\"}}", "not a time: started"},
        {BASE ",\"request\":{\"started\":\"1969-12-31T22:13:20.123Z\"}}", "not a time: started"},
        {BASE ",\"request\":{\"started\":\"2023-1 -14T22:13:20.123Z\"}}", "not a time: started"},
        {BASE ",\"thread\":1}", "not an object: thread"},
        {BASE ",\"thread\":{\"cpu_window_ms\":1}}", "missing: cpu_ms"},
        {BASE ",\"stack\":[]}", "not an object: stack"},
        {BASE ",\"stack\":{\"frames\":{}}}", "not an array: frames"},
        {BASE ",\"stack\":{\"frames\":[1]}}", "missing: file"},
        {BASE ",\"stack\":{\"truncated\":-1}}", "range: truncated"},
        {BASE ",\"stack\":{\"partial\":1}}", "not a string: partial"},
        {BASE ",\"threads\":[1]}", "not true or false: gil"},
        {BASE ",\"threads\":[{\"gil\":true,\"ident\":1}]}", "not an object: stack"},
        {BASE
         ",\"threads\":[{\"gil\":true,\"ident\":1,\"stack\":{\"frames\":[1,2,3,4,5,6,7,8,9,10,11,12,13]}}]}",
         "too many: frames"},
        {BASE ",\"timeline\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "too many: timeline"},
        {BASE ",\"timeline\":[{\"file\":\"a\",\"function\":\"b\"}]}", "missing: looks"},
        {BASE ",\"other_looks\":[]}", "range: other_looks"},
        {TIMEOUT "}", "not an object: timeout"},
        {TIMEOUT ",\"timeout\":\"raised\"}", "not an object: timeout"},
        {TIMEOUT ",\"timeout\":{\"outcome\":\"raised\",\"exception\":\"E\",\"limit_ms\":500}}",
         "missing: late_ms"},
        {TIMEOUT ",\"timeout\":{\"outcome\":\"raised\",\"exception\":\"E\",\"limit_ms\":-1,\"late_ms\":0}}",
         "range: limit_ms"},
        {TIMEOUT ",\"timeout\":{\"outcome\":7,\"exception\":\"E\",\"limit_ms\":1,\"late_ms\":0}}",
         "not a string: outcome"},
        {WARMUP "}", "not an object: warmup"},
        {WARMUP ",\"warmup\":{\"method\":\"GET\"}}", "missing: path"},
        {WARMUP ",\"warmup\":{\"method\":\"GET\",\"path\":\"/\",\"result\":\"ok\",\"attempt\":-1}}",
         "range: attempt"},
        {WARMUP ",\"warmup\":{\"method\":\"GET\",\"path\":\"/\",\"result\":\"ok\",\"attempt\":4294967296}}",
         "range: attempt"},
    };
    for (unsigned i = 0; i < SW_COUNT(cases); i++) {
        struct sw_event e;
        char why[256];
        assert_int_equal(decode(&e, cases[i].json, strlen(cases[i].json), why, sizeof why), -EINVAL);
        if (!strstr(why, cases[i].why))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].json, why, cases[i].why);
        assert_null(strchr(why, '\n'));
    }
}

static void ids_are_hex(void **state)
{
    (void)state;
    static const char *const ids[] = {"", "0123", ID "0", "0123456789abcdef0123456789abcdeg",
                                      "../../../../../../../etc/passwd1"};
    for (unsigned i = 0; i < SW_COUNT(ids); i++) {
        struct sw_event e;
        char s[512], why[256];
        const int n = snprintf(
            s, sizeof s,
            "{\"schema\":1,\"event\":\"slow_request\",\"id\":\"%s\",\"time\":\"2023-11-14T22:13:20.123Z\","
            "\"worker\":1,\"core\":0,\"pid\":9,\"elapsed_ms\":1,\"threshold_ms\":1}",
            ids[i]);
        assert_int_equal(decode(&e, s, (size_t)n, why, sizeof why), -EINVAL);
        assert_non_null(strstr(why, "not an id"));
    }
}

static void too_long_and_too_deep_are_refused(void **state)
{
    (void)state;
    struct sw_event e;
    char why[256];
    static char big[SW_EVENT_MAX_BYTES + 1];
    memset(big, ' ', sizeof big);
    memcpy(big, BASE "}", strlen(BASE "}"));
    must_decode(&e, big, sizeof big - 1);
    assert_int_equal(decode(&e, big, sizeof big, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "too many"));
    memset(big, '[', sizeof big);
    assert_int_equal(decode(&e, big, sizeof big - 1, why, sizeof why), -EINVAL);
}

static void a_small_arena_is_an_error_not_an_overrun(void **state)
{
    (void)state;
    struct sw_event e = plain_event();
    fill_many("m.py");
    e.has_stack = true;
    e.stack = (struct sw_stack){many, 100, 0, NULL};
    const size_t n = must_encode(&e, SW_EVENT_MAX_BYTES);
    char little[1024], why_bytes[128];
    struct sw_arena arena;
    struct sw_text why;
    sw_arena_init(&arena, little, sizeof little);
    sw_text_init(&why, why_bytes, sizeof why_bytes);
    assert_int_equal(sw_event_decode(&e, &arena, json, n, &why), -ENOMEM);
    assert_string_equal(why_bytes, "no room for 100 frames");
}

/* Damaged events: any answer will do, a crash or a sanitizer report will not; what decodes also encodes. */
static void damaged_events_do_no_harm(void **state)
{
    (void)state;
    struct sw_arena made;
    struct sw_event e;
    static char again[SW_EVENT_MAX_BYTES];
    sw_arena_init(&made, made_bytes, sizeof made_bytes);
    unsigned accepted = 0;
    seed = 99;
    size_t n = 0;
    for (unsigned i = 0; i < MUTATIONS; i++) {
        char why[256];
        if (i % 100 == 0) {
            do {
                some_event(&e, &made);
                n = must_encode(&e, SW_EVENT_MAX_BYTES);
            } while (n > 4000);
        }
        static char copy[SW_EVENT_MAX_BYTES];
        memcpy(copy, json, n);
        for (unsigned k = 1 + below(3); k > 0; k--)
            copy[below((unsigned)n)] =
                (char)(chance(2) ? rnd() : (uint64_t) "0123456789\"{}[],:ntf"[below(20)]);
        if (decode(&e, copy, chance(4) ? below((unsigned)n) : n, why, sizeof why) == 0) {
            accepted++;
            assert_true(sw_event_encode(&e, again, sizeof again) > 0);
        }
    }
    assert_in_range(accepted, 1, MUTATIONS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shape_is_the_contract),
        cmocka_unit_test(random_events_come_back_as_they_were),
        cmocka_unit_test(bytes_that_are_not_text_become_text),
#ifdef COUNT_ALLOCATIONS
        cmocka_unit_test(encoding_allocates_nothing),
#endif
        cmocka_unit_test(a_timeout_and_a_warmup_have_a_part_of_their_own),
        cmocka_unit_test(which_kinds_end_a_report),
        cmocka_unit_test(outer_frames_go_before_inner_ones),
        cmocka_unit_test(threads_go_before_frames),
        cmocka_unit_test(more_than_the_limits_is_cut_to_them),
        cmocka_unit_test(a_long_uri_leaves_room_for_frames),
        cmocka_unit_test(anything_fits_into_the_least_room),
        cmocka_unit_test(too_little_room_is_an_error),
        cmocka_unit_test(unknown_fields_are_ignored),
        cmocka_unit_test(wrong_events_are_refused_with_a_reason),
        cmocka_unit_test(ids_are_hex),
        cmocka_unit_test(too_long_and_too_deep_are_refused),
        cmocka_unit_test(a_small_arena_is_an_error_not_an_overrun),
        cmocka_unit_test(damaged_events_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
