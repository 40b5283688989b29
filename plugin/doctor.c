/* The findings, and the checks of all that is neither mail nor warm-up. */
#include "doctor.h"

#include "config_value.h"
#include "log.h"
#include "nearest.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SAMPLES_PER_THRESHOLD 10 /* when the interval has to be shortened */
#define PREFIX                "slowwatch"
#define NAME_ROOM             64 /* of a line: what is before and behind its words */

const struct sw_finding_kind sw_findings[SW_FINDINGS] = {
    [SW_FOUND_THRESHOLD] = {"threshold-over-harakiri", SW_CONFLICT},
    [SW_FOUND_INTERVAL] = {"interval-over-threshold", SW_CONFLICT},
    [SW_FOUND_UNKNOWN_OPTION] = {"unknown-option", SW_CONFLICT},
    [SW_FOUND_NO_RECIPIENT] = {"mail-without-recipient", SW_CONFLICT},
    [SW_FOUND_MAIL_NO_MASTER] = {"mail-without-master", SW_CONFLICT},
    [SW_FOUND_LOGIN] = {"login-incomplete", SW_CONFLICT},
    [SW_FOUND_PASSWORD_UNREADABLE] = {"password-unreadable", SW_CONFLICT},
    [SW_FOUND_PASSWORD_EXPOSED] = {"password-exposed", SW_CONFLICT},
    [SW_FOUND_PASSWORD_PLAIN] = {"password-in-the-clear", SW_INFORMATION},
    [SW_FOUND_PASSWORD_KEPT] = {"password-needs-certificate", SW_INFORMATION},
    [SW_FOUND_CA_UNUSED] = {"ca-without-tls", SW_CONFLICT},
    [SW_FOUND_CA_UNREADABLE] = {"ca-unreadable", SW_CONFLICT},
    [SW_FOUND_SPOOL_UNUSABLE] = {"spool-unusable", SW_CONFLICT},
    [SW_FOUND_SPOOL_EXPOSED] = {"spool-exposed", SW_CONFLICT},
    [SW_FOUND_MERCY] = {"mail-over-mercy", SW_CONFLICT},
    [SW_FOUND_ALARM_NO_MASTER] = {"alarm-without-master", SW_CONFLICT},
    [SW_FOUND_ALARM_UNKNOWN] = {"alarm-unknown", SW_CONFLICT},
    [SW_FOUND_LOG_PIPE] = {"log-pipe-too-small", SW_CONFLICT},
    [SW_FOUND_NO_OUTLET] = {"no-outlet", SW_CONFLICT},
    [SW_FOUND_NO_PYTHON] = {"no-python", SW_CONFLICT},
    [SW_FOUND_NO_STACKS] = {"no-stacks", SW_CONFLICT},
    [SW_FOUND_NEED_APP] = {"no-need-app", SW_INFORMATION},
    [SW_FOUND_NO_THREADS] = {"no-enable-threads", SW_INFORMATION},
    [SW_FOUND_NO_MASTER] = {"no-master", SW_INFORMATION},
    [SW_FOUND_HARAKIRI_THREADS] = {"harakiri-with-threads", SW_INFORMATION},
    [SW_FOUND_TRACEBACKER] = {"py-tracebacker", SW_CONFLICT},
    [SW_FOUND_WARMUP_ANSWERED] = {"warmup-answered-by-route", SW_CONFLICT},
    [SW_FOUND_WARMUP_PERHAPS] = {"warmup-perhaps-answered", SW_INFORMATION},
    [SW_FOUND_WARMUP_UNUSED] = {"warmup-without-path", SW_CONFLICT},
    [SW_FOUND_WARMUP_AFTER_FORK] = {"warmup-without-lazy-apps", SW_INFORMATION},
    [SW_FOUND_SPREAD_UNUSED] = {"spread-without-limit", SW_CONFLICT},
    [SW_FOUND_SPREAD_OWN] = {"spread-left-to-uwsgi", SW_INFORMATION},
    [SW_FOUND_SPREAD_COARSE] = {"spread-too-fine", SW_INFORMATION},
};

