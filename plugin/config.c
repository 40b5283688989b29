/* The option table, and how a value becomes a field. */
#include "config.h"
#include "config_value.h"
#include "group.h"
#include "recycle.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define BLANKS            " \t"
#define DIGITS            "0123456789"
#define PORT_MAX          65535
#define SMTP_PORT_DEFAULT "25"

struct sw_config sw_config;

#define AT(field) offsetof(struct sw_config, field)

const struct sw_option sw_options[] = {
    {"slowwatch-threshold", "SECONDS [REGEX]", SW_OPT_THRESHOLD, true, "10",
     "report requests that run longer than this; with a regular expression, those whose path matches it "
     "(first match "
     "wins); 0 = do not watch them",
     AT(thresholds), SW_THRESHOLD_MIN_NS, SW_SECONDS_MAX_NS},
    {"slowwatch-sample-interval", "MS", SW_OPT_MS, false, "100",
     "milliseconds between two looks at a slow request", AT(sample_interval_ns), SW_SAMPLE_MIN_NS,
     SW_SAMPLE_MAX_NS},
    {"slowwatch-stack-depth", "N", SW_OPT_COUNT, false, "128", "innermost frames kept of a stack",
     AT(stack_depth), 1, SW_STACK_FRAMES_MAX},
    {"slowwatch-redact", "REGEX", SW_OPT_REGEX, true, "",
     "also hide the values of parameters and headers whose name matches (passwords, tokens, keys and the "
     "like always "
     "are)",
     AT(redact), 0, 0},
    {"slowwatch-log", "text|json|off", SW_OPT_CHOICE, false, "text",
     "how reports are written to the log of uWSGI", AT(log), 0, 0},
    {"slowwatch-mail-to", "ADDRESS", SW_OPT_ADDRESS, true, "", "send reports to this address; none = no mail",
     AT(mail.to), 0, 0},
    {"slowwatch-mail-from", "ADDRESS", SW_OPT_ADDRESS, false, "",
     "sender of the mails; none = slowwatch@ this host", AT(mail.from), 0, 0},
    {"slowwatch-mail-interval", "SECONDS", SW_OPT_SECONDS, false, "300",
     "at most one mail per group of alike requests in this many seconds; what came between is counted in the "
     "next "
     "one; 0 = no limit per group",
     AT(mail.interval_ns), 0, SW_SECONDS_MAX_NS},
    {"slowwatch-mail-max", "N", SW_OPT_COUNT, false, "20",
     "at most this many mails an hour; the rest becomes one digest", AT(mail.per_hour), 1, SW_RATE_MAILS_MAX},
    {"slowwatch-smtp", "HOST:PORT", SW_OPT_SERVER, false, "127.0.0.1:25",
     "the mail server; without :PORT it is port " SMTP_PORT_DEFAULT, AT(smtp_server), 0, 0},
    {"slowwatch-smtp-tls", "optional|off|required", SW_OPT_CHOICE, false, "optional",
     "STARTTLS: when the server offers it, never, or no mail without it", AT(mail.tls), 0, 0},
    {"slowwatch-smtp-ca", "FILE", SW_OPT_FILE, false, "",
     "certificates (PEM) that the mail server must be signed by; none = those of the system",
     AT(mail.ca_file), 0, 0},
    {"slowwatch-smtp-user", "NAME", SW_OPT_TEXT, false, "",
     "log in to the mail server with this name; none = no login", AT(mail.user), 0, 0},
    {"slowwatch-smtp-password-file", "FILE", SW_OPT_FILE, false, "",
     "file whose first line is the password for it", AT(mail.password_file), 0, 0},
    {"slowwatch-smtp-timeout", "SECONDS", SW_OPT_SECONDS, false, "30",
     "give one delivery at most this many seconds", AT(mail.timeout_ns), SW_SMTP_TIMEOUT_MIN_NS,
     SW_SMTP_TIMEOUT_MAX_NS},
    {"slowwatch-spool", "FOLDER", SW_OPT_FOLDER, false, "",
     "folder that keeps unsent mail over a restart; none = it is kept in memory", AT(mail.spool_dir), 0, 0},
    {"slowwatch-alarm", "NAME", SW_OPT_TEXT, false, "", "also raise this alarm of uWSGI; none = no alarm",
     AT(alarm), 0, 0},
    {"slowwatch-recycle-spread", "PERCENT", SW_OPT_COUNT, false, "20",
     "take up to this many percent off max-requests and max-worker-lifetime, a different share for each "
     "worker, so that they do not recycle together; 0 = off",
     AT(recycle_spread_percent), 0, SW_RECYCLE_SPREAD_MAX},
    {"slowwatch-warmup", "[METHOD] PATH", SW_OPT_HIT, true, "",
     "send this request to the application in each new worker before it accepts; none = no warm-up",
     AT(warmup.hits), 0, 0},
    {"slowwatch-warmup-host", "HOST[:PORT]", SW_OPT_HOST, false, "localhost", "host that it is sent to",
     AT(warmup.host), 0, 0},
    {"slowwatch-warmup-header", "NAME: VALUE", SW_OPT_HEADER, true, "", "send this header with it",
     AT(warmup.headers), 0, 0},
    {"slowwatch-warmup-timeout", "SECONDS", SW_OPT_SECONDS, false, "30",
     "interrupt such a request after this many seconds", AT(warmup.timeout_ns), SW_WARMUP_TIMEOUT_MIN_NS,
     SW_SECONDS_MAX_NS},
    {"slowwatch-warmup-required", "BOOL", SW_OPT_BOOL, false, "false",
     "true = a worker whose warm-up fails tries again until it works, and accepts nothing until then",
     AT(warmup.required), 0, 0},
    {"slowwatch-warmup-parallel", "N", SW_OPT_COUNT, false, "1",
     "so many workers warm up at once, after the first; 0 = no limit", AT(warmup.parallel), 0,
     SW_WARMUP_PARALLEL_MAX},
    {"slowwatch-strict", "BOOL", SW_OPT_BOOL, false, "false",
     "true = options that contradict each other end the start-up with exit code 1", AT(strict), 0, 0},
    {"slowwatch-check", "BOOL", SW_OPT_BOOL, false, "false",
     "true = print what is on and what is in conflict, and exit: 0 no conflict, 1 conflicts", AT(check), 0,
     0},
};
const unsigned sw_option_count = SW_COUNT(sw_options);
_Static_assert(SW_COUNT(sw_options) <= SW_OPTIONS_MAX, "struct sw_config.given has one bit per option");

