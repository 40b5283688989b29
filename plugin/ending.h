/* ending.h - the end of reports whose worker can no longer end them itself: it is dead, or does not answer.
 * Callers: the master, or the next process of this worker at its start. One thread of a process.
 * Fork:    nothing to do. */
#ifndef SW_ENDING_H
#define SW_ENDING_H

#include "emit.h"
#include "redact.h"
#include "shared.h"

/* Ends the open reports of one worker (from 0). owner_is_dead: also those that it was ending when it died. Returns how
 * many. */
unsigned sw_end_reports(const struct sw_shared *shared, unsigned worker, enum sw_event_kind kind,
                        const char *reason, bool owner_is_dead, struct sw_emitter *emitter);

/* The process of this worker is dead: ends all its reports, as killed if harakiri had taken its aim, and counts what it
 * had not sent yet as lost. */
void sw_end_reports_of_dead(const struct sw_shared *shared, unsigned worker, struct sw_emitter *emitter);

/* Tells what dead processes of this worker had reported of timeouts and not yet sent. To be called before their reports
 * end, since a timeout bears the id of the report that is open for its request. */
void sw_end_timeouts_of_dead(const struct sw_shared *shared, unsigned worker, struct sw_redact *redact,
                             struct sw_emitter *emitter);

#endif
