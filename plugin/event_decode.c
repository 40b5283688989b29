/* event_decode.c - the inverse of event.c. What comes in is hostile until proven: a worker runs the application's
 * code, and whoever owns that can write to the channel. */
#include "event_fields.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>

struct reader {
    struct sw_arena *arena;
    struct sw_text *why;
    unsigned always; /* flags of the fields that must be there */
};

static int refuse(const struct reader *r, const char *what, const char *name)
{
    sw_text_printf(r->why, "%s: ", what);
    sw_text_put_escaped(r->why, name, strlen(name));
    return -EINVAL;
}

static const char *keep_text(const struct reader *r, const json_t *value)
{
    return sw_arena_copy(r->arena, json_string_value(value), json_string_length(value));
}

/* ---- values ---- */

static bool all_digits(const char *s, unsigned n, unsigned *value)
{
    *value = 0;
    for (unsigned i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *value = *value * 10 + (unsigned)(s[i] - '0');
    }
    return true;
}

/* "2024-05-06T07:08:09.123Z" and nothing else, from 1970 on */
static bool parse_rfc3339(const char *s, size_t n, uint64_t *wall_us)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    if (n != sizeof shape - 1)
        return false;
    for (size_t i = 0; i < n; i++)
        if (shape[i] != 'd' && s[i] != shape[i])
            return false;
    unsigned year, month, day, hour, minute, second, ms;
    if (!all_digits(s, 4, &year) || !all_digits(s + 5, 2, &month) || !all_digits(s + 8, 2, &day) ||
        !all_digits(s + 11, 2, &hour) || !all_digits(s + 14, 2, &minute) || !all_digits(s + 17, 2, &second) ||
        !all_digits(s + 20, 3, &ms))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
        second > 59)
        return false;
    struct tm date = {.tm_year = (int)year - 1900,
                      .tm_mon = (int)month - 1,
                      .tm_mday = (int)day,
                      .tm_hour = (int)hour,
                      .tm_min = (int)minute,
                      .tm_sec = (int)second};
    *wall_us = (uint64_t)timegm(&date) * SW_US_PER_SEC + ms * SW_US_PER_MS;
    return true;
}

static bool is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdefABCDEF") == n;
}

static int take_field(const struct reader *r, const struct sw_field *f, const json_t *value, void *at)
{
    const json_int_t number = json_integer_value(value);
    switch (f->type) {
    case SW_FIELD_TEXT:
        if (!json_is_string(value))
            return refuse(r, "not a string", f->name);
        *(const char **)at = keep_text(r, value);
        return 0;
    case SW_FIELD_INT:
        if (!json_is_integer(value) || number < INT_MIN || number > INT_MAX)
            return refuse(r, "not a number in range", f->name);
        *(int *)at = (int)number;
        return 0;
    case SW_FIELD_UINT:
        if (!json_is_integer(value) || number < 0 || number > UINT_MAX)
            return refuse(r, "not a number in range", f->name);
        *(unsigned *)at = (unsigned)number;
        return 0;
    case SW_FIELD_U64:
    case SW_FIELD_US:
        if (!json_is_integer(value) || number < 0)
            return refuse(r, "not a number in range", f->name);
        *(uint64_t *)at = (uint64_t)number;
        if (f->type == SW_FIELD_US)
            *(uint64_t *)at = sw_min_u64((uint64_t)number, UINT64_MAX / SW_US_PER_MS) * SW_US_PER_MS;
        return 0;
    case SW_FIELD_WALL:
        if (!json_is_string(value) || !parse_rfc3339(json_string_value(value), json_string_length(value), at))
            return refuse(r, "not a time", f->name);
        return 0;
    }
    return refuse(r, "unknown kind of field", f->name);
}

static int take_fields(const struct reader *r, const struct sw_fields *fields, const json_t *object, void *to)
{
    for (unsigned i = 0; i < fields->count; i++) {
        const struct sw_field *f = &fields->at[i];
        const json_t *value = json_object_get(object, f->name);
        if (!value && (f->flags & r->always))
            return refuse(r, "missing", f->name);
        const int err = value ? take_field(r, f, value, (char *)to + f->offset) : 0;
        if (err)
            return err;
    }
    return 0;
}

