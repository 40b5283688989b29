/* event.c - an event as one line of JSON, in a buffer of the caller. Runs in the watchdog: the JSON library gets its
 * few bytes of memory from the stack, and what it prints goes straight into the buffer. */
#include "event_fields.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#define GENERATOR_BYTES 2048 /* what yajl allocates for one generator is about a third of it */
#define TEXT_MAX        4096 /* bytes of any one string */
#define CLIENT_CUT      200  /* of user agent and URI, once frames had to go */
#define FRAMES_KEPT     8    /* innermost frames that are worth more than a long user agent or URI */
#define WALL_MAX_US     UINT64_C(253402300799999999) /* the last one with a year of four digits */
#define ELLIPSIS        "…"

/* ---- where the text goes ---- */

struct json_out {
    char *at;
    size_t room, used; /* used > room: it did not fit, what is at `at` is of no use */
};

static void out_put(struct json_out *out, const char *s, size_t n)
{
    if (out->used <= out->room && n <= out->room - out->used)
        memcpy(out->at + out->used, s, n);
    out->used += n;
}

/* The print callback of the generator. Everything is ASCII except inside strings, and there a multi-byte character
 * never spans two calls, since yajl splits only at ASCII characters that JSON wants escaped. */
static void out_print(void *ctx, const char *s, size_t n)
{
    struct json_out *out = ctx;
    size_t i = 0;
    while (i < n && out->used <= out->room) {
        size_t plain = i;
        while (plain < n && (unsigned char)s[plain] < 0x80)
            plain++;
        out_put(out, s + i, plain - i);
        i = plain;
        if (i == n)
            break;
        /* Of a line separator this makes \uNNNN, which means the same in JSON; of a byte that is not UTF-8 it makes
         * \xNN, which JSON does not know: there the backslash is doubled, so that it reads as that text. */
        char escape[16];
        struct sw_text text;
        sw_text_init(&text, escape, sizeof escape);
        const size_t len = sw_utf8_len(s + i, n - i);
        sw_text_put_escaped(&text, s + i, len ? len : 1);
        if (len == 0)
            out_put(out, "\\", 1);
        out_put(out, escape, text.used);
        i += len ? len : 1;
    }
}

/* ---- memory of the generator ---- */

struct generator_memory {
    size_t used;
    _Alignas(max_align_t) char at[GENERATOR_BYTES];
};

static void *memory_get(void *ctx, size_t bytes)
{
    struct generator_memory *m = ctx;
    const size_t align = _Alignof(max_align_t);
    if (bytes > sizeof m->at - m->used)
        return NULL;
    void *at = m->at + m->used;
    m->used =
        m->used + bytes > sizeof m->at - align ? sizeof m->at : (m->used + bytes + align - 1) / align * align;
    return at;
}

static void *memory_resize(void *ctx, void *old, size_t bytes)
{
    /* Only yajl's own output buffer grows, and the print callback takes its place. */
    (void)ctx, (void)old, (void)bytes;
    return NULL;
}

static void memory_put(void *ctx, void *at)
{
    (void)ctx, (void)at;
}

/* ---- one event under one plan ---- */

struct plan {
    size_t text_max, client_max; /* bytes of a string */
    unsigned frames_least;       /* this many innermost frames must fit, else the next plan is tried */
    unsigned places;             /* of the timeline */
    enum { THREADS_ALL, THREADS_GIL_HOLDER, THREADS_NONE } threads;
};

/* From everything to almost nothing; the last one fits into SW_EVENT_ROOM_MIN whatever the strings hold (at most six
 * bytes of JSON for one of theirs). */
static const struct plan plans[] = {
    {TEXT_MAX, TEXT_MAX, SW_STACK_FRAMES_MAX, SW_TIMELINE_MAX, THREADS_ALL},
    {TEXT_MAX, TEXT_MAX, FRAMES_KEPT, SW_TIMELINE_MAX, THREADS_GIL_HOLDER},
    {TEXT_MAX, CLIENT_CUT, FRAMES_KEPT, SW_TIMELINE_MAX, THREADS_GIL_HOLDER},
    {256, CLIENT_CUT, 1, SW_TIMELINE_MAX, THREADS_GIL_HOLDER},
    {64, 64, 1, 4, THREADS_NONE},
    {16, 16, 1, 0, THREADS_NONE},
};

struct writer {
    yajl_gen json;
    struct json_out out;
    const struct plan *plan;
    unsigned always; /* flags of the fields that are never left out */
};

static void put_key(struct writer *w, const char *name)
{
    yajl_gen_string(w->json, (const unsigned char *)name, strlen(name));
}

static void put_number(struct writer *w, const char *name, uint64_t value)
{
    put_key(w, name);
    yajl_gen_integer(w->json, (long long)sw_min_u64(value, INT64_MAX));
}

