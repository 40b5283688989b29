#include "render.h"

#include <string.h>

#define REPEATS_SHOWN  3 /* identical frames in a row, as Python shows them */
#define TIMELINE_SHOWN 5
#define WINDOW_PART                                                                                          \
    10 /* CPU time not measured over this part (1/10) of the request: say over how much it was */

static void put_safe(struct sw_text *out, const char *s)
{
    sw_text_put_escaped(out, s, strlen(s));
}

/* ", " between the parts of a line, nothing before the first */
static const char *comma(bool *first)
{
    const char *s = *first ? "" : ", ";
    *first = false;
    return s;
}

/* ---- frames ---- */

const char *sw_frame_base_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash && slash[1] ? slash + 1 : file;
}

/* .../lib/python3.11/..., .../lib64/python3/..., .../lib/python311.zip/...: the standard library, and the packages of
 * a virtual environment, which live below it. An application's /srv/lib/python-tools/ is not that. */
static bool is_below_python_lib(const char *file)
{
    static const char marker[] = "/python";
    for (const char *at = strstr(file, marker); at; at = strstr(at + 1, marker)) {
        const size_t before = (size_t)(at - file);
        const bool lib =
            (before >= 4 && !memcmp(at - 4, "/lib", 4)) || (before >= 6 && !memcmp(at - 6, "/lib64", 6));
        const char *version = at + sizeof marker - 1;
        const size_t digits = strspn(version, "0123456789.");
        const char *rest = version + digits;
        if (lib && digits > 0 && (*rest == '/' || !strncmp(rest, "zip/", 4)))
            return true;
    }
    return false;
}

bool sw_frame_is_application(const struct sw_frame *f)
{
    return f->file && f->file[0] && f->file[0] != '<' && !strstr(f->file, "/site-packages/") &&
           !strstr(f->file, "/dist-packages/") && !is_below_python_lib(f->file);
}

static void put_place(struct sw_text *out, const char *file, int line, const char *function)
{
    put_safe(out, sw_frame_base_name(file ? file : "?"));
    if (line > 0)
        sw_text_printf(out, ":%d", line);
    sw_text_put(out, " ");
    put_safe(out, function ? function : "?");
}

