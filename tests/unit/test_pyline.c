/* Line tables against tables that real interpreters made, against a model, and against garbage. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "pyline.h"

#define OK(c) assert_true(c)

/* One function with calls over several lines, except, for, with and a conditional expression, compiled by 3.9, 3.10 and
 * 3.12; the lines are what the interpreters themselves say. */
/* clang-format off */
static const unsigned char TABLE_3_9[] = {0, 3, 2, 1, 2, 254, 4, 3, 2, 1, 4, 2, 2, 254, 8, 3, 14, 1, 26, 1,
    8, 1, 4, 1, 2, 1, 6, 1, 6, 1, 30, 2, 2, 255, 6, 2, 2, 254};
static const unsigned char LINES_3_9[] = {4, 5, 3, 3, 6, 7, 7, 9, 7, 7, 7, 7, 10, 10, 10, 10, 10, 10, 10,
    11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 12, 12, 12, 12, 13, 13, 14, 15, 15, 15, 16, 16, 16,
    17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 19, 18, 18, 18, 20, 18}; /* of every second
    byte */
static const unsigned char TABLE_3_10[] = {2, 3, 2, 1, 4, 254, 2, 3, 4, 1, 2, 2, 8, 254, 14, 3, 16, 1, 8,
    128, 2, 255, 8, 2, 4, 1, 2, 1, 6, 1, 6, 1, 2, 1, 28, 255, 2, 3, 6, 255, 2, 2, 2, 254};
static const unsigned char LINES_3_10[] = {4, 5, 3, 3, 6, 7, 7, 9, 7, 7, 7, 7, 10, 10, 10, 10, 10, 10, 10,
    11, 11, 11, 11, 11, 11, 11, 11, 0, 0, 0, 0, 10, 12, 12, 12, 12, 13, 13, 14, 15, 15, 15, 16, 16, 16, 17,
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 19, 18, 18, 18, 20, 18}; /* of every second byte
    */
static const unsigned char TABLE_3_12[] = {128, 0, 240, 6, 0, 9, 10, 216, 8, 9, 240, 5, 2, 9, 11, 128, 65,
    240, 6, 5, 5, 17, 220, 8, 9, 136, 33, 224, 10, 11, 244, 5, 2, 9, 13, 240, 10, 0, 14, 15, 242, 0, 3, 5,
    14, 136, 1, 217, 11, 12, 216, 12, 20, 216, 12, 13, 137, 1, 240, 7, 3, 5, 14, 240, 8, 0, 10, 11, 241, 0,
    1, 5, 13, 216, 8, 12, 247, 3, 1, 5, 13, 241, 6, 0, 16, 17, 240, 3, 0, 13, 14, 240, 0, 2, 5, 15, 224, 12,
    13, 240, 5, 2, 5, 15, 248, 244, 17, 0, 12, 22, 242, 0, 1, 5, 17, 216, 15, 16, 141, 8, 251, 240, 3, 1, 5,
    17, 250, 247, 12, 1, 5, 13, 240, 0, 1, 5, 13, 250};
static const unsigned char LINES_3_12[] = {1, 4, 5, 3, 3, 6, 7, 7, 7, 7, 7, 7, 9, 7, 7, 7, 7, 7, 12, 12, 12,
    12, 12, 13, 13, 14, 15, 15, 15, 12, 16, 16, 16, 17, 16, 16, 16, 16, 16, 16, 16, 16, 19, 19, 18, 18, 20,
    18, 0, 10, 10, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 0, 0, 0, 0, 10, 0, 0, 0, 16, 16, 16,
    16, 16, 16, 16, 16, 16, 0, 0, 0}; /* of every second byte */
/* clang-format on */

static void check_real(enum sw_pyline_format format, const unsigned char *table, size_t bytes,
                       const unsigned char *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const int line = sw_pyline_find(format, table, bytes, 1, (int64_t)i * 2);
        assert_int_equal(line, lines[i]);
    }
}