/* A cut text is never longer than the text was, so that a second encoding changes nothing. */
static void put_text(struct writer *w, const char *s, size_t most)
{
    const size_t mark = sizeof ELLIPSIS - 1, n = strnlen(s, most + mark + 1);
    if (n <= most + mark) {
        yajl_gen_string(w->json, (const unsigned char *)s, n);
        return;
    }
    char cut[TEXT_MAX + sizeof ELLIPSIS];
    const size_t kept = sw_utf8_floor(s, most);
    memcpy(cut, s, kept);
    memcpy(cut + kept, ELLIPSIS, mark);
    yajl_gen_string(w->json, (const unsigned char *)cut, kept + mark);
}

static void put_text_field(struct writer *w, const struct sw_field *f, const char *s)
{
    size_t most = f->flags & SW_FIELD_CLIENT ? w->plan->client_max : w->plan->text_max;
    if (f->flags & SW_FIELD_WHOLE)
        most = SW_EVENT_ID_CHARS;
    put_key(w, f->name);
    put_text(w, s ? s : "", most);
}

static void put_wall_field(struct writer *w, const struct sw_field *f, uint64_t wall_us)
{
    char buffer[40];
    struct sw_text text;
    sw_text_init(&text, buffer, sizeof buffer);
    sw_text_put_rfc3339(&text, sw_min_u64(wall_us, WALL_MAX_US));
    put_key(w, f->name);
    yajl_gen_string(w->json, (const unsigned char *)buffer, text.used);
}

static bool is_set(const struct sw_field *f, const void *at)
{
    switch (f->type) {
    case SW_FIELD_TEXT:
        return *(const char *const *)at != NULL;
    case SW_FIELD_INT:
        return *(const int *)at != 0;
    case SW_FIELD_UINT:
        return *(const unsigned *)at != 0;
    case SW_FIELD_U64:
    case SW_FIELD_US:
    case SW_FIELD_WALL:
        return *(const uint64_t *)at != 0;
    }
    return false;
}

static void put_fields(struct writer *w, const struct sw_fields *fields, const void *from)
{
    for (unsigned i = 0; i < fields->count; i++) {
        const struct sw_field *f = &fields->at[i];
        const void *at = (const char *)from + f->offset;
        if (!is_set(f, at) && !(f->flags & w->always))
            continue;
        switch (f->type) {
        case SW_FIELD_TEXT:
            put_text_field(w, f, *(const char *const *)at);
            break;
        case SW_FIELD_INT:
            put_key(w, f->name);
            yajl_gen_integer(w->json, *(const int *)at);
            break;
        case SW_FIELD_UINT:
            put_number(w, f->name, *(const unsigned *)at);
            break;
        case SW_FIELD_U64:
            put_number(w, f->name, *(const uint64_t *)at);
            break;
        case SW_FIELD_US:
            put_number(w, f->name, sw_add_sat(*(const uint64_t *)at, SW_US_PER_MS / 2) / SW_US_PER_MS);
            break;
        case SW_FIELD_WALL:
            put_wall_field(w, f, *(const uint64_t *)at);
            break;
        }
    }
}

static bool any_field(const struct sw_fields *fields, const void *from)
{
    for (unsigned i = 0; i < fields->count; i++)
        if (is_set(&fields->at[i], (const char *)from + fields->at[i].offset))
            return true;
    return false;
}

static void put_object(struct writer *w, const char *name, const struct sw_fields *fields, const void *from)
{
    put_key(w, name);
    yajl_gen_map_open(w->json);
    put_fields(w, fields, from);
    yajl_gen_map_close(w->json);
}

static void put_stack(struct writer *w, const struct sw_stack *stack, unsigned most)
{
    const unsigned kept = stack->count < most ? stack->count : most;
    const unsigned left_out = stack->count - kept;
    put_key(w, "stack");
    yajl_gen_map_open(w->json);
    put_key(w, "frames");
    yajl_gen_array_open(w->json);
    for (unsigned i = left_out; i < stack->count; i++) {
        yajl_gen_map_open(w->json);
        put_fields(w, &sw_frame_fields, &stack->frames[i]);
        yajl_gen_map_close(w->json);
    }
    yajl_gen_array_close(w->json);
    if (stack->truncated || left_out)
        put_number(w, "truncated", (uint64_t)stack->truncated + left_out);
    if (stack->partial) {
        put_key(w, "partial");
        put_text(w, stack->partial, w->plan->text_max);
    }
    yajl_gen_map_close(w->json);
}

static bool keeps_thread(const struct plan *plan, const struct sw_event *e, unsigned i)
{
    return i < SW_EVENT_THREADS_MAX &&
           (plan->threads == THREADS_ALL || (plan->threads == THREADS_GIL_HOLDER && e->threads[i].gil));
}

