/* awaitable.c - `async with`: entered and left at once, by the call itself, and an awaitable that is done already. So there
 * is no moment, between the call and the await, at which the block is neither left nor about to be. */
#include "glue.h"

struct done_object {
    PyObject_HEAD PyObject *value;
};

static PyObject *done(PyObject *value)
{
    if (!value)
        return NULL;
    struct done_object *d = (struct done_object *)sw_done_type.tp_alloc(&sw_done_type, 0);
    if (d)
        d->value = value;
    else
        Py_DECREF(value);
    return (PyObject *)d;
}

static PyObject *done_next(PyObject *self)
{
    PyErr_SetObject(PyExc_StopIteration, ((struct done_object *)self)->value); /* never a tuple */
    return NULL;
}

static PyObject *done_self(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

static void done_dealloc(PyObject *self)
{
    Py_XDECREF(((struct done_object *)self)->value);
    Py_TYPE(self)->tp_free(self);
}

static PyAsyncMethods done_async = {.am_await = done_self};

PyTypeObject sw_done_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "slowwatch._deadline.Done",
    .tp_basicsize = sizeof(struct done_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = done_dealloc,
    .tp_as_async = &done_async,
    .tp_iter = done_self,
    .tp_iternext = done_next,
};

PyObject *sw_async_enter(PyObject *self, PyObject *Py_UNUSED(none))
{
    return done(PyObject_CallMethod(self, "__enter__", NULL));
}

PyObject *sw_async_exit(PyObject *self, PyObject *args)
{
    PyObject *kind, *value, *traceback;
    if (!PyArg_ParseTuple(args, "OOO:__aexit__", &kind, &value, &traceback))
        return NULL;
    return done(PyObject_CallMethod(self, "__exit__", "OOO", kind, value, traceback));
}