/* An optional count: 0 when it is not there. */
static int take_count(const struct reader *r, const json_t *object, const char *name, unsigned *to)
{
    const json_t *value = json_object_get(object, name);
    if (!value)
        return 0;
    const json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || number > UINT_MAX)
        return refuse(r, "not a number in range", name);
    *to = (unsigned)number;
    return 0;
}

/* ---- arrays ---- */

/* The array of this name and zeroed memory for its elements. Absent: count 0. */
static int take_array(const struct reader *r, const json_t *object, const char *name, unsigned most,
                      size_t element_bytes, const json_t **array, unsigned *count, void **elements)
{
    *array = json_object_get(object, name);
    *count = 0;
    *elements = NULL;
    if (!*array)
        return 0;
    if (!json_is_array(*array))
        return refuse(r, "not an array", name);
    const size_t n = json_array_size(*array);
    if (n > most)
        return refuse(r, "too many", name);
    if (n == 0)
        return 0;
    *elements = sw_arena_alloc(r->arena, n * element_bytes);
    if (!*elements) {
        sw_text_printf(r->why, "no room for %zu %s", n, name);
        return -ENOMEM;
    }
    *count = (unsigned)n;
    return 0;
}

static int take_stack(const struct reader *r, const json_t *object, unsigned most, struct sw_stack *stack)
{
    const json_t *frames;
    void *elements;
    if (!json_is_object(object))
        return refuse(r, "not an object", "stack");
    int err = take_array(r, object, "frames", most, sizeof *stack->frames, &frames, &stack->count, &elements);
    if (err)
        return err;
    stack->frames = elements;
    for (unsigned i = 0; i < stack->count; i++) {
        err = take_fields(r, &sw_frame_fields, json_array_get(frames, i), &stack->frames[i]);
        if (err)
            return err;
    }
    const json_t *partial = json_object_get(object, "partial");
    if (partial) {
        if (!json_is_string(partial))
            return refuse(r, "not a string", "partial");
        stack->partial = keep_text(r, partial);
    }
    return take_count(r, object, "truncated", &stack->truncated);
}

static int take_threads(const struct reader *r, const json_t *root, struct sw_event *e)
{
    const json_t *array;
    void *elements;
    int err = take_array(r, root, "threads", SW_EVENT_THREADS_MAX, sizeof *e->threads, &array,
                         &e->thread_count, &elements);
    if (err)
        return err;
    e->threads = elements;
    for (unsigned i = 0; i < e->thread_count; i++) {
        struct sw_event_thread *thread = &e->threads[i];
        const json_t *object = json_array_get(array, i);
        const json_t *gil = json_object_get(object, "gil");
        if (!json_is_boolean(gil))
            return refuse(r, "not true or false", "gil");
        thread->gil = json_is_true(gil);
        err = take_fields(r, &sw_thread_fields, object, thread);
        if (!err)
            err = take_stack(r, json_object_get(object, "stack"), SW_THREAD_FRAMES_MAX, &thread->stack);
        if (err)
            return err;
    }
    return take_count(r, root, "threads_dropped", &e->threads_dropped);
}

static int take_timeline(const struct reader *r, const json_t *root, struct sw_event *e)
{
    static const struct sw_field other = {"other_looks", 0, SW_FIELD_U64, 0};
    const json_t *array;
    void *elements;
    int err = take_array(r, root, "timeline", SW_TIMELINE_MAX, sizeof *e->timeline, &array,
                         &e->timeline_count, &elements);
    e->timeline = elements;
    for (unsigned i = 0; !err && i < e->timeline_count; i++)
        err = take_fields(r, &sw_place_fields, json_array_get(array, i), &e->timeline[i]);
    const json_t *value = json_object_get(root, other.name);
    if (!err && value)
        err = take_field(r, &other, value, &e->other_looks);
    return err;
}

/* ---- the whole ---- */

