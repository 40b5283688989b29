/* interrupt.c - making the main thread look: a real-time signal, whose Python handler raises what is due.
 * Whether an exception is raised is decided in the handler, in the interrupted thread: if the block was left
 * meanwhile nothing is due any more and nothing happens. The C handler is CPython's own (signal.signal installs it), so
 * blocking calls return with EINTR and look, as they do for every Python signal. */
#include "glue.h"

#include <signal.h>
#include <stdatomic.h>

/* Where the search for a free signal begins: the lower real-time signals are those that others take first. */
#define FIRST_SIGNAL (SIGRTMIN + 10)

/* Written with the GIL; the timer thread reads it without, after `ready`. */
static struct {
    _Atomic int signum; /* 0 = not chosen yet */
    struct sigaction installed;
    pthread_t main_thread;
    _Atomic bool ready; /* main_thread is known, and our handler was installed in it */
    uint64_t left;      /* bit n-1: signal n was ours, and is ignored since */
} interrupt;

static PyObject *on_signal(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args));
static PyMethodDef handler_def = {"slowwatch_interrupt", on_signal, METH_VARARGS,
                                  "Raises the exception of the deadline that is due in the main thread."};
static PyObject *handler; /* these are made once and kept */
static PyObject *getsignal, *signum_object;

static PyObject *raise_due(struct sw_strand *s)
{
    sw_post_settle(s);
    struct sw_deadline *d = sw_strand_take(s);
    if (!d)
        Py_RETURN_NONE;
    return sw_exception_raise(d->owner);
}

static PyObject *raise_due_of_owner(void)
{
    PyObject *owner;
    struct sw_strand *s = sw_strand_of_owner(&owner);
    if (!s) {
        if (PyErr_Occurred())
            return NULL; /* of another signal's handler */
        Py_RETURN_NONE;
    }
    PyObject *result = raise_due(s);
    Py_DECREF(owner);
    return result;
}

static PyObject *on_signal(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *frame = PyTuple_Check(args) && PyTuple_GET_SIZE(args) == 2 ? PyTuple_GET_ITEM(args, 1) : NULL;
    if (sw_in_coop)
        Py_RETURN_NONE; /* it comes again soon */
    if (frame && PyFrame_Check(frame) && !sw_safepoint((PyFrameObject *)frame)) {
        sw_interrupt_again();
        Py_RETURN_NONE;
    }
    struct sw_strand *s = sw_strand_of_thread();
    PyObject *result = s ? raise_due(s) : NULL;
    if (s && result != Py_None)
        return result;
    Py_XDECREF(result);
    return raise_due_of_owner();
}

/* ---- choosing and installing ---- */

static PyObject *call_signal_module(const char *function, int signum, PyObject *argument)
{
    PyObject *module = PyImport_ImportModule("_signal"); /* signal wraps it in enums, slowly */
    PyObject *result = NULL;
    if (module)
        result = argument ? PyObject_CallMethod(module, function, "iO", signum, argument)
                          : PyObject_CallMethod(module, function, "i", signum);
    Py_XDECREF(module);
    return result;
}

static uint64_t bit_of(int signum)
{
    return UINT64_C(1) << (signum - 1);
}

/* Has nobody a handler for it, neither in C nor in Python? */
static int is_free(int signum)
{
    struct sigaction now;
    if (sigaction(signum, NULL, &now) < 0)
        return 0;
    PyObject *python = call_signal_module("getsignal", signum, NULL);
    if (!python)
        return -1;
    const long disposition = PyLong_Check(python) ? PyLong_AsLong(python) : -1; /* else a function, or None */
    const bool ours =
        python == handler || (disposition == (long)(intptr_t)SIG_IGN && (interrupt.left & bit_of(signum)));
    Py_DECREF(python);
    return ours || (now.sa_handler == SIG_DFL && disposition == (long)(intptr_t)SIG_DFL);
}

/* The signal we had, else the first free real-time one, from FIRST_SIGNAL on and then from the lowest. */
static int choose(void)
{
    const int first = interrupt.signum ? interrupt.signum : FIRST_SIGNAL, count = SIGRTMAX - SIGRTMIN + 1;
    for (int i = 0; i < count; i++) {
        const int signum = i == 0 ? first : SIGRTMIN + (FIRST_SIGNAL - SIGRTMIN + i - 1) % count;
        const int free_ = is_free(signum);
        if (free_ != 0)
            return free_ < 0 ? -1 : signum;
    }
    PyErr_SetString(PyExc_RuntimeError, "slowwatch: every real-time signal has a handler of somebody else; "
                                        "slowwatch.set_signal() can name another signal");
    return -1;
}

/* 1: installed. 0: this is not the main thread of the main interpreter. CPython itself says which thread that is; its
 * name may be anything (uWSGI renames it). */
