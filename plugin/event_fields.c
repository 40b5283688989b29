/* event_fields.c - the tables of event_fields.h, and the names of the events. */
#include "event_fields.h"

#define FIELD(type_, member, kind, flags_)                                                                   \
    {                                                                                                        \
        .name = #member, .offset = offsetof(type_, member), .type = (kind), .flags = (flags_)                \
    }
#define FIELDS(array)                                                                                        \
    {                                                                                                        \
        .at = (array), .count = SW_COUNT(array)                                                              \
    }

#define EVENT(member, kind, flags) FIELD(struct sw_event, member, kind, flags)
static const struct sw_field event_fields[] = {
    EVENT(id, SW_FIELD_TEXT, SW_FIELD_ALWAYS | SW_FIELD_WHOLE),
    {"time", offsetof(struct sw_event, time_us), SW_FIELD_WALL, SW_FIELD_ALWAYS},
    EVENT(host, SW_FIELD_TEXT, 0),
    EVENT(worker, SW_FIELD_INT, SW_FIELD_ALWAYS),
    EVENT(core, SW_FIELD_INT, SW_FIELD_ALWAYS),
    EVENT(pid, SW_FIELD_INT, SW_FIELD_ALWAYS),
    EVENT(tid, SW_FIELD_INT, 0),
    EVENT(app, SW_FIELD_TEXT, 0),
    EVENT(elapsed_ms, SW_FIELD_U64, SW_FIELD_REPORT),
    EVENT(threshold_ms, SW_FIELD_U64, SW_FIELD_REPORT),
    EVENT(no_stack, SW_FIELD_TEXT, 0),
    EVENT(looks, SW_FIELD_U64, 0),
    EVENT(reason, SW_FIELD_TEXT, 0),
    EVENT(fingerprint, SW_FIELD_TEXT, SW_FIELD_WHOLE),
};
const struct sw_fields sw_event_fields = FIELDS(event_fields);

#define REQUEST(member, kind, flags) FIELD(struct sw_event_request, member, kind, flags)
static const struct sw_field request_fields[] = {
    REQUEST(method, SW_FIELD_TEXT, 0),
    REQUEST(uri, SW_FIELD_TEXT, SW_FIELD_CLIENT),
    REQUEST(host, SW_FIELD_TEXT, 0),
    REQUEST(remote_addr, SW_FIELD_TEXT, 0),
    REQUEST(user_agent, SW_FIELD_TEXT, SW_FIELD_CLIENT),
    REQUEST(request_id, SW_FIELD_TEXT, 0),
    REQUEST(traceparent, SW_FIELD_TEXT, 0),
    REQUEST(phase, SW_FIELD_TEXT, 0),
    {"started", offsetof(struct sw_event_request, started_us), SW_FIELD_WALL, 0},
    REQUEST(body_bytes, SW_FIELD_U64, 0),
    REQUEST(status, SW_FIELD_INT, 0),
};
const struct sw_fields sw_request_fields = FIELDS(request_fields);

#define STATE(member, kind, flags) FIELD(struct sw_event_state, member, kind, flags)
static const struct sw_field state_fields[] = {
    STATE(state, SW_FIELD_TEXT, 0), STATE(syscall, SW_FIELD_TEXT, 0),   STATE(wait, SW_FIELD_TEXT, 0),
    STATE(gil, SW_FIELD_TEXT, 0),   STATE(gil_holder, SW_FIELD_U64, 0),
};
const struct sw_fields sw_state_fields = FIELDS(state_fields);

static const struct sw_field cpu_fields[] = {
    STATE(cpu_ms, SW_FIELD_U64, SW_FIELD_ALWAYS),
    STATE(cpu_window_ms, SW_FIELD_U64, SW_FIELD_ALWAYS),
};
const struct sw_fields sw_cpu_fields = FIELDS(cpu_fields);

#define FRAME(member, kind, flags) FIELD(struct sw_frame, member, kind, flags)
static const struct sw_field frame_fields[] = {
    FRAME(file, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    FRAME(line, SW_FIELD_INT, 0),
    FRAME(function, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    FRAME(source, SW_FIELD_TEXT, 0),
};
const struct sw_fields sw_frame_fields = FIELDS(frame_fields);

#define PLACE(member, kind, flags) FIELD(struct sw_timeline_place, member, kind, flags)
static const struct sw_field place_fields[] = {
    PLACE(file, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    PLACE(line, SW_FIELD_INT, 0),
    PLACE(function, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    PLACE(looks, SW_FIELD_U64, SW_FIELD_ALWAYS),
};
const struct sw_fields sw_place_fields = FIELDS(place_fields);

#define THREAD(member, kind, flags) FIELD(struct sw_event_thread, member, kind, flags)
static const struct sw_field thread_fields[] = {
    THREAD(ident, SW_FIELD_U64, SW_FIELD_ALWAYS),
    THREAD(tid, SW_FIELD_INT, 0),
};
const struct sw_fields sw_thread_fields = FIELDS(thread_fields);

#define TIMEOUT(member, kind, flags) FIELD(struct sw_event_timeout, member, kind, flags)
static const struct sw_field timeout_fields[] = {
    TIMEOUT(outcome, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    TIMEOUT(exception, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    {"limit_ms", offsetof(struct sw_event_timeout, limit_us), SW_FIELD_US, SW_FIELD_ALWAYS},
    {"late_ms", offsetof(struct sw_event_timeout, late_us), SW_FIELD_US, SW_FIELD_ALWAYS},
};
const struct sw_fields sw_timeout_fields = FIELDS(timeout_fields);

#define WARMUP(member, kind, flags) FIELD(struct sw_event_warmup, member, kind, flags)
static const struct sw_field warmup_fields[] = {
    WARMUP(method, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    WARMUP(path, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    WARMUP(result, SW_FIELD_TEXT, SW_FIELD_ALWAYS),
    WARMUP(why, SW_FIELD_TEXT, 0),
    WARMUP(status, SW_FIELD_INT, 0),
    WARMUP(attempt, SW_FIELD_UINT, 0),
    {"took_ms", offsetof(struct sw_event_warmup, took_us), SW_FIELD_US, SW_FIELD_ALWAYS},
    WARMUP(bytes, SW_FIELD_U64, SW_FIELD_ALWAYS),
};
const struct sw_fields sw_warmup_fields = FIELDS(warmup_fields);

bool sw_event_is_of_report(enum sw_event_kind kind)
{
    return (unsigned)kind <= SW_EVENT_WORKER_DIED;
}

bool sw_event_is_end(enum sw_event_kind kind)
{
    return kind == SW_EVENT_REQUEST_FINISHED || kind == SW_EVENT_REQUEST_KILLED ||
           kind == SW_EVENT_WORKER_DIED;
}

const char *sw_event_kind_name(enum sw_event_kind kind)
{
    static const char *const names[SW_EVENT_KINDS] = {
        [SW_EVENT_SLOW_REQUEST] = "slow_request",
        [SW_EVENT_SLOW_REQUEST_UPDATE] = "slow_request_update",
        [SW_EVENT_REQUEST_FINISHED] = "request_finished",
        [SW_EVENT_REQUEST_KILLED] = "request_killed",
        [SW_EVENT_WORKER_DIED] = "worker_died",
        [SW_EVENT_TIMEOUT] = "timeout",
        [SW_EVENT_WARMUP] = "warmup",
    };
    return (unsigned)kind < SW_EVENT_KINDS ? names[kind] : "unknown";
}
