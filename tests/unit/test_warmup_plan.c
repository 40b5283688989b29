/* warmup_plan.h: what options mean, and the very bytes that a warm-up sends. */
#include "unit.h"

#include "warmup_plan.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOM 65600

static struct sw_warmup_plan plan;
static char packet[ROOM];

static int set_up(void **state)
{
    (void)state;
    memset(&plan, 0, sizeof plan);
    plan.host = "localhost";
    return 0;
}

/* ---- options ---- */

static void hits_with_and_without_a_method(void **state)
{
    static const struct {
        const char *value, *method, *uri;
    } good[] = {
        {"/", "GET", "/"},
        {"  /page?x=1&y=%20 ", NULL, NULL},
        {"  /page?x=1&y=%20", "GET", "/page?x=1&y=%20"},
        {"HEAD /", "HEAD", "/"},
        {"M-SEARCH \t /x", "M-SEARCH", "/x"},
        {"get /caf\xc3\xa9", "get", "/caf\xc3\xa9"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDE /", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDE", "/"},
        {"//", "GET", "//"},
    };
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(good); i++) {
        plan.hit_count = 0;
        const char *expected = sw_warmup_add_hit(&plan, good[i].value);
        if (!good[i].method) {
            assert_non_null(expected);
            continue;
        }
        assert_null(expected);
        assert_int_equal(plan.hit_count, 1);
        assert_string_equal(plan.hits[0].method, good[i].method);
        assert_string_equal(plan.hits[0].uri, good[i].uri);
    }
}

static void what_is_no_hit(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "GET",
        "GET ",
        "page",
        "GET page",
        "GET  /a b",
        "/a\tb",
        "/a#b",
        "/\x7f",
        "/\n",
        "G\xc3\x84T /",
        "GET\n/",
        "(x) /",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF /",
        "http://example.org/",
        "GET *",
    };
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(bad); i++)
        assert_non_null(sw_warmup_add_hit(&plan, bad[i]));
    assert_int_equal(plan.hit_count, 0);
}

static void as_many_as_fit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SW_WARMUP_HITS_MAX; i++)
        assert_null(sw_warmup_add_hit(&plan, "/"));
    assert_non_null(strstr(sw_warmup_add_hit(&plan, "/"), "the limit is 32"));
    char headers[SW_WARMUP_HEADERS_MAX + 1][8];
    for (unsigned i = 0; i <= SW_WARMUP_HEADERS_MAX; i++) {
        memcpy(headers[i], "Xaa: v", sizeof "Xaa: v");
        headers[i][1] = (char)('a' + i / 26);
        headers[i][2] = (char)('a' + i % 26);
        const char *expected = sw_warmup_add_header(&plan, headers[i]);
        assert_true((expected == NULL) == (i < SW_WARMUP_HEADERS_MAX));
    }
    assert_null(sw_warmup_add_header(&plan, "XAB: other")); /* replaces one */
    assert_string_equal(plan.headers[1].value, "other");
}

static void headers_as_variables(void **state)
{
    (void)state;
    assert_null(sw_warmup_add_header(&plan, "X-Forwarded-Proto:https"));
    assert_null(sw_warmup_add_header(&plan, "accept-language:  de, en;q=0.5"));
    assert_null(sw_warmup_add_header(&plan, "Content-Type: text/plain"));
    assert_null(sw_warmup_add_header(&plan, "X-Empty:"));
    assert_int_equal(plan.header_count, 4);
    assert_string_equal(plan.headers[0].variable, "HTTP_X_FORWARDED_PROTO");
    assert_string_equal(plan.headers[0].value, "https");
    assert_string_equal(plan.headers[1].variable, "HTTP_ACCEPT_LANGUAGE");
    assert_string_equal(plan.headers[1].value, "de, en;q=0.5");
    assert_string_equal(plan.headers[2].variable, "CONTENT_TYPE");
    assert_string_equal(plan.headers[3].value, "");
}

static void what_is_no_header(void **state)
{
    static const char *const bad[] = {
        "",
        ":",
        ": x",
        "X",
        "X Y: z",
        "X-\xc3\xa4: z",
        "X: a\nY: b",
        "X: a\r",
        "Host: x",
        "HOST:x",
        "host : x",
        "Content-Length: 0",
        "transfer-encoding: chunked",
    };
    char header[SW_WARMUP_VARIABLE_CHARS + sizeof ":v"];
    const size_t most = SW_WARMUP_VARIABLE_CHARS - strlen("HTTP_"); /* of a name */
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(bad); i++)
        assert_non_null(sw_warmup_add_header(&plan, bad[i]));
    for (size_t n = most + 1; n >= most; n--) {
        memset(header, 'x', n);
        memcpy(header + n, ":v", sizeof ":v");
        assert_true((sw_warmup_add_header(&plan, header) == NULL) == (n == most));
    }
    assert_int_equal(strlen(plan.headers[0].variable), SW_WARMUP_VARIABLE_CHARS);
}