/* ---- for all checks ---- */

void sw_doctor_found(struct sw_doctor *d, enum sw_finding finding, const char *fmt, ...)
{
    const struct sw_finding_kind *kind = &sw_findings[finding];
    char words[SW_CONFIG_LINE_MAX - NAME_ROOM], line[SW_CONFIG_LINE_MAX];
    struct sw_text t;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    sw_text_init(&t, line, sizeof line);
    sw_text_printf(&t, "%s%s [%s]", kind->severity == SW_INFORMATION ? "note: " : "", words, kind->name);
    d->say(line);
    *(kind->severity == SW_CONFLICT ? &d->sum.conflicts : &d->sum.notes) += 1;
}

const char *sw_host_given(const struct sw_host_facts *host, const char *name)
{
    for (unsigned i = host->given_count; i-- > 0;) {
        const struct sw_given_option *o = &host->given[i];
        if (o->known && strcmp(o->name, name) == 0)
            return o->value ? o->value : "";
    }
    return NULL;
}

static bool memory_readable(const struct sw_host_facts *host)
{
    return host->mem_backend && strcmp(host->mem_backend, "off") != 0;
}

bool sw_host_has_stacks(const struct sw_host_facts *host)
{
    return host->python && !host->python_why && memory_readable(host);
}

/* ---- names ---- */

#define SLIPS_IN_WHOLE_NAME 2

/* Behind the prefix: for short words anything would be near. */
static unsigned slips_allowed(size_t letters)
{
    return (unsigned)letters / 3;
}

const char *sw_doctor_meant(const char *name)
{
    char words[SW_NEAREST_CHARS_MAX + 1];
    const char *known[SW_OPTIONS_MAX];
    struct sw_text t;
    name += strspn(name, "-");
    /* "slowwatch_log" and "slowwatch-lgo" differ behind the prefix; "slow-watch_log" has two slips in all of it */
    const bool prefixed = strncmp(name, PREFIX, strlen(PREFIX)) == 0;
    if (prefixed)
        name += strlen(PREFIX) + strspn(name + strlen(PREFIX), "-_.");
    sw_text_init(&t, words, sizeof words);
    sw_text_put_bytes(&t, name, strcspn(name, "= "));
    for (unsigned i = 0; i < sw_option_count; i++)
        known[i] = sw_options[i].name + (prefixed ? strlen(PREFIX "-") : 0);
    const int at =
        sw_nearest(words, known, sw_option_count, prefixed ? slips_allowed(t.used) : SLIPS_IN_WHOLE_NAME);
    return at < 0 ? NULL : sw_options[at].name;
}

static void check_names(struct sw_doctor *d)
{
    for (unsigned i = 0; i < d->host->given_count; i++) {
        const struct sw_given_option *o = &d->host->given[i];
        const char *meant = o->known ? NULL : sw_doctor_meant(o->name);
        if (o->known || (!meant && strncmp(o->name, PREFIX, strlen(PREFIX)) != 0))
            continue; /* one of uWSGI, or a placeholder of the user */
        if (meant)
            sw_doctor_found(d, SW_FOUND_UNKNOWN_OPTION,
                            "%s is not an option of this version and has no effect: did you mean %s?",
                            o->name, meant);
        else
            sw_doctor_found(d, SW_FOUND_UNKNOWN_OPTION,
                            "%s is not an option of this version and has no effect: remove it", o->name);
    }
}

/* ---- time ---- */

