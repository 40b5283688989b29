/* The text is a contract: whole entries are compared, and nothing a client sends may break out of its line. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "render.h"

#include <string.h>

#define ID "0123456789abcdef0123456789abcdef"

static char text_bytes[64 * 1024];
static struct sw_text text;

static struct sw_frame frames[] = {{"/srv/app/views.py", "order", "rows = db.fetch(q)", 41},
                                   {"/srv/app/db.py", "fetch", "return self.conn.recv(65536)", 88}};

static struct sw_event slow(void)
{
    return (struct sw_event){.id = ID,
                             .worker = 2,
                             .pid = 4711,
                             .request = {.method = "GET", .uri = "/orders/17", .phase = "application"},
                             .elapsed_ms = 10000,
                             .threshold_ms = 10000,
                             .has_harakiri = true,
                             .harakiri_in_ms = 20000,
                             .thread = {.state = "waiting",
                                        .syscall = "recvfrom",
                                        .wait = "recvfrom(fd 9 → 127.0.0.1:5432)",
                                        .gil = "released",
                                        .cpu_ms = 12,
                                        .cpu_window_ms = 10000},
                             .has_stack = true,
                             .stack = {frames, SW_COUNT(frames), 0, NULL}};
}

static const char *rendered(const struct sw_event *e)
{
    sw_text_init(&text, text_bytes, sizeof text_bytes);
    sw_render_event(e, &text);
    assert_false(text.cut);
    assert_int_equal(text.at[text.used - 1], '\n');
    return text_bytes;
}

static const char *headline(const struct sw_event *e)
{
    sw_text_init(&text, text_bytes, sizeof text_bytes);
    sw_render_headline(e, &text);
    return text_bytes;
}

static const char *place(const struct sw_event *e)
{
    sw_text_init(&text, text_bytes, sizeof text_bytes);
    sw_render_place(e, &text);
    return text_bytes;
}

static void contains(const char *s, const char *part)
{
    if (!strstr(s, part))
        fail_msg("no \"%s\" in:\n%s", part, s);
}

static void lacks(const char *s, const char *part)
{
    if (strstr(s, part))
        fail_msg("\"%s\" in:\n%s", part, s);
}

static void a_slow_request_reads_as_documented(void **state)
{
    (void)state;
    const struct sw_event e = slow();
    assert_string_equal(rendered(&e),
                        "slowwatch: slow request " ID
                        ": GET /orders/17 on worker 2 core 0 (pid 4711): 10.0 s so far, harakiri in 20 s\n"
                        "waiting in recvfrom(fd 9 → 127.0.0.1:5432), GIL released, 12 ms of CPU used\n"
                        "Traceback (most recent call last):\n"
                        "  File \"/srv/app/views.py\", line 41, in order\n"
                        "    rows = db.fetch(q)\n"
                        "  File \"/srv/app/db.py\", line 88, in fetch\n"
                        "    return self.conn.recv(65536)\n");
}

static void everything_known_is_in_the_entry(void **state)
{
    (void)state;
    struct sw_frame other[] = {{"/srv/app/job.py", "spin", NULL, 5}};
    struct sw_event_thread threads[] = {
        {.ident = 0x7f00, .tid = 4713, .gil = true, .stack = {other, 1, 3, NULL}},
        {.ident = 0x7f01, .stack = {other, 1, 0, NULL}},
    };
    struct sw_timeline_place places[] = {{"/srv/app/db.py", "fetch", 88, 91},
                                         {"/srv/app/views.py", "order", 0, 5}};
    struct sw_event e = slow();
    e.kind = SW_EVENT_SLOW_REQUEST_UPDATE;
    e.elapsed_ms = 20000;
    e.harakiri_in_ms = 9500;
    e.thread = (struct sw_event_state){.state = "waiting",
                                       .syscall = "futex",
                                       .gil = "wanted",
                                       .gil_holder = 0x7f00,
                                       .cpu_ms = 4000,
                                       .cpu_window_ms = 9500};
    e.stack.truncated = 12;
    e.stack.partial = "inner 3 frames were changing";
    e.request.host = "shop.example";
    e.request.remote_addr = "10.0.0.7";
    e.request.request_id = "r-1";
    e.request.traceparent = "00-ab-cd-01";
    e.request.body_bytes = 77;
    e.app = "shop";
    e.threads = threads;
    e.thread_count = 2;
    e.threads_dropped = 1;
    e.timeline = places;
    e.timeline_count = 2;
    e.looks = 100;
    e.other_looks = 1;
    assert_string_equal(
        rendered(&e),
        "slowwatch: still running " ID
        ": GET /orders/17 on worker 2 core 0 (pid 4711): 20.0 s so far, harakiri in 9.5 s\n"
        "waiting in futex, GIL wanted (thread 0x7f00 holds it), 4.0 s of CPU used in the last 9.5 s\n"
        "Traceback (most recent call last):\n"
        "  ... 12 outer frames left out\n"
        "  File \"/srv/app/views.py\", line 41, in order\n"
        "    rows = db.fetch(q)\n"
        "  File \"/srv/app/db.py\", line 88, in fetch\n"
        "    return self.conn.recv(65536)\n"
        "(partial: inner 3 frames were changing)\n"
        "91 of 100 looks in db.py:88 fetch\n"
        "5 of 100 looks in views.py order\n"
        "4 of 100 looks elsewhere\n"
        "request: host shop.example, client 10.0.0.7, request id r-1, traceparent 00-ab-cd-01, app shop, "
        "body 77 bytes\n"
        "Thread 0x7f00 (tid 4713) holds the GIL:\n"
        "  ... 3 outer frames left out\n"
        "  File \"/srv/app/job.py\", line 5, in spin\n"
        "Thread 0x7f01:\n"
        "  File \"/srv/app/job.py\", line 5, in spin\n"
        "(1 other thread left out)\n");
}

static void nothing_known_is_left_out(void **state)
{
    (void)state;
    const struct sw_event e = {.id = ID, .worker = 1, .pid = 7, .elapsed_ms = 900};
    assert_string_equal(rendered(&e), "slowwatch: slow request " ID
                                      ": a request not read yet on worker 1 core 0 (pid 7): 900 ms so far\n");
    struct sw_event no_stack = e;
    no_stack.no_stack = "no Python in this\nworker";
    contains(rendered(&no_stack), "\nno Python stack: no Python in this\\nworker\n");
}

static void each_kind_has_its_headline(void **state)
{
    (void)state;
    struct sw_event e = slow();
    e.kind = SW_EVENT_REQUEST_FINISHED;
    e.elapsed_ms = 12340;
    e.request.status = 200;
    assert_string_equal(headline(&e),
                        "slow request finished " ID
                        ": GET /orders/17 on worker 2 core 0 (pid 4711): took 12.3 s, status 200");
    e.kind = SW_EVENT_REQUEST_KILLED;
    e.elapsed_ms = 30200;
    assert_string_equal(headline(&e),
                        "slow request killed " ID
                        ": GET /orders/17 on worker 2 core 0 (pid 4711): killed by harakiri after 30.2 s");
    e.reason = "harakiri";
    contains(headline(&e), ": killed by harakiri after 30.2 s");
    e.reason = "harakiri; no last picture";
    contains(headline(&e), ": killed after 30.2 s: harakiri; no last picture");
    e.kind = SW_EVENT_WORKER_DIED;
    e.reason = "signal 11";
    assert_string_equal(headline(&e),
                        "worker died in slow request " ID
                        ": GET /orders/17 on worker 2 core 0 (pid 4711): after 30.2 s: signal 11");
    e.reason = NULL;
    contains(headline(&e), ": after 30.2 s");
    e.kind = SW_EVENT_SLOW_REQUEST;
    e.harakiri_in_ms = 0;
    contains(headline(&e), ", harakiri is due");
    e.harakiri_in_ms = 10400;
    contains(headline(&e), ", harakiri in 10 s");
    e.harakiri_in_ms = 12600;
    contains(headline(&e), ", harakiri in 13 s");
    e.harakiri_in_ms = INT64_MAX;
    contains(headline(&e), ", harakiri in 9223372036854776 s");
    e.has_harakiri = false;
    lacks(headline(&e), "harakiri");
}

static void a_timeout_says_what_became_of_it(void **state)
{
    (void)state;
    struct sw_event e = slow();
    e.kind = SW_EVENT_TIMEOUT;
    e.has_harakiri = false;
    e.thread = (struct sw_event_state){0};
    e.stack = (struct sw_stack){frames, 1, 0, NULL};
    e.timeout = (struct sw_event_timeout){"raised", "RuntimeError", 500000, 1200};
    assert_string_equal(
        rendered(&e), "slowwatch: timeout " ID
                      ": GET /orders/17 on worker 2 core 0 (pid 4711): RuntimeError raised after 0.5 s\n"
                      "Traceback (most recent call last):\n  File \"/srv/app/views.py\", line 41, in order\n"
                      "    rows = db.fetch(q)\n");
    e.timeout.outcome = "swallowed";
    contains(headline(&e),
             "(pid 4711): RuntimeError was raised after 0.5 s and swallowed: the block went on");
    e.timeout = (struct sw_event_timeout){"stuck", "TooSlow", 20000000, 1004000};
    e.thread = (struct sw_event_state){.state = "waiting", .syscall = "futex", .gil = "released"};
    contains(rendered(&e), "(pid 4711): the limit of 20 s passed 1.0 s ago, and TooSlow could not be raised: "
                           "the thread is in a call that does not return\n"
                           "waiting in futex, GIL released\nTraceback");
    static const struct {
        uint64_t us;
        const char *shown;
    } limits[] = {{0, "after 0 s"},         {1, "after 0.000001 s"},
                  {250000, "after 0.25 s"}, {10100000, "after 10.1 s"},
                  {60000000, "after 60 s"}, {UINT64_MAX, "after 18446744073709.551615 s"}};
    for (unsigned i = 0; i < SW_COUNT(limits); i++) {
        e.timeout = (struct sw_event_timeout){"raised", "E", limits[i].us, 0};
        contains(headline(&e), limits[i].shown);
    }
    memset(&e.request, 0, sizeof e.request);
    e.core = -1;
    contains(headline(&e), ": outside of a request on worker 2 (pid 4711): E raised after");
}

static void a_warmup_is_one_line_or_says_what_to_do(void **state)
{
    (void)state;
    struct sw_event e = {.kind = SW_EVENT_WARMUP, .id = ID, .worker = 2, .pid = 4711};
    e.warmup = (struct sw_event_warmup){"GET", "/health", "ok", "first start", 200, 1, 1503000, 1234};
    e.reason = "not for this one";
    assert_string_equal(rendered(&e),
                        "slowwatch: warm-up of worker 2 (pid 4711): GET /health → 200, 1,234 bytes "
                        "in 1503 ms (first start)\n");
    e.warmup.why = NULL;
    e.warmup.bytes = 1000000;
    contains(headline(&e), "→ 200, 1,000,000 bytes in 1503 ms");
    lacks(headline(&e), "ms (");
    e.warmup.bytes = 1;
    contains(headline(&e), ", 1 byte in");
    e.warmup.bytes = UINT64_MAX;
    contains(headline(&e), ", 18,446,744,073,709,551,615 bytes in");
    e.warmup = (struct sw_event_warmup){"GET", "/health", "timed out", "harakiri", 0, 2, 30000000, 0};
    e.reason = "the worker accepts requests\nall the same";
    e.has_stack = true;
    e.stack = (struct sw_stack){frames + 1, 1, 0, NULL};
    assert_string_equal(
        rendered(&e),
        "slowwatch: warm-up of worker 2 (pid 4711) timed out: GET /health → no answer in 30000 ms "
        "(harakiri, attempt 2): the worker accepts requests\\nall the same\n"
        "Traceback (most recent call last):\n  File \"/srv/app/db.py\", line 88, in fetch\n"
        "    return self.conn.recv(65536)\n");
    e.warmup.why = NULL;
    contains(headline(&e), " ms (attempt 2): the worker");
}

static void the_wait_line_says_what_is_known(void **state)
{
    (void)state;
    struct sw_event e = slow();
    e.thread =
        (struct sw_event_state){.state = "running", .gil = "held", .cpu_ms = 9990, .cpu_window_ms = 10000};
    contains(rendered(&e), "\nrunning, GIL held, 9.9 s of CPU used\nTraceback");
    e.thread = (struct sw_event_state){.gil = "held"};
    contains(rendered(&e), "\nGIL held\nTraceback");
    e.thread = (struct sw_event_state){.state = "waiting"};
    contains(rendered(&e), "\nwaiting\nTraceback");
    e.thread = (struct sw_event_state){.cpu_ms = 0, .cpu_window_ms = 9000};
    contains(rendered(&e), "\n0 ms of CPU used\nTraceback");
    e.thread.cpu_window_ms = 4100;
    contains(rendered(&e), "\n0 ms of CPU used in the last 4.1 s\nTraceback");
    e.thread = (struct sw_event_state){0};
    e.request.phase = "upload";
    contains(rendered(&e), "\nphase upload\nTraceback");
    e.request.phase = NULL;
    contains(rendered(&e), " 20 s\nTraceback");
}

/* ---- recursion ---- */

