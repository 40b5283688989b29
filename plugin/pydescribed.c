#include "pydescribed.h"

#include <string.h>

static const char COOKIE[8] = {'x', 'd', 'e', 'b', 'u', 'g', 'p', 'y'};

/* Indexes into it. Not described there: co_version, _co_firsttraceable, and datastack_top, which
 * follows datastack_chunk. */
struct described_map {
    unsigned minor, words;
    uint8_t runtime_size, interp_head;
    uint8_t interp_size, interp_next, interp_tstates, interp_gil, gil, gil_locked, gil_holder;
    uint8_t ts_size, ts_next, ts_frame, ts_thread_id, ts_native_id, ts_chunk;
    uint8_t frame_size, frame_back, frame_code, frame_lasti, frame_owner;
    uint8_t code_size, code_filename, code_qualname, code_linetable, code_firstline, code_adaptive;
    uint8_t object_type, bytes_data, bytes_size;
    uint8_t unicode_size, unicode_state, unicode_length, unicode_ascii,
        unicode_compact; /* 0 = not described */
    uint32_t pointer_tag;
};

#define MAJOR_HEX          UINT64_C(0x03000000) /* PY_VERSION_HEX of a final release */
#define RELEASE_FINAL      0xf0
#define WORD_VERSION       1
#define WORD_FREE_THREADED 2

static const struct described_map MAPS[] = {
    {.minor = 13,
     .words = 73,
     .runtime_size = 3,
     .interp_head = 5,
     .interp_size = 6,
     .interp_next = 8,
     .interp_tstates = 9,
     .interp_gil = 14,
     .gil = 15,
     .gil_locked = 17,
     .gil_holder = 18,
     .ts_size = 19,
     .ts_next = 21,
     .ts_frame = 23,
     .ts_thread_id = 24,
     .ts_native_id = 25,
     .ts_chunk = 26,
     .frame_size = 28,
     .frame_back = 29,
     .frame_code = 30,
     .frame_lasti = 31,
     .frame_owner = 33,
     .code_size = 34,
     .code_filename = 35,
     .code_qualname = 37,
     .code_linetable = 38,
     .code_firstline = 39,
     .code_adaptive = 43,
     .object_type = 45,
     .bytes_size = 65,
     .bytes_data = 66,
     .unicode_size = 67,
     .unicode_state = 68,
     .unicode_length = 69,
     .unicode_ascii = 70},
    {.minor = 14,
     .words = 95,
     .runtime_size = 3,
     .interp_head = 5,
     .interp_size = 6,
     .interp_next = 8,
     .interp_tstates = 9,
     .interp_gil = 15,
     .gil = 16,
     .gil_locked = 18,
     .gil_holder = 19,
     .ts_size = 22,
     .ts_next = 24,
     .ts_frame = 26,
     .ts_thread_id = 27,
     .ts_native_id = 28,
     .ts_chunk = 29,
     .frame_size = 31,
     .frame_back = 32,
     .frame_code = 33,
     .frame_lasti = 34,
     .frame_owner = 36,
     .code_size = 39,
     .code_filename = 40,
     .code_qualname = 42,
     .code_linetable = 43,
     .code_firstline = 44,
     .code_adaptive = 48,
     .object_type = 51,
     .bytes_size = 75,
     .bytes_data = 76,
     .unicode_size = 77,
     .unicode_state = 78,
     .unicode_length = 79,
     .unicode_ascii = 80,
     .pointer_tag = 3},
    {.minor = 15,
     .words = 111,
     .runtime_size = 3,
     .interp_head = 5,
     .interp_size = 6,
     .interp_next = 8,
     .interp_tstates = 9,
     .interp_gil = 15,
     .gil = 16,
     .gil_locked = 18,
     .gil_holder = 19,
     .ts_size = 22,
     .ts_next = 24,
     .ts_frame = 26,
     .ts_thread_id = 30,
     .ts_native_id = 31,
     .ts_chunk = 32,
     .frame_size = 39,
     .frame_back = 40,
     .frame_code = 41,
     .frame_lasti = 42,
     .frame_owner = 44,
     .code_size = 47,
     .code_filename = 48,
     .code_qualname = 50,
     .code_linetable = 51,
     .code_firstline = 52,
     .code_adaptive = 56,
     .object_type = 59,
     .bytes_size = 87,
     .bytes_data = 88,
     .unicode_size = 89,
     .unicode_state = 90,
     .unicode_length = 91,
     .unicode_ascii = 92,
     .unicode_compact = 93,
     .pointer_tag = 3},
};