static void real_tables(void **state)
{
    (void)state;
    check_real(SW_PYLINE_LNOTAB, TABLE_3_9, sizeof TABLE_3_9, LINES_3_9, sizeof LINES_3_9);
    check_real(SW_PYLINE_PAIRS, TABLE_3_10, sizeof TABLE_3_10, LINES_3_10, sizeof LINES_3_10);
    check_real(SW_PYLINE_LOCATIONS, TABLE_3_12, sizeof TABLE_3_12, LINES_3_12, sizeof LINES_3_12);
}

static void not_started_is_the_first_line(void **state)
{
    (void)state;
    OK(sw_pyline_find(SW_PYLINE_LNOTAB, TABLE_3_9, sizeof TABLE_3_9, 7, -1) == 7);
    OK(sw_pyline_find(SW_PYLINE_PAIRS, TABLE_3_10, sizeof TABLE_3_10, 7, -1) == 7);
    OK(sw_pyline_find(SW_PYLINE_LOCATIONS, TABLE_3_12, sizeof TABLE_3_12, 7, -2) == 7);
    OK(sw_pyline_find(SW_PYLINE_LOCATIONS, NULL, 0, -5, -2) == 0);
}

static void behind_the_table_is_no_line(void **state)
{
    (void)state;
    OK(sw_pyline_find(SW_PYLINE_PAIRS, TABLE_3_10, sizeof TABLE_3_10, 1, 100000) == 0);
    OK(sw_pyline_find(SW_PYLINE_LOCATIONS, TABLE_3_12, sizeof TABLE_3_12, 1, 100000) == 0);
    /* lnotab has no end: its last line holds on */
    OK(sw_pyline_find(SW_PYLINE_LNOTAB, TABLE_3_9, sizeof TABLE_3_9, 1, 100000) ==
       LINES_3_9[sizeof LINES_3_9 - 1]);
}

/* ---- random tables, encoded here, against the list they were made from ---- */

#define ENTRIES_MAX 200U
#define TABLE_MAX   (ENTRIES_MAX * 16)
#define NO_LINE     INT32_MIN
#define ROUNDS      300

struct model {
    unsigned count;
    unsigned units[ENTRIES_MAX]; /* length in code units, 1 to 8 */
    int step[ENTRIES_MAX];       /* from the running line, or NO_LINE */
};

struct table {
    unsigned char at[TABLE_MAX];
    size_t bytes;
};

static void put(struct table *t, int byte)
{
    OK(t->bytes < sizeof t->at);
    t->at[t->bytes++] = (unsigned char)byte;
}

static void random_model(struct model *m, bool with_none)
{
    m->count = 1 + (unsigned)(rand() % (int)ENTRIES_MAX);
    for (unsigned i = 0; i < m->count; i++) {
        m->units[i] = 1 + (unsigned)(rand() % 8);
        m->step[i] = rand() % 4 ? rand() % 4 : rand() % 700 - 300;
        if (with_none && rand() % 10 == 0)
            m->step[i] = NO_LINE;
    }
}

static int model_line(const struct model *m, int first, int64_t lasti)
{
    int64_t end = 0;
    int line = first;
    for (unsigned i = 0; i < m->count; i++) {
        end += m->units[i] * 2;
        line += m->step[i] == NO_LINE ? 0 : m->step[i];
        if (lasti < end)
            return m->step[i] == NO_LINE || line < 0 ? 0 : line;
    }
    return 0;
}

static void encode_pairs(const struct model *m, struct table *t)
{
    t->bytes = 0;
    for (unsigned i = 0; i < m->count; i++) {
        int step = m->step[i];
        for (; step != NO_LINE && (step > 127 || step < -127); step -= step > 0 ? 127 : -127) {
            put(t, 0);
            put(t, step > 0 ? 127 : -127);
        }
        put(t, (int)m->units[i] * 2);
        put(t, step == NO_LINE ? -128 : step);
    }
}

static void encode_lnotab(const struct model *m, struct table *t)
{
    unsigned gap = 0; /* since the last entry */
    t->bytes = 0;
    for (unsigned i = 0; i < m->count; i++) {
        int step = m->step[i];
        for (; gap > 255; gap -= 255) {
            put(t, 255);
            put(t, 0);
        }
        for (; step > 127 || step<-128; step -= step> 0 ? 127 : -128) {
            put(t, (int)gap);
            put(t, step > 0 ? 127 : -128);
            gap = 0;
        }
        put(t, (int)gap);
        put(t, step);
        gap = m->units[i] * 2;
    }
}

