/* quota.c - a budget of seconds that several blocks share. Used up while at least one of them is open. */
#include "glue.h"

#include <math.h>

struct quota_object {
    PyObject_HEAD uint64_t left_ns, since_ns; /* left at since_ns, when running */
    uint32_t open;
};

#define NS_PER_S 1e9
#define FAR_NS   ((uint64_t)1 << 62) /* 146 years: practically never, and sums cannot wrap */

int sw_parse_seconds(PyObject *number, double *seconds, uint64_t *ns)
{
    double s;
    if (PyFloat_CheckExact(number)) {
        s = PyFloat_AS_DOUBLE(number);
    } else {
        s = PyFloat_AsDouble(number);
        if (s == -1.0 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError))
                PyErr_Format(PyExc_TypeError, "seconds must be a number or a Quota, not %.100s",
                             Py_TYPE(number)->tp_name);
            return -1;
        }
    }
    if (!(s > 0)) { /* NaN too */
        PyErr_Format(PyExc_ValueError, "seconds must be more than 0, not %R", number);
        return -1;
    }
    *seconds = s;
    if (isinf(s))
        *ns = SW_DEADLINE_NEVER;
    else if (s >= (double)FAR_NS / NS_PER_S)
        *ns = FAR_NS;
    else
        *ns = s * NS_PER_S < 1 ? 1 : (uint64_t)(s * NS_PER_S);
    return 0;
}

uint64_t sw_quota_left_ns(const struct quota_object *q, uint64_t now)
{
    if (q->open == 0 || q->left_ns == SW_DEADLINE_NEVER)
        return q->left_ns;
    const uint64_t used = now - q->since_ns;
    return used < q->left_ns ? q->left_ns - used : 0;
}

void sw_quota_start(struct quota_object *q, uint64_t now)
{
    if (q->open++ == 0)
        q->since_ns = now;
}

void sw_quota_stop(struct quota_object *q, uint64_t now)
{
    if (q->open == 0)
        return;
    q->left_ns = sw_quota_left_ns(q, now);
    q->since_ns = now;
    q->open--;
}

static PyObject *quota_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seconds", NULL};
    PyObject *number;
    double seconds;
    uint64_t ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Quota", names, &number) ||
        sw_parse_seconds(number, &seconds, &ns) < 0)
        return NULL;
    struct quota_object *q = (struct quota_object *)type->tp_alloc(type, 0);
    if (q)
        q->left_ns = ns;
    return (PyObject *)q;
}

static void quota_dealloc(PyObject *self)
{
    Py_TYPE(self)->tp_free(self);
}

static double left_seconds(const struct quota_object *q)
{
    const uint64_t ns = sw_quota_left_ns(q, sw_clock_ns());
    return ns == SW_DEADLINE_NEVER ? Py_HUGE_VAL : sw_seconds(ns);
}

static PyObject *quota_remaining(PyObject *self, PyObject *Py_UNUSED(none))
{
    return PyFloat_FromDouble(left_seconds((struct quota_object *)self));
}

static PyObject *quota_running(PyObject *self, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(((struct quota_object *)self)->open > 0);
}

static PyObject *quota_repr(PyObject *self)
{
    PyObject *left = PyFloat_FromDouble(left_seconds((struct quota_object *)self));
    PyObject *text = left ? PyUnicode_FromFormat("<Quota remaining=%S>", left) : NULL;
    Py_XDECREF(left);
    return text;
}

static PyMethodDef quota_methods[] = {
    {"remaining", quota_remaining, METH_NOARGS, "Seconds left, never below 0. Any thread."},
    {"running", quota_running, METH_NOARGS, "Is a block with this quota open? Any thread."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject sw_quota_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "slowwatch.Quota",
    .tp_basicsize = sizeof(struct quota_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Quota(seconds)\n--\n\n"
              "A budget of seconds shared by several blocks, one after another, nested or in several "
              "threads. It is\n"
              "used up while at least one block with it is open, and counts that time once.",
    .tp_new = quota_new,
    .tp_dealloc = quota_dealloc,
    .tp_repr = quota_repr,
    .tp_methods = quota_methods,
};
