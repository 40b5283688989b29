/* warmup_report.h: what became of a request of the warm-up, and what the log says to do. */
#include "unit.h"

#include "log.h"
#include "warmup_report.h"
#include <stdio.h>
#include <string.h>

#define JSON_BYTES 16384

static struct sw_warmup_voice voice;
static struct sw_warmup_plan plan;
static struct sw_channel channel;
static _Atomic uint64_t dropped;
static char said[JSON_BYTES];
static const struct sw_warmup_story first = {"GET", "/page", 1, SW_NS_PER_SEC, 0};

static int set_up(void **state)
{
    (void)state;
    plan = (struct sw_warmup_plan){.timeout_ns = 30 * SW_NS_PER_SEC};
    voice.worker = 2;
    voice.why = "harakiri";
    voice.plan = &plan;
    if (sw_channel_open(&channel) < 0)
        return -1;
    sw_emitter_init(&voice.emitter, &channel, &dropped, NULL, "host", SW_LOG_TEXT);
    sw_arena_init(&voice.arena, voice.arena_bytes, sizeof voice.arena_bytes);
    return 0;
}

static void tell(const struct sw_warmup_story *story, enum sw_warmup_outcome outcome,
                 const struct sw_hit_result *r)
{
    size_t n = 0;
    sw_warmup_tell(&voice, story, outcome, r);
    assert_int_equal(sw_channel_receive(&channel, said, sizeof said - 1, &n), SW_CHANNEL_EVENT);
    said[n] = 0;
}

static void says(const char *words)
{
    if (!strstr(said, words))
        fail_msg("\"%s\" is not in %s", words, said);
}

static void says_not(const char *words)
{
    if (strstr(said, words))
        fail_msg("\"%s\" is in %s", words, said);
}

static void outcomes(void **state)
{
    struct sw_hit_result r = {.status = 200};
    (void)state;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_OK);
    r.status = 299;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_OK);
    r.status = 301;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_REDIRECTED);
    r.status = 399;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_REDIRECTED);
    r.status = 400;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_FAILED);
    r.status = 0;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_FAILED);
    r.status = 200;
    snprintf(r.exception.words, sizeof r.exception.words, "Error");
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_FAILED);
    r.timed_out = true;
    assert_int_equal(sw_warmup_outcome(&r), SW_WARMUP_TIMED_OUT);
}

static void success(void **state)
{
    const struct sw_hit_result r = {.status = 200, .bytes = 1234, .took_ns = 1503 * SW_NS_PER_MS};
    (void)state;
    tell(&first, SW_WARMUP_OK, &r);
    says("\"event\":\"warmup\"");
    says("\"worker\":2");
    says("\"result\":\"ok\"");
    says("\"why\":\"harakiri\"");
    says("\"status\":200");
    says("\"took_ms\":1503");
    says("\"bytes\":1234");
    says_not("\"reason\"");
}

static void redirect(void **state)
{
    static const char head[] =
        "HTTP/1.1 302 Found\r\nLocation: https://www.example.org/login?next=%2F\r\n\r\n";
    struct sw_hit_result r = {.status = 302, .head_bytes = sizeof head - 1};
    (void)state;
    memcpy(r.head, head, sizeof head);
    tell(&first, SW_WARMUP_REDIRECTED, &r);
    says("\"result\":\"redirected\"");
    says("to https://www.example.org/login?…, which is not followed");
    says_not("next=");
    says_not("next attempt");
    r.head_bytes = 0;
    tell(&first, SW_WARMUP_REDIRECTED, &r);
    says("to somewhere else, which is not followed");
}

static void each_status_with_its_remedy(void **state)
{
    static const struct {
        int status;
        const char *words;
    } remedies[] = {
        {0, "whether the path is right"}, {400, "slowwatch-warmup-host"},    {401, "slowwatch-warmup-header"},
        {403, "slowwatch-warmup-header"}, {404, "correct slowwatch-warmup"}, {405, "give the method"},
        {500, "log of the application"},  {503, "log of the application"},
    };
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(remedies); i++) {
        const struct sw_hit_result r = {.status = remedies[i].status};
        tell(&first, SW_WARMUP_FAILED, &r);
        says("\"result\":\"failed\"");
        says(remedies[i].words);
        says("; next attempt in 1 s\"");
    }
}

