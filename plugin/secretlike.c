#include "secretlike.h"

#include <string.h>

#define ODD_PIECE_CHARS    8   /* shorter runs of letters and digits tell nothing */
#define PASSWORD_BYTES_MAX 512 /* looked through for the '@' behind it */
#define TOKEN_CHARS        20  /* odd ones together, from which on they are a token */

static bool is_lower(int c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(int c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(int c)
{
    return is_lower(c) || is_upper(c) || is_digit(c);
}

static bool is_hex(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static int hex_value(int c)
{
    if (!is_hex(c))
        return -1;
    return is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

int sw_secretlike_byte(const char **at, const char *end, unsigned depth)
{
    if (*at >= end)
        return -1;
    if (depth == 0)
        return (unsigned char)*(*at)++;
    const int c = sw_secretlike_byte(at, end, depth - 1);
    if (c != '%')
        return c;
    const char *behind = *at;
    const int high = hex_value(sw_secretlike_byte(&behind, end, depth - 1));
    const int low = high < 0 ? -1 : hex_value(sw_secretlike_byte(&behind, end, depth - 1));
    if (low < 0)
        return '%';
    *at = behind;
    return high * 16 + low;
}

/* ---- tokens ------------------------------------------------------------------------------------------------ */

/* A run of letters and digits falls into parts: digits, CAPITALS, or small letters with at most one capital before.
 * Words make long parts ("getUserProfile": 3 in 14 characters), random characters short ones (about 2.2 each). */
struct run {
    size_t chars, hex, digits;
    size_t parts, swaps; /* swaps: from letter to digit or back */
    int last;
};

static void extend(struct run *r, int c)
{
    const bool same = r->chars && ((is_lower(c) && !is_digit(r->last)) ||
                                   (is_upper(c) && is_upper(r->last)) || (is_digit(c) && is_digit(r->last)));
    if (r->chars && is_digit(c) != is_digit(r->last))
        r->swaps++;
    r->parts += !same;
    r->digits += is_digit(c);
    r->hex += is_hex(c);
    r->chars++;
    r->last = c;
}

/* Parts shorter than 4 on average, 3 without digits ("getUserById" is a name); 4 swaps at any length. */
static bool is_odd(const struct run *r)
{
    enum { ODD_SWAPS = 4 };
    if (r->chars < ODD_PIECE_CHARS)
        return false;
    return r->swaps >= ODD_SWAPS || (r->digits ? r->parts * 4 > r->chars : r->parts * 3 > r->chars);
}

/* The last runs that only hyphens separate: 8-4-4-4-12 hexadecimal digits among them are a UUID, no token. */
enum { UUID_RUNS = 5 };

struct recent {
    struct run runs[UUID_RUNS]; /* the newest last */
};

static void remember(struct recent *r, const struct run *run)
{
    memmove(r->runs, r->runs + 1, sizeof r->runs - sizeof r->runs[0]);
    r->runs[UUID_RUNS - 1] = *run;
}

static bool is_uuid(const struct recent *r)
{
    static const unsigned chars[UUID_RUNS] = {8, 4, 4, 4, 12};
    for (size_t i = 0; i < UUID_RUNS; i++)
        if (r->runs[i].chars != chars[i] || r->runs[i].hex != chars[i])
            return false;
    return true;
}

static size_t odd_chars(const struct run *run)
{
    return is_odd(run) ? run->chars : 0;
}

/* "eyJ" is base64 of '{"', the start of a JWT's header, which a dot ends. */
struct jwt {
    unsigned matched; /* of "eyJ", at the start of a word */
    size_t chars;
};

static bool jwt_step(struct jwt *j, int before, int c)
{
    static const char start[] = "eyJ";
    enum { START = sizeof start - 1, HEADER_CHARS_MIN = 10 };
    const bool in_word = is_alnum(c) || c == '-' || c == '_';
    if (j->matched == START && c == '.')
        return j->chars >= HEADER_CHARS_MIN;
    if (j->matched == START && in_word) {
        j->chars++;
    } else if (j->matched < START && c == start[j->matched] && (j->matched || !is_alnum(before))) {
        j->matched++;
        j->chars = j->matched;
    } else {
        j->matched = 0;
    }
    return false;
}

bool sw_secretlike_random(const char *s, size_t n, unsigned depth)
{
    const char *at = s, *end = s + n;
    struct run run = {0};
    struct recent recent = {0};
    struct jwt jwt = {0};
    size_t odd = 0;
    int before = -1;

    for (int c = 0; c >= 0; before = c) {
        c = sw_secretlike_byte(&at, end, depth);
        if (jwt_step(&jwt, before, c))
            return true;
        if (is_alnum(c)) {
            extend(&run, c);
            continue;
        }
        odd += odd_chars(&run);
        remember(&recent, &run);
        if (is_uuid(&recent))
            for (size_t i = 0; i < UUID_RUNS; i++)
                odd -= odd_chars(&recent.runs[i]);
        if (odd >= TOKEN_CHARS)
            return true;
        if (c != '-')
            recent = (struct recent){0};
        run = (struct run){0};
    }
    return false;
}

/* ---- credentials ------------------------------------------------------------------------------------------- */

static bool ends_authority(int c)
{
    return c < 0 || strchr("/?#\\ \t\r\n\"'<>", c) != NULL; /* zero too: strchr finds the terminator */
}

/* One authority, fed byte by byte behind the "//". */
struct authority {
    bool at;    /* an '@' was seen */
    bool colon; /* ... or a ':' outside of [v6], */
    bool odd;   /* and behind it something that is no port */
    bool in_brackets;
};

static void authority_step(struct authority *a, int c)
{
    if (c == '@')
        a->at = true;
    else if (c == '[' || c == ']')
        a->in_brackets = c == '[';
    else if (a->in_brackets)
        return;
    else if (a->colon && !is_digit(c) && c != ',' && c != ':')
        a->odd = true;
    else if (c == ':')
        a->colon = true;
    else if (c == ',') /* "db1:5432,db2:5432" */
        a->colon = false;
}

static bool has_credentials(const struct authority *a)
{
    return a->at || a->odd;
}

size_t sw_secretlike_credentials(const char *s, size_t n)
{
    struct authority a = {0};
    size_t i = 0, at = 0;
    for (; i < n && !ends_authority((unsigned char)s[i]); i++) {
        authority_step(&a, (unsigned char)s[i]);
        if (s[i] == '@')
            at = i;
    }
    if (!has_credentials(&a))
        return 0;
    if (a.at)
        return at;
    /* "user:pass/word@host": what looks like the end is a part of the password if an '@' follows */
    const size_t left = n - i;
    const char *behind = memchr(s + i, '@', left < PASSWORD_BYTES_MAX ? left : PASSWORD_BYTES_MAX);
    return behind ? (size_t)(behind - s) : i;
}

bool sw_secretlike_url_credentials(const char *s, size_t n, unsigned depth)
{
    const char *at = s, *end = s + n;
    struct authority a = {0};
    bool inside = false;
    int before = -1;

    for (int c = 0; c >= 0; before = c) {
        c = sw_secretlike_byte(&at, end, depth);
        if (c == '/' && before == '/') {
            a = (struct authority){0};
            inside = true;
        } else if (inside && ends_authority(c)) {
            if (has_credentials(&a))
                return true;
            inside = false;
        } else if (inside) {
            authority_step(&a, c);
        }
    }
    return false;
}
