#include "pyread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TRIES_MAX         8 /* captures of a stack that keeps changing, before what they have in common is taken */
#define REASON_CHARS      96
#define WALKS_MAX         64  /* broken ones included, which end early */
#define OTHER_THREADS_MAX 512 /* looked at, to find those that have frames */

static const char UNKNOWN[] = "???";

/* ---- set-up ---- */

static size_t span(size_t most, const uint32_t *offsets, unsigned count)
{
    size_t end = SW_PYOBJECT_TYPE + sizeof(uint64_t);
    for (unsigned i = 0; i < count; i++)
        if (offsets[i] != SW_PYNONE && offsets[i] + sizeof(uint64_t) > end)
            end = offsets[i] + sizeof(uint64_t);
    return end <= most ? end : 0;
}

/* How much of each struct is read: up to its last field of interest. 0 = more than there is room for. */
static bool set_spans(struct sw_pystack *p)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    const uint32_t frame[] = {o->frame_back, o->frame_code, o->frame_lasti, o->frame_owner};
    const uint32_t code[] = {o->code_firstline, o->code_filename, o->code_name, o->code_linetable,
                             o->code_version};
    const uint32_t thread[] = {o->ts_next, o->ts_thread_id, o->ts_native_id};
    p->frame_bytes = span(SW_PYFRAME_BYTES_MAX, frame, SW_COUNT(frame));
    p->code_bytes = span(SW_PYCODE_BYTES_MAX, code, SW_COUNT(code));
    p->thread_bytes = span(SW_PYTHREAD_BYTES_MAX, thread, SW_COUNT(thread));
    return p->frame_bytes && p->code_bytes && p->thread_bytes;
}

int sw_pystack_make(struct sw_pystack **out, const struct sw_pylayout *layout, struct sw_text *why)
{
    struct sw_pystack *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) {
        sw_text_put(why, "out of memory");
        return -ENOMEM;
    }
    p->layout = *layout;
    p->mem.backend = SW_PYMEM_OFF;
    if (!set_spans(p)) {
        sw_text_put(why, "the frames of the Python in this process are larger than known ones");
        free(p);
        return -ENOTSUP;
    }
    *out = p;
    return 0;
}

int sw_pystack_attach(struct sw_pystack **out, struct sw_text *version, struct sw_text *why)
{
    struct sw_pylayout layout;
    *out = NULL;
    const int rc = sw_pylayout_find(&layout, version, why);
    return rc == 0 ? sw_pystack_make(out, &layout, why) : rc;
}

void sw_pystack_detach(struct sw_pystack *p)
{
    if (!p)
        return;
    sw_pystack_close(p);
    free(p);
}

int sw_pystack_open(struct sw_pystack *p, enum sw_pymem_backend first)
{
    sw_pystack_close(p);
    const int rc = sw_pymem_open(&p->mem, first);
    if (rc != 0)
        return rc;
    /* Pages that are never touched cost nothing. */
    void *buf = mmap(NULL, sizeof *p->buf, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buf == MAP_FAILED) {
        const int error = -errno;
        sw_pymem_close(&p->mem);
        return error;
    }
    p->buf = buf;
    return 0;
}

void sw_pystack_close(struct sw_pystack *p)
{
    if (p->buf)
        munmap(p->buf, sizeof *p->buf);
    p->buf = NULL;
    sw_pymem_close(&p->mem);
}

struct sw_pymem *sw_pystack_mem(struct sw_pystack *p)
{
    return &p->mem;
}

/* ---- capture ---- */

static const char *reason(struct sw_arena *arena, const char *before, unsigned n, const char *behind)
{
    char text[REASON_CHARS];
    struct sw_text t;
    sw_text_init(&t, text, sizeof text);
    sw_text_printf(&t, "%s%u frame%s%s", before, n, n == 1 ? "" : "s", behind);
    const char *copy = sw_arena_copy(arena, text, t.used);
    return copy[0] ? copy : "the stack was changing";
}

/* The frames of `w` from index `from` (counted from the innermost) outwards. */
static void put_frames(struct sw_pystack *p, const struct sw_pywalk *w, unsigned from, struct sw_stack *out)
{
    out->count = 0;
    for (unsigned i = w->kept; i-- > from;) {
        const struct sw_pyframe *f = &w->frames[i];
        const struct sw_pycode *c = &p->buf->codes[f->code_index];
        if (f->hidden)
            continue;
        out->frames[out->count++] =
            f->resolved ? (struct sw_frame){.file = c->file, .function = c->function, .line = f->line}
                        : (struct sw_frame){.file = UNKNOWN, .function = UNKNOWN};
    }
    out->truncated = w->shown_total - w->shown;
}

