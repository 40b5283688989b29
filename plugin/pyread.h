/* pyread.h - inside of the stack reader: what pythread.c, pyframe.c, pycode.c and pyverify.c hand to each other.
 * A capture is: find the thread state (pythread), walk its frames (pyframe), turn code objects into names and lines
 * (pycode), read everything once more and compare (pyverify), as often as needed (pystack).
 * Owns:    nothing; struct sw_pystack is owned by whoever called sw_pystack_attach.
 * Callers: only the thread that may call sw_pystack_capture. */
#ifndef SW_PYREAD_H
#define SW_PYREAD_H

#include "event.h"
#include "pylayout.h"
#include "pymem.h"
#include "pystack.h"

#define SW_PYFRAME_BYTES_MAX  ((size_t)128) /* of a frame that are read: up to its last field of interest */
#define SW_PYCODE_BYTES_MAX   ((size_t)256) /* the same of a code object */
#define SW_PYTHREAD_BYTES_MAX ((size_t)512) /* the same of a thread state */

#define SW_PYCHUNK_BYTES ((size_t)16 * 1024)  /* of the data stack, read at once; the usual size of a chunk */
#define SW_PYTABLE_BYTES ((size_t)256 * 1024) /* longest line table */
#define SW_PYINNER_BYTES ((size_t)8 * 1024)   /* longest line table kept of the innermost frame */
#define SW_PYPAGE_BYTES  4096 /* the smallest page there is: what begins in one can be read to its end */
#define SW_PYTEXT_CHARS  1024 /* longest name or path, in characters */
#define SW_PYFRAMES_MAX  (2 * SW_STACK_FRAMES_MAX) /* each frame that is shown may have a hidden one */
#define SW_PYCODE_SLOTS  (2 * SW_STACK_FRAMES_MAX)
#define SW_PYANCHORS_MAX 3
#define SW_PYNO_INDEX    UINT16_MAX

/* a word that must not change while frames are read */
struct sw_pyanchor {
    uintptr_t at;
    uint64_t value;
};

struct sw_pyframe {
    uintptr_t at, back, code;
    uint64_t lasti;        /* as it is in the frame: a signed index, or an address */
    int line;              /* 0 = none */
    uint16_t code_index;   /* into sw_pybuffers.codes */
    uint16_t next_of_code; /* next frame, outwards, with the same code; SW_PYNO_INDEX = last */
    bool hidden;           /* the interpreter's own, or not begun yet: no part of a traceback */
    bool resolved;         /* names and line are known */
    bool same;             /* verification found the frame unchanged, but for its instruction: */
    bool moved; /* that one moved on; never of the innermost frame, whose line is then the later one */
};

/* what tells one string from another at the same address */
struct sw_pytext_key {
    int64_t length, hash;
};

struct sw_pycode {
    uintptr_t at, filename, name, linetable;
    int64_t units; /* ob_size: from 3.11 on the length of the bytecode */
    int32_t first_line;
    uint32_t version;
    struct sw_pytext_key filename_key, name_key;
    const char *file, *function; /* in the caller's arena */
    uint16_t first_frame;
    bool readable; /* a code object with names that could be read */
    bool same;     /* found unchanged by the verification */
};

/* one walk from the innermost frame outwards */
struct sw_pywalk {
    struct sw_pyframe *frames;   /* innermost first */
    unsigned kept, total;        /* frames kept; frames met; both with hidden ones */
    unsigned shown, shown_total; /* the same without them */
    struct sw_pyanchor anchors[SW_PYANCHORS_MAX];
    unsigned anchor_count;
    uintptr_t top; /* address of the innermost frame */
    bool complete; /* it ended where a chain ends */
};

/* Touched only as far as a stack is deep; never all resident. */
struct sw_pybuffers {
    struct sw_pyframe frames[2][SW_PYFRAMES_MAX];
    struct sw_pycode codes[SW_STACK_FRAMES_MAX]; /* of frames that are shown */
    uint16_t code_slots[SW_PYCODE_SLOTS];        /* hash table of 1 + index into codes, by address */
    struct sw_pymem_range ranges[SW_PYMEM_RANGES_MAX];
    uint16_t range_first[SW_PYMEM_RANGES_MAX], range_last[SW_PYMEM_RANGES_MAX];
    uint8_t range_kind[SW_PYMEM_RANGES_MAX]; /* pyverify.c: what a range is of */
    char batch[SW_PYMEM_WINDOW_BYTES];
    char chunk[SW_PYCHUNK_BYTES];
    char text[SW_PYTEXT_CHARS * sizeof(uint32_t)];
    char utf8[SW_PYTEXT_CHARS * 6 + 8];
    unsigned char inner_table[SW_PYINNER_BYTES];
    _Alignas(SW_PYPAGE_BYTES) unsigned char table[SW_PYTABLE_BYTES];
};

