#include "mail_smtp.h"

#include "mail_message.h"
#include "mail_tls.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h> /* before libesmtp.h, which declares smtp_starttls_set_ctx only then */

#include <auth-client.h> /* before libesmtp.h, for smtp_auth_set_context */
#include <libesmtp.h>

#define CREDENTIAL_MAX                                                                                       \
    255 /* libESMTP's mechanisms copy a name and a password into 255 bytes each, unchecked */
#define DOMAIN_MAX 253
#define SERVER_MAX 512

static const char no_memory[] = "no memory";

/* One session a process: what the callbacks of two libraries have to know. */
static struct {
    const struct sw_delivery_job *job;
    int fd;
    bool reported;
    enum sw_smtp_phase phase;
    int reply_code;             /* of the last reply read, 0 = none to the last command */
    char reply[SW_REPLY_MAX];   /* its first line */
    char problem[SW_REPLY_MAX]; /* why the session ended, when libESMTP's own error would not say it */
    char line[SW_REPLY_MAX];    /* of the reply being read, so far */
    size_t line_used;
    bool tls, tls_proved; /* encrypted; by a server whose certificate is valid for its name */
    bool authenticated;
    char host[SERVER_MAX];
    char password[CREDENTIAL_MAX + 2]; /* one byte more tells that it is too long; zeros behind it */
    smtp_message_t message;
    smtp_recipient_t recipients[SW_MAIL_RECIPIENTS_MAX];
    bool message_read;
} child;

const char *sw_smtp_phase_words(unsigned phase)
{
    static const char *const words[SW_SMTP_PHASES] = {
        [SW_SMTP_CONNECT] = "while connecting",       [SW_SMTP_GREETING] = "instead of a greeting",
        [SW_SMTP_EHLO] = "in answer to EHLO",         [SW_SMTP_STARTTLS] = "in answer to STARTTLS",
        [SW_SMTP_HANDSHAKE] = "in the TLS handshake", [SW_SMTP_AUTH] = "in answer to AUTH",
        [SW_SMTP_MAIL] = "in answer to MAIL",         [SW_SMTP_RCPT] = "in answer to RCPT",
        [SW_SMTP_DATA] = "in answer to DATA",         [SW_SMTP_MESSAGE] = "in answer to the message",
    };
    return phase < SW_SMTP_PHASES ? words[phase] : "";
}

/* ---- what the parent gets ---- */

