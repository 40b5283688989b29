/* identity.h - which uWSGI a plugin was built for. uWSGI itself checks nothing: struct uwsgi_server differs between
 * builds, and a plugin built for another one would read the wrong fields without a word.
 * Callers: at build time tools/identity.c over the output of `uwsgi --dot-h` and `uwsgi --cflags`; at run time on_load
 *          over uwsgi_get_dot_h() and uwsgi_get_cflags(). uwsgiplugin.py computes the same in Python. */
#ifndef SW_IDENTITY_H
#define SW_IDENTITY_H

#include "base.h"

/* FNV-1a over both texts, blanks and line ends at their ends not counted; never 0 */
uint64_t sw_identity_of(const char *dot_h, const char *cflags);

#endif