static void hosts(void **state)
{
    static const char *const good[] = {"localhost", "www.example.org", "127.0.0.1:8080", "a:0"};
    static const char *const bad[] = {"",    ":",        ":80", "a:",    "a:b",  "a:65536",
                                      "a b", "http://a", "a/b", "[::1]", "a:1:2"};
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(good); i++) {
        assert_null(sw_warmup_set_host(&plan, good[i]));
        assert_ptr_equal(plan.host, good[i]);
    }
    for (unsigned i = 0; i < SW_COUNT(bad); i++)
        assert_non_null(sw_warmup_set_host(&plan, bad[i]));
    assert_ptr_equal(plan.host, good[3]);
}

/* ---- the packet ---- */

static unsigned u16(const char *at)
{
    return (unsigned)(unsigned char)at[0] | (unsigned)(unsigned char)at[1] << 8;
}

/* The value of a variable in the packet, with a zero behind it; each variable is there once. */
static const char *value_of(size_t used, const char *name)
{
    static char value[ROOM];
    unsigned found = 0;
    size_t at = 4;
    while (at < used) {
        const size_t name_bytes = u16(packet + at), value_bytes = u16(packet + at + 2 + name_bytes);
        if (name_bytes == strlen(name) && memcmp(packet + at + 2, name, name_bytes) == 0) {
            memcpy(value, packet + at + 4 + name_bytes, value_bytes);
            value[value_bytes] = 0;
            found++;
        }
        at += 4 + name_bytes + value_bytes;
    }
    assert_int_equal(at, used);
    assert_true(found <= 1);
    return found ? value : NULL;
}

static size_t build(const char *hit)
{
    plan.hit_count = 0;
    assert_null(sw_warmup_add_hit(&plan, hit));
    const ssize_t n = sw_warmup_packet(&plan, &plan.hits[0], packet, sizeof packet);
    assert_true(n > 4);
    assert_int_equal(packet[0], 0);
    assert_int_equal(packet[3], 0);
    assert_int_equal(u16(packet + 1), n - 4);
    return (size_t)n;
}

static void every_variable(void **state)
{
    (void)state;
    assert_null(sw_warmup_set_host(&plan, "www.example.org:8443"));
    assert_null(sw_warmup_add_header(&plan, "Cookie: a=b"));
    const size_t n = build("POST /a%2Fb%zz%4?x=%41&y");
    static const char *const expected[][2] = {
        {"REQUEST_METHOD", "POST"},
        {"REQUEST_URI", "/a%2Fb%zz%4?x=%41&y"},
        {"PATH_INFO", "/a/b%zz%4"},
        {"QUERY_STRING", "x=%41&y"},
        {"SCRIPT_NAME", ""},
        {"SERVER_PROTOCOL", "HTTP/1.1"},
        {"REMOTE_ADDR", "127.0.0.1"},
        {"CONTENT_LENGTH", ""},
        {"HTTP_HOST", "www.example.org:8443"},
        {"SERVER_NAME", "www.example.org"},
        {"SERVER_PORT", "8443"},
        {"HTTP_COOKIE", "a=b"},
        {"HTTP_USER_AGENT", "slowwatch-warmup"},
    };
    for (unsigned i = 0; i < SW_COUNT(expected); i++)
        assert_string_equal(value_of(n, expected[i][0]), expected[i][1]);
}

static void defaults_of_the_packet(void **state)
{
    (void)state;
    const size_t n = build("/");
    assert_string_equal(value_of(n, "REQUEST_METHOD"), "GET");
    assert_string_equal(value_of(n, "QUERY_STRING"), "");
    assert_string_equal(value_of(n, "SERVER_PORT"), "80");
    assert_string_equal(value_of(n, "HTTP_HOST"), "localhost");
}

static void a_user_agent_of_ones_own(void **state)
{
    (void)state;
    assert_null(sw_warmup_add_header(&plan, "user-agent: probe/1"));
    assert_string_equal(value_of(build("/"), "HTTP_USER_AGENT"), "probe/1");
}

static void decoded_paths(void **state)
{
    static const char *const paths[][2] = {
        {"/%41%42%43", "/ABC"}, {"/%", "/%"},           {"/%4", "/%4"},
        {"/%4G", "/%4G"},       {"/%%41", "/%A"},       {"/%c3%A9", "/\xc3\xa9"},
        {"/a%20b%2", "/a b%2"}, {"/%25%34%31", "/%41"},
    };
    (void)state;
    for (unsigned i = 0; i < SW_COUNT(paths); i++)
        assert_string_equal(value_of(build(paths[i][0]), "PATH_INFO"), paths[i][1]);
}

