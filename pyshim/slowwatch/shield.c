/* shield.c - holds back the deadlines of the blocks around it until it ends. A shield object keeps nothing itself: the
 * strand counts. */
#include "glue.h"

struct shield_object {
    PyObject_HEAD
};

static PyObject *shield_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs && PyDict_Size(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "shield() takes no arguments");
        return NULL;
    }
    return type->tp_alloc(type, 0);
}

static void shield_dealloc(PyObject *self)
{
    Py_TYPE(self)->tp_free(self);
}

static PyObject *shield_enter(PyObject *self, PyObject *Py_UNUSED(none))
{
    PyObject *owner;
    struct sw_strand *s = sw_strand_current(&owner);
    if (s) {
        sw_post_settle(s); /* one that is set but not delivered waits as well */
        sw_strand_shield(s);
    }
    Py_XDECREF(owner);
    if (PyErr_Occurred())
        return NULL;
    Py_INCREF(self);
    return self;
}

/* What passed meanwhile is raised here, also when the body raised: that becomes its context. */
static PyObject *shield_exit(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    PyObject *owner, *result = Py_False;
    struct sw_strand *s = sw_strand_current(&owner);
    if (s) {
        sw_strand_expire(s, sw_clock_ns());
        sw_strand_unshield(s);
        struct sw_deadline *d = sw_strand_take(s);
        if (d)
            result = sw_exception_raise(d->owner);
    } else if (PyErr_Occurred()) {
        result = NULL;
    }
    Py_XDECREF(owner);
    Py_XINCREF(result);
    return result;
}

static PyMethodDef shield_methods[] = {
    {"__enter__", shield_enter, METH_NOARGS, "Hold back the deadlines of the blocks around it."},
    {"__exit__", shield_exit, METH_VARARGS,
     "Raise what passed meanwhile, at the end of the outermost shield."},
    {"__aenter__", sw_async_enter, METH_NOARGS, "The same, for `async with`."},
    {"__aexit__", sw_async_exit, METH_VARARGS, "The same, for `async with`."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject sw_shield_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "slowwatch.shield",
    .tp_basicsize = sizeof(struct shield_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "shield()\n--\n\n"
              "Holds back the deadlines of the blocks around it: one that passes in here is raised at the "
              "end of the\n"
              "outermost shield. Blocks opened inside it are not held back. A context manager, also for "
              "`async with`, and\n"
              "a decorator. Any thread.",
    .tp_new = shield_new,
    .tp_dealloc = shield_dealloc,
    .tp_call = sw_decorate,
    .tp_methods = shield_methods,
};