static void send_all(const void *data, size_t n)
{
    const char *at = data;
    while (n > 0) {
        const ssize_t written = write(child.fd, at, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* nobody listens any more */
        at += written;
        n -= (size_t)written;
    }
}

static void enter(enum sw_smtp_phase phase)
{
    const unsigned char byte = (unsigned char)phase;
    if (phase == child.phase)
        return;
    child.phase = phase;
    send_all(&byte, 1);
}

static void report(const struct sw_delivery_result *result)
{
    const unsigned char mark = SW_SMTP_RESULT;
    child.reported = true;
    send_all(&mark, 1);
    send_all(result, sizeof *result);
}

/* Words of ours and of others (the server's, of whom nothing good is assumed), as one line. */
SW_PRINTF(2, 3) static void put_line(char out[SW_REPLY_MAX], const char *fmt, ...)
{
    char words[4 * SW_REPLY_MAX];
    struct sw_text t;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    sw_text_init(&t, out, SW_REPLY_MAX);
    sw_text_put_escaped(&t, words, strcspn(words, "\r\n"));
}

static void put_status(char out[SW_REPLY_MAX], const smtp_status_t *status)
{
    const char *text = status->text ? status->text : "";
    if (status->enh_class)
        put_line(out, "%d %d.%d.%d %s", status->code, status->enh_class, status->enh_subject,
                 status->enh_detail, text);
    else
        put_line(out, "%d %s", status->code, text);
}

static enum sw_recipient_verdict verdict_of(int code)
{
    return code / 100 == 2 ? SW_RECIPIENT_SENT : code / 100 == 5 ? SW_RECIPIENT_REFUSED : SW_RECIPIENT_LATER;
}

static void all_recipients(struct sw_delivery_result *result, enum sw_recipient_verdict verdict)
{
    for (unsigned i = 0; i < child.job->to_count; i++) {
        result->verdict[i] = verdict;
        memcpy(result->reply[i], result->why, SW_REPLY_MAX);
    }
}

/* The session ended before the server said anything about the mail. */
static void judge_server(struct sw_delivery_result *result)
{
    const char *where = sw_smtp_phase_words(child.phase);
    const unsigned long tls_error = ERR_peek_last_error();
    const char *tls_words = tls_error ? ERR_reason_error_string(tls_error) : NULL;
    char words[SW_REPLY_MAX];
    const int error = smtp_errno();
    if (child.problem[0])
        put_line(result->why, "%s", child.problem);
    else if (child.reply_code >= 400)
        put_line(result->why, "%s: %s", where, child.reply);
    else if (child.phase == SW_SMTP_HANDSHAKE && sw_mail_tls_doubt()[0])
        put_line(result->why, "%s: certificate refused: %s", where, sw_mail_tls_doubt());
    else if (child.phase == SW_SMTP_HANDSHAKE && tls_words)
        put_line(result->why, "%s: %s", where, tls_words);
    else if (child.phase > SW_SMTP_CONNECT && (error == 0 || error == SMTP_ERR_DROPPED_CONNECTION))
        put_line(result->why, "%s: connection closed", where);
    else
        put_line(result->why, "%s: %s", where, smtp_strerror(error, words, sizeof words));
    result->server_fault = true;
    result->login_refused =
        child.phase == SW_SMTP_AUTH && verdict_of(child.reply_code) == SW_RECIPIENT_REFUSED;
    all_recipients(result, SW_RECIPIENT_LATER);
}

static void judge_recipients(struct sw_delivery_result *result)
{
    const smtp_status_t *transfer = smtp_message_transfer_status(child.message);
    for (unsigned i = 0; i < child.job->to_count; i++) {
        const smtp_status_t *status = smtp_recipient_status(child.recipients[i]);
        if (verdict_of(status->code) == SW_RECIPIENT_SENT)
            status = transfer;
        result->verdict[i] = verdict_of(status->code);
        /* 0: the server never answered; 354 is a word about DATA, not about the mail */
        if (status->code < 400 && result->verdict[i] != SW_RECIPIENT_SENT) {
            put_line(result->reply[i], "%s: connection closed", sw_smtp_phase_words(child.phase));
            result->server_fault = true;
        } else if (result->verdict[i] != SW_RECIPIENT_SENT) {
            put_status(result->reply[i], status);
        }
        if (result->verdict[i] == SW_RECIPIENT_LATER)
            memcpy(result->why, result->reply[i], SW_REPLY_MAX);
    }
}

static void judge(void)
{
    static struct sw_delivery_result result;
    const smtp_status_t *mail = smtp_reverse_path_status(child.message);
    if (child.reported)
        return;
    if (mail->code == 0) {
        judge_server(&result);
    } else if (verdict_of(mail->code) != SW_RECIPIENT_SENT) {
        put_status(result.why, mail);
        result.server_fault = verdict_of(mail->code) == SW_RECIPIENT_LATER;
        all_recipients(&result, verdict_of(mail->code));
    } else {
        judge_recipients(&result);
    }
    report(&result);
}

/* Ends the session at once: for what libESMTP has no return value for. */
_Noreturn static void give_up(const char *problem)
{
    static struct sw_delivery_result result;
    put_line(child.problem, "%s", problem);
    judge_server(&result);
    report(&result);
    _exit(0);
}

/* ---- callbacks ---- */

static void before_mail(void)
{
    /* libESMTP goes on without AUTH; then the server's refusal would be blamed on the recipients */
    if (!child.job->config->user || child.authenticated)
        return;
    if (child.phase == SW_SMTP_AUTH)
        give_up("");
    give_up(
        "the server offers no AUTH that can be used (slowwatch-smtp-user is set; PLAIN or LOGIN is needed)");
}

static void on_command(const char *at, size_t n)
{
    static const struct {
        const char *verb;
        enum sw_smtp_phase phase;
    } verbs[] = {{"EHLO ", SW_SMTP_EHLO}, {"HELO ", SW_SMTP_EHLO},      {"STARTTLS\r", SW_SMTP_STARTTLS},
                 {"AUTH ", SW_SMTP_AUTH}, {"MAIL FROM:", SW_SMTP_MAIL}, {"RCPT TO:", SW_SMTP_RCPT},
                 {"DATA\r", SW_SMTP_DATA}};
    if (n >= 4 && memcmp(at, "QUIT", 4) == 0) {
        judge(); /* all is known now, and the answer to QUIT changes nothing */
        return;
    }
    for (size_t i = 0; i < SW_COUNT(verbs); i++) {
        const size_t verb = strlen(verbs[i].verb);
        if (n < verb || memcmp(at, verbs[i].verb, verb) != 0)
            continue;
        if (verbs[i].phase == SW_SMTP_MAIL)
            before_mail();
        enter(verbs[i].phase);
        child.reply_code = 0;
        child.line_used = 0;
        return;
    }
    /* else a line of AUTH, whose content is not ours to look at */
}

static void on_reply_line(const char *line, bool more_behind)
{
    child.reply_code = atoi(line);
    put_line(child.reply, "%s", line);
    const bool last = strlen(line) < 4 || line[3] != '-';
    if (!last || child.reply_code / 100 != 2)
        return;
    if (child.phase == SW_SMTP_AUTH)
        child.authenticated = true;
    if (child.phase != SW_SMTP_STARTTLS)
        return;
    /* libESMTP would take what follows for an answer that came through TLS */
    if (more_behind)
        give_up("in answer to STARTTLS: more than an answer (somebody is tampering with the connection)");
    enter(SW_SMTP_HANDSHAKE);
    child.reply_code = 0;
}

/* Replies come in whatever pieces the network likes. */
static void on_reply(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (at[i] != '\n') {
            if (child.line_used < sizeof child.line - 1)
                child.line[child.line_used++] = at[i];
            continue;
        }
        child.line[child.line_used] = 0;
        child.line_used = 0;
        on_reply_line(child.line, i + 1 < n);
    }
}

