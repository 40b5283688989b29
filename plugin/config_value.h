/* config_value.h - the words and numbers that options are made of: strict, without locale, without allocation.
 * Callers: config.c, in the set-up process; _seconds also in the watchdog thread.
 * Nothing is stored when a value is refused. */
#ifndef SW_CONFIG_VALUE_H
#define SW_CONFIG_VALUE_H

#include "text.h"

#define SW_SECONDS_MAX_NS    (UINT64_C(30) * 24 * 3600 * SW_NS_PER_SEC)
#define SW_SECONDS_CHARS_MAX 32 /* as text, with the end */

/* "20", "0.5": seconds as decimal text to ns; -EINVAL for anything else, negative, NaN, or over 30 days */
int sw_value_seconds(const char *s, size_t n, uint64_t *ns) SW_MUST_CHECK;
/* the other way round, without needless zeros */
void sw_value_put_seconds(struct sw_text *out, uint64_t ns);
/* into a buffer of the caller, which is returned: several fit into one line */
const char *sw_value_seconds_text(char buffer[SW_SECONDS_CHARS_MAX], uint64_t ns);

/* decimal digits only, at most `max` */
bool sw_value_digits(const char *s, size_t n, uint64_t max, uint64_t *out) SW_MUST_CHECK;
/* true yes on 1, false no off 0 */
bool sw_value_bool(const char *s, bool *out) SW_MUST_CHECK;
/* the position of s among "one|two|three" */
bool sw_value_choice(const char *words, const char *s, unsigned *out) SW_MUST_CHECK;

/* "web.example.org", "127.0.0.1": labels of letters, digits, - and _ with single dots between */
bool sw_value_is_host(const char *s, size_t n);
/* The plain form only: what cannot hold a blank, a line end or a second address cannot inject a header. */
bool sw_value_is_address(const char *s);
bool sw_value_is_one_of(const char *s, const char *const words[], size_t count);
bool sw_value_is_printable(const char *s);

#endif
