#include "pyread.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* The interpreter runs a little program whose innermost call is ours; there the reader's view of this very thread is
 * compared with the interpreter's own. Only functions of the stable C API are used, found by name. */

typedef struct sw_object PyObject; /* never looked into */

struct method { /* PyMethodDef */
    const char *name;
    PyObject *(*call)(PyObject *self, PyObject *args);
    int flags;
    const char *doc;
};

#define METH_NOARGS  0x0004
#define FILE_INPUT   257 /* Py_file_input: a module */
#define CHECK_DEPTH  64U
#define ARENA_BYTES  ((size_t)32 * 1024)
#define CHECK_FILE   "<slowwatch>"
#define CONTEXT_NAME "slowwatch.check"

/* A nested function that is a generator, a comprehension and a lambda, each called across lines. */
static const char PROGRAM[] = "def outer(call):\n"
                              "    inner = lambda: (\n"
                              "        call())\n"
                              "    def walk():\n"
                              "        for _ in (0,):\n"
                              "            yield [\n"
                              "                inner()\n"
                              "                for _ in (0,)]\n"
                              "    return list(\n"
                              "        walk())\n"
                              "\n"
                              "outer(call)\n";

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
    PyObject *(*PyCFunction_NewEx)(struct method *, PyObject *, PyObject *);
    PyObject *(*PyCapsule_New)(void *, const char *, void (*)(PyObject *));
    void *(*PyCapsule_GetPointer)(PyObject *, const char *);
    PyObject *(*PyEval_GetFrame)(void);
    PyObject *(*PyObject_GetAttrString)(PyObject *, const char *);
    PyObject *(*PyUnicode_AsEncodedString)(PyObject *, const char *, const char *);
    int (*PyBytes_AsStringAndSize)(PyObject *, char **, ptrdiff_t *);
    PyObject *(*PyLong_FromLong)(long);
    long (*PyLong_AsLong)(PyObject *);
    PyObject *(*PyErr_Occurred)(void);
    void (*PyErr_Clear)(void);
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
    "PyCFunction_NewEx",
    "PyCapsule_New",
    "PyCapsule_GetPointer",
    "PyEval_GetFrame",
    "PyObject_GetAttrString",
    "PyUnicode_AsEncodedString",
    "PyBytes_AsStringAndSize",
    "PyLong_FromLong",
    "PyLong_AsLong",
    "PyErr_Occurred",
    "PyErr_Clear",
};

_Static_assert(sizeof(struct api) == SW_COUNT(API_NAMES) * sizeof(void *), "one name per function");

struct check {
    struct sw_pystack *p;
    struct api api;
    struct sw_text *why;
    int rc;        /* 0 = alike */
    bool compared; /* our function was reached */
    char arena[ARENA_BYTES];
};

static int load_api(struct api *api, struct sw_text *why)
{
    char *at = (char *)api;
    for (unsigned i = 0; i < SW_COUNT(API_NAMES); i++, at += sizeof(void *)) {
        void *found = dlsym(RTLD_DEFAULT, API_NAMES[i]);
        if (!found) {
            sw_text_printf(why, "the self-check needs %s, which this Python hides", API_NAMES[i]);
            return -ENOTSUP;
        }
        memcpy(at, &found, sizeof found);
    }
    return 0;
}

/* ---- what the interpreter says ---- */

/* An attribute, or an attribute of an attribute, as a new reference; NULL = there is none. */
static PyObject *attribute(const struct api *api, PyObject *o, const char *name, const char *of_it)
{
    PyObject *first = api->PyObject_GetAttrString(o, name);
    if (!first || !of_it)
        return first;
    PyObject *second = api->PyObject_GetAttrString(first, of_it);
    api->Py_DecRef(first);
    return second;
}

static int attribute_line(const struct api *api, PyObject *frame)
{
    PyObject *o = attribute(api, frame, "f_lineno", NULL);
    if (!o)
        return -1;
    const long line = api->PyLong_AsLong(o); /* None, a frame without a line, is -1 and an error */
    api->Py_DecRef(o);
    api->PyErr_Clear();
    return line > 0 ? (int)line : 0;
}

static bool attribute_is(const struct api *api, PyObject *frame, const char *name, const char *text)
{
    PyObject *o = attribute(api, frame, "f_code", name);
    PyObject *bytes = o ? api->PyUnicode_AsEncodedString(o, "utf-8", "surrogateescape") : NULL;
    char *at;
    ptrdiff_t n;
    const bool same = bytes && api->PyBytes_AsStringAndSize(bytes, &at, &n) == 0 && n >= 0 &&
                      strlen(text) == (size_t)n && memcmp(at, text, (size_t)n) == 0;
    if (bytes)
        api->Py_DecRef(bytes);
    if (o)
        api->Py_DecRef(o);
    return same;
}

/* ---- comparison, from the innermost frame outwards ---- */

static void compare_frame(struct check *c, PyObject *frame, const struct sw_frame *seen, unsigned depth)
{
    const char *name = c->p->layout.at.minor >= 11 ? "co_qualname" : "co_name";
    const int line = attribute_line(&c->api, frame);
    if (line == seen->line && attribute_is(&c->api, frame, "co_filename", seen->file) &&
        attribute_is(&c->api, frame, name, seen->function))
        return;
    sw_text_printf(c->why, "the self-check read frame %u as %s:%d %s, the interpreter says line %d", depth,
                   seen->file, seen->line, seen->function, line);
    c->rc = -EILSEQ;
}

