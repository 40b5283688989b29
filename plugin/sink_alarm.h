/* sink_alarm.h - raises an alarm of uWSGI for what a person should look at.
 * Callers: reporter. uWSGI's own alarm thread delivers, and holds back repetitions (alarm-freq). */
#ifndef SW_SINK_ALARM_H
#define SW_SINK_ALARM_H

#include "event.h"

struct sw_sink_alarm {
    const char *name; /* NULL = off */
    void (*raise)(const char *name, char *text, size_t n);
};

/* For slow_request, request_killed and worker_died: the headline and where it stands, on one line. */
void sw_sink_alarm_event(const struct sw_sink_alarm *a, const struct sw_event *e);

#endif
