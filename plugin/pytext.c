#include "pyread.h"

#include <stdio.h>
#include <string.h>

#define STATE_KIND(state)   (((state) >> 2) & 7U) /* bytes per character: 1, 2 or 4 */
#define STATE_COMPACT       0x20U                 /* the characters follow the head */
#define STATE_ASCII         0x40U
#define TEXT_HASH           24
#define TEXT_HEAD_BYTES     ((size_t)SW_PYUNICODE_STATE + sizeof(uint32_t))
#define UTF8_CHAR_BYTES_MAX 6 /* of one character: "\udc41" */
#define CODE_MAX            0x10ffffU
#define SURROGATE_FIRST     0xd800U
#define SURROGATE_LAST      0xdfffU
#define ESCAPED_BYTE_FIRST  0xdc80U /* how os.fsdecode() carries a byte that is not UTF-8 */
#define ESCAPED_BYTE_LAST   0xdcffU
#define CUT_MARK            "..."

static uint32_t character(unsigned kind, const void *chars, size_t i)
{
    if (kind == 1)
        return ((const uint8_t *)chars)[i];
    if (kind == 4)
        return sw_py_u32(chars, i * kind);
    uint16_t c;
    memcpy(&c, (const char *)chars + i * kind, sizeof c);
    return c;
}

/* No locale, no stdio: this runs a thousand times a capture. */
static size_t put_escape(uint32_t code, char *out)
{
    static const char HEX[] = "0123456789abcdef";
    memcpy(out, "\\u", 2);
    for (int i = 0; i < 4; i++)
        out[2 + i] = HEX[code >> (12 - 4 * i) & 0xf];
    return 6;
}

static size_t put_character(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code >= ESCAPED_BYTE_FIRST && code <= ESCAPED_BYTE_LAST) {
        out[0] = (char)(code & 0xff);
        return 1;
    }
    if (code >= SURROGATE_FIRST && code <= SURROGATE_LAST)
        return put_escape(code, out);
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

size_t sw_pytext_utf8(unsigned kind, const void *chars, size_t count, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < count && room - n >= UTF8_CHAR_BYTES_MAX; i++) {
        const uint32_t code = character(kind, chars, i);
        n += put_character(code <= CODE_MAX ? code : '?', out + n);
    }
    return n;
}

const char *sw_pytext_copy(struct sw_pystack *p, uintptr_t at, const char *bytes, size_t have,
                           struct sw_pytext_key *key, struct sw_arena *arena)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    if (have < TEXT_HEAD_BYTES || sw_py_u64(bytes, SW_PYOBJECT_TYPE) != p->layout.type_unicode)
        return NULL;
    const uint32_t state = sw_py_u32(bytes, SW_PYUNICODE_STATE);
    const unsigned kind = STATE_KIND(state);
    key->length = (int64_t)sw_py_u64(bytes, SW_PYUNICODE_LENGTH);
    key->hash = (int64_t)sw_py_u64(bytes, TEXT_HASH);
    if (!(state & STATE_COMPACT) || (kind != 1 && kind != 2 && kind != 4) || key->length < 0)
        return NULL;
    const bool cut = key->length > SW_PYTEXT_CHARS;
    const size_t chars = cut ? SW_PYTEXT_CHARS : (size_t)key->length;
    const size_t from = state & STATE_ASCII ? o->unicode_ascii : o->unicode_compact;
    const char *data = bytes + from;
    if (have < from + chars * kind) {
        if (sw_pymem_read(&p->mem, at + from, p->buf->text, chars * kind) != 0)
            return NULL;
        data = p->buf->text;
    }
    if ((state & STATE_ASCII) && !cut)
        return sw_arena_copy(arena, data, chars);
    char *out = p->buf->utf8;
    size_t n = sw_pytext_utf8(kind, data, chars, out, sizeof p->buf->utf8 - sizeof CUT_MARK);
    if (cut) {
        memcpy(out + n, CUT_MARK, sizeof CUT_MARK - 1);
        n += sizeof CUT_MARK - 1;
    }
    return sw_arena_copy(arena, out, n);
}
