/* _deadline.c - the extension module: what it exports, and what happens at import, fork and exit. */
#include "glue.h"

#define WRAP_MODULE "slowwatch._wrap"

/* ---- what is written in Python ---- */

PyObject *sw_call_wrap(const char *function, PyObject *arguments)
{
    PyObject *module = arguments ? PyImport_ImportModule(WRAP_MODULE) : NULL;
    PyObject *callable = module ? PyObject_GetAttrString(module, function) : NULL;
    PyObject *result = callable ? PyObject_CallObject(callable, arguments) : NULL;
    Py_XDECREF(callable);
    Py_XDECREF(module);
    Py_XDECREF(arguments);
    return result;
}

PyObject *sw_decorate(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *function;
    static char *names[] = {"function", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &function))
        return NULL;
    return sw_call_wrap("decorate", Py_BuildValue("(OO)", self, function));
}

/* ---- fork and exit ---- */

static void fork_child(void)
{
    sw_strands_fork_child();
    sw_deadline_fork_child();
    sw_interrupt_fork_child();
    sw_post_fork_child();
}

static bool is_open; /* the deadline core works; until the main interpreter closes */

/* Once in a process, but for what a second main interpreter finds closed. */
static int setup_process(void)
{
    static bool forks;
    if (sw_strands_setup() < 0)
        return -1;
    const int err = forks ? 0 : pthread_atfork(sw_deadline_fork_prepare, sw_deadline_fork_parent, fork_child);
    if (err) {
        errno = err;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    forks = true;
    if (PyInterpreterState_GetID(PyThreadState_Get()->interp) == 0 || !is_open) {
        sw_deadline_setup(&sw_interrupt_ops);
        sw_report_setup();
        is_open = true;
    }
    sw_strands_open(PyThreadState_Get()->interp);
    return 0;
}

/* Runs as atexit function of its interpreter. Afterwards no thread of ours touches that interpreter, no signal is sent
 * (its handler is about to go, and the default action would end the process), and blocks watch nothing. */
static PyObject *close_interpreter(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    sw_strands_close(interp);
    if (PyInterpreterState_GetID(interp) == 0) {
        PyThreadState *own = PyEval_SaveThread();
        sw_deadline_stop();
        PyEval_RestoreThread(own);
        is_open = false;
        sw_interrupt_close();
    }
    sw_post_close(interp);
    Py_RETURN_NONE;
}

static PyMethodDef close_def = {"slowwatch_close", close_interpreter, METH_NOARGS, NULL};

static int register_atexit(void)
{
    PyObject *atexit = PyImport_ImportModule("atexit");
    PyObject *function = PyCFunction_New(&close_def, NULL);
    PyObject *result = atexit && function ? PyObject_CallMethod(atexit, "register", "O", function) : NULL;
    Py_XDECREF(result);
    Py_XDECREF(function);
    Py_XDECREF(atexit);
    return result ? 0 : -1;
}

/* ---- the module ---- */

static int add_type(PyObject *module, const char *name, PyTypeObject *type)
{
    if (PyType_Ready(type) < 0)
        return -1;
    Py_INCREF(type);
    if (PyModule_AddObject(module, name, (PyObject *)type) == 0)
        return 0;
    Py_DECREF(type);
    return -1;
}

static int exec_module(PyObject *module)
{
    if (setup_process() < 0 || add_type(module, "timeout", &sw_timeout_type) < 0 ||
        add_type(module, "shield", &sw_shield_type) < 0 || add_type(module, "Quota", &sw_quota_type) < 0 ||
        add_type(module, "Strand", &sw_strand_type) < 0 || PyType_Ready(&sw_done_type) < 0)
        return -1;
#if PY_VERSION_HEX >= 0x030f0000
    /* Other threads are nudged by the signal, and only the main thread, which mostly imports, can install it. */
    if (sw_interrupt_prepare() < 0)
        return -1;
#endif
    return sw_post_setup() < 0 ? -1 : register_atexit();
}

static PyMethodDef functions[] = {
    {"set_signal", sw_interrupt_set_signal, METH_O,
     "set_signal(signum)\n--\n\n"
     "Choose the signal that interrupts the main thread. By default a real-time signal without a handler is\n"
     "taken at the first block in the main thread. Main thread only; ValueError when the signal is in use."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#ifdef Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED
    /* not with a GIL of their own: the objects are shared */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "slowwatch._deadline",
    .m_doc = "The native half of slowwatch: deadlines that are raised where they pass.",
    .m_methods = functions,
    .m_slots = slots,
};

/* Python declares no prototype, and 3.8 does not export it by itself. */
__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__deadline(void);

PyMODINIT_FUNC PyInit__deadline(void)
{
    return PyModuleDef_Init(&definition);
}