static void recursion_is_collapsed_as_python_does(void **state)
{
    (void)state;
    static struct sw_frame deep[1 + 899 + 1];
    deep[0] = (struct sw_frame){"/a.py", "main", NULL, 9};
    for (unsigned i = 1; i < 900; i++)
        deep[i] = (struct sw_frame){"/a.py", "f", "f(n + 1)", 2};
    deep[900] = (struct sw_frame){"/a.py", "g", NULL, 5};
    struct sw_event e = slow();
    e.stack = (struct sw_stack){deep, SW_COUNT(deep), 0, NULL};
    contains(rendered(&e), "Traceback (most recent call last):\n"
                           "  File \"/a.py\", line 9, in main\n"
                           "  File \"/a.py\", line 2, in f\n    f(n + 1)\n"
                           "  File \"/a.py\", line 2, in f\n    f(n + 1)\n"
                           "  File \"/a.py\", line 2, in f\n    f(n + 1)\n"
                           "  [Previous line repeated 896 more times]\n"
                           "  File \"/a.py\", line 5, in g\n");
    e.stack = (struct sw_stack){deep + 1, 4, 0, NULL};
    contains(rendered(&e), "    f(n + 1)\n  [Previous line repeated 1 more time]\n");
    e.stack.count = 3;
    lacks(rendered(&e), "repeated");
}

