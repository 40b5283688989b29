#include "redact.h"

#include "secretlike.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES 256 /* of a name that are compared; a longer one is not trusted to be harmless */
#define KEPT_BYTES 4   /* of a token, so that two reports can be told to be about the same one */
#define CUT_TOKEN  "…" SW_REDACTED

/* ---- names ------------------------------------------------------------------------------------------------- */

/* A word inside a name: between characters that are no letters, or where camelCase begins a new one. */
#define WORD_STARTS "(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
#define WORD_ENDS   "(?:(?![A-Za-z])|(?<=[a-z])(?=[A-Z]))"

static const char *const built_in[] = {
    /* long enough to mean the same wherever they stand: PHPSESSID, csrfmiddlewaretoken, clientSecret */
    "(?i)passw|passphrase|passcode|passkey|kennwort|secret|token|credential|authoriz|cookie|csrf|xsrf|"
    "sessid|session|signature|bearer|apikey|api.?key|saml(?:re|art)|"
    "(?:access|account|auth|client|encrypt(?:ion)?|licen[cs]e|master|private|shared|signing|ssh|storage)[-_. "
    "]?key|"
    "credit[-_. ]?card|card[-_. ]?(?:num|no)|cc[-_. ]?num|verifier",
    /* short ones only as words: the pin, not the opinion */
    WORD_STARTS "(?i:pass|pwd|pswd|psw|pw|auth|oauth|sid|ssid|sig|hmac|jwt|otp|totp|pin|tan|mfa|ssn|cvv2?|"
                "cvc2?|creds?)" WORD_ENDS,
    /* too common as a part of others (country_code, sort_key): only as the whole name */
    "^(?i:code|ticket)$",
};

int sw_redact_init(struct sw_redact *r, struct sw_text *why)
{
    r->count = 0;
    for (size_t i = 0; i < SW_COUNT(built_in); i++) {
        const int err = sw_regex_compile(&r->patterns[r->count], built_in[i], false, why);
        if (err) {
            sw_redact_fini(r);
            return err;
        }
        r->count++;
    }
    return 0;
}

int sw_redact_add(struct sw_redact *r, const char *pattern, struct sw_text *why)
{
    if (r->count == SW_REDACT_PATTERNS_MAX)
        return -ENOSPC;
    const int err = sw_regex_compile(&r->patterns[r->count], pattern, true, why);
    if (err)
        return err;
    r->count++;
    return 0;
}

void sw_redact_fini(struct sw_redact *r)
{
    while (r->count)
        sw_regex_free(r->patterns[--r->count]);
}

static bool is_listed(struct sw_redact *r, const char *name, size_t n)
{
    for (unsigned i = 0; i < r->count; i++)
        if (sw_regex_match(r->patterns[i], name, n))
            return true;
    return false;
}

