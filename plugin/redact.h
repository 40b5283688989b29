/* redact.h - secrets out of text before it leaves the worker.
 * Owns:    the user's patterns, from _init to _fini.
 * Callers: init/fini: set-up. The rest: one thread (the watchdog); no lock, no allocation.
 * Fork:    a child may go on using its copy. */
#ifndef SW_REDACT_H
#define SW_REDACT_H

#include "regex.h"
#include "text.h"

#define SW_REDACT_PATTERNS_MAX 32
#define SW_REDACTED            "[redacted]"

struct sw_redact {
    struct sw_regex *patterns[SW_REDACT_PATTERNS_MAX]; /* owned; the built-in list first */
    unsigned count;
};

/* the built-in list of suspicious names (password, token, secret, api key, session, signature ...) */
int sw_redact_init(struct sw_redact *r, struct sw_text *why) SW_MUST_CHECK;
/* 0, -EINVAL with the reason in `why`, -ENOSPC */
int sw_redact_add(struct sw_redact *r, const char *pattern, struct sw_text *why) SW_MUST_CHECK;
void sw_redact_fini(struct sw_redact *r);

/* Does this name (query parameter, header, variable) say that its value is secret: any pattern matches it, as it is or
 * percent-decoded. A name too long to be compared counts as suspicious. */
bool sw_redact_name(struct sw_redact *r, const char *name, size_t n);

/* What both of these do to a value: under a suspicious name it is replaced by "[redacted]", as is one that holds, at
 * any depth of percent-encoding, credentials in a URL or a suspicious name with a value of its own; one that looks like
 * a token (secretlike.h has the rule) is cut to its first characters and "…[redacted]". The rest is escaped to clean
 * text on one line. A full `out` ends the output: never in the middle of a percent escape, nothing follows a gap. */

/* Appends a URI: path segments, matrix, query and fragment parameters, and the userinfo of each authority. */
void sw_redact_uri(struct sw_redact *r, const char *uri, size_t n, struct sw_text *out);

/* Appends a header or another free text: words, name=value, "name": "value", "Bearer xyz" and URLs. When `name` (NULL =
 * none) is suspicious (Authorization, Cookie, X-Api-Key ...) all of it goes; trace and request ids are kept. */
void sw_redact_value(struct sw_redact *r, const char *name, const char *value, size_t n, struct sw_text *out);

#endif