static void few_of_many_places_are_shown(void **state)
{
    (void)state;
    struct sw_timeline_place places[8];
    for (unsigned i = 0; i < SW_COUNT(places); i++)
        places[i] = (struct sw_timeline_place){"/srv/a.py", "f", (int)i + 1, 10 - i};
    struct sw_event e = slow();
    e.timeline = places;
    e.timeline_count = SW_COUNT(places);
    e.looks = 60;
    contains(rendered(&e), "\n6 of 60 looks in a.py:5 f\n20 of 60 looks elsewhere\n");
    lacks(text_bytes, "a.py:6");
    e.looks = 1; /* one look is the traceback itself */
    lacks(rendered(&e), "looks");
}

/* ---- hostile text ---- */

static void client_bytes_stay_on_their_line(void **state)
{
    (void)state;
    static const char evil[] = "/a\r\nslowwatch: forged \x1b[31m\xff \u202e \u2028 \xc2\x85 \x7f";
    struct sw_event e = slow();
    struct sw_frame bad = {evil, evil, evil, 1};
    struct sw_timeline_place at = {evil, evil, 1, 2};
    struct sw_event_thread thread = {.ident = 1, .stack = {&bad, 1, 0, evil}};
    e.id = evil;
    e.app = evil;
    e.reason = evil;
    e.request = (struct sw_event_request){evil, evil, evil, evil, evil, evil, evil, evil, 0, 0, 0};
    e.timeout = (struct sw_event_timeout){evil, evil, 1, 1};
    e.warmup = (struct sw_event_warmup){evil, evil, evil, evil, 0, 0, 0, 0};
    e.thread = (struct sw_event_state){.state = evil, .syscall = evil, .wait = evil, .gil = evil};
    e.stack = (struct sw_stack){&bad, 1, 0, evil};
    e.timeline = &at;
    e.timeline_count = 1;
    e.looks = 2;
    e.threads = &thread;
    e.thread_count = 1;
    for (unsigned kind = 0; kind < SW_EVENT_KINDS; kind++) {
        e.kind = (enum sw_event_kind)kind;
        const char *s = rendered(&e);
        for (size_t i = 0; i < text.used;) {
            const size_t len = sw_utf8_len(s + i, text.used - i);
            assert_true(len > 0);
            assert_true(s[i] == '\n' || ((unsigned char)s[i] >= 0x20 && s[i] != 0x7f));
            i += len;
        }
        lacks(s, "\nslowwatch:");
        lacks(s, "\u202e");
        lacks(s, "\u2028");
        lacks(s, "\xc2\x85");
        contains(s, "/a\\r\\nslowwatch: forged \\x1b[31m\\xff \\u202e \\u2028 \\u0085 \\x7f");
    }
    lacks(headline(&e), "\n");
    lacks(place(&e), "\n");
}