bool sw_redact_name(struct sw_redact *r, const char *name, size_t n)
{
    char spaced[NAME_BYTES], decoded[NAME_BYTES];
    if (n > sizeof spaced)
        return true;
    for (size_t i = 0; i < n; i++)
        spaced[i] = name[i] == '+' ? ' ' : name[i];
    for (unsigned depth = 0; n && depth < SW_DECODE_DEPTHS; depth++) {
        const char *at = spaced;
        size_t used = 0;
        for (int c; (c = sw_secretlike_byte(&at, spaced + n, depth)) >= 0;)
            decoded[used++] = (char)c;
        if (is_listed(r, decoded, used))
            return true;
        if (!memchr(spaced, '%', n))
            break;
    }
    return false;
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static bool is_blank(int c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

static bool is_quote(int c)
{
    return c == '"' || c == '\'';
}

/* What may be a part of a name in a text whose grammar is not known. */
static bool is_name_byte(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == '%' || c == '$' || c >= 0x80;
}

/* Is there a "password=..." or {"password": ...} inside: a query in a parameter, JSON, a cookie. */
static bool has_secret_pair(struct sw_redact *r, const char *s, size_t n, unsigned depth)
{
    char name[NAME_BYTES];
    size_t used = 0;
    bool in_name = false, too_long = false;
    const char *at = s;

    for (int c; (c = sw_secretlike_byte(&at, s + n, depth)) >= 0;) {
        if (is_name_byte(c)) {
            if (!in_name)
                used = 0, too_long = false;
            in_name = true;
            if (used < sizeof name)
                name[used++] = (char)c;
            else
                too_long = true;
        } else if (is_blank(c) || is_quote(c) || c == '+' || c == ']' || c == '\\') {
            in_name = false; /* "name" = value: it may still be a name */
        } else {
            if ((c == '=' || c == ':') && used && (too_long || sw_redact_name(r, name, used)))
                return true;
            in_name = false;
            used = 0;
        }
    }
    return false;
}

enum verdict { HARMLESS, TOKEN, SECRET };

static enum verdict judge(struct sw_redact *r, const char *s, size_t n)
{
    enum verdict verdict = HARMLESS;
    for (unsigned depth = 0; depth < SW_DECODE_DEPTHS; depth++) {
        if (has_secret_pair(r, s, n, depth) || sw_secretlike_url_credentials(s, n, depth))
            return SECRET;
        if (sw_secretlike_random(s, n, depth))
            verdict = TOKEN;
        if (!memchr(s, '%', n))
            break;
    }
    return verdict;
}

/* ---- output: after a cut nothing more is written, so no later piece can follow a gap ------------------------- */

static void put(struct sw_text *out, const char *s)
{
    if (!out->cut)
        sw_text_put(out, s);
}

static void put_plain(struct sw_text *out, const char *s, size_t n)
{
    enum { ESCAPE_BYTES = 3 }; /* "%41" */
    while (n && !out->cut) {
        const char *percent = memchr(s, '%', n);
        size_t plain = percent ? (size_t)(percent - s) : n;
        if (plain == 0 && n >= ESCAPE_BYTES && out->room - out->used <= ESCAPE_BYTES) {
            out->cut = true;
            return;
        }
        if (plain == 0) {
            const char *next = memchr(s + 1, '%', n - 1);
            plain = next ? (size_t)(next - s) : n;
        }
        sw_text_put_escaped(out, s, plain);
        s += plain;
        n -= plain;
    }
}

/* A value without a name, or whose name is harmless. */
static void put_value(struct sw_redact *r, const char *s, size_t n, struct sw_text *out)
{
    switch (judge(r, s, n)) {
    case HARMLESS:
        put_plain(out, s, n);
        break;
    case TOKEN: {
        size_t kept = sw_utf8_floor(s, n < KEPT_BYTES ? n : KEPT_BYTES);
        for (size_t i = kept > 2 ? kept - 2 : 0; i < kept; i++)
            if (s[i] == '%') /* no half of an escape */
                kept = i;
        put_plain(out, s, kept);
        put(out, CUT_TOKEN);
        break;
    }
    case SECRET:
        put(out, SW_REDACTED);
        break;
    }
}

/* ---- URIs ----------------------------------------------------------------------------------------------------- */

static size_t find_any(const char *s, size_t n, const char *set)
{
    size_t i = 0;
    while (i < n && (s[i] == 0 || !strchr(set, s[i])))
        i++;
    return i;
}

/* name=value, or a value alone. Returns how much was used: a secret value goes on to where no server could let it
 * end earlier, since some take ';' for a separator and others for a part of the value. */
static size_t put_pair(struct sw_redact *r, const char *s, size_t n, bool in_query, struct sw_text *out)
{
    const size_t piece = find_any(s, n, in_query ? "&;#" : "/?#;&");
    const char *equals = memchr(s, '=', piece);
    if (!equals) {
        put_value(r, s, piece, out);
        return piece;
    }
    const size_t name = (size_t)(equals - s), value = name + 1;
    if (sw_redact_name(r, s, name)) {
        const size_t end = value + find_any(s + value, n - value, in_query ? "&" : "/?");
        put_value(r, s, name, out);
        put(out, end > value ? "=" SW_REDACTED : "=");
        return end;
    }
    put_value(r, s, name, out);
    put(out, "=");
    put_value(r, s + value, piece - value, out);
    return piece;
}

void sw_redact_uri(struct sw_redact *r, const char *uri, size_t n, struct sw_text *out)
{
    bool in_query = false;
    size_t i = 0;
    while (i < n && !out->cut) {
        const char c = uri[i];
        if (c == '?' || c == '#')
            in_query = true;
        if (c == '&' || c == ';' || c == '?' || c == '#' || (c == '/' && !in_query)) {
            put_plain(out, &c, 1);
            i++;
            const size_t secret =
                c == '/' && i > 1 && uri[i - 2] == '/' ? sw_secretlike_credentials(uri + i, n - i) : 0;
            if (secret)
                put(out, SW_REDACTED);
            i += secret;
            continue;
        }
        i += put_pair(r, uri + i, n - i, in_query, out);
    }
}

/* ---- free text ------------------------------------------------------------------------------------------------- */

#define BLANKS       " \t\r\n\f\v"
#define WORD_ENDS_AT BLANKS "\"'<>,;&=:()[]{}|"
#define URL_ENDS_AT  BLANKS "\"'<>"

/* Headers whose long random values are what finds a request in other systems' logs. */
static bool is_tracing_id(const char *name)
{
    static const char *const names[] = {"traceparent",     "x-request-id", "request-id",  "x-correlation-id",
                                        "x-amzn-trace-id", "x-b3-traceid", "x-b3-spanid", "b3"};
    for (size_t i = 0; i < SW_COUNT(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool is_auth_scheme(const char *s, size_t n)
{
    static const char *const schemes[] = {"bearer",    "basic", "digest", "token",
                                          "negotiate", "ntlm",  "apikey"};
    for (size_t i = 0; i < SW_COUNT(schemes); i++)
        if (n == strlen(schemes[i]) && strncasecmp(s, schemes[i], n) == 0)
            return true;
    return false;
}

static bool starts_with(const char *s, size_t n, const char *prefix)
{
    return n >= strlen(prefix) && memcmp(s, prefix, strlen(prefix)) == 0;
}

static size_t skip_blanks(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && is_blank((unsigned char)s[i]))
        i++;
    return i;
}

/* The separator behind a name that may be quoted or indexed, with the blanks around it: {"name" : , user[name]=.
 * 0 = none there. */
static size_t separator_length(const char *s, size_t n, char *separator)
{
    size_t i = 0;
    while (i < n && (is_blank((unsigned char)s[i]) || is_quote(s[i]) || s[i] == ']'))
        i++;
    if (i == n || (s[i] != '=' && s[i] != ':'))
        return 0;
    *separator = s[i++];
    return i + skip_blanks(s + i, n - i);
}

/* Length of a secret word; of the whole line when that word is itself a name with a value behind it: "token password:
 * xyz". */
static size_t secret_word(struct sw_redact *r, const char *s, size_t n, const char *ends_at)
{
    const size_t word = find_any(s, n, ends_at);
    char separator;
    if (has_secret_pair(r, s, word, 0) || separator_length(s + word, n - word, &separator))
        return find_any(s, n, "\r\n");
    return word;
}

/* Length of the value behind `name =` or `name:`. In quotes: to the closing one. Else behind '=' to the next blank,
 * behind ':' to the end of the line ("Authorization: Basic xyz"). */
static size_t secret_length(struct sw_redact *r, const char *s, size_t n, char separator)
{
    if (n && is_quote(s[0])) {
        for (size_t i = 1; i < n; i++)
            if (s[i] == '\\')
                i++;
            else if (s[i] == s[0])
                return i + 1;
        return n;
    }
    return separator == '=' ? secret_word(r, s, n, BLANKS "&") : find_any(s, n, "\r\n");
}

/* One word and what belongs to it; returns how much was used. */
static size_t put_word(struct sw_redact *r, const char *s, size_t n, struct sw_text *out)
{
    const size_t word = find_any(s, n, WORD_ENDS_AT);
    char separator = 0;
    const size_t between = separator_length(s + word, n - word, &separator);
    if (between && sw_redact_name(r, s, word)) {
        const size_t value = word + between;
        put_value(r, s, word, out);
        put_plain(out, s + word, between);
        put(out, SW_REDACTED);
        return value + secret_length(r, s + value, n - value, separator);
    }
    if (starts_with(s, n, "//") || starts_with(s + word, n - word, "://")) {
        const size_t url = find_any(s, n, URL_ENDS_AT);
        sw_redact_uri(r, s, url, out);
        return url;
    }
    put_value(r, s, word, out);
    const size_t blanks = skip_blanks(s + word, n - word);
    if (blanks == 0 || !is_auth_scheme(s, word))
        return word;
    const size_t value = word + blanks, secret = secret_word(r, s + value, n - value, BLANKS);
    put_plain(out, s + word, blanks);
    if (secret)
        put(out, SW_REDACTED);
    return value + secret;
}

void sw_redact_value(struct sw_redact *r, const char *name, const char *value, size_t n, struct sw_text *out)
{
    if (name && sw_redact_name(r, name, strlen(name))) {
        put(out, SW_REDACTED);
        return;
    }
    if (name && is_tracing_id(name)) {
        put_plain(out, value, n);
        return;
    }
    for (size_t i = 0; i < n && !out->cut;) {
        const size_t word = find_any(value + i, n - i, WORD_ENDS_AT);
        if (word) {
            i += put_word(r, value + i, n - i, out);
        } else {
            put_plain(out, value + i, 1);
            i++;
        }
    }
}
