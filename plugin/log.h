/* log.h - one line, or one entry of several lines, to the log of the host (descriptor 2).
 * Callers: any thread of any process; each call is one write, or several when the host takes less at once (the
 *          master's log pipe drops what is over log-master-bufsize); then they are split at line ends.
 *          No lock, no allocation; but the prefix may take the lock of the time zone, so the watchdog thread uses
 *          the _raw calls, which have none.
 * Fork:    nothing to do.
 * Every line of our own begins with "slowwatch: ".
 * With log-master the descriptor is a non-blocking pipe that is full exactly when many reports come: a write waits for
 * room as long as the process has patience; what is lost even so is counted and told with the next write. */
#ifndef SW_LOG_H
#define SW_LOG_H

#include "base.h"

#define SW_LOG_PREFIX_MAX ((size_t)80)
#define SW_LOG_WRITE_MAX  ((size_t)128 * 1024) /* of one write, unless the host can take less */

/* set-up: what to put before each write (the host's date), at most `room` bytes; returns how many */
void sw_log_set_prefix(size_t (*prefix)(char *to, size_t room));
/* set-up: the most that one write may carry, prefix included; what is left of it for an entry */
void sw_log_set_write_max(size_t bytes);
size_t sw_log_write_max(void);
/* tests: who gets the bytes instead of the descriptor */
void sw_log_set_writer(void (*writer)(const char *text, size_t n));
/* how long a write may wait for room; 0 at first: the master must never wait for its own pipe */
void sw_log_set_patience(uint64_t ns);

/* one line: "slowwatch: " is put before and a newline behind; control characters are escaped */
void sw_log(const char *fmt, ...) SW_PRINTF(1, 2);
/* a finished entry of whole lines, as it is */
void sw_log_entry(const char *text, size_t n);
/* the same without prefix */
void sw_log_entry_raw(const char *text, size_t n);

#endif
