/* warmup_why.h - why a new process of a worker was started, as far as uWSGI and its last process tell.
 * Owns:    nothing; the last process leaves a note in shared memory.
 * Callers: the main thread of a worker.
 * Fork:    nothing to do. */
#ifndef SW_WARMUP_WHY_H
#define SW_WARMUP_WHY_H

#include "warmup_turn.h"

/* A new process: in words, "max-requests". Takes the note. */
const char *sw_why_started(struct sw_warmup_worker *shared);
/* The process leaves, perhaps in a signal handler: leaves the note. hung: it ends itself because its warm-up does. */
void sw_why_leaving(struct sw_warmup_worker *shared, bool hung);

/* Is this process asked to leave, by the master or by a reload? */
bool sw_why_asked_to_leave(void);

#endif
