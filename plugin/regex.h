/* regex.h - the regular expressions of the options (PCRE2), matched against what clients send.
 * Owns:    a compiled pattern and the memory its matching uses, from _compile to _free.
 * Callers: compile and free: set-up. match: one thread per pattern, no allocation, no lock; effort is bounded
 *          (match limit, memory of fixed size), because the subject is hostile and the pattern may be slow.
 * Fork:    a child may go on using its copy. */
#ifndef SW_REGEX_H
#define SW_REGEX_H

#include "base.h"
#include "text.h"

struct sw_regex;

/* 0, -EINVAL with the place and reason in `why`, or -ENOMEM */
int sw_regex_compile(struct sw_regex **out, const char *pattern, bool ignore_case,
                     struct sw_text *why) SW_MUST_CHECK;
void sw_regex_free(struct sw_regex *re);
/* True when it matches somewhere in s. Patterns and subjects are bytes, not UTF-8. A subject over the limit and an
 * exhausted budget are "no match". */
#define SW_REGEX_SUBJECT_BYTES 8192
bool sw_regex_match(struct sw_regex *re, const char *s, size_t n);

#endif
