/* exception.c - the exception of a deadline: made, carried into another thread, recognised again. */
#include "glue.h"

#define MESSAGE_BYTES 64
#define CHAIN_MAX     100 /* causes and contexts followed; a longer chain is somebody's accident */

/* May it be called with a message? A constructor of its own may want other arguments, or none. */
static bool takes_message(const PyTypeObject *type)
{
    const PyTypeObject *base = (const PyTypeObject *)PyExc_BaseException;
    return (type->tp_init == base->tp_init && type->tp_new == base->tp_new) ||
           type == (const PyTypeObject *)PyExc_TimeoutError;
}

static PyObject *instantiate(PyObject *type, uint64_t limit_ns)
{
    PyObject *made;
    if (takes_message((const PyTypeObject *)type)) {
        char message[MESSAGE_BYTES];
        snprintf(message, sizeof message, "timed out after %.4g s", sw_seconds(limit_ns));
        made = PyObject_CallFunction(type, "s", message);
    } else {
        made = PyObject_CallObject(type, NULL);
    }
    if (made && !PyExceptionInstance_Check(made)) {
        PyErr_Format(PyExc_TypeError, "calling %R made no exception but %R", type, made);
        Py_CLEAR(made);
    }
    return made;
}

PyObject *sw_exception_make(PyObject *exception, uint64_t limit_ns)
{
    if (!PyExceptionInstance_Check(exception))
        return instantiate(exception, limit_ns);
    /* It may have been raised before: what hangs on it is of another time. */
    PyException_SetTraceback(exception, Py_None);
    PyException_SetContext(exception, NULL);
    Py_INCREF(exception);
    return exception;
}

PyObject *sw_exception_make_any(PyObject *exception, uint64_t limit_ns)
{
    PyObject *made = sw_exception_make(exception, limit_ns);
    if (made)
        return made;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

PyObject *sw_exception_raise(struct entry *e)
{
    struct timeout_object *block = e->block;
    const uint64_t serial = e->serial;
    sw_report_raised(e, PyEval_GetFrame());
    Py_INCREF(block);
    PyObject *made = e->posted ? e->raised : NULL; /* made for a post that was taken back */
    Py_XINCREF(made);
    if (!made)
        made = sw_exception_make(block->exception, e->deadline.limit_ns);
    if (made) {
        e = sw_entry_find(block, serial); /* its constructor may have run any code */
        if (e) {
            Py_INCREF(made);
            Py_XSETREF(e->raised, made);
        }
        PyErr_SetObject((PyObject *)Py_TYPE(made), made);
        Py_DECREF(made);
    }
    Py_DECREF(block);
    return NULL;
}

static PyObject *make_carried(PyObject *instance, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Py_INCREF(instance);
    return instance;
}

static PyMethodDef carry = {"__new__", (PyCFunction)(void (*)(void))make_carried,
                            METH_VARARGS | METH_KEYWORDS, NULL};

/* PyThreadState_SetAsyncExc takes classes only. A throw-away subclass whose __new__ gives the instance carries it:
 * `except` clauses match by inheritance (3.10 and before, where the class is compared) or by the instance itself. */
PyObject *sw_exception_carrier(PyObject *instance)
{
    PyTypeObject *type = Py_TYPE(instance);
    PyObject *carrier = NULL, *make = PyCFunction_New(&carry, instance);
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyObject *name = PyObject_GetAttrString((PyObject *)type, "__name__");
    if (make && module && name)
        carrier = PyObject_CallFunction((PyObject *)Py_TYPE(type), "O(O){sOsO}", name, type, "__new__", make,
                                        "__module__", module);
    Py_XDECREF(name);
    Py_XDECREF(module);
    Py_XDECREF(make);
    if (carrier && PyExceptionClass_Check(carrier))
        return carrier;
    /* A metaclass or __init_subclass__ that refuses: the class itself, which makes an instance of its own. */
    Py_XDECREF(carrier);
    PyErr_Clear();
    Py_INCREF(type);
    return (PyObject *)type;
}

bool sw_exception_within(PyObject *value, PyObject *wanted)
{
    PyObject *at = value;
    Py_XINCREF(at);
    for (int i = 0; at && i < CHAIN_MAX; i++) {
        if (at == wanted) {
            Py_DECREF(at);
            return true;
        }
        PyObject *next = PyException_GetCause(at);
        if (!next)
            next = PyException_GetContext(at);
        Py_SETREF(at, next);
    }
    Py_XDECREF(at);
    return false;
}
