#include "pyread.h"

#include <errno.h>

#define STEPS_MAX 8192 /* frames followed; deeper ones are not even counted */

/* ---- where a thread's frames begin ---- */

static void anchor(struct sw_pywalk *w, uintptr_t at, uint64_t value)
{
    w->anchors[w->anchor_count++] = (struct sw_pyanchor){at, value};
}

int sw_pyframe_start(struct sw_pystack *p, const struct sw_pythread *t, struct sw_pywalk *w)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    uint64_t word;
    w->anchor_count = 0;
    w->top = 0;
    /* t may be old: everything is read anew. */
    anchor(w, t->at + o->ts_thread_id, t->ident);
    int rc = sw_py_read_word(p, t->at + o->ts_frame, &word);
    if (rc != 0)
        return rc;
    anchor(w, t->at + o->ts_frame, word);
    if (o->cframe_frame != SW_PYNONE) {
        const uintptr_t at = word + o->cframe_frame;
        rc = sw_py_read_word(p, at, &word);
        if (rc != 0)
            return rc;
        anchor(w, at, word);
    }
    w->top = word;
    return 0;
}

/* ---- reading them: from 3.11 on most lie in chunks of the data stack, newest last, so that one read brings many ---- */

static void load_chunk(struct sw_pystack *p, uintptr_t chunk, uintptr_t top)
{
    uint64_t before = 0;
    p->chunk_low = p->chunk_high = p->chunk_before = 0;
    if (chunk == 0 || top <= chunk)
        return;
    /* of a large chunk, the newest part */
    const size_t bytes = top - chunk < SW_PYCHUNK_BYTES ? top - chunk : SW_PYCHUNK_BYTES;
    if (sw_pymem_read(&p->mem, top - bytes, p->buf->chunk, bytes) != 0)
        return;
    p->chunk_low = top - bytes;
    p->chunk_high = top;
    if (p->chunk_low == chunk && bytes >= SW_PYCHUNK_PREVIOUS + sizeof before)
        before = sw_py_u64(p->buf->chunk, SW_PYCHUNK_PREVIOUS);
    else if (sw_py_read_word(p, chunk + SW_PYCHUNK_PREVIOUS, &before) != 0)
        before = 0;
    p->chunk_before = before;
}

static bool in_range(uintptr_t at, size_t bytes, uintptr_t low, uintptr_t high)
{
    return at >= low && at < high && high - at >= bytes;
}

static int read_frame(struct sw_pystack *p, uintptr_t at, char *out)
{
    const uintptr_t before = p->chunk_before;
    if (!in_range(at, p->frame_bytes, p->chunk_low, p->chunk_high) && before != 0 &&
        before < UINTPTR_MAX - SW_PYCHUNK_BYTES &&
        in_range(at, p->frame_bytes, before, before + SW_PYCHUNK_BYTES))
        load_chunk(p, before, before + SW_PYCHUNK_BYTES);
    if (!in_range(at, p->frame_bytes, p->chunk_low, p->chunk_high))
        return sw_pymem_read(&p->mem, at, out, p->frame_bytes);
    __builtin_memcpy(out, p->buf->chunk + (at - p->chunk_low), p->frame_bytes);
    return 0;
}

bool sw_pyframe_parse(const struct sw_pystack *p, const char *bytes, struct sw_pyframe *f)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    /* Up to 3.10 a frame is an object, which stays in place when freed, to be used again. */
    if (p->layout.type_frame != 0 && (sw_py_u64(bytes, SW_PYOBJECT_TYPE) != p->layout.type_frame ||
                                      (int64_t)sw_py_u64(bytes, SW_PYOBJECT_REFCOUNT) <= 0))
        return false;
    f->back = sw_py_u64(bytes, o->frame_back);
    f->code = sw_py_u64(bytes, o->frame_code) & ~(uint64_t)o->pointer_tag;
    f->lasti = o->lasti == SW_PYLASTI_POINTER ? sw_py_u64(bytes, o->frame_lasti)
                                              : (uint64_t)(int32_t)sw_py_u32(bytes, o->frame_lasti);
    return true;
}

/* ---- which of them a traceback has ---- */

#define OWNER_THREAD    0
#define EARLY_UNITS     5 /* the frame that runs a constructor for a specialised call stands before this */
#define CODE_UNIT_BYTES 2U
#define TRACEABLE_MAX   4096U

