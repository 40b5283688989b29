/* Which Python is accepted, what its own description must look like, and whether the table has no holes. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pylayout.h"

#define OK(c) assert_true(c)

/* What CPython says of itself, read from running ones. */
/* clang-format off */
static const uint64_t SAMPLE_3_13[] = { /* CPython 3.13.18 */
0x7970677562656478, 0x30d12f0, 0, 283408, 608, 632, 194984, 7272, 7264, 7344, 7400, 7656, 7640, 7648, 16,
    7752, 0, 7768, 7760, 312, 0, 8, 16, 72, 152, 160, 232, 32, 80, 8, 0, 56, 72, 70, 208, 112, 120, 128,
    136, 68, 52, 96, 104, 200, 16, 8, 416, 24, 88, 168, 32, 24, 16, 40, 24, 16, 48, 32, 40, 24, 16, 32, 16,
    24, 40, 16, 32, 64, 32, 16, 40, 240, 200};
static const uint64_t SAMPLE_3_14[] = { /* CPython 3.14.10 */
0x7970677562656478, 0x30e0af0, 0, 316616, 784, 808, 225864, 7280, 7272, 7344, 7360, 7408, 7688, 7672, 7680,
    16, 7784, 0, 7800, 7792, 7992, 0, 832, 0, 8, 16, 72, 152, 160, 232, 32, 88, 8, 0, 56, 80, 74, 64, 0,
    216, 112, 120, 128, 136, 68, 52, 96, 104, 208, 0, 16, 8, 416, 24, 88, 168, 40, 32, 16, 40, 24, 16, 200,
    24, 40, 32, 48, 32, 40, 24, 16, 32, 16, 24, 40, 16, 32, 64, 32, 16, 40, 264, 192, 160, 24, 72, 67, 0, 8,
    24, 304, 8076, 0, 4, 512};
static const uint64_t SAMPLE_3_15[] = { /* CPython 3.15.2 */
0x7970677562656478, 0x30f02f0, 0, 346568, 912, 936, 226240, 7272, 7264, 7336, 7352, 7400, 7592, 7576, 7584,
    16, 7736, 0, 7752, 7744, 7944, 0, 888, 0, 8, 16, 72, 80, 88, 96, 176, 184, 256, 32, 36, 40, 136, 288, 0,
    88, 8, 0, 56, 80, 74, 64, 0, 216, 112, 120, 128, 136, 68, 52, 96, 104, 208, 0, 16, 8, 424, 24, 88, 168,
    32, 288, 944, 888, 40, 32, 16, 40, 24, 16, 200, 24, 40, 32, 48, 32, 40, 24, 16, 32, 16, 24, 40, 16, 32,
    64, 32, 16, 40, 56, 176, 112, 120, 1120, 104, 160, 24, 72, 67, 0, 8, 24, 344, 8028, 0, 4, 512};
/* clang-format on */

static char why[256];

static int offsets(struct sw_pyoffsets *o, const char *version, const uint64_t *described, size_t words)
{
    struct sw_text t;
    sw_text_init(&t, why, sizeof why);
    return sw_pylayout_offsets(o, version, described, words * sizeof *described, &t);
}

static void refused(const char *version, const uint64_t *described, size_t words, const char *because)
{
    struct sw_pyoffsets o;
    assert_int_equal(offsets(&o, version, described, words), -ENOTSUP);
    if (!strstr(why, because))
        fail_msg("\"%s\" does not say \"%s\"", why, because);
    OK(!strchr(why, '\n'));
}

static void known_versions(void **state)
{
    (void)state;
    struct sw_pyoffsets o;
    OK(offsets(&o, "3.8.18 (default, Jan  1 2024, 10:00:00) [GCC 12.2.0]", NULL, 0) == 0 && o.minor == 8);
    OK(o.lines == SW_PYLINE_LNOTAB && o.lasti == SW_PYLASTI_BYTES && o.ts_thread_id == 176);
    OK(offsets(&o, "3.10.13+ (heads/3.10)", NULL, 0) == 0 && o.lines == SW_PYLINE_PAIRS);
    OK(offsets(&o, "3.11.2 (main)", NULL, 0) == 0 && o.lines == SW_PYLINE_LOCATIONS && o.cframe_frame == 8);
    OK(offsets(&o, "3.12.1", NULL, 0) == 0 && o.frame_owner == 70 && o.interp_gil == 384);
}

static void unknown_versions(void **state)
{
    (void)state;
    refused("3.7.16 (default)", NULL, 0, "3.8 to 3.15");
    refused("3.16.0 (main)", SAMPLE_3_15, SW_COUNT(SAMPLE_3_15), "3.8 to 3.15");
    refused("2.7.18 (default)", NULL, 0, "3.8 to 3.15");
    refused("4.8.1 (default)", NULL, 0, "3.8 to 3.15");
    refused("3.12.0rc2 (main)", NULL, 0, "not a final release");
    refused("3.15.0a1+ (main)", SAMPLE_3_15, SW_COUNT(SAMPLE_3_15), "not a final release");
    refused("3.13.1 free-threading build (main)", SAMPLE_3_13, SW_COUNT(SAMPLE_3_13), "free-threaded");
    refused("PyPy", NULL, 0, "cannot be told");
    refused("", NULL, 0, "cannot be told");
}

