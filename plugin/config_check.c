/* What contradicts what, and the line that says what is on. Values and parsing are in config.c. */
#include "config.h"
#include "config_value.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLES_PER_THRESHOLD 10 /* when the interval has to be shortened */
#define NUMBER_CHARS_MAX      32

struct report {
    void (*say)(const char *line);
    unsigned conflicts;
};

/* seconds as text, in a buffer of the caller so that two fit into one line */
static const char *seconds(char buffer[NUMBER_CHARS_MAX], uint64_t ns)
{
    struct sw_text t;
    sw_text_init(&t, buffer, NUMBER_CHARS_MAX);
    sw_value_put_seconds(&t, ns);
    return buffer;
}

static SW_PRINTF(2, 0) void say_line(const struct report *r, const char *fmt, va_list ap)
{
    char line[SW_CONFIG_LINE_MAX];
    if (vsnprintf(line, sizeof(line), fmt, ap) >= 0)
        r->say(line);
}

static SW_PRINTF(2, 3) void conflict(struct report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(r, fmt, ap);
    va_end(ap);
    r->conflicts++;
}

/* informs, is no conflict: fmt begins with "note: " */
static SW_PRINTF(2, 3) void note(const struct report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_line(r, fmt, ap);
    va_end(ap);
}

/* ---- time ---- */

static void lower_threshold(struct report *r, uint64_t *ns, const char *pattern, uint64_t harakiri_ns)
{
    char was[NUMBER_CHARS_MAX], limit[NUMBER_CHARS_MAX], now[NUMBER_CHARS_MAX];
    if (*ns < harakiri_ns)
        return;
    const uint64_t below_ns = sw_config_below_harakiri(harakiri_ns);
    conflict(r,
             "slowwatch-threshold %s s%s%s is not below harakiri %s s, which would kill the worker first: "
             "moved to "
             "%s s; lower it or raise harakiri",
             seconds(was, *ns), pattern ? " for " : "", pattern ? pattern : "", seconds(limit, harakiri_ns),
             seconds(now, below_ns));
    *ns = below_ns;
}

static void check_thresholds(struct report *r, struct sw_config *c, const struct sw_host_facts *host)
{
    c->harakiri_ns = host->harakiri_ns;
    if (host->harakiri_ns == 0)
        return;
    lower_threshold(r, &c->threshold_ns, NULL, host->harakiri_ns);
    for (unsigned i = 0; i < c->threshold_count; i++)
        lower_threshold(r, &c->thresholds[i].ns, c->thresholds[i].pattern, host->harakiri_ns);
}

uint64_t sw_config_least_threshold_ns(const struct sw_config *c)
{
    uint64_t least_ns = c->threshold_ns > 0 ? c->threshold_ns : SW_NS_NEVER;
    for (unsigned i = 0; i < c->threshold_count; i++)
        if (c->thresholds[i].ns > 0)
            least_ns = sw_min_u64(least_ns, c->thresholds[i].ns);
    return least_ns;
}

static void check_sample_interval(struct report *r, struct sw_config *c)
{
    char least[NUMBER_CHARS_MAX];
    const uint64_t least_ns = sw_config_least_threshold_ns(c);
    if (c->sample_interval_ns < least_ns)
        return;
    const uint64_t moved_ns = sw_max_u64(least_ns / SAMPLES_PER_THRESHOLD, SW_SAMPLE_MIN_NS);
    conflict(
        r,
        "slowwatch-sample-interval %llu ms is not below the threshold of %s s: moved to %llu ms; lower it or "
        "raise the threshold",
        (unsigned long long)(c->sample_interval_ns / SW_NS_PER_MS), seconds(least, least_ns),
        (unsigned long long)(moved_ns / SW_NS_PER_MS));
    c->sample_interval_ns = moved_ns;
}

/* ---- mail ---- */

static bool begins_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool only_serves_mail(const char *option)
{
    return begins_with(option, "slowwatch-mail-") || begins_with(option, "slowwatch-smtp") ||
           strcmp(option, "slowwatch-spool") == 0;
}

/* the options given that have no effect without slowwatch-mail-to */
static void put_useless_mail_options(const struct sw_config *c, struct sw_text *out)
{
    for (unsigned i = 0; i < sw_option_count; i++) {
        if ((c->given >> i & 1) == 0 || !only_serves_mail(sw_options[i].name))
            continue;
        sw_text_put(out, out->used > 0 ? ", " : "");
        sw_text_put(out, sw_options[i].name);
    }
}

/* Opened, not asked about: only the attempt tells what an ACL or a security module says. 0 or -errno. */
static int try_file(const char *path, struct stat *st)
{
    int rc = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (fstat(fd, st) < 0)
        rc = -errno;
    else if (!S_ISREG(st->st_mode))
        rc = -EINVAL;
    close(fd);
    return rc;
}

