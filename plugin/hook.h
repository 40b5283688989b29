/* hook.h - the moment a slow request ends, with its status: a function in uWSGI's list of after-request hooks.
 * It is in the list only while a report of this worker is open, so that a healthy worker runs nothing of ours per
 * request.
 * Callers: in/out: the watchdog thread. The hook itself runs on request threads: no lock, no allocation, and one system
 *          call for the slow request only.
 * Fork:    a child of the worker may run the hook; it finds no report of its own and does nothing. */
#ifndef SW_HOOK_H
#define SW_HOOK_H

#include "shared.h"

/* a report of this worker (from 0) was opened; ended */
void sw_hook_in(const struct sw_shared *shared, unsigned worker);
void sw_hook_out(void);
unsigned sw_hook_count(void); /* of open reports */

#endif