static void put_varint(struct table *t, unsigned value)
{
    for (; value >= 64; value >>= 6)
        put(t, 0x40 | (int)(value & 0x3f));
    put(t, (int)value);
}

static void put_svarint(struct table *t, int value)
{
    put_varint(t, value < 0 ? (unsigned)-value << 1 | 1 : (unsigned)value << 1);
}

static void encode_locations(const struct model *m, struct table *t)
{
    t->bytes = 0;
    for (unsigned i = 0; i < m->count; i++) {
        const int step = m->step[i], length = (int)m->units[i] - 1;
        if (step == NO_LINE) {
            put(t, 0x80 | 15 << 3 | length);
        } else if (step == 0 && rand() % 2) { /* short form: one byte of columns */
            put(t, 0x80 | (rand() % 10) << 3 | length);
            put(t, rand() % 128);
        } else if (step >= 0 && step <= 2) { /* two bytes of columns */
            put(t, 0x80 | (10 + step) << 3 | length);
            put(t, rand() % 128);
            put(t, rand() % 128);
        } else if (rand() % 2) {
            put(t, 0x80 | 13 << 3 | length);
            put_svarint(t, step);
        } else {
            put(t, 0x80 | 14 << 3 | length);
            put_svarint(t, step);
            put_varint(t, (unsigned)(rand() % 300));
            put_varint(t, (unsigned)(rand() % 300));
            put_varint(t, (unsigned)(rand() % 300));
        }
    }
}

static void check_model(enum sw_pyline_format format, const struct model *m, const struct table *t, int first)
{
    int64_t end = 0;
    for (unsigned i = 0; i < m->count; i++)
        end += m->units[i] * 2;
    for (int64_t lasti = 0; lasti < end; lasti += 2) {
        const int want = model_line(m, first, lasti);
        assert_int_equal(sw_pyline_find(format, t->at, t->bytes, first, lasti), want);
    }
}

static void random_tables(void **state)
{
    static struct model m;
    static struct table t;
    (void)state;
    srand(1);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const int first = 1 + rand() % 100000;
        random_model(&m, true);
        encode_pairs(&m, &t);
        check_model(SW_PYLINE_PAIRS, &m, &t, first);
        encode_locations(&m, &t);
        check_model(SW_PYLINE_LOCATIONS, &m, &t, first);
        random_model(&m, false);
        encode_lnotab(&m, &t);
        check_model(SW_PYLINE_LNOTAB, &m, &t, first);
    }
}

static void garbage(void **state)
{
    (void)state;
    srand(2);
    for (unsigned i = 0; i < 20000; i++) {
        const size_t bytes = (size_t)(rand() % 64);
        unsigned char *exact = malloc(bytes ? bytes : 1); /* so that the sanitizer sees one byte more */
        OK(exact != NULL);
        for (size_t j = 0; j < bytes; j++)
            exact[j] = (unsigned char)rand();
        const int64_t lasti = rand() % 3 ? rand() % 200 : (int64_t)rand() << 31 | rand();
        const int first = rand() % 2 ? INT32_MAX : -rand();
        for (int format = SW_PYLINE_LNOTAB; format <= SW_PYLINE_LOCATIONS; format++)
            OK(sw_pyline_find((enum sw_pyline_format)format, exact, bytes, first, lasti) >= 0);
        free(exact);
    }
    /* a number that never ends */
    unsigned char endless[64];
    memset(endless, 0x7f, sizeof endless);
    endless[0] = 0x80 | 13 << 3;
    OK(sw_pyline_find(SW_PYLINE_LOCATIONS, endless, sizeof endless, 1, 0) >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_tables),
        cmocka_unit_test(not_started_is_the_first_line),
        cmocka_unit_test(behind_the_table_is_no_line),
        cmocka_unit_test(random_tables),
        cmocka_unit_test(garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