static void a_long_uri_is_cut_at_a_character(void **state)
{
    (void)state;
    char uri[1000];
    struct sw_text t;
    sw_text_init(&t, uri, sizeof uri);
    sw_text_put(&t, "/");
    for (unsigned i = 0; i < 199; i++)
        sw_text_put(&t, "é");
    struct sw_event e = slow();
    e.request.uri = uri;
    contains(headline(&e), "éé on worker");
    sw_text_put(&t, "é");
    contains(headline(&e), "éé… on worker");
}

static void a_full_buffer_is_cut_not_overrun(void **state)
{
    (void)state;
    const struct sw_event e = slow();
    rendered(&e);
    const size_t whole = text.used;
    for (size_t room = 1; room <= whole + 1; room++) {
        char small[1024];
        assert_true(room + 1 < sizeof small);
        small[room] = 'x';
        sw_text_init(&text, small, room);
        sw_render_event(&e, &text);
        assert_int_equal(text.cut, room <= whole);
        assert_true(text.used < room);
        assert_int_equal(small[text.used], 0);
        assert_int_equal(small[room], 'x');
    }
}

/* ---- frames ---- */

static void application_frames_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        bool application;
    } cases[] = {
        {"/srv/app/views.py", true},
        {"views.py", true},
        {"./wsgi.py", true},
        {"/srv/lib/python-tools/run.py", true},
        {"/srv/python3/app.py", true},
        {"/srv/lib/python/app.py", true},
        {"/home/u/mylib/python3.11/x.py", true},
        {"/usr/lib/python3.11/json/decoder.py", false},
        {"/usr/lib/python3/dist-packages/django/db.py", false},
        {"/usr/lib64/python3.12/socket.py", false},
        {"/usr/lib/python311.zip/socket.py", false},
        {"/opt/conda/lib/python3.13/ssl.py", false},
        {"/srv/venv/lib/python3.11/site-packages/requests/api.py", false},
        {"/opt/vendor/site-packages/x.py", false},
        {"<frozen importlib._bootstrap>", false},
        {"<string>", false},
        {"", false},
        {NULL, false},
    };
    for (unsigned i = 0; i < SW_COUNT(cases); i++) {
        const struct sw_frame f = {cases[i].file, "f", NULL, 1};
        if (sw_frame_is_application(&f) != cases[i].application)
            fail_msg("%s", cases[i].file ? cases[i].file : "NULL");
    }
}