#define DESCRIBED_CODE_VERSION          92
#define DESCRIBED_UNICODE_COMPACT       56
#define DESCRIBED_SHIM_OWNER            3
#define DESCRIBED_TRACEABLE_BEFORE_CODE 16U /* co_first_traceable, a pointer, the bytecode */

#define RUNTIME_BYTES_MAX UINT64_C(0x4000000) /* no struct of an interpreter is larger than 64 MiB */
#define OBJECT_BYTES_MAX  UINT64_C(4096)      /* nor a frame, code object head or string head than this */
#define POINTER_BYTES     8
#define INT_BYTES         4

/* Each offset is checked against the size of the struct it belongs to; the first one that cannot be is remembered. */
struct description {
    const unsigned char *at;
    const char *wrong;
};

#define WRONG(what) "its description is wrong (" what ")"

static void blame(struct description *d, const char *what)
{
    if (!d->wrong)
        d->wrong = what;
}

static uint64_t word(const struct description *d, unsigned index)
{
    uint64_t value;
    memcpy(&value, d->at + (size_t)index * sizeof value, sizeof value);
    return value;
}

static uint64_t struct_size(struct description *d, unsigned index, uint64_t most, const char *what)
{
    const uint64_t size = word(d, index);
    if (size < POINTER_BYTES || size > most) {
        blame(d, what);
        return 0;
    }
    return size;
}

static uint32_t field(struct description *d, unsigned index, uint64_t struct_bytes, uint64_t field_bytes,
                      const char *what)
{
    const uint64_t offset = word(d, index);
    if (struct_bytes < field_bytes || offset > struct_bytes - field_bytes || offset % field_bytes != 0) {
        blame(d, what);
        return 0;
    }
    return (uint32_t)offset;
}

static void must_be(struct description *d, unsigned index, uint64_t value, const char *what)
{
    if (word(d, index) != value)
        blame(d, what);
}

