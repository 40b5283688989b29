/* fingerprint.c - the part of group.h that says which events belong together. */
#include "group.h"
#include "redact.h"
#include "render.h"

#include <string.h>

#define HEX_WORD_MIN    8  /* "3f9a01bc"; must hold a digit, else it may be a word */
#define BASE64_WORD_MIN 16 /* "dGhpcyBpcyBhbiBpZA" */
#define CAPITALS_PART   4  /* a word of which more than one in so many is a capital is not a name */
#define UUID_CHARS      36
#define ROUTE_BYTES     1024
#define ID              ":id"
#define ELLIPSIS        "…" /* where redaction cut a token */

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

/* ---- route ---- */

struct letters {
    size_t digits, hex, upper, lower, dashes, numeric_marks, others;
};

static struct letters count_letters(const char *s, size_t n)
{
    struct letters l = {0};
    for (size_t i = 0; i < n; i++) {
        const char c = s[i];
        if (c >= '0' && c <= '9')
            l.digits++;
        else if (c >= 'a' && c <= 'z')
            l.lower++;
        else if (c >= 'A' && c <= 'Z')
            l.upper++;
        else if (c == '-' || c == '_' || c == '=' || c == '+' || c == '.' || c == ':' || c == ',')
            l.numeric_marks++;
        else
            l.others++;
        if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
            l.hex++;
        if (c == '-')
            l.dashes++;
    }
    return l;
}

static bool is_uuid(const char *s, size_t n, const struct letters *l)
{
    return n == UUID_CHARS && l->dashes == 4 && l->digits + l->hex == UUID_CHARS - 4 && s[8] == '-' &&
           s[13] == '-' && s[18] == '-' && s[23] == '-';
}

/* Upper and lower case with digits, or with so many capitals that it is not a name like "ListOpenOrders". */
static bool is_base64_word(size_t n, const struct letters *l)
{
    return n >= BASE64_WORD_MIN && l->upper > 0 && l->lower > 0 &&
           (l->digits > 0 || l->upper * CAPITALS_PART > n);
}

static bool is_identifier(const char *s, size_t n)
{
    const struct letters l = count_letters(s, n);
    if (memmem(s, n, SW_REDACTED, strlen(SW_REDACTED)) || memmem(s, n, ELLIPSIS, strlen(ELLIPSIS)))
        return true;
    if (l.others > 0)
        return false;
    if (l.digits == 0)
        return is_base64_word(n, &l);
    return l.digits + l.numeric_marks == n                 /* 17, 2024-05-06, 12.5,7.1 */
           || (l.digits + l.hex == n && n >= HEX_WORD_MIN) /* 3f9a01bc */
           || is_uuid(s, n, &l)                            /* 123e4567-e89b-12d3-a456-426614174000 */
           || is_base64_word(n, &l);                       /* dGhpcyBpcyBhbiBpZA */
}

/* The length of ".json" at the end of "17.json": a dot, then letters; 0 = none. */
static size_t extension_length(const char *s, size_t n)
{
    size_t letters = 0;
    while (letters < n) {
        const char c = s[n - letters - 1];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            break;
        letters++;
    }
    return letters > 0 && letters < n && s[n - letters - 1] == '.' ? letters + 1 : 0;
}

static void put_segment(const char *s, size_t n, struct sw_text *out)
{
    const char *parameters = memchr(s, ';', n); /* ";jsessionid=...": of the request, not of the route */
    if (parameters)
        n = (size_t)(parameters - s);
    const size_t extension = extension_length(s, n);
    if (is_identifier(s, n)) {
        sw_text_put(out, ID);
    } else if (extension > 0 && is_identifier(s, n - extension)) {
        sw_text_put(out, ID);
        sw_text_put_escaped(out, s + n - extension, extension);
    } else {
        sw_text_put_escaped(out, s, n);
    }
}

void sw_group_route(const char *uri, size_t n, struct sw_text *out)
{
    size_t end = 0;
    while (end < n && uri[end] != '?' && uri[end] != '#')
        end++;
    if (end == 0)
        sw_text_put(out, "/");
    for (size_t i = 0; i < end;) {
        if (uri[i] == '/') {
            sw_text_put_char(out, '/');
            i++;
            continue;
        }
        const char *slash = memchr(uri + i, '/', end - i);
        const size_t length = slash ? (size_t)(slash - (uri + i)) : end - i;
        put_segment(uri + i, length, out);
        i += length;
    }
}

/* ---- fingerprint ---- */

/* Each text with its zero, so that "ab", "c" and "a", "bc" differ. */
static uint64_t hash_text(uint64_t hash, const char *s)
{
    for (;; s++) {
        hash = (hash ^ (unsigned char)*s) * FNV_PRIME;
        if (!*s)
            return hash;
    }
}

static uint64_t hash_frames(uint64_t hash, const struct sw_stack *stack, bool application_only,
                            unsigned *hashed)
{
    const char *last_file = NULL, *last_function = NULL;
    *hashed = 0;
    for (unsigned i = 0; i < stack->count; i++) {
        const struct sw_frame *f = &stack->frames[i];
        const char *file = f->file ? f->file : "", *function = f->function ? f->function : "";
        if (application_only && !sw_frame_is_application(f))
            continue;
        if (last_file && !strcmp(file, last_file) && !strcmp(function, last_function))
            continue;
        hash = hash_text(hash_text(hash, file), function);
        last_file = file;
        last_function = function;
        (*hashed)++;
    }
    return hash;
}

void sw_group_fingerprint(const struct sw_event *e, char out[SW_FINGERPRINT_CHARS + 1])
{
    char buffer[ROUTE_BYTES];
    struct sw_text route;
    sw_text_init(&route, buffer, sizeof buffer);
    if (e->request.uri)
        sw_group_route(e->request.uri, strlen(e->request.uri), &route);
    uint64_t hash = hash_text(hash_text(FNV_OFFSET, e->request.method ? e->request.method : ""), buffer);
    if (e->has_stack) {
        unsigned hashed;
        const uint64_t with_frames = hash_frames(hash, &e->stack, true, &hashed);
        hash = hashed > 0 ? with_frames : hash_frames(hash, &e->stack, false, &hashed);
    }
    struct sw_text text;
    sw_text_init(&text, out, SW_FINGERPRINT_CHARS + 1);
    sw_text_printf(&text, "%016llx", (unsigned long long)hash);
}