/* ---- one setter per type ---- */

/* 0 switches watching off; between that and the minimum there is nothing. */
static bool parse_threshold(const char *s, size_t n, uint64_t *ns)
{
    uint64_t value;
    if (sw_value_seconds(s, n, &value) < 0 || (value > 0 && value < SW_THRESHOLD_MIN_NS))
        return false;
    *ns = value;
    return true;
}

static int refuse(struct sw_text *why, const struct sw_option *o, const char *value, const char *expected)
{
    sw_text_printf(why, "%s = \"", o->name);
    sw_text_put_escaped(why, value, strlen(value));
    sw_text_printf(why, "\": %s", expected);
    return -EINVAL;
}

static int refuse_number(struct sw_text *why, const struct sw_option *o, const char *value)
{
    char line[SW_CONFIG_LINE_MAX];
    struct sw_text expected;
    sw_text_init(&expected, line, sizeof(line));
    if (o->type == SW_OPT_SECONDS) {
        sw_text_put(&expected, "expected seconds from ");
        sw_value_put_seconds(&expected, o->min);
        sw_text_put(&expected, " to ");
        sw_value_put_seconds(&expected, o->max);
        sw_text_printf(&expected, ", like \"%s\" or \"1.5\"", o->fallback);
    } else {
        const bool ms = o->type == SW_OPT_MS;
        const uint64_t unit = ms ? SW_NS_PER_MS : 1;
        sw_text_printf(&expected, "expected a whole number%s from %llu to %llu, like \"%s\"",
                       ms ? " of milliseconds" : "", (unsigned long long)(o->min / unit),
                       (unsigned long long)(o->max / unit), o->fallback);
    }
    return refuse(why, o, value, line);
}

static int set_threshold(struct sw_config *c, const struct sw_option *o, const char *value,
                         struct sw_text *why)
{
    const char *seconds = value + strspn(value, BLANKS);
    const size_t n = strcspn(seconds, BLANKS);
    const char *pattern = seconds + n + strspn(seconds + n, BLANKS);
    uint64_t ns;
    if (!parse_threshold(seconds, n, &ns))
        return refuse(
            why, o, value,
            "expected SECONDS (0, or 0.01 to 2592000), optionally followed by a regular expression, like "
            "\"10\" or \"60 ^/reports/\"");
    if (*pattern == 0) {
        c->threshold_ns = ns;
        return 0;
    }
    for (unsigned i = 0; i < c->threshold_count; i++) {
        if (strcmp(c->thresholds[i].pattern, pattern) == 0) {
            c->thresholds[i].ns = ns;
            return 0;
        }
    }
    if (c->threshold_count == SW_THRESHOLDS_MAX) {
        (void)refuse(why, o, value, "too many thresholds with a regular expression, the limit is ");
        sw_text_printf(why, "%d", SW_THRESHOLDS_MAX);
        return -ENOSPC;
    }
    struct sw_threshold *t = &c->thresholds[c->threshold_count];
    char line[SW_CONFIG_LINE_MAX];
    struct sw_text reason;
    sw_text_init(&reason, line, sizeof(line));
    const int rc = sw_regex_compile(&t->path, pattern, false, &reason);
    if (rc < 0) {
        (void)refuse(why, o, value, "not a regular expression: ");
        sw_text_put(why, rc == -ENOMEM ? "out of memory" : line);
        return rc;
    }
    t->pattern = pattern;
    t->ns = ns;
    c->threshold_count++;
    return 0;
}

