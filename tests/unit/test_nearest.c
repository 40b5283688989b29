/* nearest.h: the edits between two names, and which known name a misspelt one stands for. */
#include "nearest.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define FAR 9

static void every_kind_of_slip_is_one_edit(void **state)
{
    (void)state;
    assert_int_equal(sw_nearest_edits("threshold", "threshold", FAR), 0);
    assert_int_equal(sw_nearest_edits("treshold", "threshold", FAR), 1);   /* left out */
    assert_int_equal(sw_nearest_edits("threshhold", "threshold", FAR), 1); /* added */
    assert_int_equal(sw_nearest_edits("thresholt", "threshold", FAR), 1);  /* replaced */
    assert_int_equal(sw_nearest_edits("htreshold", "threshold", FAR), 1);  /* swapped */
    assert_int_equal(sw_nearest_edits("threshodl", "threshold", FAR), 1);
    assert_int_equal(sw_nearest_edits("kitten", "sitting", FAR), 3);
    assert_int_equal(sw_nearest_edits("abc", "ca", FAR), 3); /* a swapped letter is not edited again */
}

static void empty_and_long_names(void **state)
{
    char long_one[SW_NEAREST_CHARS_MAX + 2], other[SW_NEAREST_CHARS_MAX + 2];
    (void)state;
    assert_int_equal(sw_nearest_edits("", "", FAR), 0);
    assert_int_equal(sw_nearest_edits("", "abc", FAR), 3);
    assert_int_equal(sw_nearest_edits("abc", "", FAR), 3);
    memset(long_one, 'x', sizeof(long_one));
    long_one[SW_NEAREST_CHARS_MAX] = 0;
    memcpy(other, long_one, sizeof(other));
    other[SW_NEAREST_CHARS_MAX - 1] = 'y';
    assert_int_equal(sw_nearest_edits(long_one, other, FAR), 1);
    long_one[SW_NEAREST_CHARS_MAX] = 'x';
    long_one[SW_NEAREST_CHARS_MAX + 1] = 0;
    assert_int_equal(sw_nearest_edits(long_one, long_one, FAR), FAR + 1);
}

static void no_more_than_asked_for(void **state)
{
    (void)state;
    assert_int_equal(sw_nearest_edits("kitten", "sitting", 3), 3);
    assert_int_equal(sw_nearest_edits("kitten", "sitting", 2), 3);
    assert_int_equal(sw_nearest_edits("kitten", "sitting", 0), 1);
}

/* The same by trying everything, slow and simple. */
static unsigned tried(const char *a, const char *b)
{
    if (*a == 0 || *b == 0)
        return (unsigned)(strlen(a) + strlen(b));
    unsigned best = tried(a + 1, b + 1) + (*a != *b);
    const unsigned less = tried(a + 1, b) + 1, more = tried(a, b + 1) + 1;
    best = less < best ? less : best;
    best = more < best ? more : best;
    if (a[1] && b[1] && a[0] == b[1] && a[1] == b[0]) {
        const unsigned swapped = tried(a + 2, b + 2) + 1;
        best = swapped < best ? swapped : best;
    }
    return best;
}

static void random_names_agree_with_trying_everything(void **state)
{
    (void)state;
    srandom(7);
    for (unsigned round = 0; round < 2000; round++) {
        char a[7], b[7];
        const size_t m = (size_t)(random() % 7), n = (size_t)(random() % 7);
        for (size_t i = 0; i < 6; i++) {
            a[i] = (char)('a' + random() % 3);
            b[i] = (char)('a' + random() % 3);
        }
        a[m < 6 ? m : 6] = b[n < 6 ? n : 6] = 0;
        assert_int_equal(sw_nearest_edits(a, b, FAR), tried(a, b));
        assert_int_equal(sw_nearest_edits(a, b, FAR), sw_nearest_edits(b, a, FAR));
    }
}

static void the_nearest_name_is_found(void **state)
{
    static const char *const known[] = {"mail-to", "mail-from", "mail-max", "smtp", "smtp-tls", "log"};
    (void)state;
    assert_int_equal(sw_nearest("mailto", known, SW_COUNT(known), 2), 0);
    assert_int_equal(sw_nearest("mail-form", known, SW_COUNT(known), 2), 1);
    assert_int_equal(sw_nearest("smpt", known, SW_COUNT(known), 2), 3);
    assert_int_equal(sw_nearest("log", known, SW_COUNT(known), 2), 5);
    assert_int_equal(sw_nearest("lgo", known, SW_COUNT(known), 1), 5);
    assert_int_equal(sw_nearest("timeout", known, SW_COUNT(known), 2), -1);
    assert_int_equal(sw_nearest("log", known, 0, 2), -1);
    static const char *const alike[] = {"cart", "card", "care"}; /* of equals the first */
    assert_int_equal(sw_nearest("carx", alike, SW_COUNT(alike), 3), 0);
    assert_int_equal(sw_nearest("care", alike, SW_COUNT(alike), 3), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_slip_is_one_edit),
        cmocka_unit_test(empty_and_long_names),
        cmocka_unit_test(no_more_than_asked_for),
        cmocka_unit_test(random_names_agree_with_trying_everything),
        cmocka_unit_test(the_nearest_name_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
