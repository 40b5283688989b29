/* sink_log.h - an event into the log of the host, as text or as one JSON line.
 * Owns:    one static buffer.
 * Callers: _write: one thread of a process, the reporter. _write_with: any thread, with a buffer of its own; without a
 *          master the senders (then `raw`). No allocation, no lock besides what the installed writer of log.h does when
 *          not `raw`.
 * Fork:    nothing to do. */
#ifndef SW_SINK_LOG_H
#define SW_SINK_LOG_H

#include "event.h"

enum sw_log_format { SW_LOG_TEXT, SW_LOG_JSON, SW_LOG_OFF };

#define SW_SINK_LOG_BYTES                                                                                    \
    ((size_t)256 * 1024) /* text repeats nothing of the JSON, but adds source lines and headings */

/* raw: by a plain write(2), without uWSGI's writer (see log.h) */
void sw_sink_log_write(enum sw_log_format format, const struct sw_event *e, bool raw);
/* entry: room for SW_SINK_LOG_BYTES */
void sw_sink_log_write_with(enum sw_log_format format, const struct sw_event *e, bool raw, char *entry);

#endif
