#include "pyread.h"

#include <string.h>
#include <sys/mman.h>

/* Code objects are resolved in batches: one gathered read for their heads, one for the beginnings of their strings and
 * line tables. How long those are is not known before: most fit, the others are read again. */
#define BATCH_CODES    64U
#define TEXT_BYTES     ((size_t)192)
#define TABLE_BYTES    ((size_t)384)
#define PER_CODE_BYTES (2 * TEXT_BYTES + TABLE_BYTES)
#define CODE_UNIT      2 /* bytes */

_Static_assert(BATCH_CODES *PER_CODE_BYTES <= SW_PYMEM_WINDOW_BYTES, "a batch is one read");
_Static_assert(BATCH_CODES *SW_PYCODE_BYTES_MAX <= SW_PYMEM_WINDOW_BYTES, "and so are its heads");

/* ---- which code objects there are, each once ---- */

static uint16_t *slot_of(struct sw_pystack *p, uintptr_t at)
{
    size_t slot = (at >> 4) * 0x9e3779b1U % SW_PYCODE_SLOTS;
    for (;;) { /* twice as many slots as codes: a free one comes */
        uint16_t *s = &p->buf->code_slots[slot];
        if (*s == 0 || p->buf->codes[*s - 1].at == at)
            return s;
        slot = (slot + 1) % SW_PYCODE_SLOTS;
    }
}

static void collect(struct sw_pystack *p, struct sw_pywalk *w)
{
    p->code_count = 0;
    memset(p->buf->code_slots, 0, sizeof p->buf->code_slots);
    /* Numbered from the innermost, whose names must find room in the arena first. */
    for (unsigned i = 0; i < w->kept; i++) {
        struct sw_pyframe *f = &w->frames[i];
        if (f->hidden)
            continue;
        uint16_t *s = slot_of(p, f->code);
        if (*s == 0) {
            p->buf->codes[p->code_count] = (struct sw_pycode){.at = f->code, .first_frame = SW_PYNO_INDEX};
            *s = (uint16_t)++p->code_count;
        }
        f->code_index = (uint16_t)(*s - 1);
    }
    for (unsigned i = w->kept; i-- > 0;) {
        if (w->frames[i].hidden)
            continue;
        struct sw_pycode *c = &p->buf->codes[w->frames[i].code_index];
        w->frames[i].next_of_code = c->first_frame;
        c->first_frame = (uint16_t)i;
    }
}

/* ---- heads ---- */

bool sw_pycode_parse(const struct sw_pystack *p, const char *bytes, struct sw_pycode *c)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    if (sw_py_u64(bytes, SW_PYOBJECT_TYPE) != p->layout.type_code)
        return false;
    c->filename = sw_py_u64(bytes, o->code_filename);
    c->name = sw_py_u64(bytes, o->code_name);
    c->linetable = sw_py_u64(bytes, o->code_linetable);
    c->first_line = (int32_t)sw_py_u32(bytes, o->code_firstline);
    c->version = o->code_version == SW_PYNONE ? 0 : sw_py_u32(bytes, o->code_version);
    c->units = o->code_adaptive == SW_PYNONE ? 0 : (int64_t)sw_py_u64(bytes, SW_PYVAROBJECT_SIZE);
    return true;
}

static void read_heads(struct sw_pystack *p, unsigned from, unsigned count)
{
    struct sw_pymem_range *r = p->buf->ranges;
    for (unsigned i = 0; i < count; i++)
        r[i] = (struct sw_pymem_range){.address = p->buf->codes[from + i].at,
                                       .out = p->buf->batch + i * p->code_bytes,
                                       .bytes = p->code_bytes};
    sw_pymem_read_ranges(&p->mem, r, count);
    for (unsigned i = 0; i < count; i++) {
        struct sw_pycode *c = &p->buf->codes[from + i];
        c->readable = r[i].ok && sw_pycode_parse(p, r[i].out, c);
    }
}

/* ---- lines ---- */

/* Offset in bytes of the instruction; false = outside of the code. */
static bool instruction(const struct sw_pystack *p, const struct sw_pycode *c, uint64_t lasti, int64_t *out)
{
    switch (p->layout.at.lasti) {
    case SW_PYLASTI_BYTES:
        *out = (int64_t)lasti;
        break;
    case SW_PYLASTI_UNITS:
        *out = (int64_t)lasti < 0 ? -1 : (int64_t)lasti * CODE_UNIT;
        break;
    case SW_PYLASTI_POINTER:
        *out = (int64_t)(lasti - (c->at + p->layout.at.code_adaptive));
        return *out >= -CODE_UNIT && *out / CODE_UNIT < c->units;
    }
    return *out >= -1;
}

/* The whole line table, in `have` bytes or read once more; NULL = none. */
static const unsigned char *line_table(struct sw_pystack *p, const struct sw_pycode *c, const char *bytes,
                                       size_t have, size_t *length)
{
    if (have < SW_PYBYTES_DATA || sw_py_u64(bytes, SW_PYOBJECT_TYPE) != p->layout.type_bytes)
        return NULL;
    const uint64_t size = sw_py_u64(bytes, SW_PYVAROBJECT_SIZE);
    if (size > SW_PYTABLE_BYTES)
        return NULL;
    *length = size;
    if (size <= have - SW_PYBYTES_DATA)
        return (const unsigned char *)bytes + SW_PYBYTES_DATA;
    for (size_t done = 0; done < size;) {
        const size_t step = size - done < SW_PYMEM_WINDOW_BYTES ? size - done : SW_PYMEM_WINDOW_BYTES;
        if (sw_pymem_read(&p->mem, c->linetable + SW_PYBYTES_DATA + done, p->buf->table + done, step) != 0)
            return NULL;
        done += step;
    }
    return p->buf->table;
}