static int take_kind(const struct reader *r, const json_t *root, struct sw_event *e)
{
    const json_t *schema = json_object_get(root, "schema");
    if (!json_is_integer(schema) || json_integer_value(schema) != SW_EVENT_SCHEMA)
        return refuse(r, "not the one this version reads", "schema");
    const char *name = json_string_value(json_object_get(root, "event"));
    if (!name)
        return refuse(r, "missing", "event");
    for (unsigned kind = 0; kind < SW_EVENT_KINDS; kind++)
        if (!strcmp(name, sw_event_kind_name((enum sw_event_kind)kind))) {
            e->kind = (enum sw_event_kind)kind;
            return 0;
        }
    return refuse(r, "unknown event", name);
}

static int take_state(const struct reader *r, const json_t *object, struct sw_event_state *state)
{
    const int err = take_fields(r, &sw_state_fields, object, state);
    if (err || !json_object_get(object, "cpu_window_ms"))
        return err;
    return take_fields(r, &sw_cpu_fields, object, state);
}

/* What a kind has of its own: it must be there. */
static int take_own(const struct reader *r, const json_t *root, const char *name,
                    const struct sw_fields *fields, void *to)
{
    const json_t *object = json_object_get(root, name);
    return json_is_object(object) ? take_fields(r, fields, object, to) : refuse(r, "not an object", name);
}

static int take_event(const struct reader *r, const json_t *root, struct sw_event *e)
{
    int err = take_fields(r, &sw_event_fields, root, e);
    if (err)
        return err;
    if (!is_hex(e->id, SW_EVENT_ID_CHARS))
        return refuse(r, "not an id", e->id);
    if (e->fingerprint && !is_hex(e->fingerprint, SW_FINGERPRINT_CHARS))
        return refuse(r, "not a fingerprint", e->fingerprint);

    const json_t *harakiri = json_object_get(root, "harakiri_in_ms");
    if (harakiri && !json_is_integer(harakiri))
        return refuse(r, "not a number", "harakiri_in_ms");
    e->has_harakiri = harakiri != NULL;
    e->harakiri_in_ms = json_integer_value(harakiri);

    const json_t *request = json_object_get(root, "request"), *thread = json_object_get(root, "thread"),
                 *stack = json_object_get(root, "stack");
    if (request && !json_is_object(request))
        return refuse(r, "not an object", "request");
    if (thread && !json_is_object(thread))
        return refuse(r, "not an object", "thread");
    if (request)
        err = take_fields(r, &sw_request_fields, request, &e->request);
    if (!err && thread)
        err = take_state(r, thread, &e->thread);
    e->has_stack = stack != NULL;
    if (!err && stack)
        err = take_stack(r, stack, SW_STACK_FRAMES_MAX, &e->stack);
    if (!err)
        err = take_threads(r, root, e);
    if (!err)
        err = take_timeline(r, root, e);
    if (!err && e->kind == SW_EVENT_TIMEOUT)
        err = take_own(r, root, "timeout", &sw_timeout_fields, &e->timeout);
    if (!err && e->kind == SW_EVENT_WARMUP)
        err = take_own(r, root, "warmup", &sw_warmup_fields, &e->warmup);
    return err;
}

int sw_event_decode(struct sw_event *e, struct sw_arena *arena, const char *json, size_t n,
                    struct sw_text *why)
{
    struct reader r = {.arena = arena, .why = why};
    json_error_t error;
    memset(e, 0, sizeof *e);
    if (n > SW_EVENT_MAX_BYTES) {
        sw_text_printf(why, "%zu bytes are too many", n);
        return -EINVAL;
    }
    /* Refuses what is not UTF-8, zero characters in strings, and nesting deeper than the library's limit. */
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return refuse(&r, "not JSON", error.text);
    int err = json_is_object(root) ? take_kind(&r, root, e) : refuse(&r, "not an object", "event");
    if (!err) {
        r.always = sw_fields_always(e->kind);
        err = take_event(&r, root, e);
    }
    json_decref(root);
    return err;
}