static void the_place_is_the_innermost_application_frame(void **state)
{
    (void)state;
    struct sw_frame in_library[] = {{"/srv/app/views.py", "order", NULL, 41},
                                    {"/srv/app/db.py", "fetch", NULL, 88},
                                    {"/usr/lib/python3.11/ssl.py", "read", NULL, 1000}};
    struct sw_event e = slow();
    assert_string_equal(place(&e), "db.py:88 fetch");
    e.stack = (struct sw_stack){in_library, 3, 0, NULL};
    assert_string_equal(place(&e), "db.py:88 fetch");
    e.stack = (struct sw_stack){in_library + 2, 1, 0, NULL};
    assert_string_equal(place(&e), "ssl.py:1000 read");
    in_library[2].line = 0;
    assert_string_equal(place(&e), "ssl.py read");
    contains(rendered(&e), "  File \"/usr/lib/python3.11/ssl.py\", line ???, in read\n");
    e.stack.count = 0;
    assert_string_equal(place(&e), "");
    e.has_stack = false;
    assert_string_equal(place(&e), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_request_reads_as_documented),
        cmocka_unit_test(everything_known_is_in_the_entry),
        cmocka_unit_test(nothing_known_is_left_out),
        cmocka_unit_test(each_kind_has_its_headline),
        cmocka_unit_test(a_timeout_says_what_became_of_it),
        cmocka_unit_test(a_warmup_is_one_line_or_says_what_to_do),
        cmocka_unit_test(the_wait_line_says_what_is_known),
        cmocka_unit_test(recursion_is_collapsed_as_python_does),
        cmocka_unit_test(few_of_many_places_are_shown),
        cmocka_unit_test(client_bytes_stay_on_their_line),
        cmocka_unit_test(a_long_uri_is_cut_at_a_character),
        cmocka_unit_test(a_full_buffer_is_cut_not_overrun),
        cmocka_unit_test(application_frames_are_told_apart),
        cmocka_unit_test(the_place_is_the_innermost_application_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
