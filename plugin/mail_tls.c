#include "mail_tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#define SERVER_NAME_MAX 254

static char server_name[SERVER_NAME_MAX];
static const char *doubt = "";

static int on_certificate(int ok, X509_STORE_CTX *store)
{
    if (!ok && !doubt[0])
        doubt = X509_verify_cert_error_string(X509_STORE_CTX_get_error(store));
    return ok;
}

/* libESMTP sends no server name, and some servers show a void certificate to who names none. */
static void on_state(const SSL *ssl, int where, int value)
{
    (void)value;
    if (where & SSL_CB_HANDSHAKE_START)
        SSL_set_tlsext_host_name((SSL *)(uintptr_t)ssl, server_name);
}

static int put_ssl_error(struct sw_text *why, const char *what)
{
    const unsigned long error = ERR_peek_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    sw_text_printf(why, "%s: %s", what, reason ? reason : "unknown error");
    return 0;
}

static int trust(SSL_CTX *ctx, const char *ca_file, struct sw_text *why)
{
    if (!ca_file)
        return SSL_CTX_set_default_verify_paths(ctx) || put_ssl_error(why, "the system's CA certificates");
    if (SSL_CTX_load_verify_locations(ctx, ca_file, NULL))
        return 1;
    sw_text_put(why, "slowwatch-smtp-ca ");
    return put_ssl_error(why, ca_file);
}

SSL_CTX *sw_mail_tls_context(const char *host, const char *ca_file, bool required, struct sw_text *why)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    /* Not 1.3: there a server sends session tickets behind the handshake. When they come before libESMTP has flushed
     * its EHLO it takes them for the answer and waits for the rest for ever; near servers hit that often. */
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ||
        !SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION)) {
        put_ssl_error(why, "TLS");
        goto failed;
    }
    if (!trust(ctx, ca_file, why))
        goto failed;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    const bool address = host[strspn(host, "0123456789.")] == 0;
    const int named =
        address ? X509_VERIFY_PARAM_set1_ip_asc(param, host) : X509_VERIFY_PARAM_set1_host(param, host, 0);
    if (!named || strlen(host) >= sizeof server_name) {
        sw_text_put(why, "slowwatch-smtp: not a name that a certificate could be for");
        goto failed;
    }
    strcpy(server_name, host);
    if (!address)
        SSL_CTX_set_info_callback(ctx, on_state);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_verify(ctx, required ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, on_certificate);
    return ctx;

failed:
    SSL_CTX_free(ctx);
    return NULL;
}

bool sw_mail_tls_proved(const SSL *ssl)
{
    return SSL_get0_peer_certificate(ssl) && SSL_get_verify_result(ssl) == X509_V_OK;
}

const char *sw_mail_tls_doubt(void)
{
    return doubt;
}
