/* secretlike.h - does a piece of text look like a secret, whatever it is called.
 * Pure functions over hostile bytes, linear in n; no allocation, no state: any thread. */
#ifndef SW_SECRETLIKE_H
#define SW_SECRETLIKE_H

#include "base.h"

/* How often a value may have been percent-encoded: a URL in a parameter of a URL in a parameter. A secret that shows
 * at any depth of decoding is found. */
#define SW_DECODE_DEPTHS 4

/* The next byte of [*at, end) after `depth` rounds of percent-decoding, -1 at the end. A '%' that starts no valid
 * escape is itself. */
int sw_secretlike_byte(const char **at, const char *end, unsigned depth);

/* A token by its looks: a JWT, or 20 and more letters and digits mixed the way words, names, numbers, dates and
 * UUIDs are not. */
bool sw_secretlike_random(const char *s, size_t n, unsigned depth);

/* Bytes of the credentials that an authority ("user:password@host:1/path", what follows "//") begins with, or 0.
 * The password may hold an '@' or, unencoded, a '/'; "user:password" cut off before its '@' counts too. */
size_t sw_secretlike_credentials(const char *s, size_t n);

/* Credentials behind a "//" anywhere in the text. */
bool sw_secretlike_url_credentials(const char *s, size_t n, unsigned depth);

#endif