static void lower_threshold(struct sw_doctor *d, uint64_t *ns, const char *pattern)
{
    char was[SW_SECONDS_CHARS_MAX], limit[SW_SECONDS_CHARS_MAX], now[SW_SECONDS_CHARS_MAX];
    const uint64_t harakiri_ns = d->host->harakiri_ns;
    if (*ns < harakiri_ns)
        return;
    const uint64_t below_ns = sw_config_below_harakiri(harakiri_ns);
    sw_doctor_found(d, SW_FOUND_THRESHOLD,
                    "slowwatch-threshold %s s%s%s is not below harakiri %s s, which would kill the worker "
                    "first: moved to %s s; lower it or raise harakiri",
                    sw_value_seconds_text(was, *ns), pattern ? " for " : "", pattern ? pattern : "",
                    sw_value_seconds_text(limit, harakiri_ns), sw_value_seconds_text(now, below_ns));
    *ns = below_ns;
}

static void check_thresholds(struct sw_doctor *d)
{
    struct sw_config *c = d->config;
    c->harakiri_ns = d->host->harakiri_ns;
    if (c->harakiri_ns == 0)
        return;
    lower_threshold(d, &c->threshold_ns, NULL);
    for (unsigned i = 0; i < c->threshold_count; i++)
        lower_threshold(d, &c->thresholds[i].ns, c->thresholds[i].pattern);
}

static void check_sample_interval(struct sw_doctor *d)
{
    char least[SW_SECONDS_CHARS_MAX];
    struct sw_config *c = d->config;
    const uint64_t least_ns = sw_config_least_threshold_ns(c);
    if (c->sample_interval_ns < least_ns)
        return;
    const uint64_t moved_ns = sw_max_u64(least_ns / SAMPLES_PER_THRESHOLD, SW_SAMPLE_MIN_NS);
    sw_doctor_found(d, SW_FOUND_INTERVAL,
                    "slowwatch-sample-interval %llu ms is not below the threshold of %s s: moved to %llu ms; "
                    "lower it or raise the threshold",
                    (unsigned long long)(c->sample_interval_ns / SW_NS_PER_MS),
                    sw_value_seconds_text(least, least_ns), (unsigned long long)(moved_ns / SW_NS_PER_MS));
    c->sample_interval_ns = moved_ns;
}

/* ---- where reports go, besides mail ---- */

static void check_alarm(struct sw_doctor *d)
{
    struct sw_config *c = d->config;
    if (!c->alarm || (d->host->master && d->host->alarm_known))
        return;
    if (!d->host->master)
        sw_doctor_found(d, SW_FOUND_ALARM_NO_MASTER,
                        "slowwatch-alarm %s without master: the alarm is off; set master = true", c->alarm);
    else
        sw_doctor_found(
            d, SW_FOUND_ALARM_UNKNOWN,
            "slowwatch-alarm %s: uWSGI has no alarm of this name, it is off; define it with alarm = %s ...",
            c->alarm, c->alarm);
    c->alarm = NULL;
}

/* uWSGI cuts what is longer without a line end: the next entry would be glued to it. */
static void check_log(struct sw_doctor *d)
{
    const size_t least = SW_EVENT_ROOM_MIN + SW_LOG_PREFIX_MAX + 1;
    if (d->config->log != SW_LOG_JSON || d->host->log_bytes == 0 || d->host->log_bytes >= least)
        return;
    sw_doctor_found(d, SW_FOUND_LOG_PIPE,
                    "slowwatch-log = json with log-master-bufsize = %zu: an event needs %zu, so text is "
                    "logged instead; raise it",
                    d->host->log_bytes, least);
    d->config->log = SW_LOG_TEXT;
}

static void check_outlets(struct sw_doctor *d)
{
    const struct sw_config *c = d->config;
    if (c->log == SW_LOG_OFF && c->mail.to_count == 0 && !c->alarm)
        sw_doctor_found(d, SW_FOUND_NO_OUTLET,
                        "slowwatch-log = off, and neither mail nor alarm is on: what is seen goes nowhere");
}

/* ---- Python and uWSGI ---- */

