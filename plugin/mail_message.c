#include "mail_message.h"

#include "render.h"
#include <errno.h>
#include <string.h>

#define ENCODED_OPEN     "=?utf-8?B?"
#define ENCODED_CLOSE    "?="
#define ENCODED_FRAME    (sizeof ENCODED_OPEN + sizeof ENCODED_CLOSE - 2)
#define SAFE_VALUE_BYTES 1024 /* of a header value once it is escaped; what is over is cut */
#define PLAIN_WORD_MAX   70   /* a longer word does not fit a folded line */
/* of a subject: the host and the place must fit behind the path */
#define SUBJECT_METHOD_BYTES 16
#define SUBJECT_PATH_BYTES   100
#define SUBJECT_HOST_BYTES   64

static const char hex[] = "0123456789ABCDEF";

static bool is_print(unsigned char c)
{
    return c >= 0x20 && c < 0x7f;
}

bool sw_mail_address_ok(const char *address)
{
    const char *at = strchr(address, '@');
    const size_t n = strlen(address);
    if (!at || at == address || !at[1] || strchr(at + 1, '@') || n > SW_MAIL_ADDRESS_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_print((unsigned char)address[i]) || strchr(" <>(),:;\"\\", address[i]))
            return false;
    return true;
}

void sw_mail_put_domain(struct sw_text *t, const char *host, size_t most)
{
    const size_t before = t->used;
    for (size_t i = 0; i < most && host[i]; i++) {
        const char c = host[i];
        const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          (c == '.' && i > 0 && host[i - 1] != '.' && host[i + 1] && i + 1 < most);
        sw_text_put_char(t, fine ? c : '-');
    }
    if (t->used == before)
        sw_text_put(t, "localhost");
}

/* ---- headers ---- */

/* Text that may stand in a header as it is: printable ASCII in words that fit a line, and nothing that a mail
 * program would decode. */
static bool is_plain(const char *s)
{
    size_t word = 0;
    if (s[0] == ' ' || strstr(s, "=?") || strstr(s, "  "))
        return false;
    for (; *s; s++) {
        word = *s == ' ' ? 0 : word + 1;
        if (!is_print((unsigned char)*s) || word > PLAIN_WORD_MAX || (*s == ' ' && !s[1]))
            return false;
    }
    return true;
}

static void put_folded(struct sw_text *t, const char *value, size_t column)
{
    while (*value) {
        const size_t word = strcspn(value + 1, " ") + 1; /* with the blank before it */
        if (column + word > SW_MAIL_LINE_MAX && *value == ' ') {
            sw_text_put(t, "\r\n");
            column = 0;
        }
        sw_text_put_bytes(t, value, word);
        column += word;
        value += word;
    }
}

static void put_base64(struct sw_text *t, const char *s, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)s[i] << 16;
        bits |= i + 1 < n ? (uint32_t)(unsigned char)s[i + 1] << 8 : 0;
        bits |= i + 2 < n ? (uint32_t)(unsigned char)s[i + 2] : 0;
        sw_text_put_char(t, digits[bits >> 18]);
        sw_text_put_char(t, digits[bits >> 12 & 63]);
        sw_text_put_char(t, i + 1 < n ? digits[bits >> 6 & 63] : '=');
        sw_text_put_char(t, i + 2 < n ? digits[bits & 63] : '=');
    }
}

/* Encoded words, one a line, none of them cutting a character. */
static void put_encoded(struct sw_text *t, const char *value, size_t column)
{
    char safe[SAFE_VALUE_BYTES];
    struct sw_text escaped;
    sw_text_init(&escaped, safe, sizeof safe);
    sw_text_put_escaped(&escaped, value, strlen(value));
    for (size_t i = 0; i < escaped.used;) {
        const size_t fits = (SW_MAIL_LINE_MAX - column - ENCODED_FRAME) / 4 * 3; /* base64: 3 bytes in 4 */
        const size_t left = escaped.used - i;
        const size_t n = left > fits ? sw_utf8_floor(safe + i, fits) : left;
        sw_text_put(t, i ? "\r\n " ENCODED_OPEN : ENCODED_OPEN);
        put_base64(t, safe + i, n);
        sw_text_put(t, ENCODED_CLOSE);
        i += n;
        column = 1;
    }
}

void sw_mail_put_header(struct sw_text *t, const char *name, const char *value)
{
    const size_t column = strlen(name) + 2;
    sw_text_printf(t, "%s: ", name);
    if (is_plain(value))
        put_folded(t, value, column);
    else
        put_encoded(t, value, column);
    sw_text_put(t, "\r\n");
}

static void put_recipients(struct sw_text *t, const char *const *to, unsigned count)
{
    sw_text_put(t, "To: ");
    for (unsigned i = 0; i < count; i++)
        sw_text_printf(t, "%s%s", i ? ",\r\n " : "", to[i]);
    sw_text_put(t, "\r\n");
}

