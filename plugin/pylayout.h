/* pylayout.h - where each CPython keeps what we read: offsets and addresses of the interpreter in this process.
 * Owns:    nothing; a struct sw_pylayout is plain values.
 * Callers: _find: set-up, any thread, no GIL: symbols are looked up by name. _offsets: pure.
 * Fork:    nothing to do, addresses stay.
 * 3.8 to 3.12 come from a table. From 3.13 on the interpreter describes itself (_Py_DebugOffsets at the start of
 * _PyRuntime), but that description changes its own shape each minor, so there is one map per minor. Whatever is
 * not known here is refused: a wrong offset shows a wrong stack. */
#ifndef SW_PYLAYOUT_H
#define SW_PYLAYOUT_H

#include "base.h"
#include "pyline.h"
#include "text.h"

/* how f_lasti or the instruction pointer becomes an offset in bytes into the code */
enum sw_pylasti { SW_PYLASTI_BYTES, SW_PYLASTI_UNITS, SW_PYLASTI_POINTER };

/* offsets in bytes within the object; SW_PYNONE where this version has no such field */
#define SW_PYNONE UINT32_MAX

struct sw_pyoffsets {
    unsigned minor;
    uint32_t runtime_interp_head;
    uint32_t interp_next, interp_tstate_head, interp_gil; /* interp_gil: pointer to the GIL, from 3.12 on */
    uint32_t ts_next, ts_thread_id, ts_native_id;
    uint32_t ts_frame;         /* current frame, or pointer to the C frame that holds it */
    uint32_t cframe_frame;     /* 3.11 and 3.12: current frame in the C frame */
    uint32_t ts_chunk, ts_top; /* newest chunk of the data stack and its top, from 3.11 on */
    uint32_t frame_back, frame_code, frame_lasti, frame_owner;
    uint32_t code_firstline, code_filename, code_name, code_linetable, code_version, code_adaptive;
    uint32_t code_first_traceable; /* index of the instruction at which a function has really begun */
    uint32_t unicode_ascii, unicode_compact;                     /* where the characters begin */
    uint32_t code_basicsize, unicode_basicsize, frame_basicsize; /* 0 = not compared */
    uint32_t gil_locked, gil_holder; /* from the GIL; up to 3.11 from _PyRuntime */
    uint32_t pointer_tag;            /* low bits of a frame's code pointer that are not address */
    uint32_t shim_owner;             /* frames with this owner or more are the interpreter's own */
    enum sw_pylasti lasti;
    enum sw_pyline_format lines;
};

/* the same in all versions read here */
#define SW_PYOBJECT_REFCOUNT 0
#define SW_PYOBJECT_TYPE     8  /* ob_type */
#define SW_PYVAROBJECT_SIZE  16 /* ob_size */
#define SW_PYBYTES_DATA      32
#define SW_PYUNICODE_LENGTH  16
#define SW_PYUNICODE_STATE   32
#define SW_PYTYPE_BASICSIZE  32
#define SW_PYCHUNK_PREVIOUS  0
#define SW_PYCHUNK_FIRST_FRAME                                                                               \
    32 /* from the first chunk of a data stack: its head, and one word never used */
#define SW_PYGIL_BYTES         208 /* of struct _gil_runtime_state: interval to switch_mutex */
#define SW_PYGIL_BEFORE_HOLDER 8   /* `interval` lies before last_holder */

struct sw_pylayout {
    struct sw_pyoffsets at;
    uintptr_t runtime;                                         /* _PyRuntime */
    uintptr_t type_code, type_unicode, type_bytes, type_frame; /* type_frame: 0 from 3.11 on */
};

/* Looks up the interpreter of this process. 0, -ENOENT (no Python), -ENOTSUP; `version` and `why` one line each. */
int sw_pylayout_find(struct sw_pylayout *out, struct sw_text *version, struct sw_text *why) SW_MUST_CHECK;

/* The offsets of one version, as Py_GetVersion() writes it. From 3.13 on `described` are the first bytes of
 * _PyRuntime. 0, or -ENOTSUP with one line in `why`. */
int sw_pylayout_offsets(struct sw_pyoffsets *out, const char *version, const void *described,
                        size_t described_bytes, struct sw_text *why) SW_MUST_CHECK;

#endif
