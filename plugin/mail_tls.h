/* mail_tls.h - what is demanded of a mail server's certificate.
 * Owns:    the words about a certificate that is not valid, until the process ends.
 * Callers: the delivery child, for its one session (mail_smtp.h says which policy when).
 * Fork:    nothing to do.
 * TLS 1.2 only: libESMTP 1.1.0 can hang with 1.3 (see the source), and 1.2 is what every mail server speaks. */
#ifndef SW_MAIL_TLS_H
#define SW_MAIL_TLS_H

#include "base.h"
#include "text.h"
#include <openssl/ssl.h>

/* A context for STARTTLS to `host` (a name or an IPv4 address), which is also the server name sent. A certificate that
 * is not valid for it by `ca_file` (NULL = the system's authorities) ends the handshake when `required`. NULL: `why`
 * has one line. */
SSL_CTX *sw_mail_tls_context(const char *host, const char *ca_file, bool required,
                             struct sw_text *why) SW_MUST_CHECK;
/* Did the server of this connection prove that it is `host`? */
bool sw_mail_tls_proved(const SSL *ssl);
/* What is wrong with its certificate, "" = nothing seen. */
const char *sw_mail_tls_doubt(void);

#endif