/* "Tue, 07 May 2024 07:08:09 +0000": always UTC, without the locale */
static void put_date(struct sw_text *t, uint64_t wall_us)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const time_t seconds = (time_t)(wall_us / SW_US_PER_SEC);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm))
        return;
    sw_text_printf(t, "Date: %s, %02d %s %d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday % 7], tm.tm_mday,
                   months[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* ---- body ---- */

void sw_mail_put_body(struct sw_text *t, const char *body, size_t n)
{
    size_t column = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)body[i];
        if (c == '\n') {
            sw_text_put(t, "\r\n");
            column = 0;
            continue;
        }
        const bool last = i + 1 == n || body[i + 1] == '\n';
        /* a blank at the end of a line would be eaten on the way */
        const bool plain = (is_print(c) && c != '=' && (c != ' ' || !last)) || (c == '\t' && !last);
        const size_t width = plain ? 1 : 3;
        if (column + width + (last ? 0 : 1) > SW_MAIL_LINE_MAX) {
            sw_text_put(t, "=\r\n");
            column = 0;
        }
        if (plain) {
            sw_text_put_char(t, (char)c);
        } else {
            const char code[] = {'=', hex[c >> 4], hex[c & 15]};
            sw_text_put_bytes(t, code, sizeof code);
        }
        column += width;
    }
    if (column)
        sw_text_put(t, "\r\n");
}

/* ---- what we say ---- */

static void put_threshold(struct sw_text *t, uint64_t ms)
{
    if (ms % SW_MS_PER_SEC == 0)
        sw_text_printf(t, "%llu s", (unsigned long long)(ms / SW_MS_PER_SEC));
    else if (ms < SW_MS_PER_SEC)
        sw_text_printf(t, "%u ms", (unsigned)ms);
    else
        sw_text_printf(t, "%llu.%03u s", (unsigned long long)(ms / SW_MS_PER_SEC),
                       (unsigned)(ms % SW_MS_PER_SEC));
}

/* At most `most` bytes of s, a cut shown. */
static void put_most(struct sw_text *t, const char *s, size_t n, size_t most)
{
    sw_text_put_escaped(t, s, n > most ? sw_utf8_floor(s, most) : n);
    if (n > most)
        sw_text_put(t, "…");
}

void sw_mail_put_subject(struct sw_text *t, const struct sw_event *e, const char *host)
{
    const struct sw_event_request *request = &e->request;
    sw_text_put(t, "[slowwatch] ");
    if (request->method) {
        put_most(t, request->method, strlen(request->method), SUBJECT_METHOD_BYTES);
        sw_text_put_char(t, ' ');
    }
    if (request->uri)
        put_most(t, request->uri, strcspn(request->uri, "?#"), SUBJECT_PATH_BYTES);
    else
        sw_text_put(t, "a request");
    if (e->threshold_ms) {
        sw_text_put(t, " slower than ");
        put_threshold(t, e->threshold_ms);
    } else if (e->kind == SW_EVENT_WORKER_DIED) {
        sw_text_put(t, " lost with its worker");
    } else {
        sw_text_put(t, " slow");
    }
    sw_text_put(t, " on ");
    put_most(t, host, strlen(host), SUBJECT_HOST_BYTES);
    char place_at[SW_GROUP_SUBJECT_MAX];
    struct sw_text place;
    sw_text_init(&place, place_at, sizeof place_at);
    sw_render_place(e, &place);
    if (place.used)
        sw_text_printf(t, ": %s", place_at);
}

/* ---- the whole ---- */

int sw_mail_message_build(const struct sw_mail_message *m, struct sw_text *out)
{
    char id[SW_MESSAGE_ID_MAX + 2];
    struct sw_text bracketed;
    sw_text_printf(out, "From: %s\r\n", m->from); /* addresses: checked, never folded or encoded */
    put_recipients(out, m->to, m->to_count);
    sw_mail_put_header(out, "Subject", m->subject);
    put_date(out, m->date_us);
    sw_text_init(&bracketed, id, sizeof id);
    sw_text_printf(&bracketed, "<%s>", m->message_id);
    sw_mail_put_header(out, "Message-ID", id);
    if (m->references && m->references[0]) {
        sw_text_reset(&bracketed);
        sw_text_printf(&bracketed, "<%s>", m->references);
        sw_mail_put_header(out, "In-Reply-To", id);
        sw_mail_put_header(out, "References", id);
    }
    sw_text_put(out, "Auto-Submitted: auto-generated\r\n"
                     "X-Auto-Response-Suppress: All\r\n"); /* what Exchange and Outlook look at instead */
    sw_mail_put_header(out, "X-Slowwatch-Host", m->host);
    if (m->fingerprint)
        sw_mail_put_header(out, "X-Slowwatch-Fingerprint", m->fingerprint);
    if (m->id)
        sw_mail_put_header(out, "X-Slowwatch-Id", m->id);
    sw_text_put(out, "MIME-Version: 1.0\r\n"
                     "Content-Type: text/plain; charset=utf-8\r\n"
                     "Content-Transfer-Encoding: quoted-printable\r\n"
                     "\r\n");
    sw_mail_put_body(out, m->body, m->body_bytes);
    return out->cut ? -EMSGSIZE : 0;
}
