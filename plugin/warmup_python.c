#include "warmup_python.h"

#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

typedef struct sw_object PyObject; /* never looked into */

#define FILE_INPUT    257 /* Py_file_input: a module */
#define OWN_FILE      "<slowwatch>"
#define FRAMES_MAX    128
#define SETTLE_TRIES  8
#define UNICODE_ERROR "backslashreplace"

/* A subclass of KeyboardInterrupt: `except Exception` does not stop it, and gevent's hub hands it to the greenlet that
 * waits. */
static const char ARM[] = "import signal\n"
                          "class WarmupTimeout(KeyboardInterrupt):\n"
                          "    __module__ = 'slowwatch'\n"
                          "def interrupt(number, frame):\n"
                          "    raise WarmupTimeout('the warm-up took too long')\n"
                          "signal.signal(number, interrupt)\n";
static const char DISARM[] = "if signal.getsignal(number) is interrupt:\n"
                             "    signal.signal(number, signal.SIG_DFL)\n";

struct api {
    int (*Py_IsInitialized)(void);
    int (*PyGILState_Ensure)(void);
    void (*PyGILState_Release)(int);
    void (*Py_DecRef)(PyObject *);
    PyObject *(*PyDict_New)(void);
    int (*PyDict_SetItemString)(PyObject *, const char *, PyObject *);
    void (*PyDict_Clear)(PyObject *);
    PyObject *(*PyEval_GetBuiltins)(void);
    PyObject *(*Py_CompileString)(const char *, const char *, int);
    PyObject *(*PyEval_EvalCode)(PyObject *, PyObject *, PyObject *);
    PyObject *(*PyObject_GetAttrString)(PyObject *, const char *);
    PyObject *(*PyObject_Str)(PyObject *);
    PyObject *(*PyUnicode_AsEncodedString)(PyObject *, const char *, const char *);
    int (*PyBytes_AsStringAndSize)(PyObject *, char **, ptrdiff_t *);
    PyObject *(*PyLong_FromLong)(long);
    long (*PyLong_AsLong)(PyObject *);
    PyObject *(*PyErr_Occurred)(void);
    void (*PyErr_Clear)(void);
    int (*PyErr_CheckSignals)(void);
    void (*PyErr_Fetch)(PyObject **, PyObject **, PyObject **);
    void (*PyErr_NormalizeException)(PyObject **, PyObject **, PyObject **);
    void (*PyErr_Restore)(PyObject *, PyObject *, PyObject *);
};

/* in the order of struct api */
static const char *const API_NAMES[] = {
    "Py_IsInitialized",
    "PyGILState_Ensure",
    "PyGILState_Release",
    "Py_DecRef",
    "PyDict_New",
    "PyDict_SetItemString",
    "PyDict_Clear",
    "PyEval_GetBuiltins",
    "Py_CompileString",
    "PyEval_EvalCode",
    "PyObject_GetAttrString",
    "PyObject_Str",
    "PyUnicode_AsEncodedString",
    "PyBytes_AsStringAndSize",
    "PyLong_FromLong",
    "PyLong_AsLong",
    "PyErr_Occurred",
    "PyErr_Clear",
    "PyErr_CheckSignals",
    "PyErr_Fetch",
    "PyErr_NormalizeException",
    "PyErr_Restore",
};

_Static_assert(sizeof(struct api) == SW_COUNT(API_NAMES) * sizeof(void *), "one name per function");

static bool load_api(struct api *api)
{
    char *at = (char *)api;
    for (unsigned i = 0; i < SW_COUNT(API_NAMES); i++, at += sizeof(void *)) {
        void *const found = dlsym(RTLD_DEFAULT, API_NAMES[i]);
        if (!found)
            return false;
        memcpy(at, &found, sizeof found);
    }
    return api->Py_IsInitialized() != 0;
}

static void release(const struct api *api, PyObject *o)
{
    if (o)
        api->Py_DecRef(o);
}

/* ---- interrupting ---- */

static bool run(const struct api *api, const char *program, PyObject *globals)
{
    PyObject *code = api->Py_CompileString(program, OWN_FILE, FILE_INPUT);
    PyObject *result = code ? api->PyEval_EvalCode(code, globals, globals) : NULL;
    const bool done = result != NULL;
    release(api, result);
    release(api, code);
    if (!done)
        api->PyErr_Clear();
    return done;
}

/* A real-time signal that neither anybody handles nor this thread blocks, from the highest downwards. */
static int find_signal(void)
{
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    for (int number = SIGRTMAX; number >= SIGRTMIN; number--) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL &&
            sigismember(&blocked, number) == 0)
            return number;
    }
    return 0;
}

static PyObject *make_globals(const struct api *api, int number)
{
    PyObject *globals = api->PyDict_New();
    PyObject *value = api->PyLong_FromLong(number);
    const bool made = globals && value &&
                      api->PyDict_SetItemString(globals, "__builtins__", api->PyEval_GetBuiltins()) == 0 &&
                      api->PyDict_SetItemString(globals, "number", value) == 0;
    release(api, value);
    if (!made) {
        release(api, globals);
        api->PyErr_Clear();
        return NULL;
    }
    return globals;
}

static void drop_globals(const struct api *api, PyObject *globals)
{
    api->PyDict_Clear(globals); /* it holds functions that hold it */
    release(api, globals);
}

void sw_interrupter_arm(struct sw_interrupter *i)
{
    struct api api;
    const int number = find_signal();
    *i = (struct sw_interrupter){0};
    if (number == 0 || !load_api(&api))
        return;
    const int gil = api.PyGILState_Ensure();
    PyObject *globals = api.PyErr_Occurred() ? NULL : make_globals(&api, number);
    if (globals && run(&api, ARM, globals)) {
        *i = (struct sw_interrupter){number, pthread_self(), globals};
    } else if (globals) {
        drop_globals(&api, globals);
    }
    api.PyGILState_Release(gil);
}

