#include "doctor_route.h"

#include "config_value.h"
#include "regex.h"
#include <string.h>

#define PACKET_BYTES_MAX (4 + UINT16_MAX) /* of the uwsgi protocol: its head and all variables */
#define PACKET_HEAD      4
#define VALUE_MAX        2048 /* of a condition with its variables put in */

enum truth { NO, PERHAPS, YES };

static enum truth truth_of(bool yes)
{
    return yes ? YES : NO;
}

/* ---- the variables of the request, in the form of its packet ---- */

struct variables {
    char packet[PACKET_BYTES_MAX];
    size_t used;
};

static size_t length_at(const char *at)
{
    return (size_t)((unsigned char)at[0] | (unsigned char)at[1] << 8);
}

/* its value, "" when there is none, as in uWSGI */
static const char *variable(const struct variables *v, const char *name, size_t name_chars, size_t *n)
{
    size_t at = PACKET_HEAD;
    while (at < v->used) {
        const char *key = v->packet + at + 2;
        const size_t key_chars = length_at(key - 2);
        const char *value = key + key_chars + 2;
        *n = length_at(value - 2);
        if (key_chars == name_chars && memcmp(key, name, name_chars) == 0)
            return value;
        at = (size_t)(value - v->packet) + *n;
    }
    *n = 0;
    return "";
}

/* Puts the values of ${NAME} in; false when something else is asked for: ${time[unix]}, $1. */
static bool expand(const struct variables *v, const char *text, size_t n, struct sw_text *out)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] != '$') {
            sw_text_put_char(out, text[i]);
            continue;
        }
        const char *end = i + 1 < n && text[i + 1] == '{' ? memchr(text + i, '}', n - i) : NULL;
        if (!end || memchr(text + i, '[', (size_t)(end - text) - i))
            return false;
        size_t bytes;
        const char *value = variable(v, text + i + 2, (size_t)(end - text) - i - 2, &bytes);
        sw_text_put_bytes(out, value, bytes);
        i = (size_t)(end - text);
    }
    return !out->cut;
}

/* ---- does a route apply? ---- */