static void descriptions(void **state)
{
    (void)state;
    struct sw_pyoffsets o;
    OK(offsets(&o, "3.13.18 (main)", SAMPLE_3_13, SW_COUNT(SAMPLE_3_13)) == 0);
    OK(o.ts_frame == 72 && o.ts_thread_id == 152 && o.ts_native_id == 160 && o.ts_chunk == 232 &&
       o.ts_top == 240);
    OK(o.frame_back == 8 && o.frame_code == 0 && o.frame_lasti == 56 && o.frame_owner == 70 &&
       o.pointer_tag == 0);
    OK(o.code_filename == 112 && o.code_name == 128 && o.code_linetable == 136 && o.code_firstline == 68);
    OK(o.code_adaptive == 200 && o.code_first_traceable == 184 && o.interp_gil == 16 && o.gil_locked == 16);
    OK(o.gil_holder == 8 && o.unicode_ascii == 40 && o.unicode_compact == 56 && o.runtime_interp_head == 632);
    OK(offsets(&o, "3.14.10 (main)", SAMPLE_3_14, SW_COUNT(SAMPLE_3_14)) == 0);
    OK(o.ts_thread_id == 152 && o.frame_owner == 74 && o.code_adaptive == 208 && o.pointer_tag == 3);
    OK(offsets(&o, "3.15.2 (main)", SAMPLE_3_15, SW_COUNT(SAMPLE_3_15)) == 0);
    OK(o.ts_thread_id == 176 && o.ts_native_id == 184 && o.ts_chunk == 256 && o.ts_top == 264);
    OK(o.unicode_compact == 56 && o.interp_tstate_head == 7336 && o.runtime_interp_head == 936);
}

static void descriptions_of_something_else(void **state)
{
    (void)state;
    uint64_t d[SW_COUNT(SAMPLE_3_14)];
    refused("3.14.10 (main)", NULL, 0, "does not describe itself");
    refused("3.14.10 (main)", SAMPLE_3_14, SW_COUNT(SAMPLE_3_14) - 1, "does not describe itself");
    refused("3.14.9 (main)", SAMPLE_3_14, SW_COUNT(SAMPLE_3_14), "another version");
    refused("3.13.10 (main)", SAMPLE_3_14, SW_COUNT(SAMPLE_3_14), "another version");
    memcpy(d, SAMPLE_3_14, sizeof d);
    d[0] ^= 1;
    refused("3.14.10 (main)", d, SW_COUNT(d), "does not describe itself");
    memcpy(d, SAMPLE_3_14, sizeof d);
    d[2] = 1;
    refused("3.14.10 (main)", d, SW_COUNT(d), "free-threaded");
}

/* Each word in turn becomes something that cannot be: whatever is accepted must still lie inside of its struct. */
static void wrong_descriptions(void **state)
{
    (void)state;
    static const uint64_t WRONG[] = {UINT64_MAX, 1U << 30, 1U << 20, 3, 0x8000000000000000};
    unsigned refusals = 0;
    for (unsigned word = 3; word < SW_COUNT(SAMPLE_3_15); word++) {
        for (unsigned i = 0; i < SW_COUNT(WRONG); i++) {
            uint64_t d[SW_COUNT(SAMPLE_3_15)];
            struct sw_pyoffsets o;
            memcpy(d, SAMPLE_3_15, sizeof d);
            d[word] = WRONG[i];
            if (offsets(&o, "3.15.2 (main)", d, SW_COUNT(d)) != 0) {
                OK(strstr(why, "its description is wrong ("));
                refusals++;
                continue;
            }
            OK(o.ts_thread_id < 4096 && o.frame_lasti < 4096 && o.code_linetable < 4096 &&
               o.gil_holder < 4096);
            OK(o.code_first_traceable < 4096 && o.unicode_compact < 4096 && o.ts_top < 4096);
        }
    }
    OK(refusals > 100);
    srand(3);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t d[SW_COUNT(SAMPLE_3_13)];
        struct sw_pyoffsets o;
        memcpy(d, SAMPLE_3_13, sizeof d);
        for (unsigned n = 0; n < 5; n++)
            d[3 + (unsigned)rand() % (SW_COUNT(d) - 3)] = (uint64_t)rand() >> rand() % 31;
        if (offsets(&o, "3.13.18 (main)", d, SW_COUNT(d)) == 0)
            OK(o.frame_back < 4096 && o.code_name < 4096 && o.ts_chunk < 4096);
    }
}

static void no_python_here(void **state)
{
    (void)state;
    struct sw_pylayout l;
    struct sw_text v, w;
    char version[64];
    sw_text_init(&v, version, sizeof version);
    sw_text_init(&w, why, sizeof why);
    assert_int_equal(sw_pylayout_find(&l, &v, &w), -ENOENT);
    OK(strstr(why, "no Python"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_versions),     cmocka_unit_test(unknown_versions),
        cmocka_unit_test(descriptions),       cmocka_unit_test(descriptions_of_something_else),
        cmocka_unit_test(wrong_descriptions), cmocka_unit_test(no_python_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