static int install(int signum)
{
    PyObject *number = PyLong_FromLong(signum), *previous = NULL;
    if (number)
        previous = call_signal_module("signal", signum, handler);
    if (!previous) {
        Py_XDECREF(number);
        if (!PyErr_ExceptionMatches(PyExc_ValueError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(previous);
    Py_XSETREF(signum_object, number);
    interrupt.left &= ~bit_of(signum);
    interrupt.main_thread = pthread_self();
    sigaction(signum, NULL, &interrupt.installed);
    interrupt.signum = signum;
    interrupt.ready = true;
    return 1;
}

static int make_objects(void)
{
    if (!handler)
        handler = PyCFunction_New(&handler_def, NULL);
    if (handler && !getsignal) {
        PyObject *module = PyImport_ImportModule("_signal");
        getsignal = module ? PyObject_GetAttrString(module, "getsignal") : NULL;
        Py_XDECREF(module);
    }
    return handler && getsignal ? 0 : -1;
}

int sw_interrupt_prepare(void)
{
    if (PyInterpreterState_GetID(PyThreadState_Get()->interp) != 0)
        return 0;
    if (interrupt.ready)
        return pthread_equal(interrupt.main_thread, pthread_self()) != 0;
    if (make_objects() < 0)
        return -1;
    const int signum = choose();
    return signum < 0 ? -1 : install(signum);
}

int sw_interrupt_refresh(void)
{
    if (!interrupt.ready)
        return sw_interrupt_prepare() < 0 ? -1 : 0;
    PyObject *now = PyObject_CallFunctionObjArgs(getsignal, signum_object, NULL);
    if (!now)
        return -1;
    Py_DECREF(now);
    if (now == handler)
        return 0;
    interrupt.ready = false; /* somebody took the signal: it is theirs */
    return sw_interrupt_prepare() < 0 ? -1 : 0;
}

PyObject *sw_interrupt_set_signal(PyObject *Py_UNUSED(module), PyObject *number)
{
    const long signum = PyLong_AsLong(number);
    if (signum == -1 && PyErr_Occurred())
        return NULL;
    if (signum < 1 || signum > SIGRTMAX || signum == SIGKILL || signum == SIGSTOP)
        return PyErr_Format(PyExc_ValueError, "signum must be that of a signal that can be handled, not %ld",
                            signum);
    if (make_objects() < 0)
        return NULL;
    const int free_ = is_free((int)signum);
    if (free_ < 0)
        return NULL;
    if (!free_)
        return PyErr_Format(PyExc_ValueError, "signal %ld has a handler of somebody else", signum);
    const int previous = interrupt.ready ? interrupt.signum : 0;
    const int is_main = PyInterpreterState_GetID(PyThreadState_Get()->interp) == 0 ? install((int)signum) : 0;
    if (is_main < 0)
        return NULL;
    if (!is_main)
        return PyErr_Format(PyExc_ValueError,
                            "set_signal works in the main thread of the main interpreter only");
    if (previous && previous != signum) {
        /* A signal that is still on its way must not meet the default action, which ends the process. */
        PyObject *ignored = PyLong_FromLong((long)(intptr_t)SIG_IGN);
        PyObject *old = ignored ? call_signal_module("getsignal", previous, NULL) : NULL;
        if (old == handler) {
            interrupt.left |= bit_of(previous);
            Py_XDECREF(call_signal_module("signal", previous, ignored));
        }
        Py_XDECREF(old);
        Py_XDECREF(ignored);
        if (PyErr_Occurred())
            return NULL;
    }
    Py_RETURN_NONE;
}

void sw_interrupt_close(void)
{
    interrupt.ready = false;
    interrupt.left = 0;
    handler = getsignal = signum_object = NULL;
}

void sw_interrupt_fork_child(void)
{
    interrupt.ready = false; /* another thread may be the main one now; the handler stays installed */
}

/* ---- sending it; by the core in the timer thread, lock held ---- */

/* Never send a signal that somebody else's handler, or the default action, would get. */
static bool send(pthread_t thread)
{
    struct sigaction now;
    return interrupt.ready && sigaction(interrupt.signum, NULL, &now) == 0 &&
           now.sa_handler == interrupt.installed.sa_handler && pthread_kill(thread, interrupt.signum) == 0;
}

void sw_interrupt_again(void)
{
    (void)send(pthread_self());
}

void sw_interrupt_nudge(pthread_t thread)
{
    (void)send(thread);
}

static bool kick(const struct sw_strand *s)
{
    if (send(interrupt.main_thread))
        return true;
    sw_post_start(s->group);
    return false;
}

static void stuck(const struct sw_deadline *d, uint64_t late_ns)
{
    sw_report_stuck(d, late_ns);
    sw_post_start(d->strand->group); /* the signal was of no use, if it was one */
}

const struct sw_deadline_ops sw_interrupt_ops = {.kick = kick, .stuck = stuck};