static unsigned owner_of(const struct sw_pystack *p, const char *bytes)
{
    const uint32_t at = p->layout.at.frame_owner;
    return at == SW_PYNONE ? OWNER_THREAD : (unsigned char)bytes[at];
}

/* The interpreter leaves out frames that stand before the first traceable instruction, and so do we. Only few stand that
 * early, and only those are looked up. */
static bool has_begun(struct sw_pystack *p, const struct sw_pyframe *f)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    uint32_t first;
    if (o->code_first_traceable == SW_PYNONE)
        return true;
    const int64_t unit = (int64_t)(f->lasti - (f->code + o->code_adaptive)) / CODE_UNIT_BYTES;
    if (unit < -1 || unit >= EARLY_UNITS ||
        sw_pymem_read(&p->mem, f->code + o->code_first_traceable, &first, sizeof first) != 0)
        return true;
    return first > TRACEABLE_MAX || unit >= (int64_t)first;
}

static bool is_hidden(struct sw_pystack *p, const char *bytes, const struct sw_pyframe *f)
{
    const unsigned owner = owner_of(p, bytes);
    if (owner == OWNER_THREAD)
        return !has_begun(p, f);
    return owner >= p->layout.at.shim_owner;
}

/* ---- the walk ---- */

static void load_newest_chunk(struct sw_pystack *p, const struct sw_pythread *t)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    uint64_t chunk, top;
    p->chunk_low = p->chunk_high = p->chunk_before = 0;
    if (o->ts_chunk != SW_PYNONE && sw_py_read_word(p, t->at + o->ts_chunk, &chunk) == 0 &&
        sw_py_read_word(p, t->at + o->ts_top, &top) == 0)
        load_chunk(p, chunk, top);
}

/* From 3.11 on the outermost frame in the data stack lies at its very beginning. A chain that ends elsewhere was torn
 * while a generator, or a frame not yet linked, pointed nowhere. `outermost`: 0 = no frame lies in the data stack. */
static bool ends_well(struct sw_pystack *p, const struct sw_pythread *t, uintptr_t outermost)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    uint64_t chunk, before;
    if (o->ts_chunk == SW_PYNONE)
        return true;
    if (outermost == 0) {
        if (sw_py_read_word(p, t->at + o->ts_chunk, &chunk) != 0)
            return false;
        if (chunk == 0)
            return true;
        if (sw_py_read_word(p, t->at + o->ts_top, &outermost) != 0)
            return false;
    }
    chunk = outermost - SW_PYCHUNK_FIRST_FRAME;
    return chunk % SW_PYPAGE_BYTES == 0 && sw_py_read_word(p, chunk + SW_PYCHUNK_PREVIOUS, &before) == 0 &&
           before == 0;
}

static void keep(struct sw_pywalk *w, const struct sw_pyframe *f, unsigned depth)
{
    w->total++;
    w->shown_total += !f->hidden;
    if (w->shown == depth || w->kept == SW_PYFRAMES_MAX)
        return;
    w->frames[w->kept++] = *f;
    w->shown += !f->hidden;
}

void sw_pyframe_walk(struct sw_pystack *p, const struct sw_pythread *t, struct sw_pywalk *w, unsigned depth)
{
    char bytes[SW_PYFRAME_BYTES_MAX];
    uintptr_t at = w->top, mark = 0, outermost = 0;
    unsigned next_mark = 1, step = 0;
    w->kept = w->total = w->shown = w->shown_total = 0;
    w->complete = false;
    load_newest_chunk(p, t);
    for (; at != 0 && step < STEPS_MAX; step++) {
        struct sw_pyframe f = {.at = at};
        if (at == mark || read_frame(p, at, bytes) != 0 || !sw_pyframe_parse(p, bytes, &f))
            return;
        if (step == next_mark) { /* meets a ring after at most three times its length */
            mark = at;
            next_mark *= 2;
        }
        f.hidden = is_hidden(p, bytes, &f);
        if (owner_of(p, bytes) == OWNER_THREAD)
            outermost = at;
        keep(w, &f, depth);
        at = f.back;
    }
    w->complete = at != 0 || ends_well(p, t, outermost);
}