void sw_interrupter_fire(const struct sw_interrupter *i)
{
    if (i->signal)
        pthread_kill(i->thread, i->signal);
}

void sw_interrupter_settle(const struct sw_interrupter *i)
{
    struct api api;
    if (!i->signal || !load_api(&api))
        return;
    sched_yield(); /* a signal that was sent to us has arrived when a system call returns */
    const int gil = api.PyGILState_Ensure();
    for (int tries = 0; tries < SETTLE_TRIES && api.PyErr_CheckSignals() < 0; tries++)
        api.PyErr_Clear();
    api.PyGILState_Release(gil);
}

void sw_interrupter_disarm(struct sw_interrupter *i)
{
    struct api api;
    if (!i->signal || !load_api(&api))
        return;
    const int gil = api.PyGILState_Ensure();
    (void)run(&api, DISARM, i->globals);
    drop_globals(&api, i->globals);
    api.PyGILState_Release(gil);
    *i = (struct sw_interrupter){0};
}

/* ---- what was raised ---- */

/* An attribute as text in the arena, or NULL. */
static const char *text_of(const struct api *api, PyObject *o, struct sw_arena *arena)
{
    PyObject *bytes = o ? api->PyUnicode_AsEncodedString(o, "utf-8", UNICODE_ERROR) : NULL;
    const char *text = NULL;
    char *at;
    ptrdiff_t n;
    if (bytes && api->PyBytes_AsStringAndSize(bytes, &at, &n) == 0)
        text = sw_arena_copy(arena, at, (size_t)n);
    release(api, bytes);
    release(api, o);
    api->PyErr_Clear();
    return text;
}

static const char *attribute(const struct api *api, PyObject *o, const char *name, struct sw_arena *arena)
{
    return text_of(api, api->PyObject_GetAttrString(o, name), arena);
}

static void put_words(const struct api *api, PyObject *type, PyObject *value, struct sw_exception *out,
                      struct sw_arena *arena)
{
    struct sw_text words;
    sw_text_init(&words, out->words, sizeof out->words);
    const char *module = attribute(api, type, "__module__", arena);
    const char *name = attribute(api, type, "__qualname__", arena);
    const char *message = value ? text_of(api, api->PyObject_Str(value), arena) : NULL;
    if (module && strcmp(module, "builtins") != 0)
        sw_text_printf(&words, "%s.", module);
    sw_text_put(&words, name ? name : "an exception");
    if (message && message[0])
        sw_text_printf(&words, ": %s", message);
}

/* The next link of a traceback as a new reference; NULL = this was the last. */
static PyObject *next_of(const struct api *api, PyObject *tb)
{
    PyObject *next = api->PyObject_GetAttrString(tb, "tb_next");
    PyObject *lineno = next ? api->PyObject_GetAttrString(next, "tb_lineno") : NULL; /* None has none */
    if (next && !lineno)
        release(api, next);
    const bool more = lineno != NULL;
    release(api, lineno);
    api->PyErr_Clear();
    return more ? next : NULL;
}

static bool read_frame(const struct api *api, PyObject *tb, struct sw_arena *arena, struct sw_frame *out)
{
    PyObject *frame = api->PyObject_GetAttrString(tb, "tb_frame");
    PyObject *code = frame ? api->PyObject_GetAttrString(frame, "f_code") : NULL;
    PyObject *line = api->PyObject_GetAttrString(tb, "tb_lineno");
    memset(out, 0, sizeof *out);
    if (code && line) {
        out->file = attribute(api, code, "co_filename", arena);
        out->function = attribute(api, code, "co_qualname", arena); /* from 3.11 on */
        if (!out->function)
            out->function = attribute(api, code, "co_name", arena);
        out->line = (int)api->PyLong_AsLong(line);
    }
    release(api, line);
    release(api, code);
    release(api, frame);
    api->PyErr_Clear();
    return out->file && out->function && strcmp(out->file, OWN_FILE) != 0;
}

/* The innermost frames are at the end: when there are too many the first ones go. */
static void read_stack(const struct api *api, PyObject *tb, struct sw_stack *out, struct sw_arena *arena)
{
    struct sw_frame *frames = tb ? sw_arena_alloc(arena, FRAMES_MAX * sizeof *frames) : NULL;
    PyObject *link = frames ? tb : NULL;
    while (link) {
        struct sw_frame frame;
        if (read_frame(api, link, arena, &frame)) {
            if (out->count == FRAMES_MAX) {
                memmove(frames, frames + 1, (FRAMES_MAX - 1) * sizeof *frames);
                out->count--;
                out->truncated++;
            }
            frames[out->count++] = frame;
        }
        PyObject *next = next_of(api, link);
        if (link != tb)
            release(api, link);
        link = next;
    }
    out->frames = frames;
}

void sw_exception_read(struct sw_exception *out, struct sw_arena *arena)
{
    struct api api;
    PyObject *type = NULL, *value = NULL, *tb = NULL;
    memset(out, 0, sizeof *out);
    if (!load_api(&api) || !api.PyErr_Occurred())
        return;
    api.PyErr_Fetch(&type, &value, &tb);
    api.PyErr_NormalizeException(&type, &value, &tb);
    put_words(&api, type, value, out, arena);
    read_stack(&api, tb, &out->stack, arena);
    api.PyErr_Clear();
    api.PyErr_Restore(type, value, tb);
}
