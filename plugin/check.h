/* check.h - slowwatch-check: prints the configuration report on standard output and ends the process.
 * Owns:    nothing.
 * Callers: _arrange: set-up process, while options are read.
 * Fork:    nothing to do.
 * The report is made when uWSGI has read all options and done nothing else: no log is opened, no pidfile written, no
 * socket bound, no application loaded, nothing forked. The process then leaves without uWSGI's exit handlers, so that
 * nothing of a running server with the same configuration is touched. */
#ifndef SW_CHECK_H
#define SW_CHECK_H

#include "doctor.h"

/* Has the report made as soon as all options are known, if sw_config.check is still set then. `attach` fills in what
 * the facts say about Python. More than once is fine. */
void sw_check_arrange(void (*attach)(struct sw_host_facts *facts));

#endif
