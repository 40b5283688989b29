#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define UTF8_MAX_BYTES 4

void sw_text_init(struct sw_text *t, char *at, size_t room)
{
    t->at = at;
    t->room = room;
    sw_text_reset(t);
}

void sw_text_reset(struct sw_text *t)
{
    t->used = 0;
    t->cut = false;
    if (t->room > 0)
        t->at[0] = 0;
}

/* Bytes that may still be put, the terminating zero kept aside. */
static size_t text_left(const struct sw_text *t)
{
    return t->room > t->used ? t->room - t->used - 1 : 0;
}

void sw_text_put_bytes(struct sw_text *t, const char *s, size_t n)
{
    const size_t left = text_left(t);
    if (n > left) {
        n = sw_utf8_floor(s, left);
        t->cut = true;
    }
    if (n == 0)
        return;
    memcpy(t->at + t->used, s, n);
    t->used += n;
    t->at[t->used] = 0;
}

void sw_text_put(struct sw_text *t, const char *s)
{
    sw_text_put_bytes(t, s, strlen(s));
}

void sw_text_put_char(struct sw_text *t, char c)
{
    sw_text_put_bytes(t, &c, 1);
}

void sw_text_printf(struct sw_text *t, const char *fmt, ...)
{
    const size_t left = text_left(t);
    if (t->room == 0) {
        t->cut = true;
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(t->at + t->used, left + 1, fmt, ap);
    va_end(ap);
    if (n < 0) {
        t->at[t->used] = 0;
        t->cut = true;
    } else if ((size_t)n > left) {
        t->used += sw_utf8_floor(t->at + t->used, left);
        t->at[t->used] = 0;
        t->cut = true;
    } else {
        t->used += (size_t)n;
    }
}

size_t sw_utf8_len(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0)
        return 0;
    if (u[0] < 0x80)
        return 1;
    size_t len;
    uint32_t code, least;
    if ((u[0] & 0xe0) == 0xc0) {
        len = 2;
        code = u[0] & 0x1f;
        least = 0x80;
    } else if ((u[0] & 0xf0) == 0xe0) {
        len = 3;
        code = u[0] & 0x0f;
        least = 0x800;
    } else if ((u[0] & 0xf8) == 0xf0) {
        len = 4;
        code = u[0] & 0x07;
        least = 0x10000;
    } else {
        return 0;
    }
    if (len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (u[i] & 0x3f);
    }
    /* overlong forms, UTF-16 surrogates and what lies beyond Unicode are not UTF-8 */
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    return len;
}

size_t sw_utf8_floor(const char *s, size_t n)
{
    /* Step back over the continuation bytes of a last character; keep it when it is whole. */
    for (size_t back = 1; back <= UTF8_MAX_BYTES && back <= n; back++) {
        const unsigned char c = (unsigned char)s[n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        if (c < 0x80)
            return n;
        return sw_utf8_len(s + n - back, back) == back ? n : n - back;
    }
    return n;
}

static bool reorders_or_breaks(uint32_t code)
{
    return (code >= 0x80 && code <= 0x9f)        /* C1 controls, NEL among them */
           || code == 0x2028 || code == 0x2029   /* line and paragraph separator */
           || code == 0x200e || code == 0x200f   /* direction marks */
           || (code >= 0x202a && code <= 0x202e) /* embeddings and overrides */
           || (code >= 0x2066 && code <= 0x2069) /* isolates */
           || code == 0x061c || code == 0xfeff;
}

static uint32_t utf8_code(const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    uint32_t code = len == 2 ? u[0] & 0x1fU : len == 3 ? u[0] & 0x0fU : u[0] & 0x07U;
    for (size_t i = 1; i < len; i++)
        code = code << 6 | (u[i] & 0x3fU);
    return code;
}

/* An escape is put whole or not at all. */
static void put_whole(struct sw_text *t, const char *s, size_t n)
{
    if (n > text_left(t))
        t->cut = true;
    else
        sw_text_put_bytes(t, s, n);
}

void sw_text_put_escaped(struct sw_text *t, const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && !t->cut) {
        size_t plain = i;
        while (plain < n && (unsigned char)s[plain] >= 0x20 && (unsigned char)s[plain] < 0x7f)
            plain++;
        if (plain > i) {
            sw_text_put_bytes(t, s + i, plain - i);
            i = plain;
            continue;
        }
        char escape[16];
        const unsigned char c = (unsigned char)s[i];
        const size_t len = sw_utf8_len(s + i, n - i);
        if (c == '\n' || c == '\r' || c == '\t') {
            const char name[3] = {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't', 0};
            put_whole(t, name, 2);
            i++;
        } else if (len <= 1) {
            const int e = snprintf(escape, sizeof escape, "\\x%02x", c);
            put_whole(t, escape, (size_t)e);
            i++;
        } else {
            const uint32_t code = utf8_code(s + i, len);
            if (reorders_or_breaks(code)) {
                const int e = snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code);
                put_whole(t, escape, (size_t)e);
            } else {
                sw_text_put_bytes(t, s + i, len);
            }
            i += len;
        }
    }
}