static const char *file_error(int rc)
{
    return rc == -EINVAL ? "not a regular file" : strerror(-rc);
}

static void check_login(struct report *r, struct sw_config *c)
{
    struct sw_mail_config *mail = &c->mail;
    struct stat st;
    if (mail->user && !mail->password_file) {
        conflict(r, "slowwatch-smtp-user without slowwatch-smtp-password-file: mail is sent without login; "
                    "give both");
        mail->user = NULL;
    } else if (mail->password_file && !mail->user) {
        conflict(r, "slowwatch-smtp-password-file without slowwatch-smtp-user: mail is sent without login; "
                    "give both");
        mail->password_file = NULL;
    }
    if (!mail->user)
        return;
    const int rc = try_file(mail->password_file, &st);
    if (rc < 0)
        conflict(r, "slowwatch-smtp-password-file %s: %s; no mail can be sent until uid %u can read it",
                 mail->password_file, file_error(rc), (unsigned)geteuid());
    else if (st.st_mode & S_IROTH)
        conflict(r, "slowwatch-smtp-password-file %s can be read by every user of this machine: chmod o-r it",
                 mail->password_file);
    if (mail->tls == SW_TLS_OFF)
        note(r, "note: slowwatch-smtp-tls = off: the password travels unencrypted to %s", mail->server);
    else if (mail->tls == SW_TLS_OPTIONAL)
        note(r, "note: the password is sent to %s only if its certificate is valid", mail->server);
}

static void check_ca(struct report *r, struct sw_config *c)
{
    struct sw_mail_config *mail = &c->mail;
    struct stat st;
    if (!mail->ca_file)
        return;
    if (mail->tls == SW_TLS_OFF) {
        conflict(
            r,
            "slowwatch-smtp-ca with slowwatch-smtp-tls = off: no certificate is looked at; drop one of them");
        return;
    }
    const int rc = try_file(mail->ca_file, &st);
    if (rc < 0)
        conflict(r, "slowwatch-smtp-ca %s: %s; no mail server can be verified until uid %u can read it",
                 mail->ca_file, file_error(rc), (unsigned)geteuid());
}

static void check_spool(struct report *r, struct sw_config *c)
{
    const char *folder = c->mail.spool_dir, *wrong = NULL;
    struct stat st;
    if (!folder)
        return;
    if (stat(folder, &st) < 0)
        wrong = strerror(errno);
    else if (!S_ISDIR(st.st_mode))
        wrong = "not a folder";
    else if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
        wrong = "every user of this machine may write there";
    else if (faccessat(AT_FDCWD, folder, R_OK | W_OK | X_OK, AT_EACCESS) < 0)
        wrong = strerror(errno);
    if (!wrong)
        return;
    conflict(r,
             "slowwatch-spool %s: %s; unsent mail is kept in memory only and lost at a restart; make it a "
             "folder of "
             "uid %u with mode 0700",
             folder, wrong, (unsigned)geteuid());
    c->mail.spool_dir = NULL;
}

static void check_mail(struct report *r, struct sw_config *c, const struct sw_host_facts *host)
{
    char line[SW_CONFIG_LINE_MAX];
    struct sw_text useless;
    if (c->mail.to_count == 0) {
        sw_text_init(&useless, line, sizeof(line));
        put_useless_mail_options(c, &useless);
        if (useless.used > 0)
            conflict(r, "no slowwatch-mail-to: no mail is sent, so these have no effect: %s", line);
        c->mail.spool_dir = NULL;
        return;
    }
    if (!host->master) {
        conflict(r, "slowwatch-mail-to without master: mail is off, as only a master can run the process "
                    "that sends it; "
                    "set master = true");
        c->mail.to_count = 0;
        c->mail.spool_dir = NULL;
        return;
    }
    check_login(r, c);
    check_ca(r, c);
    check_spool(r, c);
}

/* ---- the rest ---- */

static void check_alarm(struct report *r, struct sw_config *c, const struct sw_host_facts *host)
{
    if (!c->alarm || (host->master && host->alarm_known))
        return;
    if (!host->master)
        conflict(r, "slowwatch-alarm %s without master: the alarm is off; set master = true", c->alarm);
    else
        conflict(
            r,
            "slowwatch-alarm %s: uWSGI has no alarm of this name, it is off; define it with alarm = %s ...",
            c->alarm, c->alarm);
    c->alarm = NULL;
}

/* uWSGI cuts what is longer without a line end: the next entry would be glued to it. */
static void check_log(struct report *r, struct sw_config *c, const struct sw_host_facts *host)
{
    const size_t least = SW_EVENT_ROOM_MIN + SW_LOG_PREFIX_MAX + 1;
    if (c->log != SW_LOG_JSON || host->log_bytes == 0 || host->log_bytes >= least)
        return;
    conflict(r,
             "slowwatch-log = json with log-master-bufsize = %zu: an event needs %zu, so text is logged "
             "instead; raise it",
             host->log_bytes, least);
    c->log = SW_LOG_TEXT;
}

