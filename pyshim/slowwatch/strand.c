/* strand.c - which strand of execution runs now: the thread's own, or that of a greenlet or task on it.
 * A thread's strands (one for each interpreter it runs) hang on a pthread key, whose destructor takes them off when the
 * thread ends. Those of greenlets and tasks are Python objects that slowwatch._coop keeps. */
#include "glue.h"

#include <structmember.h>

struct thread_strand {
    struct sw_strand strand; /* its group is the interpreter */
    int64_t interpreter_id;  /* an address can be used again */
    PyObject *
        get_running_loop; /* asyncio's, once it is imported; the reference is kept as long as the process lives */
    bool closed;          /* the interpreter is closing */
    struct thread_strand *next;
};

static pthread_key_t key; /* of the first strand of this thread */
static PyObject *greenlet_name, *asyncio_name, *coop_name, *current_name; /* interned */

/* Runs without the GIL: touches no Python object. */
static void thread_ends(void *first)
{
    struct thread_strand *t = first;
    while (t) {
        struct thread_strand *next = t->next;
        sw_strand_fini(&t->strand);
        free(t);
        t = next;
    }
}

static bool ready; /* the key is there as long as the process, the names as long as the main interpreter */

int sw_strands_setup(void)
{
    static bool has_key;
    const int err = has_key ? 0 : pthread_key_create(&key, thread_ends);
    if (err) {
        errno = err;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    has_key = true;
    if (ready)
        return 0;
    greenlet_name = PyUnicode_InternFromString("greenlet");
    asyncio_name = PyUnicode_InternFromString("asyncio");
    coop_name = PyUnicode_InternFromString("slowwatch._coop");
    current_name = PyUnicode_InternFromString("current");
    ready = greenlet_name && asyncio_name && coop_name && current_name;
    return ready ? 0 : -1;
}

/* ---- threads ---- */

static struct thread_strand *find(const PyInterpreterState *interp)
{
    struct thread_strand *t = pthread_getspecific(key);
    while (t && t->strand.group != interp)
        t = t->next;
    return t;
}

static struct thread_strand *create(PyInterpreterState *interp)
{
    const int is_main = sw_interrupt_prepare();
    if (is_main < 0)
        return NULL;
    struct thread_strand *t = calloc(1, sizeof *t);
    if (!t) {
        PyErr_NoMemory();
        return NULL;
    }
    sw_strand_init(&t->strand, is_main ? SW_WAY_SIGNAL : SW_WAY_POST, interp);
    t->interpreter_id = PyInterpreterState_GetID(interp);
    t->next = pthread_getspecific(key);
    const int err = pthread_setspecific(key, t);
    if (err) {
        sw_strand_fini(&t->strand);
        free(t);
        errno = err;
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    if (!is_main)
        sw_post_start(interp);
    return t;
}

static struct thread_strand *thread_strand(void)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    struct thread_strand *t = find(interp);
    if (!t)
        return create(interp);
    if (t->interpreter_id != 0 && t->interpreter_id != PyInterpreterState_GetID(interp)) {
        /* another interpreter at the address of one that is gone */
        t->interpreter_id = PyInterpreterState_GetID(interp);
        t->get_running_loop = NULL;
        t->closed = false;
    }
    return t;
}

struct sw_strand *sw_strand_of_thread(void)
{
    struct thread_strand *t = find(PyThreadState_Get()->interp);
    return t ? &t->strand : NULL;
}

void sw_strands_close(PyInterpreterState *interp)
{
    struct thread_strand *t = find(interp);
    if (t) {
        t->closed = true;
        t->get_running_loop = NULL; /* of this interpreter, which goes */
    }
    if (PyInterpreterState_GetID(interp) == 0)
        ready = false;
}

void sw_strands_open(PyInterpreterState *interp)
{
    struct thread_strand *t = find(interp);
    if (t)
        t->closed = false;
}

void sw_strands_fork_child(void)
{
    /* What is set in this thread belonged to a block of the parent. The reference to it is given up: no Python here. */
    for (struct thread_strand *t = pthread_getspecific(key); t; t = t->next) {
        const struct sw_deadline *d = sw_strand_posted(&t->strand);
        const struct entry *e = d ? d->owner : NULL;
        PyThreadState *state = d ? d->context : NULL;
        if (state && state->async_exc && state->async_exc == e->posted)
            state->async_exc = NULL;
    }
    /* The strands belong to the parent's lists. What they take up is lost to the child. */
    pthread_setspecific(key, NULL);
}

/* ---- greenlets and tasks ---- */

/* Does an asyncio loop run in this thread? */
static int loop_runs(struct thread_strand *t)
{
    if (!t->get_running_loop) {
        PyObject *events = PyImport_ImportModule("asyncio.events");
        t->get_running_loop = events ? PyObject_GetAttrString(events, "_get_running_loop") : NULL;
        Py_XDECREF(events);
        if (!t->get_running_loop) {
            PyErr_Clear(); /* asyncio is being imported just now */
            return 0;
        }
    }
    PyObject *loop = PyObject_CallObject(t->get_running_loop, NULL);
    if (!loop)
        return -1;
    const int runs = loop != Py_None;
    Py_DECREF(loop);
    return runs;
}

/* Can something else than the plain thread be running? Costs next to nothing for those who use neither. */
static int may_be_shared(struct thread_strand *t)
{
    PyObject *modules = PyImport_GetModuleDict();
    if (!PyDict_Check(modules))
        return 0;
    if (PyDict_GetItemWithError(modules, greenlet_name))
        return 1;
    if (PyErr_Occurred())
        return -1;
    if (PyDict_GetItemWithError(modules, asyncio_name))
        return loop_runs(t);
    return PyErr_Occurred() ? -1 : 0;
}

/* The Strand of the current greenlet or task, a new reference; NULL without an exception: it is the plain thread. */
static PyObject *ask(void)
{
    PyObject *coop = PyImport_GetModule(coop_name);
    if (!coop && !PyErr_Occurred())
        coop = PyImport_ImportModule("slowwatch._coop");
    if (!coop)
        return NULL;
    PyObject *strand = PyObject_CallMethodObjArgs(coop, current_name, NULL);
    Py_DECREF(coop);
    if (strand == Py_None)
        Py_CLEAR(strand);
    if (strand && !PyObject_TypeCheck(strand, &sw_strand_type)) {
        PyErr_Format(PyExc_TypeError, "slowwatch._coop.current() returned %R", strand);
        Py_CLEAR(strand);
    }
    return strand;
}

_Thread_local int sw_in_coop;

static PyObject *ask_coop(void)
{
    sw_in_coop++;
    PyObject *strand = ask();
    sw_in_coop--;
    return strand;
}

struct sw_strand *sw_strand_of_owner(PyObject **object)
{
    struct thread_strand *t = find(PyThreadState_Get()->interp);
    *object = NULL;
    if (!t || t->closed)
        return NULL;
    const int shared = may_be_shared(t);
    *object = shared > 0 ? ask_coop() : NULL;
    return *object ? &((struct strand_object *)*object)->strand : NULL;
}

struct sw_strand *sw_strand_current(PyObject **object)
{
    *object = NULL;
    struct thread_strand *t = thread_strand();
    if (!t || t->closed)
        return NULL;
    const int shared = may_be_shared(t);
    if (shared > 0)
        *object = ask_coop();
    if (*object)
        return &((struct strand_object *)*object)->strand;
    return PyErr_Occurred() ? NULL : &t->strand;
}

/* ---- the type ---- */

static PyObject *strand_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    struct strand_object *self = (struct strand_object *)type->tp_alloc(type, 0);
    if (self)
        sw_strand_init(&self->strand, SW_WAY_NONE, PyThreadState_Get()->interp);
    return (PyObject *)self;
}

