/* mail_smtp.h - what the delivery child does: one SMTP session through libESMTP.
 * Callers: the child of mail_delivery.c, once, as the last thing it does. Reads the password file, blocks, leaves the
 *          heap as it is: the process ends right behind it.
 *
 * TLS (STARTTLS; libESMTP knows no TLS from the first byte on port 465):
 *   off       never.
 *   optional  whenever the server offers it. The certificate need not be valid: this keeps out who only listens. A
 *             handshake that fails is a failed delivery, never a fall-back to clear text.
 *   required  always, with a certificate that is valid for the configured name; else no mail.
 * The password goes to a server that has proved who it is (valid certificate), or to any when TLS is off by
 * configuration; else the delivery fails and says so. An MTA that offers no STARTTLS gets no password under `optional`. */
#ifndef SW_MAIL_SMTP_H
#define SW_MAIL_SMTP_H

#include "mail_delivery.h"

/* Progress and result go to `fd`: a byte below SW_SMTP_RESULT for each phase entered, then SW_SMTP_RESULT and a
 * struct sw_delivery_result, once, as soon as the outcome is known. */
#define SW_SMTP_RESULT 0xffU

enum sw_smtp_phase {
    SW_SMTP_CONNECT, /* name resolution and connect */
    SW_SMTP_GREETING,
    SW_SMTP_EHLO,
    SW_SMTP_STARTTLS,
    SW_SMTP_HANDSHAKE,
    SW_SMTP_AUTH,
    SW_SMTP_MAIL,
    SW_SMTP_RCPT,
    SW_SMTP_DATA,
    SW_SMTP_MESSAGE,
    SW_SMTP_QUIT,
    SW_SMTP_PHASES
};

/* "in answer to EHLO"; "" for what is no phase */
const char *sw_smtp_phase_words(unsigned phase);

void sw_smtp_run(const struct sw_delivery_job *job, int fd);

#endif