static enum truth matches(const char *pattern, const char *subject, size_t n)
{
    char bytes[VALUE_MAX];
    struct sw_text why;
    struct sw_regex *re = NULL;
    sw_text_init(&why, bytes, sizeof bytes);
    if (sw_regex_compile(&re, pattern, false, &why) < 0)
        return PERHAPS;
    const bool matched = sw_regex_match(re, subject, n);
    sw_regex_free(re);
    return truth_of(matched);
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* "equal:${HTTPS};on", without the action behind it */
static enum truth condition(const struct variables *v, const char *text)
{
    static const char *const equal[] = {"equal", "isequal", "eq", "=="}, *const like[] = {"regexp", "re"},
                             *const contain[] = {"contains", "contain"};
    char name[32], left_bytes[VALUE_MAX], right_bytes[VALUE_MAX];
    struct sw_text word, left, right;
    sw_text_init(&word, name, sizeof name);
    sw_text_init(&left, left_bytes, sizeof left_bytes);
    sw_text_init(&right, right_bytes, sizeof right_bytes);
    sw_text_put_bytes(&word, text, strcspn(text, ":"));
    const char *subject = text + word.used + (text[word.used] == ':');
    const bool one_sided = strcmp(name, "empty") == 0;
    const size_t n = one_sided ? strlen(subject) : strcspn(subject, ";");
    const char *other = subject + n + (subject[n] == ';');
    if (!expand(v, subject, n, &left))
        return PERHAPS;
    if (one_sided)
        return truth_of(left.used == 0);
    if (sw_value_is_one_of(name, like, SW_COUNT(like)))
        return matches(other, left_bytes, left.used);
    if (!expand(v, other, strlen(other), &right))
        return PERHAPS;
    if (sw_value_is_one_of(name, equal, SW_COUNT(equal)))
        return truth_of(strcmp(left_bytes, right_bytes) == 0);
    if (strcmp(name, "startswith") == 0)
        return truth_of(strncmp(left_bytes, right_bytes, right.used) == 0);
    if (strcmp(name, "endswith") == 0)
        return truth_of(ends_with(left_bytes, right_bytes));
    if (sw_value_is_one_of(name, contain, SW_COUNT(contain)))
        return truth_of(strstr(left_bytes, right_bytes) != NULL);
    return PERHAPS;
}

static const struct {
    const char *option, *variable;
} subjects[] = {
    {"route", "PATH_INFO"},
    {"route-host", "HTTP_HOST"},
    {"route-uri", "REQUEST_URI"},
    {"route-qs", "QUERY_STRING"},
    {"route-remote-addr", "REMOTE_ADDR"},
    {"route-user-agent", "HTTP_USER_AGENT"},
    {"route-remote-user", "REMOTE_USER"},
    {"route-referer", "HTTP_REFERER"},
};

/* `test` is what stands in front of the action. */
static enum truth applies(const struct variables *v, const char *option, const char *test)
{
    for (unsigned i = 0; i < SW_COUNT(subjects); i++) {
        if (strcmp(option, subjects[i].option) != 0)
            continue;
        size_t n;
        const char *subject = variable(v, subjects[i].variable, strlen(subjects[i].variable), &n);
        return matches(test, subject, n);
    }
    const enum truth holds = condition(v, test);
    return strcmp(option, "route-if") == 0 ? holds : (enum truth)(YES - holds);
}

/* ---- following the routes ---- */

enum effect { ANSWERS, PASSES, HARMLESS, UNCLEAR };

static enum effect effect_of(const char *action)
{
    static const char *const answers[] = {"redirect", "redirect-302", "redirect-permanent", "redirect-301",
                                          "break",    "return",       "break-with-status"};
    static const char *const passes[] = {"last", "continue"};
    static const char *const harmless[] = {
        "log",          "logvar", "donotlog", "donotoffload", "addheader",    "delheader",  "remheader",
        "clearheaders", "alarm",  "signal",   "harakiri",     "resetheaders", "setprocname"};
    char name[32];
    struct sw_text word;
    sw_text_init(&word, name, sizeof name);
    sw_text_put_bytes(&word, action, strcspn(action, ":"));
    if (sw_value_is_one_of(name, answers, SW_COUNT(answers)))
        return ANSWERS;
    if (sw_value_is_one_of(name, passes, SW_COUNT(passes)))
        return PASSES;
    return sw_value_is_one_of(name, harmless, SW_COUNT(harmless)) ? HARMLESS : UNCLEAR;
}

static bool is_route(const char *option)
{
    if (strcmp(option, "route-if") == 0 || strcmp(option, "route-if-not") == 0 ||
        strcmp(option, "route-run") == 0)
        return true;
    for (unsigned i = 0; i < SW_COUNT(subjects); i++)
        if (strcmp(option, subjects[i].option) == 0)
            return true;
    return false;
}

/* The value is "TEST ACTION:ARGUMENTS", of route-run the action alone. */
static enum truth split_and_test(const struct variables *v, const struct sw_given_option *o,
                                 const char **action)
{
    char test[VALUE_MAX];
    struct sw_text t;
    *action = o->value;
    if (strcmp(o->name, "route-run") == 0)
        return YES;
    const size_t n = strcspn(o->value, " ");
    sw_text_init(&t, test, sizeof test);
    sw_text_put_bytes(&t, o->value, n);
    *action += n + (o->value[n] == ' ');
    return t.cut ? PERHAPS : applies(v, o->name, test);
}

enum sw_routed sw_route_hit(const struct sw_host_facts *host, const struct sw_warmup_plan *plan,
                            const struct sw_warmup_hit *hit, const struct sw_given_option **route)
{
    struct variables v;
    bool certain = true;
    const ssize_t n = sw_warmup_packet(plan, hit, v.packet, sizeof v.packet);
    v.used = n < 0 ? 0 : (size_t)n;
    for (unsigned i = 0; i < host->given_count; i++) {
        const struct sw_given_option *o = &host->given[i];
        const char *action;
        if (!o->known || !o->value || !is_route(o->name))
            continue;
        const enum truth applied = split_and_test(&v, o, &action);
        const enum effect effect = effect_of(action);
        if (applied == NO || effect == HARMLESS)
            continue;
        const bool sure = certain && applied == YES;
        if (effect == ANSWERS) {
            *route = o;
            return sure ? SW_ROUTED_ANSWERED : SW_ROUTED_PERHAPS;
        }
        if (effect == PASSES && sure)
            return SW_ROUTED_THROUGH;
        certain = false;
    }
    return SW_ROUTED_THROUGH;
}