static void compare_stack(struct check *c, const struct sw_stack *stack)
{
    PyObject *frame = c->api.PyEval_GetFrame(); /* borrowed */
    bool owned = false;
    unsigned seen = 0;
    while (frame && c->rc == 0 && seen < stack->count) {
        compare_frame(c, frame, &stack->frames[stack->count - 1 - seen], seen);
        seen++;
        PyObject *back = c->api.PyObject_GetAttrString(frame, "f_back");
        if (owned)
            c->api.Py_DecRef(frame);
        frame = back;
        owned = true;
        /* The outermost frame has None there, which has no code. */
        PyObject *code = frame ? c->api.PyObject_GetAttrString(frame, "f_code") : NULL;
        if (!code && frame) {
            c->api.Py_DecRef(frame);
            frame = NULL;
        } else if (code) {
            c->api.Py_DecRef(code);
        }
    }
    if (c->rc == 0 && (seen != stack->count || (frame && stack->truncated == 0))) {
        sw_text_printf(c->why, "the self-check read %u frames where the interpreter has %s", stack->count,
                       frame ? "more" : "fewer");
        c->rc = -EILSEQ;
    }
    if (frame && owned)
        c->api.Py_DecRef(frame);
}

static void compare_gil(struct check *c)
{
    struct sw_gil gil;
    sw_pystack_gil(c->p, pthread_self(), 0, &gil);
    if (gil.state == SW_GIL_HELD || gil.state == SW_GIL_UNKNOWN)
        return;
    sw_text_put(c->why, "the self-check held the GIL and could not see it");
    c->rc = -EILSEQ;
}

static void look(struct check *c)
{
    struct sw_arena arena;
    struct sw_stack stack;
    sw_arena_init(&arena, c->arena, sizeof c->arena);
    c->compared = true;
    const int rc = sw_pystack_capture(c->p, pthread_self(), CHECK_DEPTH, &arena, &stack);
    if (rc != 0 || stack.partial) {
        sw_text_printf(c->why, "the self-check could not read its own stack: %s",
                       rc != 0 ? strerrordesc_np(-rc) : stack.partial);
        c->rc = -EILSEQ;
        return;
    }
    compare_stack(c, &stack);
    if (c->rc == 0)
        compare_gil(c);
}

/* called by PROGRAM; `self` is the capsule that holds the check */
static PyObject *called_back(PyObject *self, PyObject *args)
{
    (void)args;
    void *(*get_pointer)(PyObject *, const char *);
    void *const symbol = dlsym(RTLD_DEFAULT, "PyCapsule_GetPointer");
    memcpy(&get_pointer, &symbol, sizeof get_pointer);
    struct check *c = get_pointer(self, CONTEXT_NAME);
    if (!c)
        return NULL;
    look(c);
    c->api.PyErr_Clear();
    return c->api.PyLong_FromLong(0);
}

/* ---- running it ---- */

static void run(struct check *c)
{
    static struct method method = {"call", called_back, METH_NOARGS, NULL};
    const struct api *api = &c->api;
    PyObject *capsule = api->PyCapsule_New(c, CONTEXT_NAME, NULL);
    PyObject *call = capsule ? api->PyCFunction_NewEx(&method, capsule, NULL) : NULL;
    PyObject *code = call ? api->Py_CompileString(PROGRAM, CHECK_FILE, FILE_INPUT) : NULL;
    PyObject *globals = code ? api->PyDict_New() : NULL;
    PyObject *builtins = globals ? api->PyEval_GetBuiltins() : NULL; /* borrowed */
    PyObject *result = NULL;
    if (builtins && api->PyDict_SetItemString(globals, "__builtins__", builtins) == 0 &&
        api->PyDict_SetItemString(globals, "call", call) == 0)
        result = api->PyEval_EvalCode(code, globals, globals);
    if (!result && c->rc == 0) {
        sw_text_put(c->why, "the self-check could not run its program");
        c->rc = -ENOTSUP;
    }
    if (globals)
        api->PyDict_Clear(globals); /* it holds a function that holds it */
    PyObject *const owned[] = {result, globals, code, call, capsule};
    for (unsigned i = 0; i < SW_COUNT(owned); i++)
        if (owned[i])
            api->Py_DecRef(owned[i]);
    api->PyErr_Clear();
}

int sw_pystack_self_check(struct sw_pystack *p, struct sw_text *why)
{
    struct check c = {.p = p, .why = why};
    const int rc = load_api(&c.api, why);
    if (rc != 0)
        return rc;
    if (!p->buf || !c.api.Py_IsInitialized()) {
        sw_text_put(why, p->buf ? "the interpreter is not running yet" : "memory cannot be read");
        return -ENOTSUP;
    }
    const int state = c.api.PyGILState_Ensure();
    if (c.api.PyErr_Occurred()) {
        sw_text_put(why, "the self-check was called with an exception pending");
        c.rc = -ENOTSUP;
    } else {
        run(&c);
    }
    c.api.PyGILState_Release(state);
    if (c.rc == 0 && !c.compared) {
        sw_text_put(why, "the self-check was not reached");
        c.rc = -ENOTSUP;
    }
    return c.rc;
}