static int strand_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"native", NULL};
    struct strand_object *self = (struct strand_object *)object;
    int native;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "p:Strand", names, &native))
        return -1;
    const int is_main = native ? sw_interrupt_prepare() : 0;
    if (is_main < 0)
        return -1;
    /* An exception cannot be posted to a greenlet or task: it would reach whichever runs. */
    self->strand.way = is_main ? SW_WAY_SIGNAL : SW_WAY_NONE;
    return 0;
}

static void strand_dealloc(PyObject *object)
{
    struct strand_object *self = (struct strand_object *)object;
    if (self->weakrefs)
        PyObject_ClearWeakRefs(object);
    sw_strand_fini(&self->strand);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *strand_enter(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    Py_RETURN_NONE;
}

static PyObject *strand_leave(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    Py_RETURN_FALSE;
}

static PyMethodDef strand_methods[] = {
    {"enter", strand_enter, METH_VARARGS,
     "enter(seconds, block, serial) -> token: a block was opened; arms nothing."},
    {"leave", strand_leave, METH_VARARGS,
     "leave(token, kind) -> bool: it was left; True: `kind`, in flight, stands for the exception that "
     "fired."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject sw_strand_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "slowwatch._deadline.Strand",
    .tp_basicsize = sizeof(struct strand_object),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "Strand(native)\n--\n\n"
              "One greenlet or task: the stack of its open blocks. native: the signal may raise in it while "
              "it runs.",
    .tp_new = strand_new,
    .tp_init = strand_init,
    .tp_dealloc = strand_dealloc,
    .tp_weaklistoffset = offsetof(struct strand_object, weakrefs),
    .tp_methods = strand_methods,
};