static void set_line(struct sw_pystack *p, const struct sw_pycode *c, struct sw_pyframe *f,
                     const unsigned char *table, size_t bytes)
{
    int64_t at = 0;
    f->resolved = instruction(p, c, f->lasti, &at);
    f->line = f->resolved ? sw_pyline_find(p->layout.at.lines, table, bytes, c->first_line, at) : 0;
}

static void set_lines(struct sw_pystack *p, struct sw_pywalk *w, struct sw_pycode *c,
                      const struct sw_pymem_range *r)
{
    size_t bytes = 0;
    const unsigned char *table = line_table(p, c, r->out, r->ok ? r->bytes : 0, &bytes);
    if (!table)
        return;
    for (uint16_t i = c->first_frame; i != SW_PYNO_INDEX; i = w->frames[i].next_of_code)
        set_line(p, c, &w->frames[i], table, bytes);
    if (c->first_frame == 0 && bytes <= SW_PYINNER_BYTES) {
        memcpy(p->buf->inner_table, table, bytes);
        p->inner_table_bytes = bytes;
        p->inner_table_kept = true;
    }
    if (table == p->buf->table && bytes > SW_PYINNER_BYTES) /* rare: do not stay that large */
        madvise(p->buf->table, SW_PYTABLE_BYTES, MADV_DONTNEED);
}

bool sw_pycode_relocate_inner(struct sw_pystack *p, struct sw_pyframe *f, uint64_t lasti)
{
    if (!p->inner_table_kept)
        return false;
    f->lasti = lasti;
    set_line(p, &p->buf->codes[f->code_index], f, p->buf->inner_table, p->inner_table_bytes);
    return f->resolved;
}

/* ---- strings and tables ---- */

static struct sw_pymem_range prefix(uintptr_t at, char *out, size_t bytes)
{
    return (struct sw_pymem_range){.address = at, .out = out, .bytes = bytes};
}

/* What was asked beyond the end of the object may not be mapped. */
static void read_prefixes(struct sw_pystack *p, struct sw_pymem_range *r, unsigned count)
{
    if (sw_pymem_read_ranges(&p->mem, r, count) == count)
        return;
    for (unsigned i = 0; i < count; i++) {
        const size_t in_page = SW_PYPAGE_BYTES - r[i].address % SW_PYPAGE_BYTES;
        if (r[i].ok || r[i].bytes <= in_page)
            continue;
        r[i].bytes = in_page;
        r[i].ok = sw_pymem_read(&p->mem, r[i].address, r[i].out, in_page) == 0;
    }
}

enum { RANGE_NAME, RANGE_TABLE, RANGE_FILE, RANGES_PER_CODE };

_Static_assert(BATCH_CODES *RANGES_PER_CODE <= SW_PYMEM_RANGES_MAX, "a batch is one read");

static const char *text_of(struct sw_pystack *p, const struct sw_pymem_range *r, struct sw_pytext_key *key,
                           struct sw_arena *arena)
{
    return r->ok ? sw_pytext_copy(p, r->address, r->out, r->bytes, key, arena) : NULL;
}

static void resolve_batch(struct sw_pystack *p, struct sw_pywalk *w, unsigned from, unsigned count,
                          struct sw_arena *arena)
{
    struct sw_pymem_range *ranges = p->buf->ranges;
    struct sw_pycode *codes = p->buf->codes;
    char *out = p->buf->batch;
    unsigned n = 0;
    read_heads(p, from, count);
    for (unsigned i = from; i < from + count; i++) {
        struct sw_pycode *c = &codes[i];
        if (!c->readable)
            continue;
        ranges[n++] = prefix(c->name, out, TEXT_BYTES);
        ranges[n++] = prefix(c->linetable, out + TEXT_BYTES, TABLE_BYTES);
        /* Neighbours are mostly of one file, and have its name in common: nothing to read then. */
        const bool same_file = i > from && codes[i - 1].readable && codes[i - 1].filename == c->filename;
        ranges[n++] = prefix(c->filename, out + TEXT_BYTES + TABLE_BYTES, same_file ? 0 : TEXT_BYTES);
        out += PER_CODE_BYTES;
    }
    read_prefixes(p, ranges, n);
    n = 0;
    for (unsigned i = from; i < from + count; i++) {
        struct sw_pycode *c = &codes[i];
        if (!c->readable)
            continue;
        const struct sw_pymem_range *r = &ranges[n];
        n += RANGES_PER_CODE;
        c->function = text_of(p, &r[RANGE_NAME], &c->name_key, arena);
        if (r[RANGE_FILE].bytes > 0) {
            c->file = text_of(p, &r[RANGE_FILE], &c->filename_key, arena);
        } else {
            c->file = codes[i - 1].file;
            c->filename_key = codes[i - 1].filename_key;
        }
        c->readable = c->function && c->file;
        if (c->readable)
            set_lines(p, w, c, &r[RANGE_TABLE]);
    }
}

unsigned sw_pycode_resolve(struct sw_pystack *p, struct sw_pywalk *w, struct sw_arena *arena)
{
    unsigned unresolved = 0;
    p->inner_table_kept = false;
    collect(p, w);
    for (unsigned from = 0; from < p->code_count; from += BATCH_CODES) {
        const unsigned left = p->code_count - from;
        resolve_batch(p, w, from, left < BATCH_CODES ? left : BATCH_CODES, arena);
    }
    for (unsigned i = 0; i < w->kept; i++)
        unresolved += !w->frames[i].hidden && !w->frames[i].resolved;
    return unresolved;
}
