#include "pyread.h"

/* The second reading. When a value was the same at the walk and is the same now, it was so in between, unless it changed
 * and changed back; when all were, then all at once, and that is what makes the stack true. The instruction of the
 * innermost frame is exempt: it moves while its thread runs, and its last reading is taken instead.
 *
 * Values that change back are the danger: a frame that is left and entered again at the same address from another line of
 * its caller. So frames are read as close to their neighbours as can be (those that lie together in the data stack as one
 * range), each range once more after the next one (a, b, a, b: neither changed while the other was read), and all of that
 * twice, before and after the code objects. What slips through one of these would have to slip through all. */

#define MERGE_GAP_BYTES   512U /* frames no further apart are read as one range */
#define MERGE_BYTES_MAX   ((size_t)8 * 1024)
#define INNER_FRAMES      4U /* read one by one */
#define INNER_RANGES      (3 * INNER_FRAMES + 2 * SW_PYANCHORS_MAX)
#define BRACKET_RANGES    3U /* of one group of frames: itself, the one before it, itself */
#define PYTEXT_KEY_OFFSET SW_PYUNICODE_LENGTH
#define PYTEXT_KEY_BYTES  sizeof(struct sw_pytext_key)

/* Ranges are put until the batch is full, then read and compared. */
struct second_reading {
    struct sw_pystack *p;
    struct sw_pywalk *w;
    unsigned ranges;
    size_t bytes;
    bool anchors_same;
    uint64_t inner_lasti; /* where the innermost frame stood */
};

enum range_kind { RANGE_ANCHOR, RANGE_INNER, RANGE_FRAMES, RANGE_CODE, RANGE_NAME, RANGE_FILE };

static void compare_frame(struct second_reading *s, const char *bytes, unsigned index, bool inner)
{
    struct sw_pyframe *f = &s->w->frames[index], now = {.at = f->at};
    if (!bytes || !sw_pyframe_parse(s->p, bytes, &now) || now.back != f->back || now.code != f->code)
        f->same = false;
    else if (f->at != s->w->top && now.lasti != f->lasti)
        f->moved = true;
    else if (inner)
        s->inner_lasti = now.lasti;
}

static void compare_frames(struct second_reading *s, const struct sw_pymem_range *r, unsigned first,
                           unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        compare_frame(s, r->ok ? (const char *)r->out + (s->w->frames[i].at - r->address) : NULL, i, false);
}

static void compare_code(struct second_reading *s, const struct sw_pymem_range *r, unsigned index)
{
    struct sw_pycode *c = &s->p->buf->codes[index], now = {0};
    if (!r->ok || !sw_pycode_parse(s->p, r->out, &now) || now.filename != c->filename ||
        now.name != c->name || now.linetable != c->linetable || now.first_line != c->first_line ||
        now.version != c->version || now.units != c->units)
        c->same = false;
}

static void compare_text(struct second_reading *s, const struct sw_pymem_range *r, unsigned index,
                         const struct sw_pytext_key *key)
{
    if (!r->ok || (int64_t)sw_py_u64(r->out, 0) != key->length ||
        (int64_t)sw_py_u64(r->out, sizeof key->length) != key->hash)
        s->p->buf->codes[index].same = false;
}

static void read_and_compare(struct second_reading *s)
{
    struct sw_pybuffers *b = s->p->buf;
    sw_pymem_read_ranges(&s->p->mem, b->ranges, s->ranges);
    for (unsigned i = 0; i < s->ranges; i++) {
        const struct sw_pymem_range *r = &b->ranges[i];
        const unsigned first = b->range_first[i], last = b->range_last[i];
        switch ((enum range_kind)b->range_kind[i]) {
        case RANGE_ANCHOR:
            if (!r->ok || sw_py_u64(r->out, 0) != s->w->anchors[first].value)
                s->anchors_same = false;
            break;
        case RANGE_INNER:
            compare_frame(s, r->ok ? r->out : NULL, first, true);
            break;
        case RANGE_FRAMES:
            compare_frames(s, r, first, last);
            break;
        case RANGE_CODE:
            compare_code(s, r, first);
            break;
        case RANGE_NAME:
            compare_text(s, r, first, &b->codes[first].name_key);
            break;
        case RANGE_FILE:
            compare_text(s, r, first, &b->codes[first].filename_key);
            break;
        }
    }
    s->ranges = 0;
    s->bytes = 0;
}

static void make_room(struct second_reading *s, unsigned ranges, size_t bytes)
{
    if (s->ranges + ranges > SW_PYMEM_RANGES_MAX || s->bytes + bytes > sizeof s->p->buf->batch)
        read_and_compare(s);
}

static void put(struct second_reading *s, enum range_kind kind, uintptr_t at, size_t bytes, unsigned first,
                unsigned last)
{
    struct sw_pybuffers *b = s->p->buf;
    const unsigned i = s->ranges++;
    b->ranges[i] = (struct sw_pymem_range){.address = at, .out = b->batch + s->bytes, .bytes = bytes};
    b->range_kind[i] = (uint8_t)kind;
    b->range_first[i] = (uint16_t)first;
    b->range_last[i] = (uint16_t)last;
    s->bytes += bytes;
}

