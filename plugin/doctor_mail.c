/* What keeps mail from being sent, or shows it to others. */
#include "doctor.h"

#include "config_value.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
static void put_useless_options(const struct sw_config *c, struct sw_text *out)
{
    for (unsigned i = 0; i < sw_option_count; i++) {
        const char *name = sw_options[i].name;
        if (!only_serves_mail(name) || !sw_config_is_given(c, name))
            continue;
        sw_text_put(out, out->used > 0 ? ", " : "");
        sw_text_put(out, name);
    }
}

/* ---- files ---- */

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

static void check_login(struct sw_doctor *d)
{
    struct sw_mail_config *mail = &d->config->mail;
    struct stat st;
    if (mail->user && !mail->password_file) {
        sw_doctor_found(d, SW_FOUND_LOGIN,
                        "slowwatch-smtp-user without slowwatch-smtp-password-file: mail is sent without "
                        "login; give both");
        mail->user = NULL;
    } else if (mail->password_file && !mail->user) {
        sw_doctor_found(d, SW_FOUND_LOGIN,
                        "slowwatch-smtp-password-file without slowwatch-smtp-user: mail is sent without "
                        "login; give both");
        mail->password_file = NULL;
    }
    if (!mail->user)
        return;
    const int rc = try_file(mail->password_file, &st);
    if (rc < 0)
        sw_doctor_found(d, SW_FOUND_PASSWORD_UNREADABLE,
                        "slowwatch-smtp-password-file %s: %s; no mail can be sent until uid %u can read it",
                        mail->password_file, file_error(rc), (unsigned)geteuid());
    else if (st.st_mode & S_IROTH)
        sw_doctor_found(
            d, SW_FOUND_PASSWORD_EXPOSED,
            "slowwatch-smtp-password-file %s can be read by every user of this machine: chmod o-r it",
            mail->password_file);
    if (mail->tls == SW_TLS_OFF)
        sw_doctor_found(d, SW_FOUND_PASSWORD_PLAIN,
                        "slowwatch-smtp-tls = off: the password travels unencrypted to %s", mail->server);
    else if (mail->tls == SW_TLS_OPTIONAL)
        sw_doctor_found(d, SW_FOUND_PASSWORD_KEPT,
                        "the password is sent to %s only if its certificate is valid", mail->server);
}

static void check_ca(struct sw_doctor *d)
{
    const struct sw_mail_config *mail = &d->config->mail;
    struct stat st;
    if (!mail->ca_file)
        return;
    if (mail->tls == SW_TLS_OFF) {
        sw_doctor_found(
            d, SW_FOUND_CA_UNUSED,
            "slowwatch-smtp-ca with slowwatch-smtp-tls = off: no certificate is looked at; drop one of them");
        return;
    }
    const int rc = try_file(mail->ca_file, &st);
    if (rc < 0)
        sw_doctor_found(d, SW_FOUND_CA_UNREADABLE,
                        "slowwatch-smtp-ca %s: %s; no mail server can be verified until uid %u can read it",
                        mail->ca_file, file_error(rc), (unsigned)geteuid());
}

/* ---- the spool ---- */

/* With the sticky bit nobody can remove or replace what others put there. */
static bool everybody_may_replace(const char *folder)
{
    struct stat st;
    return stat(folder, &st) == 0 && (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX);
}

/* The folder itself or the nearest one above it; NULL = none. `path` is cut. */
static const char *replaceable_part(char *path)
{
    for (;;) {
        if (everybody_may_replace(path))
            return path;
        char *slash = strrchr(path, '/');
        if (!slash || path[1] == 0)
            return NULL;
        slash[slash == path ? 1 : 0] = 0; /* the root keeps its slash */
    }
}

static void check_spool(struct sw_doctor *d)
{
    const char *folder = d->config->mail.spool_dir, *wrong = NULL;
    char path[PATH_MAX];
    struct stat st;
    if (!folder)
        return;
    if (!realpath(folder, path) || stat(path, &st) < 0)
        wrong = strerror(errno);
    else if (!S_ISDIR(st.st_mode))
        wrong = "not a folder";
    else if (faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) < 0)
        wrong = strerror(errno);
    if (wrong) {
        sw_doctor_found(d, SW_FOUND_SPOOL_UNUSABLE,
                        "slowwatch-spool %s: %s; unsent mail is kept in memory only and lost at a restart; "
                        "make it a folder of uid %u with mode 0700",
                        folder, wrong, (unsigned)geteuid());
        d->config->mail.spool_dir = NULL;
        return;
    }
    const char *open_part = replaceable_part(path);
    if (!open_part)
        return;
    sw_doctor_found(d, SW_FOUND_SPOOL_EXPOSED,
                    "slowwatch-spool %s: every user of this machine may write in %s and put mail there or "
                    "take it away; unsent mail is kept in memory only and lost at a restart; chmod o-w it",
                    folder, open_part);
    d->config->mail.spool_dir = NULL;
}

/* A mail that is not sent when the last worker has left gets little more time. */
static void check_mercy(struct sw_doctor *d)
{
    char timeout[SW_SECONDS_CHARS_MAX], mercy[SW_SECONDS_CHARS_MAX];
    const struct sw_mail_config *mail = &d->config->mail;
    if (mail->spool_dir || mail->timeout_ns <= d->host->mercy_ns)
        return;
    sw_doctor_found(d, SW_FOUND_MERCY,
                    "slowwatch-smtp-timeout %s s is longer than worker-reload-mercy %s s: a mail on its way "
                    "may be lost at a reload or stop; set slowwatch-spool",
                    sw_value_seconds_text(timeout, mail->timeout_ns),
                    sw_value_seconds_text(mercy, d->host->mercy_ns));
}

void sw_doctor_examine_mail(struct sw_doctor *d)
{
    struct sw_mail_config *mail = &d->config->mail;
    char line[SW_CONFIG_LINE_MAX];
    struct sw_text useless;
    if (mail->to_count == 0) {
        sw_text_init(&useless, line, sizeof(line));
        put_useless_options(d->config, &useless);
        if (useless.used > 0)
            sw_doctor_found(d, SW_FOUND_NO_RECIPIENT,
                            "no slowwatch-mail-to: no mail is sent, so these have no effect: %s", line);
        mail->spool_dir = NULL;
        return;
    }
    if (!d->host->master) {
        sw_doctor_found(d, SW_FOUND_MAIL_NO_MASTER,
                        "slowwatch-mail-to without master: mail is off, as only a master can run the process "
                        "that sends it; set master = true");
        mail->to_count = 0;
        mail->spool_dir = NULL;
        return;
    }
    check_login(d);
    check_ca(d);
    check_spool(d);
    check_mercy(d);
}