static void exception_with_its_stack(void **state)
{
    struct sw_frame frames[] = {{"/srv/wsgi.py", "application", NULL, 7}, {"/srv/db.py", "fetch", NULL, 88}};
    struct sw_hit_result r = {.status = 500};
    (void)state;
    snprintf(r.exception.words, sizeof r.exception.words, "db.Error: no such table");
    r.exception.stack = (struct sw_stack){.frames = frames, .count = 2};
    tell(&first, SW_WARMUP_FAILED, &r);
    says("db.Error: no such table; correct what raises it");
    says("{\"file\":\"/srv/db.py\",\"line\":88,\"function\":\"fetch\"}");
}

static void time_limit(void **state)
{
    const struct sw_hit_result r = {.took_ns = 30 * SW_NS_PER_SEC, .timed_out = true};
    (void)state;
    tell(&first, SW_WARMUP_TIMED_OUT, &r);
    says("\"result\":\"timed out\"");
    says("interrupted after 30 s");
    says("slowwatch-warmup-timeout");
    tell(&first, SW_WARMUP_STUCK, &r);
    says("\"result\":\"hangs\"");
    says("this process of the worker ends");
    tell(&first, SW_WARMUP_WEDGED, &r);
    says("without a master");
}

static void the_last_attempt(void **state)
{
    const struct sw_warmup_story last = {"GET", "/page", 3, SW_NS_NEVER, 0};
    const struct sw_hit_result r = {.status = 500};
    (void)state;
    tell(&last, SW_WARMUP_FAILED, &r);
    says("\"attempt\":3");
    says_not("next attempt");
    tell(&last, SW_WARMUP_GAVE_UP, &r);
    says("\"result\":\"gave up\"");
    says("3 attempts failed, so the worker accepts requests although it is not warm");
    says_not("accepts nothing");
}

static void required(void **state)
{
    const struct sw_hit_result r = {.status = 500};
    struct sw_warmup_story story = first;
    (void)state;
    plan.required = true;
    tell(&story, SW_WARMUP_FAILED, &r);
    says("the worker accepts nothing until this works (slowwatch-warmup-required); next attempt in 1 s");
    story.attempt = SW_WARMUP_ATTEMPTS + 1;
    story.since_ns = sw_now_ns() - 185 * SW_NS_PER_SEC;
    tell(&story, SW_WARMUP_FAILED, &r);
    says(", for 3 min 5 s so far; next attempt");
}

static void death_of_the_last_process(void **state)
{
    (void)state;
    tell(&first, SW_WARMUP_DIED, &(struct sw_hit_result){0});
    says("\"result\":\"died\"");
    says("the last process of the worker died in this request");
    says_not("\"status\"");
}

static char logged[JSON_BYTES];

static void write_logged(const char *text, size_t n)
{
    snprintf(logged, sizeof logged, "%.*s", (int)n, text);
}

static void failures_are_said_although_reports_are_off(void **state)
{
    const struct sw_hit_result r = {.status = 500};
    (void)state;
    sw_emitter_init(&voice.emitter, &channel, &dropped, NULL, "host", SW_LOG_OFF);
    sw_log_set_writer(write_logged);
    tell(&first, SW_WARMUP_OK, &r);
    assert_string_equal(logged, "");
    tell(&first, SW_WARMUP_GAVE_UP, &r);
    assert_non_null(strstr(logged, "slowwatch: warm-up of worker 2 gave up: GET /page: 3 attempts failed"));
    sw_log_set_writer(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcomes),
        cmocka_unit_test_setup(success, set_up),
        cmocka_unit_test_setup(redirect, set_up),
        cmocka_unit_test_setup(each_status_with_its_remedy, set_up),
        cmocka_unit_test_setup(exception_with_its_stack, set_up),
        cmocka_unit_test_setup(time_limit, set_up),
        cmocka_unit_test_setup(the_last_attempt, set_up),
        cmocka_unit_test_setup(required, set_up),
        cmocka_unit_test_setup(death_of_the_last_process, set_up),
        cmocka_unit_test_setup(failures_are_said_although_reports_are_off, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