struct group { /* of frames that lie together, callers below callees */
    unsigned first, last;
    uintptr_t low;
    size_t bytes;
};

static struct group group_from(const struct second_reading *s, unsigned first)
{
    const struct sw_pyframe *f = s->w->frames;
    const size_t frame_bytes = s->p->frame_bytes;
    struct group g = {.first = first, .last = first, .low = f[first].at, .bytes = frame_bytes};
    for (unsigned i = first + 1; i < s->w->kept; i++) {
        if (f[i].at >= g.low || g.low - f[i].at > MERGE_GAP_BYTES ||
            f[first].at - f[i].at > MERGE_BYTES_MAX - frame_bytes)
            break;
        g.last = i;
        g.low = f[i].at;
        g.bytes = f[first].at - g.low + frame_bytes;
    }
    return g;
}

static void put_group(struct second_reading *s, const struct group *g)
{
    put(s, RANGE_FRAMES, g->low, g->bytes, g->first, g->last);
}

static void put_anchors(struct second_reading *s)
{
    for (unsigned i = 0; i < s->w->anchor_count; i++)
        put(s, RANGE_ANCHOR, s->w->anchors[i].at, sizeof s->w->anchors[i].value, i, i);
}

/* The innermost frames one by one, each callee between two readings of its caller, as close together as can be: they are
 * the ones that change fastest, and a range of several takes as long to copy as a short function to run. */
static void put_inner(struct second_reading *s)
{
    const struct sw_pyframe *f = s->w->frames;
    const size_t bytes = s->p->frame_bytes;
    put_anchors(s);
    for (unsigned i = 0; i < INNER_FRAMES && i < s->w->kept; i++) {
        const bool has_caller = i + 1 < s->w->kept;
        if (has_caller)
            put(s, RANGE_FRAMES, f[i + 1].at, bytes, i + 1, i + 1);
        put(s, i == 0 ? RANGE_INNER : RANGE_FRAMES, f[i].at, bytes, i, i);
        if (has_caller)
            put(s, RANGE_FRAMES, f[i + 1].at, bytes, i + 1, i + 1);
    }
    put_anchors(s);
}

static void put_frames(struct second_reading *s)
{
    if (s->w->kept == 0) {
        put_anchors(s);
        return;
    }
    make_room(s, INNER_RANGES, INNER_RANGES * SW_PYFRAME_BYTES_MAX);
    put_inner(s);
    struct group g = group_from(s, 0), before;
    put_group(s, &g);
    while (g.last + 1 < s->w->kept) {
        before = g;
        g = group_from(s, before.last + 1);
        make_room(s, BRACKET_RANGES, 2 * g.bytes + before.bytes);
        put_group(s, &g);
        put_group(s, &before);
        put_group(s, &g);
    }
}

static void put_codes(struct second_reading *s)
{
    struct sw_pystack *p = s->p;
    /* Without a version number in the code object (up to 3.11), a new one can look like the old one at the same
     * address: its strings then tell them apart. */
    const bool texts = p->layout.at.code_version == SW_PYNONE;
    for (unsigned i = 0; i < p->code_count; i++) {
        const struct sw_pycode *c = &p->buf->codes[i];
        if (!c->readable)
            continue;
        make_room(s, BRACKET_RANGES, p->code_bytes + 2 * PYTEXT_KEY_BYTES);
        put(s, RANGE_CODE, c->at, p->code_bytes, i, i);
        if (texts) {
            put(s, RANGE_NAME, c->name + PYTEXT_KEY_OFFSET, PYTEXT_KEY_BYTES, i, i);
            put(s, RANGE_FILE, c->filename + PYTEXT_KEY_OFFSET, PYTEXT_KEY_BYTES, i, i);
        }
    }
}

bool sw_pyverify(struct sw_pystack *p, struct sw_pywalk *w)
{
    struct second_reading s = {.p = p, .w = w, .anchors_same = true};
    if (w->kept > 0)
        s.inner_lasti = w->frames[0].lasti;
    for (unsigned i = 0; i < w->kept; i++) {
        w->frames[i].same = true;
        w->frames[i].moved = false;
    }
    for (unsigned i = 0; i < p->code_count; i++)
        p->buf->codes[i].same = true;
    put_frames(&s);
    put_codes(&s);
    put_frames(&s);
    read_and_compare(&s);

    if (w->kept > 0 && !w->frames[0].hidden && s.inner_lasti != w->frames[0].lasti &&
        !sw_pycode_relocate_inner(p, &w->frames[0], s.inner_lasti))
        w->frames[0].same = false;
    bool all = s.anchors_same;
    for (unsigned i = 0; i < w->kept; i++) {
        struct sw_pyframe *f = &w->frames[i];
        f->same = f->same && (f->hidden || p->buf->codes[f->code_index].same);
        all = all && f->same && !f->moved;
    }
    return all;
}
