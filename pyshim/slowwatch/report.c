/* report.c - telling the uWSGI plugin what a timeout did. Outside uWSGI nobody listens, and nothing is gathered. */
#include "glue.h"
#include "timeout_abi.h"

#include <dlfcn.h>

#define FRAMES_MAX 128 /* innermost ones told; the plugin keeps as many by default */

static slowwatch_timeout_report_fn *plugin;

void sw_report_setup(void)
{
    /* uWSGI opens plugins with RTLD_GLOBAL. */
    *(void **)&plugin = dlsym(RTLD_DEFAULT, SLOWWATCH_TIMEOUT_SYMBOL);
}

#if PY_VERSION_HEX >= 0x03090000
static PyFrameObject *caller_of(PyFrameObject *frame)
{
    return PyFrame_GetBack(frame);
}

static PyCodeObject *code_of(PyFrameObject *frame)
{
    return PyFrame_GetCode(frame);
}
#else
static PyFrameObject *caller_of(PyFrameObject *frame)
{
    Py_XINCREF(frame->f_back);
    return frame->f_back;
}

static PyCodeObject *code_of(PyFrameObject *frame)
{
    Py_INCREF(frame->f_code);
    return frame->f_code;
}
#endif

static const char *text_of(PyObject *text)
{
    const char *utf8 = text && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : NULL;
    if (!utf8)
        PyErr_Clear(); /* a name with lone surrogates */
    return utf8 ? utf8 : "?";
}

/* The name that the plugin reads, too: its reports and ours are to be grouped together. */
static PyObject *name_of(const PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030b0000
    return code->co_qualname;
#else
    return code->co_name;
#endif
}

/* Frames from the innermost on, into `to` outermost first from its end backwards. The codes keep the strings. */
static uint32_t gather(PyFrameObject *innermost, struct slowwatch_timeout_frame *to, PyCodeObject **codes,
                       uint32_t *truncated)
{
    uint32_t count = 0;
    PyFrameObject *frame = innermost;
    Py_XINCREF(frame);
    while (frame) {
        if (count < FRAMES_MAX) {
            PyCodeObject *code = code_of(frame);
            codes[count++] = code;
            to[FRAMES_MAX - count] = (struct slowwatch_timeout_frame){
                text_of(code->co_filename), text_of(name_of(code)), PyFrame_GetLineNumber(frame)};
        } else {
            ++*truncated;
        }
        PyFrameObject *caller = caller_of(frame);
        Py_DECREF(frame);
        frame = caller;
    }
    return count;
}

static struct slowwatch_timeout about(const char *outcome, const struct sw_deadline *d, uint64_t late_ns)
{
    return (struct slowwatch_timeout){
        .abi = SLOWWATCH_TIMEOUT_ABI,
        .outcome = outcome,
        .exception = d->what,
        .limit_us = d->limit_ns / 1000,
        .late_us = late_ns / 1000,
        .thread = d->strand ? d->strand->thread : pthread_self(),
    };
}

static void report(const char *outcome, const struct entry *e, PyFrameObject *frame)
{
    if (!plugin)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct slowwatch_timeout_frame frames[FRAMES_MAX];
    PyCodeObject *codes[FRAMES_MAX];
    const uint64_t now = sw_clock_ns(), at = e->deadline.at_ns;
    struct slowwatch_timeout t = about(outcome, &e->deadline, now > at ? now - at : 0);
    t.frame_count = gather(frame, frames, codes, &t.truncated);
    t.frames = frames + FRAMES_MAX - t.frame_count;
    plugin(&t);
    for (uint32_t i = 0; i < t.frame_count; i++)
        Py_DECREF(codes[i]);
    PyErr_Restore(type, value, traceback);
}

void sw_report_raised(struct entry *e, PyFrameObject *frame)
{
    if (!e->told)
        report("raised", e, frame);
    e->told = true;
}

void sw_report_swallowed(const struct entry *e)
{
    report("swallowed", e, PyEval_GetFrame());
}

void sw_report_stuck(const struct sw_deadline *d, uint64_t late_ns)
{
    if (!plugin)
        return;
    const struct slowwatch_timeout t = about("stuck", d, late_ns);
    plugin(&t);
}
