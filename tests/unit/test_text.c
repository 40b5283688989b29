#include "unit.h"

#include "text.h"
#include <stdlib.h>
#include <string.h>

static const char *escaped(const char *s, size_t n)
{
    static char bytes[256];
    struct sw_text t;
    sw_text_init(&t, bytes, sizeof bytes);
    sw_text_put_escaped(&t, s, n);
    return bytes;
}

#define ESCAPED(literal) escaped(literal, sizeof(literal) - 1)

static void hostile_bytes_stay_text_on_one_line(void **state)
{
    (void)state;
    assert_string_equal(ESCAPED("plain \\ text"), "plain \\ text");
    assert_string_equal(ESCAPED("a\r\nb\tc"), "a\\r\\nb\\tc");
    assert_string_equal(ESCAPED("\x1b[31mred\x7f"), "\\x1b[31mred\\x7f");
    assert_string_equal(ESCAPED("a\0b"), "a\\x00b");
    assert_string_equal(ESCAPED("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d"),
                        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d");
    assert_string_equal(ESCAPED("\xff\xc3"), "\\xff\\xc3");
    assert_string_equal(ESCAPED("\xed\xa0\x80"), "\\xed\\xa0\\x80"); /* a surrogate */
    assert_string_equal(ESCAPED("\xc0\xaf"), "\\xc0\\xaf");          /* overlong */
    assert_string_equal(ESCAPED("\xc2\x85\xe2\x80\xa8\xe2\x80\xae"), "\\u0085\\u2028\\u202e");
}

static void whatever_is_put_stays_in_its_room(void **state)
{
    (void)state;
    srand(11);
    for (int round = 0; round < 20000; round++) {
        char room[40], input[64];
        const size_t size = (size_t)(rand() % 33), n = (size_t)(rand() % 64);
        for (size_t i = 0; i < n; i++)
            input[i] = (char)(rand() % 3 ? rand() : "\xe2\x82\xac\n"[rand() % 4]);
        memset(room, '#', sizeof room);
        struct sw_text t;
        sw_text_init(&t, room, size);
        sw_text_put_escaped(&t, input, n);
        sw_text_printf(&t, "%s", "\xc3\xa9\xc3\xa9");
        assert_int_equal(room[size], '#');
        if (size > 0) {
            assert_true(t.used < size);
            assert_int_equal(strlen(room), t.used);
            for (size_t i = 0; i < t.used;) {
                const size_t len = sw_utf8_len(room + i, t.used - i);
                assert_true(len > 0 && (unsigned char)room[i] >= 0x20);
                i += len;
            }
        }
    }
}

static const char *seconds(uint64_t ms)
{
    static char bytes[64];
    struct sw_text t;
    sw_text_init(&t, bytes, sizeof bytes);
    sw_text_put_seconds(&t, ms);
    return bytes;
}

static void durations_read_well(void **state)
{
    (void)state;
    assert_string_equal(seconds(0), "0 ms");
    assert_string_equal(seconds(999), "999 ms");
    assert_string_equal(seconds(10000), "10.0 s");
    assert_string_equal(seconds(12345), "12.3 s");
    assert_string_equal(seconds(125000), "2 min 5 s");
}

static void times_are_rfc3339(void **state)
{
    (void)state;
    static const struct {
        uint64_t us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399999000, "2000-02-28T23:59:59.999Z"},
        {951782400000000, "2000-02-29T00:00:00.000Z"},
        {1709251199000000, "2024-02-29T23:59:59.000Z"},
        {4102444800123456, "2100-01-01T00:00:00.123Z"},
    };
    for (size_t i = 0; i < SW_COUNT(cases); i++) {
        char bytes[64];
        struct sw_text t;
        sw_text_init(&t, bytes, sizeof bytes);
        sw_text_put_rfc3339(&t, cases[i].us);
        assert_string_equal(bytes, cases[i].text);
    }
}

static void an_arena_cuts_and_says_so(void **state)
{
    (void)state;
    char room[64];
    struct sw_arena a;
    sw_arena_init(&a, room, sizeof room);
    assert_string_equal(sw_arena_copy(&a, "abc", 3), "abc");
    assert_non_null(sw_arena_alloc(&a, 16));
    assert_null(sw_arena_alloc(&a, 100));
    assert_true(a.cut);
    sw_arena_reset(&a);
    assert_false(a.cut);
    char long_text[100];
    memset(long_text, 'y', sizeof long_text);
    assert_int_equal(strlen(sw_arena_copy(&a, long_text, sizeof long_text)), sizeof room - 1);
    assert_true(a.cut);
    assert_string_equal(sw_arena_copy(&a, "abc", 3), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_bytes_stay_text_on_one_line),
        cmocka_unit_test(whatever_is_put_stays_in_its_room),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(times_are_rfc3339),
        cmocka_unit_test(an_arena_cuts_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