/* Both walks reached the outer end, so frames are compared by their distance from it. Returns the index in `now` from
 * which outwards both agree; the innermost of these may stand at another line. */
static unsigned common_from(const struct sw_pywalk *before, const struct sw_pywalk *now)
{
    unsigned i = now->kept;
    while (i > 0) {
        const struct sw_pyframe *f = &now->frames[i - 1];
        const unsigned outside = now->total - i; /* frames further out than f */
        if (!f->same || outside >= before->total || before->total - 1 - outside >= before->kept)
            break;
        const struct sw_pyframe *b = &before->frames[before->total - 1 - outside];
        if (b->at != f->at || b->code != f->code || b->back != f->back)
            break;
        i--;
        if (f->moved || b->lasti != f->lasti)
            break;
    }
    return i;
}

static int finish(struct sw_pystack *p, const struct sw_pywalk *w, unsigned unresolved,
                  struct sw_arena *arena, struct sw_stack *out)
{
    put_frames(p, w, 0, out);
    if (unresolved > 0)
        out->partial = reason(arena, "", unresolved, " could not be read");
    else if (arena->cut)
        out->partial = "no room for all names";
    return 0;
}

/* Nothing agreed: say so, with as much as the last walk brought, none of it sure. */
static int finish_changing(struct sw_pystack *p, const struct sw_pywalk *w, const struct sw_pywalk *before,
                           bool moved, struct sw_arena *arena, struct sw_stack *out)
{
    if (!w->complete) {
        put_frames(p, w, 0, out);
        out->partial = w->shown > 0 ? "the outer frames could not be read" : "the stack kept changing";
        return w->shown > 0 || moved ? 0 : -EFAULT;
    }
    if (w->shown_total == 0)
        return -ESRCH;
    put_frames(p, w, before->complete ? common_from(before, w) : w->kept, out);
    const unsigned changing = w->shown - out->count;
    out->partial = reason(arena, "inner ", changing, changing == 1 ? " was changing" : " were changing");
    return 0;
}

static unsigned fitting_depth(const struct sw_arena *arena, unsigned depth)
{
    /* half of the room for frames, half for their names */
    const size_t left = arena->room > arena->used ? arena->room - arena->used : 0;
    const size_t fit = left / 2 / sizeof(struct sw_frame);
    const unsigned most = fit < SW_STACK_FRAMES_MAX ? (unsigned)fit : SW_STACK_FRAMES_MAX;
    return depth < most ? depth : most;
}

static int capture_tries(struct sw_pystack *p, const struct sw_pythread *t, unsigned depth,
                         struct sw_arena *arena, struct sw_stack *out)
{
    struct sw_pywalk walks[2] = {{.frames = p->buf->frames[0]}, {.frames = p->buf->frames[1]}};
    struct sw_pywalk *now = &walks[0], *before = &walks[1];
    *out = (struct sw_stack){0};
    depth = fitting_depth(arena, depth);
    out->frames = sw_arena_alloc(arena, depth * sizeof *out->frames);
    if (depth == 0 || !out->frames)
        return -ENOSPC;
    const struct sw_arena empty = *arena;
    unsigned whole = 0;
    uintptr_t top = 0;
    bool moved = false;
    for (unsigned i = 0; i < WALKS_MAX && whole < TRIES_MAX; i++) {
        if (now->complete) { /* one that ended in nowhere is no use for comparison */
            struct sw_pywalk *const swap = now;
            now = before;
            before = swap;
        }
        *arena = empty;
        const int rc = sw_pyframe_start(p, t, now);
        if (rc != 0)
            return rc;
        moved = moved || (i > 0 && now->top != top);
        top = now->top;
        sw_pyframe_walk(p, t, now, depth);
        whole += now->complete;
        const unsigned unresolved = sw_pycode_resolve(p, now, arena);
        /* What cannot be read may be a passing state, too: it is believed at the last try only. */
        if (sw_pyverify(p, now) && now->complete && (unresolved == 0 || whole == TRIES_MAX))
            return now->shown_total == 0 ? -ESRCH : finish(p, now, unresolved, arena, out);
    }
    return finish_changing(p, now, before, moved, arena, out);
}

