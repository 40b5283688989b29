/* timeout.c - the block with a time limit: entered, left, and what its deadline did meanwhile. */
#include "glue.h"

/* ---- the object ---- */

static PyObject *make(PyTypeObject *type, PyObject *limit, PyObject *exception)
{
    double seconds = 0;
    uint64_t limit_ns = 0;
    const bool is_quota = Py_TYPE(limit) == &sw_quota_type;
    if (!is_quota && sw_parse_seconds(limit, &seconds, &limit_ns) < 0)
        return NULL;
    if (!PyExceptionClass_Check(exception) && !PyExceptionInstance_Check(exception))
        return PyErr_Format(PyExc_TypeError, "exception must be an exception class or instance, not %R",
                            exception);
    struct timeout_object *t = (struct timeout_object *)type->tp_alloc(type, 0);
    if (!t)
        return NULL;
    Py_INCREF(exception);
    t->exception = exception;
    if (is_quota) {
        Py_INCREF(limit);
        t->quota = (struct quota_object *)limit;
    }
    t->seconds = seconds;
    t->limit_ns = limit_ns;
    return (PyObject *)t;
}

static PyObject *timeout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seconds", "exception", NULL};
    PyObject *limit, *exception = PyExc_RuntimeError;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:timeout", names, &limit, &exception))
        return NULL;
    return make(type, limit, exception);
}

#if PY_VERSION_HEX >= 0x03090000
/* A tuple and a dict for each block would cost more than the block. */
static PyObject *timeout_vectorcall(PyObject *type, PyObject *const *args, size_t flags, PyObject *names)
{
    const Py_ssize_t n = PyVectorcall_NARGS(flags);
    if ((n == 1 || n == 2) && !names)
        return make((PyTypeObject *)type, args[0], n == 2 ? args[1] : PyExc_RuntimeError);
    PyObject *positional = PyTuple_New(n), *keywords = names ? PyDict_New() : NULL, *made = NULL;
    if (!positional || (names && !keywords))
        goto done;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_INCREF(args[i]);
        PyTuple_SET_ITEM(positional, i, args[i]);
    }
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
            goto done;
    made = timeout_new((PyTypeObject *)type, positional, keywords);
done:
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    return made;
}
#endif

/* ---- entering ---- */

static PyObject *open_failed(struct entry *e, int err)
{
    sw_entry_free(e);
    if (err == -ENOMEM)
        return PyErr_NoMemory();
    return PyErr_Format(PyExc_RuntimeError, "slowwatch: no thread could be started to watch the time (%s)",
                        strerror(-err));
}

/* A quota that is used up: the block does not even begin. */
static PyObject *refuse(struct timeout_object *t)
{
    struct entry *e = sw_entry_new(t);
    if (!e)
        return NULL;
    t->expired = true;
    e->deadline.at_ns = sw_clock_ns();
    e->deadline.limit_ns = 0;
    sw_exception_raise(e);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    sw_entry_free(e);
    PyErr_Restore(type, value, traceback);
    return NULL;
}

static PyObject *timeout_enter(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct timeout_object *t = (struct timeout_object *)self;
    PyObject *owner;
    struct sw_strand *s = sw_strand_current(&owner);
    Py_INCREF(self);
    if (!s) {
        if (!PyErr_Occurred())
            return self; /* the interpreter is closing: nothing is watched any more */
        goto failed;
    }
    if (s->way == SW_WAY_SIGNAL && sw_interrupt_refresh() < 0) {
        Py_XDECREF(owner);
        goto failed;
    }
    const uint64_t now = sw_clock_ns();
    const uint64_t limit_ns = t->quota ? sw_quota_left_ns(t->quota, now) : t->limit_ns;
    if (limit_ns == 0) {
        refuse(t);
        Py_XDECREF(owner);
        goto failed;
    }
    struct entry *e = sw_entry_new(t);
    if (!e) {
        Py_XDECREF(owner);
        goto failed;
    }
    e->strand = owner;
    const int err = sw_deadline_enter(&e->deadline, s, now, limit_ns);
    if (err < 0) {
        open_failed(e, err);
        goto failed;
    }
    e->next = t->open;
    t->open = e;
    t->expired = false;
    if (t->quota)
        sw_quota_start(t->quota, now);
    if (sw_entry_start_timer(e, limit_ns) == 0)
        return self;
    sw_deadline_leave(&e->deadline);
    if (t->quota)
        sw_quota_stop(t->quota, now);
    sw_entry_free(e);
failed:
    Py_DECREF(self);
    return NULL;
}

