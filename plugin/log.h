/* log.h - one line, or one entry of several lines, to the log of the host.
 * Callers: any thread of any process; each call is one write, or several when the host takes less at once (the master's
 *          log pipe drops what is over log-master-bufsize); then they are split at line ends. No lock, no allocation, except what the
 *          installed writer does: the watchdog thread therefore uses sw_log_raw.
 * Fork:    nothing to do.
 * Every line of our own begins with "slowwatch: ". */
#ifndef SW_LOG_H
#define SW_LOG_H

#include "base.h"

#define SW_LOG_WRITE_MAX ((size_t)128 * 1024) /* of one write, unless the host can take less */

/* set-up: who writes; the default is write(2, ...). The plugin installs uwsgi_log, which knows log-date. */
void sw_log_set_writer(void (*writer)(const char *text, size_t n));

/* set-up: the most that one write may carry */
void sw_log_set_write_max(size_t bytes);
size_t sw_log_write_max(void);

/* one line: "slowwatch: " is put before and a newline behind; control characters are escaped */
void sw_log(const char *fmt, ...) SW_PRINTF(1, 2);
/* the same, always by a plain write(2, ...) */
void sw_log_raw(const char *fmt, ...) SW_PRINTF(1, 2);
/* a finished entry of whole lines, as it is */
void sw_log_entry(const char *text, size_t n);
void sw_log_entry_raw(const char *text, size_t n);

#endif