static int set_redact(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    char line[SW_CONFIG_LINE_MAX];
    struct sw_text reason;
    sw_text_init(&reason, line, sizeof(line));
    const int rc = sw_redact_add(&c->redact, value, &reason);
    if (rc == -ENOSPC) {
        (void)refuse(why, o, value, "too many patterns, the limit with the built-in ones is ");
        sw_text_printf(why, "%d", SW_REDACT_PATTERNS_MAX);
    } else if (rc < 0) {
        (void)refuse(why, o, value, "not a regular expression: ");
        sw_text_put(why, rc == -ENOMEM ? "out of memory" : line);
    }
    return rc;
}

static int set_address(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    if (!sw_value_is_address(value))
        return refuse(why, o, value, "expected one e-mail address in ASCII, like \"ops@example.org\"");
    if (!o->repeatable) {
        memcpy((char *)c + o->offset, &value, sizeof(value));
        return 0;
    }
    if (sw_value_is_one_of(value, c->mail.to, c->mail.to_count))
        return 0;
    if (c->mail.to_count == SW_MAIL_RECIPIENTS_MAX) {
        (void)refuse(why, o, value, "too many addresses, the limit is ");
        sw_text_printf(why, "%d", SW_MAIL_RECIPIENTS_MAX);
        return -ENOSPC;
    }
    c->mail.to[c->mail.to_count++] = value;
    return 0;
}

static int set_server(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    const size_t host = strcspn(value, ":");
    const char *port = value[host] ? value + host + 1 : SMTP_PORT_DEFAULT;
    uint64_t number;
    if (value[0] == '[' || strchr(port, ':'))
        return refuse(
            why, o, value,
            "an IPv6 address does not work here (the SMTP library splits at the first colon); expected "
            "HOST:PORT with a host name or an IPv4 address");
    /* digits alone are a port that lost its host */
    if (!sw_value_is_host(value, host) || strspn(value, DIGITS) == host ||
        !sw_value_digits(port, strlen(port), PORT_MAX, &number) || number == 0)
        return refuse(why, o, value,
                      "expected HOST:PORT or HOST, like \"127.0.0.1:25\" or \"mail.example.org:587\"");
    struct sw_text server;
    sw_text_init(&server, c->smtp_server, sizeof(c->smtp_server));
    sw_text_put_bytes(&server, value, host);
    sw_text_printf(&server, ":%u", (unsigned)number);
    c->mail.server = c->smtp_server;
    return 0;
}

static int set_warmup(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    const char *expected = o->type == SW_OPT_HIT      ? sw_warmup_add_hit(&c->warmup, value)
                           : o->type == SW_OPT_HEADER ? sw_warmup_add_header(&c->warmup, value)
                                                      : sw_warmup_set_host(&c->warmup, value);
    return expected ? refuse(why, o, value, expected) : 0;
}

static int set_number(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    const size_t n = strlen(value);
    uint64_t number = 0;
    bool ok;
    if (o->type == SW_OPT_SECONDS) {
        ok = sw_value_seconds(value, n, &number) == 0;
    } else {
        const uint64_t unit = o->type == SW_OPT_MS ? SW_NS_PER_MS : 1;
        ok = sw_value_digits(value, n, o->max / unit, &number);
        number *= unit;
    }
    if (!ok || number < o->min || number > o->max)
        return refuse_number(why, o, value);
    if (o->type == SW_OPT_COUNT)
        memcpy((char *)c + o->offset, &(unsigned){(unsigned)number}, sizeof(unsigned));
    else
        memcpy((char *)c + o->offset, &number, sizeof(number));
    return 0;
}

static int set_text(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    if (value[0] == 0 || strlen(value) >= PATH_MAX || !sw_value_is_printable(value)) {
        const char *expected = o->type == SW_OPT_FILE     ? "expected the path of a file"
                               : o->type == SW_OPT_FOLDER ? "expected the path of a folder"
                                                          : "expected a name";
        return refuse(why, o, value, expected);
    }
    memcpy((char *)c + o->offset, &value, sizeof(value));
    return 0;
}