#define MS_SHOWN_AS_MS    1000   /* below: "350 ms" */
#define MS_SHOWN_IN_TENTH 100000 /* below: "12.3 s" */
#define MS_PER_MIN        60000

void sw_text_put_seconds(struct sw_text *t, uint64_t ms)
{
    if (ms < MS_SHOWN_AS_MS)
        sw_text_printf(t, "%u ms", (unsigned)ms);
    else if (ms < MS_SHOWN_IN_TENTH)
        sw_text_printf(t, "%u.%u s", (unsigned)(ms / SW_MS_PER_SEC), (unsigned)(ms % SW_MS_PER_SEC / 100));
    else
        sw_text_printf(t, "%llu min %u s", (unsigned long long)(ms / MS_PER_MIN),
                       (unsigned)(ms % MS_PER_MIN / SW_MS_PER_SEC));
}

void sw_text_put_rfc3339(struct sw_text *t, uint64_t wall_us)
{
    /* Days to a date by arithmetic (proleptic Gregorian, era of 400 years): gmtime takes the time zone lock. */
    const uint64_t seconds = wall_us / SW_US_PER_SEC;
    const uint64_t day_seconds = seconds % 86400;
    const uint64_t z = seconds / 86400 + 719468;
    const uint64_t era = z / 146097, doe = z % 146097;
    const uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    const uint64_t mp = (5 * doy + 2) / 153;
    const uint64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    const uint64_t year = yoe + era * 400 + (month <= 2);
    sw_text_printf(t, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)year, (unsigned)month, (unsigned)day,
                   (unsigned)(day_seconds / 3600), (unsigned)(day_seconds / 60 % 60),
                   (unsigned)(day_seconds % 60), (unsigned)(wall_us / SW_NS_PER_US % SW_MS_PER_SEC));
}

void sw_arena_init(struct sw_arena *a, void *at, size_t room)
{
    a->at = at;
    a->room = room;
    sw_arena_reset(a);
}

void sw_arena_reset(struct sw_arena *a)
{
    a->used = 0;
    a->cut = false;
}

const char *sw_arena_copy(struct sw_arena *a, const char *s, size_t n)
{
    const size_t left = a->room - a->used;
    if (left == 0) {
        a->cut = true;
        return "";
    }
    if (n > left - 1) {
        n = sw_utf8_floor(s, left - 1);
        a->cut = true;
    }
    char *copy = a->at + a->used;
    memcpy(copy, s, n);
    copy[n] = 0;
    a->used += n + 1;
    return copy;
}

void *sw_arena_alloc(struct sw_arena *a, size_t bytes)
{
    const size_t align = _Alignof(max_align_t);
    const uintptr_t here = (uintptr_t)a->at + a->used;
    const size_t pad = (align - here % align) % align;
    if (pad > a->room - a->used || bytes > a->room - a->used - pad) {
        a->cut = true;
        return NULL;
    }
    void *at = a->at + a->used + pad;
    a->used += pad + bytes;
    memset(at, 0, bytes);
    return at;
}