static void read_description(struct sw_pyoffsets *o, struct description *d, const struct described_map *m)
{
    const uint64_t runtime = struct_size(d, m->runtime_size, RUNTIME_BYTES_MAX, WRONG("runtime state size"));
    o->runtime_interp_head = field(d, m->interp_head, runtime, POINTER_BYTES, WRONG("interpreters head"));

    const uint64_t interp =
        struct_size(d, m->interp_size, RUNTIME_BYTES_MAX, WRONG("interpreter state size"));
    o->interp_next = field(d, m->interp_next, interp, POINTER_BYTES, WRONG("next interpreter"));
    o->interp_tstate_head = field(d, m->interp_tstates, interp, POINTER_BYTES, WRONG("threads head"));
    o->interp_gil = field(d, m->interp_gil, interp, POINTER_BYTES, WRONG("GIL pointer"));
    const uint32_t gil = field(d, m->gil, interp, POINTER_BYTES, WRONG("GIL"));
    o->gil_locked = field(d, m->gil_locked, interp, INT_BYTES, WRONG("GIL locked")) - gil;
    o->gil_holder = field(d, m->gil_holder, interp, POINTER_BYTES, WRONG("GIL holder")) - gil;
    if (o->gil_locked >= SW_PYGIL_BYTES || o->gil_holder >= SW_PYGIL_BYTES)
        blame(d, WRONG("GIL state"));

    const uint64_t ts = struct_size(d, m->ts_size, OBJECT_BYTES_MAX, WRONG("thread state size"));
    o->ts_next = field(d, m->ts_next, ts, POINTER_BYTES, WRONG("next thread"));
    o->ts_frame = field(d, m->ts_frame, ts, POINTER_BYTES, WRONG("current frame"));
    o->ts_thread_id = field(d, m->ts_thread_id, ts, POINTER_BYTES, WRONG("thread id"));
    o->ts_native_id = field(d, m->ts_native_id, ts, POINTER_BYTES, WRONG("native thread id"));
    o->ts_chunk = field(d, m->ts_chunk, ts - POINTER_BYTES, POINTER_BYTES, WRONG("data stack"));
    o->ts_top = o->ts_chunk + POINTER_BYTES;
    o->cframe_frame = SW_PYNONE;

    const uint64_t frame = struct_size(d, m->frame_size, OBJECT_BYTES_MAX, WRONG("frame size"));
    o->frame_back = field(d, m->frame_back, frame, POINTER_BYTES, WRONG("previous frame"));
    o->frame_code = field(d, m->frame_code, frame, POINTER_BYTES, WRONG("code of a frame"));
    o->frame_lasti = field(d, m->frame_lasti, frame, POINTER_BYTES, WRONG("instruction pointer"));
    o->frame_owner = field(d, m->frame_owner, frame, 1, WRONG("frame owner"));
    o->shim_owner = DESCRIBED_SHIM_OWNER;
    o->pointer_tag = m->pointer_tag;
    o->lasti = SW_PYLASTI_POINTER;
    o->lines = SW_PYLINE_LOCATIONS;

    const uint64_t code = struct_size(d, m->code_size, OBJECT_BYTES_MAX, WRONG("code object size"));
    o->code_filename = field(d, m->code_filename, code, POINTER_BYTES, WRONG("file name"));
    o->code_name = field(d, m->code_qualname, code, POINTER_BYTES, WRONG("qualified name"));
    o->code_linetable = field(d, m->code_linetable, code, POINTER_BYTES, WRONG("line table"));
    o->code_firstline = field(d, m->code_firstline, code, INT_BYTES, WRONG("first line"));
    o->code_adaptive = field(d, m->code_adaptive, code, POINTER_BYTES, WRONG("bytecode"));
    if (o->code_adaptive < DESCRIBED_TRACEABLE_BEFORE_CODE)
        blame(d, WRONG("bytecode"));
    o->code_first_traceable = o->code_adaptive - DESCRIBED_TRACEABLE_BEFORE_CODE;
    o->code_basicsize = o->code_adaptive;
    o->code_version = DESCRIBED_CODE_VERSION;

    const uint64_t unicode = struct_size(d, m->unicode_size, OBJECT_BYTES_MAX, WRONG("string size"));
    o->unicode_basicsize = (uint32_t)unicode;
    o->unicode_ascii = field(d, m->unicode_ascii, unicode, POINTER_BYTES, WRONG("ASCII string"));
    o->unicode_compact = m->unicode_compact
                             ? field(d, m->unicode_compact, unicode, POINTER_BYTES, WRONG("compact string"))
                             : DESCRIBED_UNICODE_COMPACT;
    must_be(d, m->unicode_length, SW_PYUNICODE_LENGTH, WRONG("string length"));
    must_be(d, m->unicode_state, SW_PYUNICODE_STATE, WRONG("string state"));
    must_be(d, m->bytes_size, SW_PYVAROBJECT_SIZE, WRONG("bytes length"));
    must_be(d, m->bytes_data, SW_PYBYTES_DATA, WRONG("bytes data"));
    must_be(d, m->object_type, SW_PYOBJECT_TYPE, WRONG("object type"));
}

const char *sw_pydescribed_read(struct sw_pyoffsets *out, unsigned minor, unsigned micro, const void *at,
                                size_t bytes)
{
    const struct described_map *map = NULL;
    for (unsigned i = 0; i < SW_COUNT(MAPS); i++)
        if (MAPS[i].minor == minor)
            map = &MAPS[i];
    if (!map)
        return "its layout is not known";
    struct description d = {.at = at};
    if (!at || bytes < map->words * sizeof(uint64_t) || memcmp(at, COOKIE, sizeof COOKIE) != 0)
        return "it does not describe itself";
    if (word(&d, WORD_VERSION) != (MAJOR_HEX | minor << 16 | micro << 8 | RELEASE_FINAL))
        return "its description is of another version";
    if (word(&d, WORD_FREE_THREADED) != 0)
        return "it is a free-threaded build";
    *out = (struct sw_pyoffsets){.minor = minor};
    read_description(out, &d, map);
    return d.wrong;
}
