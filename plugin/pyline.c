#include "pyline.h"

#define CODE_UNIT_BYTES 2

/* ---- up to 3.9: (instruction bytes, signed line step) pairs; the line holds up to the address after its step ---- */

static int64_t lnotab(const unsigned char *table, size_t bytes, int64_t line, int64_t lasti)
{
    int64_t end = 0;
    for (size_t i = 0; i + 1 < bytes; i += 2) {
        end += table[i];
        if (end > lasti)
            break;
        line += (int8_t)table[i + 1];
    }
    return line;
}

/* ---- 3.10: each pair is a range of instructions, whose line is the running one after its step ---- */

#define PAIR_NO_LINE (-128)

static int64_t pairs(const unsigned char *table, size_t bytes, int64_t line, int64_t lasti)
{
    int64_t end = 0;
    for (size_t i = 0; i + 1 < bytes; i += 2) {
        const int step = (int8_t)table[i + 1];
        end += table[i];
        if (step != PAIR_NO_LINE)
            line += step;
        if (end > lasti)
            return step == PAIR_NO_LINE ? 0 : line;
    }
    return 0;
}

/* ---- from 3.11: a head byte (top bit set, four bits of kind, three of length in code units less one), then numbers
 *      of six bits a byte, least significant first, with a bit that says "more". The top bit marks heads only. ---- */

#define HEAD_BIT         0x80
#define HEAD_KIND(head)  (((head) >> 3) & 0x0f)
#define HEAD_UNITS(head) (((head)&0x07) + 1)
#define VARINT_MORE      0x40
#define VARINT_BITS      6
#define VARINT_MASK      0x3f
#define VARINT_SHIFT_MAX 30

enum location_kind {
    KIND_ONE_LINE_0 = 10,
    KIND_ONE_LINE_2 = 12,
    KIND_NO_COLUMNS = 13,
    KIND_LONG = 14,
    KIND_NONE = 15
};

static int64_t signed_varint(const unsigned char *at, const unsigned char *end)
{
    uint64_t value = 0;
    for (unsigned shift = 0; at < end && shift <= VARINT_SHIFT_MAX; shift += VARINT_BITS) {
        const unsigned char byte = *at++;
        value |= (uint64_t)(byte & VARINT_MASK) << shift;
        if (!(byte & VARINT_MORE))
            break;
    }
    return value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
}

static int64_t locations(const unsigned char *table, size_t bytes, int64_t line, int64_t lasti)
{
    const unsigned char *at = table, *const end = table + bytes;
    int64_t code_end = 0;
    while (at < end) {
        const unsigned char head = *at++;
        const unsigned kind = HEAD_KIND(head);
        if (!(head & HEAD_BIT))
            return 0; /* not where an entry begins: not a location table */
        if (kind == KIND_NO_COLUMNS || kind == KIND_LONG)
            line += signed_varint(at, end);
        else if (kind >= KIND_ONE_LINE_0 && kind <= KIND_ONE_LINE_2)
            line += kind - KIND_ONE_LINE_0;
        code_end += HEAD_UNITS(head) * CODE_UNIT_BYTES;
        if (code_end > lasti)
            return kind == KIND_NONE ? 0 : line;
        while (at < end && !(*at & HEAD_BIT))
            at++;
    }
    return 0;
}

int sw_pyline_find(enum sw_pyline_format format, const unsigned char *table, size_t bytes, int first_line,
                   int64_t lasti)
{
    int64_t line = first_line;
    if (lasti >= 0) {
        switch (format) {
        case SW_PYLINE_LNOTAB:
            line = lnotab(table, bytes, line, lasti);
            break;
        case SW_PYLINE_PAIRS:
            line = pairs(table, bytes, line, lasti);
            break;
        case SW_PYLINE_LOCATIONS:
            line = locations(table, bytes, line, lasti);
            break;
        }
    }
    return line > 0 && line <= INT32_MAX ? (int)line : 0;
}
