/* safepoint.c - may an exception be raised at this very instruction of a frame?
 * A `with` statement has a hole in some versions: a few instructions at which its block is entered, but an exception does
 * not pass through __exit__. One of ours that came there would leave a block open without its frame.
 * 3.8, 3.9: from POP_BLOCK to the call of __exit__. 3.14: right after the call of __enter__. Others have none.
 * Source: the compiler's output of these versions, and floods of signals. */
#include "glue.h"

#if PY_VERSION_HEX < 0x030a0000
#include <opcode.h>

#define UNIT_BYTES 2

/* Between POP_BLOCK and the call only arguments are pushed, which cannot block: so this is no blocking call either. */
static bool in_hole(const char *code, Py_ssize_t bytes, Py_ssize_t at)
{
    for (; at >= 0 && at < bytes; at -= UNIT_BYTES)
        switch ((unsigned char)code[at]) {
        case POP_BLOCK:
            return true;
#ifdef BEGIN_FINALLY /* 3.8 */
        case BEGIN_FINALLY:
#endif
        case LOAD_CONST:
        case DUP_TOP:
        case ROT_TWO:
            break;
        default:
            return false;
        }
    return false;
}

bool sw_safepoint(PyFrameObject *frame)
{
    PyObject *code = frame ? frame->f_code->co_code : NULL;
    return !code || !in_hole(PyBytes_AS_STRING(code), PyBytes_GET_SIZE(code), frame->f_lasti);
}

bool sw_safepoint_next(PyFrameObject *frame)
{
    return sw_safepoint(frame);
}

#elif PY_VERSION_HEX >= 0x030e0000 && PY_VERSION_HEX < 0x030f0000
#include <opcode_ids.h>

/* Positions here are code units: opcode and argument. */
struct code {
    const unsigned char *units;
    Py_ssize_t count;
};

static int opcode_at(const struct code *c, Py_ssize_t at)
{
    return at >= 0 && at < c->count ? c->units[2 * at] : 0;
}

static bool is_hole(const struct code *c, Py_ssize_t at)
{
    return opcode_at(c, at) == CALL && opcode_at(c, at - 1) == LOAD_SPECIAL;
}

static Py_ssize_t target_back(const struct code *c, Py_ssize_t at)
{
    Py_ssize_t distance = c->units[2 * at + 1];
    for (int i = 1; i <= 3 && opcode_at(c, at - i) == EXTENDED_ARG; i++)
        distance |= (Py_ssize_t)c->units[2 * (at - i) + 1] << (8 * i);
    return at + 2 - distance; /* from behind its one cache unit */
}

/* Where the next look comes after the one at `at`, along the straight path. */
static Py_ssize_t next_look(const struct code *c, Py_ssize_t at)
{
    for (at = opcode_at(c, at) == JUMP_BACKWARD ? target_back(c, at) : at + 1; at < c->count; at++)
        switch (opcode_at(c, at)) {
        case CALL:
        case CALL_KW:
        case CALL_FUNCTION_EX:
        case JUMP_BACKWARD:
            return at;
        default:
            break;
        }
    return at;
}

/* next: also where the look after this one comes. */
static bool is_safe(PyFrameObject *frame, bool next)
{
    if (!frame)
        return true;
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *bytes = PyCode_GetCode(code); /* as compiled, without specialisation */
    bool safe = true;
    if (bytes) {
        const struct code c = {(const unsigned char *)PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes) / 2};
        const Py_ssize_t at = PyFrame_GetLasti(frame) / 2;
        safe = !is_hole(&c, at) && !(next && is_hole(&c, next_look(&c, at)));
    }
    PyErr_Clear();
    Py_XDECREF(bytes);
    Py_DECREF(code);
    return safe;
}

/* Main thread only. Two looks in a row at the same place: it is not behind __enter__ but inside, and that blocks. */
bool sw_safepoint(PyFrameObject *frame)
{
    static const void *refused_frame;
    static int refused_at;
    const int at = frame ? PyFrame_GetLasti(frame) : -1;
    if (is_safe(frame, false) || (refused_frame == frame && refused_at == at)) {
        refused_frame = NULL;
        return true;
    }
    refused_frame = frame;
    refused_at = at;
    return false;
}

/* The word that tells what is set is read once, before the GIL is given away: what is set meanwhile comes one look
 * later; if the thread is in a call, after that. */
bool sw_safepoint_next(PyFrameObject *frame)
{
    return is_safe(frame, true);
}

#else

bool sw_safepoint(PyFrameObject *Py_UNUSED(frame))
{
    return true;
}

bool sw_safepoint_next(PyFrameObject *Py_UNUSED(frame))
{
    return true;
}

#endif