void sw_render_place(const struct sw_event *e, struct sw_text *out)
{
    if (!e->has_stack || e->stack.count == 0)
        return;
    const struct sw_frame *innermost = &e->stack.frames[e->stack.count - 1], *shown = innermost;
    for (unsigned i = e->stack.count; i-- > 0;)
        if (sw_frame_is_application(&e->stack.frames[i])) {
            shown = &e->stack.frames[i];
            break;
        }
    put_place(out, shown->file, shown->line, shown->function);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_frame(const struct sw_frame *a, const struct sw_frame *b)
{
    return a->line == b->line && same_text(a->function, b->function) && same_text(a->file, b->file);
}

static void put_frame(struct sw_text *out, const struct sw_frame *f)
{
    sw_text_put(out, "  File \"");
    put_safe(out, f->file ? f->file : "?");
    if (f->line > 0)
        sw_text_printf(out, "\", line %d, in ", f->line);
    else
        sw_text_put(out, "\", line ???, in ");
    put_safe(out, f->function ? f->function : "?");
    sw_text_put(out, "\n");
    if (f->source && f->source[0]) {
        sw_text_put(out, "    ");
        put_safe(out, f->source);
        sw_text_put(out, "\n");
    }
}

static void put_frames(struct sw_text *out, const struct sw_stack *stack)
{
    if (stack->truncated)
        sw_text_printf(out, "  ... %u outer frame%s left out\n", stack->truncated,
                       stack->truncated == 1 ? "" : "s");
    for (unsigned i = 0; i < stack->count;) {
        unsigned same = 1;
        while (i + same < stack->count && same_frame(&stack->frames[i], &stack->frames[i + same]))
            same++;
        for (unsigned k = 0; k < same && k < REPEATS_SHOWN; k++)
            put_frame(out, &stack->frames[i]);
        if (same > REPEATS_SHOWN)
            sw_text_printf(out, "  [Previous line repeated %u more time%s]\n", same - REPEATS_SHOWN,
                           same - REPEATS_SHOWN == 1 ? "" : "s");
        i += same;
    }
    if (stack->partial) {
        sw_text_put(out, "(partial: ");
        put_safe(out, stack->partial);
        sw_text_put(out, ")\n");
    }
}

/* ---- what the thread is doing ---- */

static void put_cpu(const struct sw_event *e, struct sw_text *out)
{
    const struct sw_event_state *s = &e->thread;
    sw_text_put_seconds(out, s->cpu_ms);
    sw_text_put(out, " of CPU used");
    if (s->cpu_window_ms < e->elapsed_ms - e->elapsed_ms / WINDOW_PART) {
        sw_text_put(out, " in the last ");
        sw_text_put_seconds(out, s->cpu_window_ms);
    }
}

static void put_wait_line(const struct sw_event *e, struct sw_text *out)
{
    const struct sw_event_state *s = &e->thread;
    const char *in = s->wait ? s->wait : s->syscall;
    bool first = true;
    if (s->state || in) {
        sw_text_put(out, comma(&first));
        put_safe(out, s->state ? s->state : "waiting");
        if (in) {
            sw_text_put(out, " in ");
            put_safe(out, in);
        }
    }
    if (s->gil) {
        sw_text_put(out, comma(&first));
        sw_text_put(out, "GIL ");
        put_safe(out, s->gil);
        if (s->gil_holder)
            sw_text_printf(out, " (thread 0x%llx holds it)", (unsigned long long)s->gil_holder);
    }
    if (s->cpu_window_ms) {
        sw_text_put(out, comma(&first));
        put_cpu(e, out);
    }
    if (e->request.phase && strcmp(e->request.phase, "application") != 0) {
        sw_text_put(out, comma(&first));
        sw_text_put(out, "phase ");
        put_safe(out, e->request.phase);
    }
    if (!first)
        sw_text_put(out, "\n");
}

/* ---- the rest ---- */

static void put_looks(struct sw_text *out, uint64_t some, uint64_t all)
{
    sw_text_printf(out, "%llu of %llu looks ", (unsigned long long)some, (unsigned long long)all);
}

static void put_timeline(const struct sw_event *e, struct sw_text *out)
{
    if (e->looks < 2 || e->timeline_count == 0)
        return;
    uint64_t shown_looks = 0;
    for (unsigned i = 0; i < e->timeline_count && i < TIMELINE_SHOWN; i++) {
        const struct sw_timeline_place *p = &e->timeline[i];
        shown_looks = sw_add_sat(shown_looks, p->looks);
        put_looks(out, p->looks, e->looks);
        sw_text_put(out, "in ");
        put_place(out, p->file, p->line, p->function);
        sw_text_put(out, "\n");
    }
    if (e->looks > shown_looks) {
        put_looks(out, e->looks - shown_looks, e->looks);
        sw_text_put(out, "elsewhere\n");
    }
}

static void put_details(const struct sw_event *e, struct sw_text *out)
{
    const struct sw_event_request *r = &e->request;
    const struct {
        const char *name, *value;
    } details[] = {{"host ", r->host},
                   {"client ", r->remote_addr},
                   {"request id ", r->request_id},
                   {"traceparent ", r->traceparent},
                   {"app ", e->app}};
    bool first = true;
    for (unsigned i = 0; i < SW_COUNT(details); i++) {
        if (!details[i].value || !details[i].value[0])
            continue;
        sw_text_put(out, first ? "request: " : "");
        sw_text_put(out, comma(&first));
        sw_text_put(out, details[i].name);
        put_safe(out, details[i].value);
    }
    if (r->body_bytes) {
        sw_text_put(out, first ? "request: " : "");
        sw_text_put(out, comma(&first));
        sw_text_printf(out, "body %llu bytes", (unsigned long long)r->body_bytes);
    }
    if (!first)
        sw_text_put(out, "\n");
}

static void put_thread(const struct sw_event_thread *thread, struct sw_text *out)
{
    sw_text_printf(out, "Thread 0x%llx", (unsigned long long)thread->ident);
    if (thread->tid)
        sw_text_printf(out, " (tid %ld)", (long)thread->tid);
    sw_text_put(out, thread->gil ? " holds the GIL:\n" : ":\n");
    put_frames(out, &thread->stack);
}

void sw_render_event(const struct sw_event *e, struct sw_text *out)
{
    sw_text_put(out, "slowwatch: ");
    sw_render_headline(e, out);
    sw_text_put(out, "\n");
    put_wait_line(e, out);
    if (e->has_stack) {
        sw_text_put(out, "Traceback (most recent call last):\n");
        put_frames(out, &e->stack);
    } else if (e->no_stack) {
        sw_text_put(out, "no Python stack: ");
        put_safe(out, e->no_stack);
        sw_text_put(out, "\n");
    }
    put_timeline(e, out);
    put_details(e, out);
    for (unsigned i = 0; i < e->thread_count; i++)
        put_thread(&e->threads[i], out);
    if (e->threads_dropped)
        sw_text_printf(out, "(%u other thread%s left out)\n", e->threads_dropped,
                       e->threads_dropped == 1 ? "" : "s");
}