/* ---- leaving ---- */

static void tell_if_swallowed(struct entry *e, enum sw_deadline_state state, PyObject *value)
{
    if (state == SW_DEADLINE_RAISED && e->raised &&
        (value == Py_None || !sw_exception_within(value, e->raised)))
        sw_report_swallowed(e);
}

/* What the end of the block raises itself: an outer deadline that is due, or its own that nobody raised yet. */
static PyObject *raise_at_end(struct entry *e, struct sw_strand *s, enum sw_deadline_state state)
{
    struct sw_deadline *outer = NULL;
    if (s && __atomic_load_n(&s->due, __ATOMIC_RELAXED) != 0) {
        sw_post_settle(s);
        outer = sw_strand_take(s);
    }
    if (outer)
        return sw_exception_raise(outer->owner);
    if (state == SW_DEADLINE_DUE)
        return sw_exception_raise(e);
    Py_RETURN_FALSE;
}

static PyObject *finish(struct entry *e, PyObject *kind, PyObject *value)
{
    struct sw_strand *s = sw_entry_strand_is_safe(e) ? e->deadline.strand : NULL;
    const enum sw_deadline_state state = sw_entry_leave(e);
    const int stands = sw_entry_stop_timer(e, kind);
    if (stands < 0)
        return NULL;
    if (stands && e->raised) {
        PyErr_SetObject((PyObject *)Py_TYPE(e->raised), e->raised);
        return NULL;
    }
    tell_if_swallowed(e, state, value);
    if (kind != Py_None)
        Py_RETURN_FALSE;
    return raise_at_end(e, s, state);
}

static PyObject *timeout_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct timeout_object *t = (struct timeout_object *)self;
    struct entry *e = sw_entry_current(t);
    if (n != 3) {
        PyErr_SetString(PyExc_TypeError, "__exit__() takes an exception's type, value and traceback");
        return NULL;
    }
    if (!e) /* entered while the interpreter was closing, or left twice */
        Py_RETURN_FALSE;
    PyObject *result = finish(e, args[0], args[1]);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    sw_entry_free(e);
    PyErr_Restore(type, value, traceback);
    return result;
}

/* ---- what can be asked ---- */

static PyObject *timeout_get_expired(PyObject *self, void *Py_UNUSED(closure))
{
    const struct timeout_object *t = (struct timeout_object *)self;
    const struct entry *e = sw_entry_current(t);
    const bool expired =
        e ? e->deadline.state > SW_DEADLINE_OPEN || sw_clock_ns() >= e->deadline.at_ns : t->expired;
    return PyBool_FromLong(expired);
}

static PyObject *timeout_remaining(PyObject *self, PyObject *Py_UNUSED(none))
{
    const struct timeout_object *t = (struct timeout_object *)self;
    const struct entry *e = sw_entry_of_strand(t);
    const uint64_t now = sw_clock_ns();
    uint64_t left_ns;
    if (!e)
        left_ns = t->quota ? sw_quota_left_ns(t->quota, now) : t->limit_ns;
    else if (e->deadline.at_ns == SW_DEADLINE_NEVER)
        left_ns = SW_DEADLINE_NEVER;
    else
        left_ns = now < e->deadline.at_ns ? e->deadline.at_ns - now : 0;
    return PyFloat_FromDouble(left_ns == SW_DEADLINE_NEVER ? Py_HUGE_VAL : sw_seconds(left_ns));
}

/* _fire(serial, frame=None): the event loop's timer says that the time is up. The instance to raise, or None. */
static PyObject *timeout_fire(PyObject *self, PyObject *args)
{
    const struct timeout_object *t = (struct timeout_object *)self;
    unsigned long long serial;
    PyObject *frame = Py_None;
    if (!PyArg_ParseTuple(args, "K|O:_fire", &serial, &frame))
        return NULL;
    struct entry *e = sw_entry_find(t, serial);
    if (!e || !sw_deadline_take(&e->deadline, sw_clock_ns()))
        Py_RETURN_NONE;
    sw_report_raised(e, PyFrame_Check(frame) ? (PyFrameObject *)frame : NULL);
    PyObject *made = sw_exception_make_any(t->exception, e->deadline.limit_ns);
    e = sw_entry_find(t, serial);
    if (made && e) {
        Py_INCREF(made);
        Py_XSETREF(e->raised, made);
    }
    return made;
}

