/* recent.h - what is remembered of the reports seen lately: one request's events belong to one group, and end once.
 * Owns:    a ring of fixed size; the oldest is forgotten first.
 * Callers: reporter; without a master the watchdog. No allocation, no clock.
 * Fork:    a new reporter starts empty: the events of a report already open get a fingerprint of their own. */
#ifndef SW_RECENT_H
#define SW_RECENT_H

#include "event.h"

#define SW_RECENT_MAX 2048

struct sw_recent {
    struct {
        char id[SW_EVENT_ID_CHARS + 1], fingerprint[SW_FINGERPRINT_CHARS + 1];
        bool ended;
    } reports[SW_RECENT_MAX];
    unsigned next;
    char single[SW_FINGERPRINT_CHARS + 1]; /* of the last event that is of no report */
};

/* Sets the event's fingerprint: that of the first event of its report, which had the stack. It points into the ring. An
 * event that is of no report gets its own, if it has a stack; the string holds until the next such event.
 * False: the report has ended already, this is a second end (a worker killed between sending it and saying so). */
bool sw_recent_event(struct sw_recent *recent, struct sw_event *e);

#endif
