/* event_fields.h - the names of the JSON fields and where each lives in the structs, for event.c and event_decode.c.
 * One table for both directions: what one writes the other reads. Private to these two files. */
#ifndef SW_EVENT_FIELDS_H
#define SW_EVENT_FIELDS_H

#include "event.h"

#define SW_US_PER_MS (SW_US_PER_SEC / SW_MS_PER_SEC)

enum sw_field_type {
    SW_FIELD_TEXT, /* const char * */
    SW_FIELD_INT,  /* int or pid_t */
    SW_FIELD_UINT, /* unsigned */
    SW_FIELD_U64,  /* uint64_t; over INT64_MAX is written as INT64_MAX */
    SW_FIELD_US,   /* uint64_t µs, as whole ms */
    SW_FIELD_WALL, /* uint64_t µs since 1970, as RFC 3339 with ms */
};

enum sw_field_flag {
    SW_FIELD_ALWAYS = 1, /* written even when 0 or NULL, and must be there when read */
    SW_FIELD_CLIENT = 2, /* free text of the client, cut before anything else of the request */
    SW_FIELD_WHOLE = 4,  /* never cut by text limits: short by its nature and checked */
    SW_FIELD_REPORT = 8, /* as ALWAYS, but only in the events of a report */
};

struct sw_field {
    const char *name;
    size_t offset;
    enum sw_field_type type;
    unsigned flags;
};

struct sw_fields {
    const struct sw_field *at;
    unsigned count;
};

/* The flags by which a field is always there, in an event of this kind. */
static inline unsigned sw_fields_always(enum sw_event_kind kind)
{
    return sw_event_is_of_report(kind) ? SW_FIELD_ALWAYS | SW_FIELD_REPORT : SW_FIELD_ALWAYS;
}

extern const struct sw_fields sw_event_fields;   /* struct sw_event: plain fields */
extern const struct sw_fields sw_request_fields; /* struct sw_event_request */
extern const struct sw_fields sw_state_fields;   /* struct sw_event_state without CPU times */
extern const struct sw_fields sw_cpu_fields;     /* struct sw_event_state: its CPU times, when measured */
extern const struct sw_fields sw_frame_fields;   /* struct sw_frame */
extern const struct sw_fields sw_place_fields;   /* struct sw_timeline_place */
extern const struct sw_fields sw_thread_fields;  /* struct sw_event_thread without its stack */
extern const struct sw_fields sw_timeout_fields; /* struct sw_event_timeout */
extern const struct sw_fields sw_warmup_fields;  /* struct sw_event_warmup */

#endif
