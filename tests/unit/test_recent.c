#include "unit.h"

#include "recent.h"
#include <stdio.h>
#include <string.h>

static struct sw_recent recent;

static struct sw_frame f = {.file = "/srv/app.py", .function = "f", .line = 1};
static struct sw_frame g = {.file = "/srv/app.py", .function = "g", .line = 2};

static struct sw_event event(const char *id, enum sw_event_kind kind, struct sw_frame *frame)
{
    struct sw_event e;
    memset(&e, 0, sizeof e);
    e.id = id;
    e.kind = kind;
    e.request.method = "GET";
    e.request.uri = "/";
    e.has_stack = frame != NULL;
    e.stack.frames = frame;
    e.stack.count = frame ? 1 : 0;
    return e;
}

static void all_events_of_a_report_have_its_first_fingerprint(void **state)
{
    (void)state;
    const char *id = "0123456789abcdef0123456789abcdef";
    struct sw_event first = event(id, SW_EVENT_SLOW_REQUEST, &f);
    struct sw_event update = event(id, SW_EVENT_SLOW_REQUEST_UPDATE, &g);
    struct sw_event end = event(id, SW_EVENT_REQUEST_FINISHED, NULL);
    struct sw_event other = event("ffffffffffffffffffffffffffffffff", SW_EVENT_SLOW_REQUEST, &g);
    assert_true(sw_recent_event(&recent, &first));
    assert_true(sw_recent_event(&recent, &other));
    assert_true(sw_recent_event(&recent, &update));
    assert_true(sw_recent_event(&recent, &end));
    assert_string_equal(update.fingerprint, first.fingerprint);
    assert_string_equal(end.fingerprint, first.fingerprint);
    assert_string_not_equal(other.fingerprint, first.fingerprint);
}

static void a_report_ends_once(void **state)
{
    (void)state;
    const char *id = "11111111111111111111111111111111";
    struct sw_event first = event(id, SW_EVENT_SLOW_REQUEST, &f);
    struct sw_event killed = event(id, SW_EVENT_REQUEST_KILLED, NULL);
    struct sw_event died = event(id, SW_EVENT_WORKER_DIED, NULL);
    assert_true(sw_recent_event(&recent, &first));
    assert_true(sw_recent_event(&recent, &killed));
    assert_false(sw_recent_event(&recent, &died));
}

static void what_is_of_no_report_neither_names_nor_ends_one(void **state)
{
    (void)state;
    const char *id = "22222222222222222222222222222222";
    struct sw_event timeout = event(id, SW_EVENT_TIMEOUT, &g);
    struct sw_event first = event(id, SW_EVENT_SLOW_REQUEST, &f);
    struct sw_event end = event(id, SW_EVENT_REQUEST_FINISHED, NULL);
    struct sw_event late = event(id, SW_EVENT_TIMEOUT, NULL);
    struct sw_event other = event("33333333333333333333333333333333", SW_EVENT_SLOW_REQUEST, &f);
    assert_true(sw_recent_event(&recent, &timeout));
    assert_true(sw_recent_event(&recent, &first));
    assert_true(sw_recent_event(&recent, &other));
    assert_string_equal(first.fingerprint, other.fingerprint);
    assert_string_not_equal(timeout.fingerprint, first.fingerprint);
    assert_true(sw_recent_event(&recent, &end));
    assert_true(sw_recent_event(&recent, &late)); /* told after the end, and told all the same */
    assert_null(late.fingerprint);
}

static void the_oldest_is_forgotten(void **state)
{
    (void)state;
    char id[SW_EVENT_ID_CHARS + 1];
    struct sw_event e;
    for (unsigned i = 0; i <= SW_RECENT_MAX; i++) {
        snprintf(id, sizeof id, "%032x", i);
        e = event(id, SW_EVENT_REQUEST_FINISHED, NULL);
        assert_true(sw_recent_event(&recent, &e));
    }
    assert_false(sw_recent_event(&recent, &e)); /* the newest is known */
    snprintf(id, sizeof id, "%032x", 0U);
    e = event(id, SW_EVENT_REQUEST_FINISHED, NULL);
    assert_true(sw_recent_event(&recent, &e)); /* the first is not */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_events_of_a_report_have_its_first_fingerprint),
        cmocka_unit_test(a_report_ends_once),
        cmocka_unit_test(what_is_of_no_report_neither_names_nor_ends_one),
        cmocka_unit_test(the_oldest_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
