/* doctor_facts.h - what uWSGI says of itself, as facts for the doctor.
 * Owns:    the list of given options, from _gather to _free; all else is borrowed from uWSGI.
 * Callers: set-up process: as soon as all options are known.
 * Fork:    nothing to do.
 * Python is not looked at here: its fields stay as they are. */
#ifndef SW_DOCTOR_FACTS_H
#define SW_DOCTOR_FACTS_H

#include "doctor.h"

void sw_host_facts_gather(struct sw_host_facts *facts, const struct sw_config *c);
void sw_host_facts_free(struct sw_host_facts *facts);

/* Says what a misspelt option on the command line was meant to be: uWSGI ends at once with getopt's words alone. */
void sw_host_hint_arguments(void);

#endif