static void on_traffic(const char *at, int n, int writing, void *arg)
{
    (void)arg;
    if (n <= 0)
        return;
    if (writing == SMTP_CB_WRITING)
        on_command(at, (size_t)n);
    else if (writing == SMTP_CB_READING)
        on_reply(at, (size_t)n);
}

static void on_event(smtp_session_t session, int event, void *arg, ...)
{
    (void)session;
    va_list ap;
    va_start(ap, arg);
    switch (event) {
    case SMTP_EV_CONNECT:
        enter(SW_SMTP_GREETING);
        child.reply_code = 0;
        break;
    case SMTP_EV_EXTNA_STARTTLS:
        put_line(child.problem, "the server offers no STARTTLS, and slowwatch-smtp-tls is required");
        break;
    case SMTP_EV_INVALID_PEER_CERTIFICATE: /* certificates are our context's business: see the header */
        (void)va_arg(ap, long);
        *va_arg(ap, int *) = child.job->config->tls != SW_TLS_REQUIRED;
        break;
    case SMTP_EV_NO_PEER_CERTIFICATE:
        *va_arg(ap, int *) = child.job->config->tls != SW_TLS_REQUIRED;
        break;
    case SMTP_EV_WRONG_PEER_CERTIFICATE: /* libESMTP compares with the canonical name of the DNS, we with ours */
        *va_arg(ap, int *) = 1;
        break;
    case SMTP_EV_STARTTLS_OK: {
        SSL *ssl = va_arg(ap, SSL *);
        child.tls = true;
        child.tls_proved = sw_mail_tls_proved(ssl);
        break;
    }
    case SMTP_EV_MESSAGEDATA:
        enter(SW_SMTP_MESSAGE);
        break;
    default:
        break;
    }
    va_end(ap);
}

/* The only place where the password leaves for the wire. */
static int on_credentials(auth_client_request_t request, char **result, int fields, void *arg)
{
    (void)arg;
    if (child.job->config->tls != SW_TLS_OFF && !child.tls_proved) {
        char words[2 * SW_REPLY_MAX];
        snprintf(words, sizeof words, "the password was not sent: %s%s",
                 child.tls ? "the server has not proved who it is: " : "the server offers no STARTTLS",
                 child.tls ? sw_mail_tls_doubt() : "");
        give_up(words);
    }
    for (int i = 0; i < fields; i++)
        result[i] = (request[i].flags & AUTH_USER)   ? (char *)(uintptr_t)child.job->config->user
                    : (request[i].flags & AUTH_PASS) ? child.password
                                                     : (char *)(uintptr_t) "";
    return 1;
}

static const char *on_message(void **ctx, int *n, void *arg)
{
    (void)ctx;
    (void)arg;
    if (!n) { /* rewind */
        child.message_read = false;
        return NULL;
    }
    *n = child.message_read ? 0 : (int)child.job->message_bytes;
    child.message_read = true;
    return child.job->message;
}

/* ---- the session ---- */