static void check_python(struct sw_doctor *d)
{
    const struct sw_host_facts *host = d->host;
    if (!host->python)
        sw_doctor_found(
            d, SW_FOUND_NO_PYTHON,
            "no Python stacks: there is no Python in this process; load the Python plugin of uWSGI");
    else if (host->python_why)
        sw_doctor_found(d, SW_FOUND_NO_STACKS,
                        "no Python stacks: %s; slow requests are still reported, with what the kernel says",
                        host->python_why);
    else if (!memory_readable(host))
        sw_doctor_found(
            d, SW_FOUND_NO_STACKS,
            "no Python stacks: this system permits none of the ways to read memory safely (memfd, "
            "process_vm_readv, pipe); slow requests are still reported, with what the kernel says");
    if (!host->python)
        return;
    if (!host->need_app)
        sw_doctor_found(d, SW_FOUND_NEED_APP,
                        "without need-app uWSGI starts even if the application cannot be imported, and "
                        "answers every request with an error; set need-app = true");
    if (!host->threads_enabled)
        sw_doctor_found(d, SW_FOUND_NO_THREADS,
                        "without enable-threads the threads that the application starts stand still between "
                        "requests; set enable-threads = true");
}

static void check_uwsgi(struct sw_doctor *d)
{
    const struct sw_host_facts *host = d->host;
    if (!host->master)
        sw_doctor_found(
            d, SW_FOUND_NO_MASTER,
            "without a master there is no reporter process; each worker writes its log entries itself");
    if (host->harakiri_ns == 0)
        return;
    if (host->threads > 1)
        sw_doctor_found(
            d, SW_FOUND_HARAKIRI_THREADS,
            "uWSGI 2.0 keeps one harakiri deadline per worker, and each request that ends on one of "
            "the %d threads renews it: a stuck request may live longer than harakiri; slowwatch times "
            "each thread by itself",
            host->threads);
    if (sw_host_given(host, "py-tracebacker"))
        sw_doctor_found(
            d, SW_FOUND_TRACEBACKER,
            "py-tracebacker with harakiri: before each kill the master waits for a traceback from "
            "the worker, for seconds if that holds the GIL; drop it, slowwatch reports the stack");
}

static void check_spread(struct sw_doctor *d)
{
    const struct sw_recycle *r = &d->host->recycle;
    const bool asked = sw_config_is_given(d->config, "slowwatch-recycle-spread");
    if (r->percent == 0)
        return;
    if (asked && r->max_requests == 0 && r->max_lifetime_s == 0)
        sw_doctor_found(d, SW_FOUND_SPREAD_UNUSED,
                        "slowwatch-recycle-spread has no effect: neither max-requests nor "
                        "max-worker-lifetime is set; remove it");
    if (r->own_requests && r->max_requests > 0)
        sw_doctor_found(d, SW_FOUND_SPREAD_OWN,
                        "max-requests-delta is set: max-requests is spread by it, not by "
                        "slowwatch-recycle-spread");
    if (r->own_lifetime && r->max_lifetime_s > 0)
        sw_doctor_found(d, SW_FOUND_SPREAD_OWN,
                        "max-worker-lifetime-delta is set: max-worker-lifetime is spread by it, not by "
                        "slowwatch-recycle-spread");
    if (!r->own_lifetime && r->max_lifetime_s > 0 && r->workers > 1 && sw_recycle_step_s(r) == 0)
        sw_doctor_found(d, SW_FOUND_SPREAD_COARSE,
                        "max-worker-lifetime %llu s is too short to be spread over %u workers by %u percent: "
                        "they recycle together; raise it or slowwatch-recycle-spread",
                        (unsigned long long)r->max_lifetime_s, r->workers, r->percent);
}

struct sw_diagnosis sw_doctor_examine(struct sw_config *c, const struct sw_host_facts *host,
                                      void (*say)(const char *line))
{
    struct sw_doctor d = {.config = c, .host = host, .say = say};
    check_names(&d);
    check_thresholds(&d);
    check_sample_interval(&d);
    sw_doctor_examine_mail(&d);
    check_alarm(&d);
    check_log(&d);
    check_outlets(&d);
    check_python(&d);
    check_uwsgi(&d);
    sw_doctor_examine_warmup(&d);
    check_spread(&d);
    return d.sum;
}
