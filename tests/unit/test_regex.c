#include "unit.h"

#include "regex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Far above what a bounded match takes under sanitizers and load, far below what an unbounded one would. */
#define MATCH_NS_MAX (5 * SW_NS_PER_SEC)

static struct sw_regex *compiled(const char *pattern, bool ignore_case)
{
    char text[256];
    struct sw_text why;
    struct sw_regex *re = NULL;
    sw_text_init(&why, text, sizeof text);
    if (sw_regex_compile(&re, pattern, ignore_case, &why))
        fail_msg("%s: %s", pattern, text);
    return re;
}

static void matches_what_it_should(void **state)
{
    static const struct {
        const char *pattern, *subject;
        bool ignore_case, yes;
    } cases[] = {
        {"^/orders/", "/orders/17", false, true},
        {"^/orders/", "/my/orders/17", false, false},
        {"ORDERS", "/orders/17", false, false},
        {"ORDERS", "/orders/17", true, true},
        {"^/a$", "/a\n", false, false},
        {"", "", false, true},
        {"(foo|bar)+\\d{2,4}$", "xfoobar123", false, true},
        {"\\xff", "\xff\xfe", false, true},
        {"^..$", "\xc3\xa4", false, true},
        {"(a)(b)(c)(d)(e)", "abcde", false, true},
        {"(?<=x)y", "xy", false, true},
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(cases); i++) {
        struct sw_regex *re = compiled(cases[i].pattern, cases[i].ignore_case);
        if (sw_regex_match(re, cases[i].subject, strlen(cases[i].subject)) != cases[i].yes)
            fail_msg("%s on %s", cases[i].pattern, cases[i].subject);
        sw_regex_free(re);
    }
}

static void a_zero_byte_is_a_byte(void **state)
{
    (void)state;
    struct sw_regex *re = compiled("a\\x00b$", false);
    assert_true(sw_regex_match(re, "xa\0b", 4));
    assert_false(sw_regex_match(re, "xa", 2));
    sw_regex_free(re);
}

static void wrong_patterns_say_where_and_why(void **state)
{
    static const char *const wrong[] = {"(", "a[", "*", "(?<n", "\\", "(*UTF)ä"};
    (void)state;
    for (size_t i = 0; i < SW_COUNT(wrong); i++) {
        char text[256] = "";
        struct sw_text why;
        struct sw_regex *re = (struct sw_regex *)text;
        sw_text_init(&why, text, sizeof text);
        assert_int_equal(sw_regex_compile(&re, wrong[i], false, &why), -EINVAL);
        assert_null(re);
        assert_non_null(strstr(text, "at character "));
        assert_true(strlen(text) > strlen("at character 0: "));
    }
    sw_regex_free(NULL);
}

/* Patterns that take exponential or polynomial time, on subjects made for them. */
static void catastrophic_patterns_end_soon_as_no_match(void **state)
{
    static const char *const slow[] = {
        "(a+)+$",
        "^(a+)+$",
        "(a|aa)+$",
        "(a|a)*b?$",
        "(.*)*x",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(a*)*(a*)*(a*)*b?$",
        "a*a*a*a*a*a*a*[bc]",
        "(?:a?){64}a{64}c?[0-9]",
        "(\\w+\\s?)*!?$",
        "((((a*)*)*)*)*z?$",
        "(?=(a+))a*b\\1|(a+)+!",
        "^(?:(a)|(?R)a)*$",
    };
    (void)state;
    char *subject = malloc(SW_REGEX_SUBJECT_BYTES);
    assert_non_null(subject);
    memset(subject, 'a', SW_REGEX_SUBJECT_BYTES);
    subject[SW_REGEX_SUBJECT_BYTES - 1] = '!';
    for (size_t i = 0; i < SW_COUNT(slow); i++) {
        struct sw_regex *re = compiled(slow[i], false);
        static const size_t lengths[] = {40, 200, SW_REGEX_SUBJECT_BYTES};
        uint64_t worst = 0;
        for (size_t k = 0; k < SW_COUNT(lengths); k++) {
            const uint64_t start_at = sw_now_ns();
            (void)sw_regex_match(re, subject + SW_REGEX_SUBJECT_BYTES - lengths[k], lengths[k]);
            worst = sw_max_u64(worst, sw_now_ns() - start_at);
        }
        if (getenv("SLOWWATCH_TEST_TIMES"))
            print_message("%-32s %llu us\n", slow[i], (unsigned long long)(worst / SW_NS_PER_US));
        if (worst > MATCH_NS_MAX)
            fail_msg("%s took %llu ms", slow[i], (unsigned long long)(worst / SW_NS_PER_MS));
        sw_regex_free(re);
    }
    struct sw_regex *re = compiled("(a+)+$", false);
    for (size_t n = 42; n <= SW_REGEX_SUBJECT_BYTES; n += 97) /* out of effort is no match */
        assert_false(sw_regex_match(re, subject + SW_REGEX_SUBJECT_BYTES - n, n));
    for (unsigned i = 0; i < 1000; i++) /* and the pattern is as good as new */
        assert_true(sw_regex_match(re, "aaaaaaaa", 8));
    sw_regex_free(re);
    free(subject);
}

static void memory_of_a_match_comes_back(void **state)
{
    (void)state;
    /* each match wants more frames than the first vector holds */
    struct sw_regex *re = compiled("^(?:(a)|b)*$", false);
    char subject[101];
    memset(subject, 'a', sizeof subject);
    for (unsigned i = 0; i < 2000; i++) {
        subject[100] = i % 2 ? 'a' : 'c';
        assert_int_equal(sw_regex_match(re, subject, sizeof subject), i % 2);
    }
    sw_regex_free(re);
}

static void a_subject_over_the_limit_is_no_match(void **state)
{
    (void)state;
    char *subject = calloc(1, SW_REGEX_SUBJECT_BYTES + 1);
    assert_non_null(subject);
    struct sw_regex *re = compiled("^", false);
    assert_true(sw_regex_match(re, subject, SW_REGEX_SUBJECT_BYTES));
    assert_false(sw_regex_match(re, subject, SW_REGEX_SUBJECT_BYTES + 1));
    sw_regex_free(re);
    free(subject);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_what_it_should),
        cmocka_unit_test(a_zero_byte_is_a_byte),
        cmocka_unit_test(wrong_patterns_say_where_and_why),
        cmocka_unit_test(catastrophic_patterns_end_soon_as_no_match),
        cmocka_unit_test(memory_of_a_match_comes_back),
        cmocka_unit_test(a_subject_over_the_limit_is_no_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