static void put_threads(struct writer *w, const struct sw_event *e)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < e->thread_count; i++)
        kept += keeps_thread(w->plan, e, i);
    if (kept > 0) {
        put_key(w, "threads");
        yajl_gen_array_open(w->json);
        for (unsigned i = 0; i < e->thread_count; i++) {
            if (!keeps_thread(w->plan, e, i))
                continue;
            yajl_gen_map_open(w->json);
            put_fields(w, &sw_thread_fields, &e->threads[i]);
            put_key(w, "gil");
            yajl_gen_bool(w->json, e->threads[i].gil);
            put_stack(w, &e->threads[i].stack, SW_THREAD_FRAMES_MAX);
            yajl_gen_map_close(w->json);
        }
        yajl_gen_array_close(w->json);
    }
    const uint64_t dropped = (uint64_t)e->threads_dropped + e->thread_count - kept;
    if (dropped > 0)
        put_number(w, "threads_dropped", dropped);
}

static void put_timeline(struct writer *w, const struct sw_event *e)
{
    const unsigned kept = e->timeline_count < w->plan->places ? e->timeline_count : w->plan->places;
    uint64_t other = e->other_looks;
    for (unsigned i = kept; i < e->timeline_count; i++)
        other = sw_add_sat(other, e->timeline[i].looks);
    if (kept > 0) {
        put_key(w, "timeline");
        yajl_gen_array_open(w->json);
        for (unsigned i = 0; i < kept; i++) {
            yajl_gen_map_open(w->json);
            put_fields(w, &sw_place_fields, &e->timeline[i]);
            yajl_gen_map_close(w->json);
        }
        yajl_gen_array_close(w->json);
    }
    if (other > 0)
        put_number(w, "other_looks", other);
}

static void put_state(struct writer *w, const struct sw_event_state *state)
{
    const bool cpu = state->cpu_window_ms > 0;
    if (!cpu && !any_field(&sw_state_fields, state))
        return;
    put_key(w, "thread");
    yajl_gen_map_open(w->json);
    put_fields(w, &sw_state_fields, state);
    if (cpu)
        put_fields(w, &sw_cpu_fields, state);
    yajl_gen_map_close(w->json);
}

static void put_event(struct writer *w, const struct sw_event *e, unsigned frames)
{
    yajl_gen_map_open(w->json);
    put_number(w, "schema", SW_EVENT_SCHEMA);
    put_key(w, "event");
    put_text(w, sw_event_kind_name(e->kind), TEXT_MAX);
    put_fields(w, &sw_event_fields, e);
    if (e->has_harakiri) {
        put_key(w, "harakiri_in_ms");
        yajl_gen_integer(w->json, e->harakiri_in_ms);
    }
    if (e->kind == SW_EVENT_TIMEOUT)
        put_object(w, "timeout", &sw_timeout_fields, &e->timeout);
    if (e->kind == SW_EVENT_WARMUP)
        put_object(w, "warmup", &sw_warmup_fields, &e->warmup);
    if (any_field(&sw_request_fields, &e->request))
        put_object(w, "request", &sw_request_fields, &e->request);
    put_state(w, &e->thread);
    if (e->has_stack)
        put_stack(w, &e->stack, frames);
    put_threads(w, e);
    put_timeline(w, e);
    yajl_gen_map_close(w->json);
}

/* The length of the JSON, more than `room` when it did not fit; 0 when the generator could not be made. */
static size_t encode_with(const struct sw_event *e, const struct plan *plan, unsigned frames, char *at,
                          size_t room)
{
    struct generator_memory memory = {.used = 0};
    const yajl_alloc_funcs functions = {memory_get, memory_resize, memory_put, &memory};
    struct writer w = {.plan = plan, .out = {.at = at, .room = room}, .always = sw_fields_always(e->kind)};
    w.json = yajl_gen_alloc(&functions);
    if (!w.json)
        return 0;
    yajl_gen_config(w.json, yajl_gen_print_callback, out_print, &w.out);
    put_event(&w, e, frames);
    yajl_gen_free(w.json);
    return w.out.used;
}

ssize_t sw_event_encode(const struct sw_event *e, char *out, size_t room)
{
    unsigned all = !e->has_stack ? 0 : e->stack.count;
    if (all > SW_STACK_FRAMES_MAX)
        all = SW_STACK_FRAMES_MAX;
    if (room > SSIZE_MAX)
        room = SSIZE_MAX;
    for (unsigned p = 0; p < SW_COUNT(plans); p++) {
        const struct plan *plan = &plans[p];
        size_t n = encode_with(e, plan, all, out, room);
        if (n == 0)
            return -ENOMEM;
        if (n <= room)
            return (ssize_t)n;
        unsigned fits = plan->frames_least, over = all; /* all are too many: what is the most that fits? */
        if (fits >= over || encode_with(e, plan, fits, out, room) > room)
            continue;
        while (over - fits > 1) {
            const unsigned middle = fits + (over - fits) / 2;
            if (encode_with(e, plan, middle, out, room) <= room)
                fits = middle;
            else
                over = middle;
        }
        n = encode_with(e, plan, fits, out, room);
        return n <= room ? (ssize_t)n : -EMSGSIZE;
    }
    return -EMSGSIZE;
}