struct sw_pystack {
    struct sw_pylayout layout;
    struct sw_pymem mem;
    struct sw_pybuffers *buf; /* NULL until _open */
    bool main_first;          /* the host told: of several, the main interpreter's is meant */
    uintptr_t preferred;      /* the thread state of the asked thread, 0 = any with its id */
    unsigned code_count;
    size_t frame_bytes, code_bytes, thread_bytes; /* what is read of each, from its beginning */
    uintptr_t chunk_low, chunk_high; /* part of the data stack that lies in buf->chunk; equal = nothing */
    uintptr_t chunk_before;          /* the chunk before it */
    size_t inner_table_bytes;
    bool inner_table_kept; /* the line table of the innermost frame is in buf->inner_table */
};

static inline uint64_t sw_py_u64(const void *from, size_t offset)
{
    uint64_t v;
    __builtin_memcpy(&v, (const char *)from + offset, sizeof v);
    return v;
}

static inline uint32_t sw_py_u32(const void *from, size_t offset)
{
    uint32_t v;
    __builtin_memcpy(&v, (const char *)from + offset, sizeof v);
    return v;
}

static inline int sw_py_read_word(struct sw_pystack *p, uintptr_t at, uint64_t *out)
{
    return sw_pymem_read(&p->mem, at, out, sizeof *out);
}

/* ---- set-up without an interpreter of our own, as the tests do ---- */
int sw_pystack_make(struct sw_pystack **out, const struct sw_pylayout *layout,
                    struct sw_text *why) SW_MUST_CHECK;

/* ---- pythread.c: thread states ---- */
struct sw_pythread {
    uintptr_t at, interp;
    uint64_t ident;
    pid_t native;   /* 0 = unknown */
    bool ambiguous; /* another thread state with this ident has frames, too */
};
struct sw_pythread_iter {
    uintptr_t interp, next;
    unsigned interps, threads;
    int error; /* why it ended early, 0 = it did not */
};
void sw_pythread_first(struct sw_pystack *p, struct sw_pythread_iter *it);
bool sw_pythread_next(struct sw_pystack *p, struct sw_pythread_iter *it, struct sw_pythread *out);
bool sw_pythread_is(const struct sw_pystack *p, const struct sw_pythread *t, uint64_t ident);
/* the thread state with frames wins, and among those the one that holds the GIL; 0, -ESRCH, other -errno */
int sw_pythread_find(struct sw_pystack *p, uint64_t ident, struct sw_pythread *out) SW_MUST_CHECK;
/* thread state that holds the GIL of this interpreter, 0 = nobody or unknown; *gil = address of the GIL */
uintptr_t sw_pythread_gil_holder(struct sw_pystack *p, uintptr_t interp, uintptr_t *gil);

/* ---- pyframe.c ---- */
/* sets the anchors and the start of a walk through a thread's frames; 0 (top 0: no frames), or -errno */
int sw_pyframe_start(struct sw_pystack *p, const struct sw_pythread *t, struct sw_pywalk *w) SW_MUST_CHECK;
/* from the start that was set, outwards; keeps the `depth` innermost frames and counts the others */
void sw_pyframe_walk(struct sw_pystack *p, const struct sw_pythread *t, struct sw_pywalk *w, unsigned depth);
/* what was read of a frame at f->at; false = it is none */
bool sw_pyframe_parse(const struct sw_pystack *p, const char *bytes, struct sw_pyframe *f);

/* ---- pycode.c ---- */
/* names and lines for all kept frames; strings go to the arena. Returns how many frames stay unresolved. */
unsigned sw_pycode_resolve(struct sw_pystack *p, struct sw_pywalk *w, struct sw_arena *arena);
/* the innermost frame moved on within its code; false = its line cannot be told */
bool sw_pycode_relocate_inner(struct sw_pystack *p, struct sw_pyframe *f, uint64_t lasti);
/* what was read of a code object; false = it is none */
bool sw_pycode_parse(const struct sw_pystack *p, const char *bytes, struct sw_pycode *c);

/* ---- pytext.c ---- */
/* A str whose first `have` bytes were read; NULL = it is none. Long ones are cut, with "..." behind. */
const char *sw_pytext_copy(struct sw_pystack *p, uintptr_t at, const char *bytes, size_t have,
                           struct sw_pytext_key *key, struct sw_arena *arena);
/* characters of 1, 2 or 4 bytes to UTF-8; lone surrogates as os.fsencode() and "backslashreplace" would. Returns the
 * length; pure. `room` >= 6 * chars. */
size_t sw_pytext_utf8(unsigned kind, const void *chars, size_t count, char *out, size_t room);

/* ---- pyverify.c ---- */
/* Reads anchors, frames and code objects again and marks what is the same; true = all of it, and the same thread
 * state still has the same innermost frame. */
bool sw_pyverify(struct sw_pystack *p, struct sw_pywalk *w);

#endif