static int set_word(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    unsigned position;
    bool flag;
    if (o->type == SW_OPT_BOOL) {
        if (!sw_value_bool(value, &flag))
            return refuse(why, o, value, "expected true or false");
        memcpy((char *)c + o->offset, &flag, sizeof(flag));
        return 0;
    }
    if (!sw_value_choice(o->argument, value, &position)) {
        (void)refuse(why, o, value, "expected one of ");
        sw_text_put(why, o->argument);
        return -EINVAL;
    }
    memcpy((char *)c + o->offset, &position, sizeof(position));
    return 0;
}
_Static_assert(sizeof(enum sw_log_format) == sizeof(unsigned), "set_word stores positions as unsigned");
_Static_assert(sizeof(enum sw_smtp_tls) == sizeof(unsigned), "set_word stores positions as unsigned");

static int set_value(struct sw_config *c, const struct sw_option *o, const char *value, struct sw_text *why)
{
    switch (o->type) {
    case SW_OPT_THRESHOLD:
        return set_threshold(c, o, value, why);
    case SW_OPT_REGEX:
        return set_redact(c, o, value, why);
    case SW_OPT_ADDRESS:
        return set_address(c, o, value, why);
    case SW_OPT_SERVER:
        return set_server(c, o, value, why);
    case SW_OPT_HIT:
    case SW_OPT_HEADER:
    case SW_OPT_HOST:
        return set_warmup(c, o, value, why);
    case SW_OPT_SECONDS:
    case SW_OPT_MS:
    case SW_OPT_COUNT:
        return set_number(c, o, value, why);
    case SW_OPT_TEXT:
    case SW_OPT_FILE:
    case SW_OPT_FOLDER:
        return set_text(c, o, value, why);
    case SW_OPT_BOOL:
    case SW_OPT_CHOICE:
        return set_word(c, o, value, why);
    }
    return -EINVAL;
}

/* ---- what others call ---- */

int sw_config_init(struct sw_config *c, struct sw_text *why)
{
    memset(c, 0, sizeof(*c));
    int rc = sw_redact_init(&c->redact, why);
    for (unsigned i = 0; rc == 0 && i < sw_option_count; i++)
        if (sw_options[i].fallback[0] != 0)
            rc = set_value(c, &sw_options[i], sw_options[i].fallback, why);
    return rc;
}

int sw_config_set(struct sw_config *c, const char *name, const char *value, struct sw_text *why)
{
    for (unsigned i = 0; i < sw_option_count; i++) {
        const struct sw_option *o = &sw_options[i];
        if (strcmp(o->name, name) != 0)
            continue;
        /* an option that stands alone: yes for a switch, nothing for all others */
        const int rc = set_value(c, o, value ? value : o->type == SW_OPT_BOOL ? "true" : "", why);
        if (rc == 0)
            c->given |= UINT64_C(1) << i;
        return rc;
    }
    sw_text_printf(why, "%s is not an option of this version", name);
    return -EINVAL;
}

void sw_config_fini(struct sw_config *c)
{
    for (unsigned i = 0; i < c->threshold_count; i++)
        sw_regex_free(c->thresholds[i].path);
    c->threshold_count = 0;
    sw_redact_fini(&c->redact);
}

bool sw_config_is_given(const struct sw_config *c, const char *name)
{
    for (unsigned i = 0; i < sw_option_count; i++)
        if (c->given >> i & 1 && strcmp(sw_options[i].name, name) == 0)
            return true;
    return false;
}

uint64_t sw_config_least_threshold_ns(const struct sw_config *c)
{
    uint64_t least_ns = c->threshold_ns > 0 ? c->threshold_ns : SW_NS_NEVER;
    for (unsigned i = 0; i < c->threshold_count; i++)
        if (c->thresholds[i].ns > 0)
            least_ns = sw_min_u64(least_ns, c->thresholds[i].ns);
    return least_ns;
}

uint64_t sw_config_below_harakiri(uint64_t harakiri_ns)
{
    const uint64_t margin_ns = sw_max_u64(SW_NS_PER_SEC, harakiri_ns / 10);
    return sw_max_u64(sw_sub_floor(harakiri_ns, margin_ns), harakiri_ns / 2);
}

uint64_t sw_config_threshold(const struct sw_config *c, const char *path, size_t path_bytes,
                             const char *variable, size_t variable_bytes)
{
    uint64_t ns = c->threshold_ns;
    if (!variable || !parse_threshold(variable, variable_bytes, &ns)) {
        for (unsigned i = 0; i < c->threshold_count; i++) {
            if (sw_regex_match(c->thresholds[i].path, path, path_bytes)) {
                ns = c->thresholds[i].ns;
                break;
            }
        }
    }
    return c->harakiri_ns > 0 && ns >= c->harakiri_ns ? sw_config_below_harakiri(c->harakiri_ns) : ns;
}