static PyObject *timeout_repr(PyObject *self)
{
    const struct timeout_object *t = (struct timeout_object *)self;
    PyObject *limit = t->quota ? (PyObject *)t->quota : PyFloat_FromDouble(t->seconds);
    PyObject *text = limit ? PyUnicode_FromFormat("timeout(%R, %R)", limit, t->exception) : NULL;
    if (!t->quota)
        Py_XDECREF(limit);
    return text;
}

static PyObject *timeout_get_limit(PyObject *self, void *Py_UNUSED(closure))
{
    const struct timeout_object *t = (struct timeout_object *)self;
    if (!t->quota)
        return PyFloat_FromDouble(t->seconds);
    Py_INCREF(t->quota);
    return (PyObject *)t->quota;
}

static PyObject *timeout_get_exception(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *exception = ((struct timeout_object *)self)->exception;
    Py_INCREF(exception);
    return exception;
}

/* ---- memory ---- */

static int timeout_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct timeout_object *t = (struct timeout_object *)self;
    Py_VISIT(t->exception);
    Py_VISIT(t->quota);
    for (const struct entry *e = t->open; e; e = e->next) {
        Py_VISIT(e->strand);
        Py_VISIT(e->token);
        Py_VISIT(e->raised);
        Py_VISIT(e->posted);
    }
    return 0;
}

/* A block that was entered but never left, since its frame is gone, ends here at the latest. */
static void close_entries(struct timeout_object *t)
{
    while (t->open) {
        struct entry *e = t->open;
        sw_entry_leave(e);
        if (sw_entry_stop_timer(e, Py_None) < 0)
            PyErr_Clear(); /* the garbage collector may have cleared it before; when it fires it finds nothing */
        sw_entry_free(e);
    }
}

static int timeout_clear(PyObject *self)
{
    struct timeout_object *t = (struct timeout_object *)self;
    close_entries(t);
    Py_CLEAR(t->exception);
    Py_CLEAR(t->quota);
    return 0;
}

static void timeout_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    timeout_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef timeout_methods[] = {
    {"__enter__", timeout_enter, METH_NOARGS, "Open the block. Raises at once when its quota is used up."},
    {"__exit__", (PyCFunction)(void (*)(void))timeout_exit, METH_FASTCALL, "Leave the block."},
    {"__aenter__", sw_async_enter, METH_NOARGS, "Open the block, in a coroutine."},
    {"__aexit__", sw_async_exit, METH_VARARGS, "Leave the block, in a coroutine."},
    {"remaining", timeout_remaining, METH_NOARGS,
     "Seconds left of the innermost open block of this thread, else what a block would get; never below 0."},
    {"_fire", timeout_fire, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timeout_attributes[] = {
    {"expired", timeout_get_expired, NULL,
     "Did the time of the block that is open, or of the last one, run out?", NULL},
    {"_limit", timeout_get_limit, NULL, NULL, NULL},
    {"_exception", timeout_get_exception, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject sw_timeout_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "slowwatch.timeout",
    .tp_basicsize = sizeof(struct timeout_object),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "timeout(seconds, exception=RuntimeError)\n--\n\n"
              "Limits the time of a block: `with timeout(20.0, RuntimeError): ...`; of a function, a "
              "generator or a\n"
              "coroutine function: `@timeout(0.5)`; in coroutines also `async with`.\n\n"
              "seconds: a number more than 0, or a Quota. exception: a class or an instance. ValueError for "
              "0, less or\n"
              "NaN; TypeError for what is not a number or not an exception.\n\n"
              "In the main thread blocking calls are interrupted; in other threads the exception comes at "
              "the next\n"
              "bytecode. Nothing is raised after the block has been left.",
    .tp_new = timeout_new,
#if PY_VERSION_HEX >= 0x03090000
    .tp_vectorcall = timeout_vectorcall,
#endif
    .tp_dealloc = timeout_dealloc,
    .tp_traverse = timeout_traverse,
    .tp_clear = timeout_clear,
    .tp_repr = timeout_repr,
    .tp_call = sw_decorate,
    .tp_methods = timeout_methods,
    .tp_getset = timeout_attributes,
};
