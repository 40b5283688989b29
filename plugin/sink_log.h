/* sink_log.h - an event into the log of the host, as text or as one JSON line.
 * Owns:    one static buffer.
 * Callers: one thread of a process: the reporter; without a master the watchdog (then `raw`). No allocation, no lock
 *          besides what the installed writer of log.h does when not `raw`.
 * Fork:    nothing to do. */
#ifndef SW_SINK_LOG_H
#define SW_SINK_LOG_H

#include "event.h"

enum sw_log_format { SW_LOG_TEXT, SW_LOG_JSON, SW_LOG_OFF };

/* raw: by a plain write(2), without uWSGI's writer (see log.h) */
void sw_sink_log_write(enum sw_log_format format, const struct sw_event *e, bool raw);

#endif