static void check_outlets(struct report *r, const struct sw_config *c)
{
    if (c->log == SW_LOG_OFF && c->mail.to_count == 0 && !c->alarm)
        conflict(r, "slowwatch-log = off, and neither mail nor alarm is on: what is seen goes nowhere");
}

static bool memory_readable(const struct sw_host_facts *host)
{
    return host->mem_backend && strcmp(host->mem_backend, "off") != 0;
}

static bool has_stacks(const struct sw_host_facts *host)
{
    return host->python && !host->python_why && memory_readable(host);
}

static void check_stacks(struct report *r, const struct sw_host_facts *host)
{
    if (!host->python)
        conflict(r, "no Python stacks: there is no Python in this process; load the Python plugin of uWSGI");
    else if (host->python_why)
        conflict(r, "no Python stacks: %s; slow requests are still reported, with what the kernel says",
                 host->python_why);
    else if (!memory_readable(host))
        conflict(r, "no Python stacks: this system permits none of the ways to read memory safely (memfd, "
                    "process_vm_readv, pipe); slow requests are still reported, with what the kernel says");
}

unsigned sw_config_resolve(struct sw_config *c, const struct sw_host_facts *host,
                           void (*say)(const char *line))
{
    struct report r = {say, 0};
    check_thresholds(&r, c, host);
    check_sample_interval(&r, c);
    check_mail(&r, c, host);
    check_alarm(&r, c, host);
    check_log(&r, c, host);
    check_outlets(&r, c);
    check_stacks(&r, host);
    if (!host->master)
        note(
            &r,
            "note: without a master there is no reporter process; each worker writes its log entries itself");
    if (host->harakiri_ns > 0 && host->threads > 1)
        note(&r,
             "note: uWSGI 2.0 keeps one harakiri deadline per worker, and each request that ends on one of "
             "the %d "
             "threads renews it: a stuck request may live longer than harakiri; slowwatch times each thread "
             "by itself",
             host->threads);
    return r.conflicts;
}

/* ---- summary ---- */

static void put_watching(const struct sw_config *c, struct sw_text *out)
{
    char text[NUMBER_CHARS_MAX];
    if (c->threshold_ns > 0)
        sw_text_printf(out, "watching requests over %s s", seconds(text, c->threshold_ns));
    else if (sw_config_least_threshold_ns(c) != SW_NS_NEVER)
        sw_text_put(out, "watching some requests only");
    else
        sw_text_put(out, "watching no request without SLOWWATCH_THRESHOLD");
    for (unsigned i = 0; i < c->threshold_count; i++) {
        const struct sw_threshold *t = &c->thresholds[i];
        sw_text_put(out, i == 0 ? " (" : ", ");
        if (t->ns > 0)
            sw_text_printf(out, "%s s for %s", seconds(text, t->ns), t->pattern);
        else
            sw_text_printf(out, "not %s", t->pattern);
    }
    sw_text_put(out, c->threshold_count > 0 ? ")" : "");
}

static void put_mail(const struct sw_mail_config *mail, struct sw_text *out)
{
    static const char *const tls[] = {
        [SW_TLS_OPTIONAL] = "", [SW_TLS_OFF] = " without TLS", [SW_TLS_REQUIRED] = " with TLS"};
    if (mail->to_count == 0) {
        sw_text_put(out, ", mail off");
        return;
    }
    for (unsigned i = 0; i < mail->to_count; i++)
        sw_text_printf(out, "%s%s", i == 0 ? ", mail to " : ", ", mail->to[i]);
    sw_text_printf(out, " via %s%s", mail->server, tls[mail->tls]);
    if (mail->user)
        sw_text_printf(out, " as %s", mail->user);
    if (mail->spool_dir)
        sw_text_printf(out, ", spool %s", mail->spool_dir);
}

void sw_config_summary(const struct sw_config *c, const struct sw_host_facts *host, struct sw_text *out)
{
    static const char *const log[] = {[SW_LOG_TEXT] = "text", [SW_LOG_JSON] = "json", [SW_LOG_OFF] = "off"};
    char text[NUMBER_CHARS_MAX];
    put_watching(c, out);
    if (host->harakiri_ns > 0)
        sw_text_printf(out, ", harakiri %s s", seconds(text, host->harakiri_ns));
    else
        sw_text_put(out, ", no harakiri");
    if (has_stacks(host))
        sw_text_printf(out, ", stacks of %s by %s", host->python_version ? host->python_version : "Python",
                       host->mem_backend);
    else
        sw_text_put(out, ", no stacks");
    sw_text_printf(out, ", log %s", log[c->log]);
    put_mail(&c->mail, out);
    if (c->alarm)
        sw_text_printf(out, ", alarm %s", c->alarm);
}
