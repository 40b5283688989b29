/* identity.h: known values, so that builds of different years agree, and what must and must not change it. */
#include "identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void known_values(void **state)
{
    (void)state;
    assert_true(sw_identity_of("", "") == UINT64_C(0x0a99c907b6f64763));
    assert_true(sw_identity_of("int a;", "-O2") == UINT64_C(0x910d2f5b2a023438));
    assert_true(sw_identity_of("int \xc3\xa4;", "-O2") == UINT64_C(0xc17d4dedfbda1174));
}

static void ends_do_not_count(void **state)
{
    (void)state;
    assert_int_equal(sw_identity_of("int a;\n", "-O2"), sw_identity_of("int a;", "-O2 \n"));
    assert_int_equal(sw_identity_of("int a;\r\n\n", "-O2"), sw_identity_of("int a;", "-O2"));
}

static void everything_else_counts(void **state)
{
    const uint64_t base = sw_identity_of("int a;", "-O2");
    (void)state;
    assert_int_not_equal(base, 0);
    assert_int_not_equal(base, sw_identity_of("int b;", "-O2"));
    assert_int_not_equal(base, sw_identity_of("int a;", "-O3"));
    assert_int_not_equal(base, sw_identity_of(" int a;", "-O2"));
    assert_int_not_equal(base, sw_identity_of("int a;-", "O2"));
    assert_int_not_equal(base, sw_identity_of("-O2", "int a;"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(ends_do_not_count),
        cmocka_unit_test(everything_else_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