/* Any room: it fits, or it is an error and nothing is written past the end (ASan looks). */
static void every_room(void **state)
{
    (void)state;
    const size_t whole = build("/some%20path?with=query");
    for (size_t room = 0; room <= whole + 1; room++) {
        char *tight = malloc(room ? room : 1);
        assert_non_null(tight);
        const ssize_t n = sw_warmup_packet(&plan, &plan.hits[0], tight, room);
        assert_int_equal(n, room < whole ? -EMSGSIZE : (ssize_t)whole);
        free(tight);
    }
}

static void longer_than_the_protocol_allows(void **state)
{
    static char uri[ROOM], big[4 * ROOM];
    (void)state;
    memset(uri, 'x', sizeof uri - 1);
    uri[0] = '/';
    assert_null(sw_warmup_add_hit(&plan, uri)); /* one string over 64 KiB */
    assert_int_equal(sw_warmup_packet(&plan, &plan.hits[0], big, sizeof big), -EMSGSIZE);
    uri[40000] = 0; /* twice that is over as a whole */
    assert_int_equal(sw_warmup_packet(&plan, &plan.hits[0], big, sizeof big), -EMSGSIZE);
    uri[30000] = 0;
    assert_true(sw_warmup_packet(&plan, &plan.hits[0], big, sizeof big) > 60000);
}

/* ---- the answer ---- */

static const char *location(const char *head)
{
    static char bytes[128];
    struct sw_text out;
    sw_text_init(&out, bytes, sizeof bytes);
    const size_t n = strlen(head);
    char *exact = malloc(n ? n : 1); /* without a zero behind it */
    assert_non_null(exact);
    memcpy(exact, head, n);
    sw_warmup_location(exact, n, &out);
    free(exact);
    return bytes;
}

static void where_a_redirect_leads(void **state)
{
    (void)state;
    assert_string_equal(location("HTTP/1.1 301 Moved\r\nLocation: https://a.example/x\r\n\r\n"),
                        "https://a.example/x");
    assert_string_equal(location("HTTP/1.1 302 F\r\nA: b\r\nLOCATION:/login?next=secret\r\n\r\n"),
                        "/login?…");
    assert_string_equal(location("HTTP/1.1 302 F\r\nlocation:   /cut"), "/cut");
    assert_string_equal(location("HTTP/1.1 302 F\r\nLocation: /a\x1b[31m\r\n"), "/a\\x1b[31m");
    assert_string_equal(location("HTTP/1.1 302 F\r\nX-Location: /a\r\n\r\n"), "");
    assert_string_equal(location("HTTP/1.1 302 F\r\n\r\nLocation: /in-the-body\r\n"), "");
    assert_string_equal(location("HTTP/1.1 302 F\r\nLocation:"), "");
    assert_string_equal(location("\nLocation"), "");
    assert_string_equal(location(""), "");
}

/* ---- attempts ---- */

static void attempts_end(void **state)
{
    (void)state;
    for (unsigned failed = 0; failed < 10; failed++) {
        plan.required = false;
        assert_true(sw_warmup_gives_up(&plan, failed) == (failed >= SW_WARMUP_ATTEMPTS));
        plan.required = true;
        assert_false(sw_warmup_gives_up(&plan, failed));
    }
}

static void pauses_grow_and_stay_bounded(void **state)
{
    static const unsigned seconds[] = {0, 1, 2, 4, 8, 10, 10};
    (void)state;
    for (unsigned failed = 0; failed < SW_COUNT(seconds); failed++)
        assert_int_equal(sw_warmup_pause_ns(failed), seconds[failed] * SW_NS_PER_SEC);
    assert_int_equal(sw_warmup_pause_ns(UINT32_MAX), 10 * SW_NS_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(hits_with_and_without_a_method, set_up),
        cmocka_unit_test_setup(what_is_no_hit, set_up),
        cmocka_unit_test_setup(as_many_as_fit, set_up),
        cmocka_unit_test_setup(headers_as_variables, set_up),
        cmocka_unit_test_setup(what_is_no_header, set_up),
        cmocka_unit_test_setup(hosts, set_up),
        cmocka_unit_test_setup(every_variable, set_up),
        cmocka_unit_test_setup(defaults_of_the_packet, set_up),
        cmocka_unit_test_setup(a_user_agent_of_ones_own, set_up),
        cmocka_unit_test_setup(decoded_paths, set_up),
        cmocka_unit_test_setup(every_room, set_up),
        cmocka_unit_test_setup(longer_than_the_protocol_allows, set_up),
        cmocka_unit_test_setup(where_a_redirect_leads, set_up),
        cmocka_unit_test_setup(attempts_end, set_up),
        cmocka_unit_test_setup(pauses_grow_and_stay_bounded, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