static int capture_state(struct sw_pystack *p, const struct sw_pythread *t, unsigned depth,
                         struct sw_arena *arena, struct sw_stack *out)
{
    const bool cut_before = arena->cut;
    arena->cut = false;
    const int rc = capture_tries(p, t, depth, arena, out);
    arena->cut = arena->cut || cut_before;
    return rc;
}

static int ready(const struct sw_pystack *p)
{
    return p->buf ? 0 : -ENOTCONN;
}

void sw_pystack_prefer(struct sw_pystack *p, uintptr_t state)
{
    struct sw_pythread_iter it;
    struct sw_pythread t;
    p->preferred = 0;
    p->main_first = true;
    if (state == 0 || ready(p) != 0)
        return;
    sw_pythread_first(p, &it);
    while (p->preferred == 0 && sw_pythread_next(p, &it, &t))
        if (t.at == state)
            p->preferred = state;
}

int sw_pystack_capture(struct sw_pystack *p, pthread_t thread, unsigned depth, struct sw_arena *arena,
                       struct sw_stack *out)
{
    struct sw_pythread t;
    *out = (struct sw_stack){0};
    int rc = ready(p);
    if (rc != 0)
        return rc;
    rc = sw_pythread_find(p, (uint64_t)thread, &t);
    if (rc != 0)
        return rc;
    rc = capture_state(p, &t, depth, arena, out);
    if (rc == 0 && t.ambiguous && !out->partial)
        out->partial = "this thread has several Python stacks, and this is one of them";
    return rc;
}

/* ---- the other threads ---- */

unsigned sw_pystack_threads(struct sw_pystack *p, pthread_t except, unsigned depth, struct sw_arena *arena,
                            struct sw_event_thread *out, unsigned room)
{
    struct sw_pythread_iter it;
    struct sw_pythread t;
    unsigned count = 0, seen = 0;
    if (ready(p) != 0)
        return 0;
    sw_pythread_first(p, &it);
    while (count < room && seen++ < OTHER_THREADS_MAX && sw_pythread_next(p, &it, &t)) {
        uintptr_t gil;
        struct sw_stack stack;
        if (sw_pythread_is(p, &t, (uint64_t)except))
            continue;
        const struct sw_arena undo = *arena;
        if (capture_state(p, &t, depth, arena, &stack) != 0) {
            *arena = undo;
            continue;
        }
        out[count++] = (struct sw_event_thread){.ident = t.ident,
                                                .tid = t.native,
                                                .gil = sw_pythread_gil_holder(p, t.interp, &gil) == t.at,
                                                .stack = stack};
    }
    return count;
}

/* ---- the GIL ---- */

static void name_holder(struct sw_pystack *p, uintptr_t holder, struct sw_gil *out)
{
    struct sw_pythread_iter it;
    struct sw_pythread t;
    /* It may have ended: only one that is still listed has a name. */
    sw_pythread_first(p, &it);
    while (sw_pythread_next(p, &it, &t)) {
        if (t.at != holder)
            continue;
        out->holder = t.ident;
        out->holder_tid = t.native;
        return;
    }
}

void sw_pystack_gil(struct sw_pystack *p, pthread_t thread, uintptr_t futex, struct sw_gil *out)
{
    struct sw_pythread_iter it;
    struct sw_pythread t;
    *out = (struct sw_gil){.state = SW_GIL_UNKNOWN};
    if (ready(p) != 0)
        return;
    uintptr_t holder = 0;
    sw_pythread_first(p, &it);
    while (out->state != SW_GIL_HELD && sw_pythread_next(p, &it, &t)) {
        uintptr_t gil;
        if (!sw_pythread_is(p, &t, (uint64_t)thread))
            continue;
        const uintptr_t who = sw_pythread_gil_holder(p, t.interp, &gil);
        if (gil == 0)
            continue;
        if (who == t.at)
            out->state = SW_GIL_HELD;
        else if (futex >= gil && futex - gil < SW_PYGIL_BYTES)
            out->state = SW_GIL_WANTED;
        else if (out->state == SW_GIL_UNKNOWN)
            out->state = SW_GIL_RELEASED;
        holder = who != 0 ? who : holder;
    }
    if (holder != 0)
        name_holder(p, holder, out);
}