static void read_password(const struct sw_mail_config *config)
{
    char words[SW_REPLY_MAX];
    if (!config->password_file)
        give_up("slowwatch-smtp-user is set without slowwatch-smtp-password-file");
    if (strlen(config->user) > CREDENTIAL_MAX)
        give_up("slowwatch-smtp-user is too long");
    const int fd = open(config->password_file, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, child.password, CREDENTIAL_MAX + 1);
    if (n < 0) {
        put_line(words, "slowwatch-smtp-password-file %s: %s", config->password_file, strerror(errno));
        give_up(words);
    }
    close(fd);
    const size_t line = strcspn(child.password, "\r\n");
    if (line == 0 || line > CREDENTIAL_MAX) {
        put_line(words, "slowwatch-smtp-password-file %s: %s", config->password_file,
                 line ? "the first line is too long" : "the first line is empty");
        give_up(words);
    }
    child.password[line] = 0;
}

/* "host:port" for libESMTP, which cuts at the first colon; child.host for certificates. */
static void split_server(const char *server, char out[SERVER_MAX])
{
    const char *colon = strrchr(server, ':');
    const size_t n = colon ? (size_t)(colon - server) : strlen(server);
    if (n == 0 || strlen(server) >= SERVER_MAX - 4)
        give_up("slowwatch-smtp is no HOST:PORT");
    memcpy(child.host, server, n);
    child.host[n] = 0;
    if (strchr(child.host, ':'))
        give_up("slowwatch-smtp: libESMTP takes no IPv6 address, only a name that has one");
    struct sw_text t;
    sw_text_init(&t, out, SERVER_MAX);
    sw_text_printf(&t, "%s:%s", child.host, colon && colon[1] ? colon + 1 : "25");
}

static void use_tls(smtp_session_t session, const struct sw_mail_config *config)
{
    const bool required = config->tls == SW_TLS_REQUIRED;
    char why_at[SW_REPLY_MAX];
    struct sw_text why;
    sw_text_init(&why, why_at, sizeof why_at);
    SSL_CTX *ctx = sw_mail_tls_context(child.host, config->ca_file, required, &why);
    if (!ctx)
        give_up(why_at);
    smtp_starttls_set_ctx(session, ctx);
    smtp_starttls_enable(session, required ? Starttls_REQUIRED : Starttls_ENABLED);
}

static void use_auth(smtp_session_t session)
{
    auth_client_init();
    auth_context_t auth = auth_create_context();
    if (!auth)
        give_up(no_memory);
    auth_set_mechanism_flags(auth, AUTH_PLUGIN_PLAIN, 0); /* allows LOGIN, too */
    auth_set_interact_cb(auth, on_credentials, NULL);
    smtp_auth_set_context(session, auth);
}

static void run_session(const struct sw_delivery_job *job)
{
    const struct sw_mail_config *config = job->config;
    char server[SERVER_MAX], name_at[DOMAIN_MAX + 1];
    struct sw_text name;
    smtp_session_t session = smtp_create_session();
    child.message = session ? smtp_add_message(session) : NULL;
    if (!child.message)
        give_up(no_memory);
    split_server(config->server, server);
    sw_text_init(&name, name_at, sizeof name_at);
    sw_mail_put_domain(&name, config->host, DOMAIN_MAX);
    smtp_set_server(session, server);
    smtp_set_hostname(session, name_at);
    smtp_set_eventcb(session, on_event, NULL);
    smtp_set_monitorcb(session, on_traffic, NULL, 0);
    if (config->tls != SW_TLS_OFF)
        use_tls(session, config);
    if (config->user) {
        read_password(config);
        use_auth(session);
    }
    smtp_set_reverse_path(child.message, job->from);
    smtp_size_set_estimate(child.message, job->message_bytes);
    smtp_set_messagecb(child.message, on_message, NULL);
    for (unsigned i = 0; i < job->to_count; i++) {
        child.recipients[i] = smtp_add_recipient(child.message, job->to[i]);
        if (!child.recipients[i])
            give_up(no_memory);
    }
    smtp_start_session(session);
    judge();
}

void sw_smtp_run(const struct sw_delivery_job *job, int fd)
{
    child.job = job;
    child.fd = fd;
    /* libESMTP looks for client certificates below these, and a home it may not enter would fail every handshake */
    setenv("HOME", "/nonexistent", 1);
    setenv("XDG_CONFIG_DIR", "/nonexistent", 1);
    run_session(job);
}
