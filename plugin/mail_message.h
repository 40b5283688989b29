/* mail_message.h - the text of a mail (RFC 5322, RFC 2045, RFC 2047): headers and body, ready for SMTP.
 * Owns:    nothing. No I/O, no allocation, no clock.
 * Callers: reporter.
 * Fork:    nothing to do.
 * libESMTP neither folds, encodes nor checks what it is handed, so all of that is done here: whatever the values
 * hold, each header is one header, in ASCII, in lines of at most SW_MAIL_LINE_MAX characters ended by CRLF. */
#ifndef SW_MAIL_MESSAGE_H
#define SW_MAIL_MESSAGE_H

#include "base.h"
#include "event.h"
#include "group.h"
#include "text.h"

#define SW_MAIL_LINE_MAX    76  /* RFC 2045; SMTP itself ends at 998 */
#define SW_MAIL_ADDRESS_MAX 254 /* RFC 5321 */
#define SW_MAIL_ID_MAX      64  /* libESMTP's own buffer for a Message-ID, the zero included */

/* An address that can stand in MAIL FROM:<> and RCPT TO:<> and in a header as it is: one @, printable ASCII, no
 * blanks, quotes, commas or angle brackets (libESMTP speaks no SMTPUTF8). */
bool sw_mail_address_ok(const char *address);
/* A host name for addresses, Message-IDs and EHLO: what is no letter, digit, '-' or '.' becomes '-'; at most `most`
 * characters; "localhost" when nothing is left. */
void sw_mail_put_domain(struct sw_text *t, const char *host, size_t most);
/* "name: value\r\n", folded; encoded (RFC 2047) where the value is not plain text. */
void sw_mail_put_header(struct sw_text *t, const char *name, const char *value);
/* The body in quoted-printable: "\n" becomes CRLF, all else that is not printable ASCII is encoded. */
void sw_mail_put_body(struct sw_text *t, const char *body, size_t n);

/* "[slowwatch] GET /orders/17 slower than 10 s on web3: db.py:88 fetch"; host: what to call this machine */
void sw_mail_put_subject(struct sw_text *t, const struct sw_event *e, const char *host);

struct sw_mail_message {
    const char *from;
    const char *const *to;
    unsigned to_count;
    const char *subject;
    const char *message_id;  /* without <> */
    const char *references;  /* the group's first Message-ID; NULL or "" = this one is the first */
    uint64_t date_us;        /* wall clock */
    const char *host;        /* X-Slowwatch-Host */
    const char *fingerprint; /* X-Slowwatch-Fingerprint; NULL = several groups */
    const char *id;          /* X-Slowwatch-Id: of the event; NULL = none */
    const char *body;        /* UTF-8, lines ended by \n */
    size_t body_bytes;
};

/* Appends the whole message. 0, or -EMSGSIZE when it did not fit; SW_MAIL_MESSAGE_ROOM always fits a body of n. */
#define SW_MAIL_MESSAGE_ROOM(body_bytes) ((size_t)32 * 1024 + (body_bytes)*4)
int sw_mail_message_build(const struct sw_mail_message *m, struct sw_text *out) SW_MUST_CHECK;

#endif
