/* post.c - exceptions for threads that no signal reaches: set as asynchronous exception, raised at the next bytecode.
 * Only who holds the GIL may do that, so a native thread of its own waits for it: the timer must not. It is started when
 * the first thread of the interpreter that needs it opens a block. The deadline core wakes it a GIL switch interval early,
 * since that is how long a busy thread keeps the GIL from it.
 * An interpreter that closes takes the mutex of its poster (without the GIL) and so waits until the thread has left it. */
#include "glue.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define STACK_BYTES       ((size_t)1024 * 1024) /* it makes a class, which may run Python code */
#define TRY_AGAIN_NS      (2 * SW_MSEC)         /* this cannot be done at this very moment */
#define LOOK_AGAIN_NS     SW_STUCK_AFTER_NS
#define INTERPRETERS_MAX  64
#define DEADLINES_AT_ONCE 100000 /* bounds one errand */
#define SECONDS_TO_NS     1e9

/* One of each interpreter, since up to 3.11 a thread is asked to give up the GIL by waiters of its own interpreter only.
 * Its thread frees it, when it was started and the interpreter is closed. */
struct poster {
    PyInterpreterState *interp;
    pthread_mutex_t errand; /* held while it works for the interpreter */
    _Atomic bool started, closed;
};

static struct poster *_Atomic posters[INTERPRETERS_MAX]; /* written with the GIL */

/* ---- one deadline, with the GIL of its interpreter ---- */

/* Is the thread state a block was entered in still there? Its thread may have ended with the block open. */
static bool is_alive(PyInterpreterState *interp, const struct entry *e)
{
    for (PyThreadState *t = PyInterpreterState_ThreadHead(interp); t; t = PyThreadState_Next(t))
        if (t == e->deadline.context)
            return t->id == e->thread_state_id;
    return false;
}

/* uWSGI makes the thread states of all cores for a further application in one thread, so that before 3.12 they share
 * an ident, and PyThreadState_SetAsyncExc takes the first that has it. For the moment ours gets one that is unique. */
static void set_exactly(PyThreadState *t, PyObject *class)
{
    PyThreadState_SetAsyncExc(t->thread_id, class);
    if (t->async_exc == class)
        return;
    PyThreadState_SetAsyncExc(t->thread_id, NULL);
    const unsigned long ident = t->thread_id;
    t->thread_id = (unsigned long)(uintptr_t)t | 1; /* no pthread_t is odd */
    PyThreadState_SetAsyncExc(t->thread_id, class);
    t->thread_id = ident;
}

#if PY_VERSION_HEX >= 0x03090000
static PyFrameObject *frame_of(PyThreadState *t)
{
    return PyThreadState_GetFrame(t);
}
#else
static PyFrameObject *frame_of(PyThreadState *t)
{
    Py_XINCREF(t->frame);
    return t->frame;
}
#endif

static void set(struct entry *e, PyThreadState *t, PyObject *instance, PyObject *class)
{
    Py_INCREF(instance);
    Py_XSETREF(e->raised, instance);
    Py_INCREF(class);
    Py_XSETREF(e->posted, class);
    set_exactly(t, class);
}

/* From 3.15 on blocking calls of every thread look for it when a signal interrupts them. 0 = that is of no use here. */
static uint64_t nudge_gap_ns(uint64_t late_ns)
{
#if PY_VERSION_HEX >= 0x030f0000
    const uint64_t gap = late_ns < SW_KICK_GAP_FIRST_NS ? SW_KICK_GAP_FIRST_NS : late_ns;
    return gap < SW_KICK_GAP_MAX_NS ? gap : SW_KICK_GAP_MAX_NS;
#else
    (void)late_ns;
    return 0;
#endif
}

/* It is set, and not delivered: look again later. */
static void watch_posted(struct sw_deadline *d, uint64_t now)
{
    const uint64_t gap_ns = nudge_gap_ns(now > d->at_ns ? now - d->at_ns : 0);
    if (gap_ns)
        sw_interrupt_nudge(d->strand->thread);
    sw_deadline_put_off(d, now, now + (gap_ns ? gap_ns : LOOK_AGAIN_NS));
}

static void deliver(struct entry *e, PyThreadState *t)
{
    struct timeout_object *block = e->block;
    const uint64_t serial = e->serial;
    Py_INCREF(block);
    PyObject *instance = sw_exception_make_any(block->exception, e->deadline.limit_ns);
    PyObject *class = instance ? sw_exception_carrier(instance) : NULL;
    const uint64_t now = sw_clock_ns();
    e = sw_entry_find(block, serial); /* making them may have run any code, which may have left the block */
    if (e && class && is_alive(t->interp, e)) {
        PyFrameObject *frame = frame_of(t);
        if (t->async_exc || !sw_safepoint_next(frame)) {
            sw_deadline_put_off(&e->deadline, now, now + TRY_AGAIN_NS);
        } else if (sw_deadline_post(&e->deadline, now)) {
            set(e, t, instance, class);
            watch_posted(&e->deadline, now);
            sw_report_raised(e, frame);
        }
        Py_XDECREF(frame);
    }
    Py_XDECREF(class);
    Py_XDECREF(instance);
    Py_DECREF(block);
}

static void attend(struct sw_deadline *d, PyInterpreterState *interp, uint64_t now)
{
    struct entry *e = d->owner;
    PyThreadState *t = d->context;
    if (e->strand || !is_alive(interp, e)) /* a greenlet or task that does not run: nothing can be set */
        sw_deadline_put_off(d, now, now + LOOK_AGAIN_NS);
    else if (d->state != SW_DEADLINE_POSTED)
        deliver(e, t);
    else if (t->async_exc == e->posted)
        watch_posted(d, now);
    else
        sw_deadline_settle(d, true);
}

#if PY_VERSION_HEX < 0x030d0000
/* Up to 3.12 a mere withdrawal leaves every thread of the interpreter looking for an asynchronous exception before each
 * jump, until one is delivered. So ours is delivered here, to a Python function that does nothing, and caught. */
static void withdraw(PyThreadState *t, const struct sw_strand *s)
{
    /* not in the main thread, where the function could meet a signal handler that raises */
    if (t == PyThreadState_Get() && s->way == SW_WAY_POST) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_XDECREF(sw_call_wrap("nothing", PyTuple_New(0)));
        PyErr_Restore(type, value, traceback);
    }
    Py_CLEAR(t->async_exc);
}
#else
static void withdraw(PyThreadState *t, const struct sw_strand *Py_UNUSED(s))
{
    Py_CLEAR(t->async_exc);
}
#endif

static void settle(struct sw_deadline *d, PyInterpreterState *interp)
{
    const struct entry *e = d->owner;
    PyThreadState *t = d->context;
    const bool pending = is_alive(interp, e) && t->async_exc && t->async_exc == e->posted;
    if (pending)
        withdraw(t, d->strand);
    sw_deadline_settle(d, !pending);
}

void sw_post_settle(struct sw_strand *s)
{
    /* A deadline becomes POSTED with the GIL held, so a thread that holds it cannot miss one here. */
    if (__atomic_load_n(&s->due, __ATOMIC_RELAXED) == 0)
        return;
    struct sw_deadline *d = sw_strand_posted(s);
    if (d)
        settle(d, s->group);
}

void sw_post_settle_with(struct sw_deadline *with)
{
    struct sw_deadline *d = sw_deadline_posted(with);
    if (d)
        settle(d, PyThreadState_Get()->interp);
}

/* ---- the thread ---- */

/* The lead of the next deadlines: how long a busy thread keeps the GIL. */
static void learn_switch_interval(void)
{
    PyObject *get = PySys_GetObject("getswitchinterval"); /* borrowed */
    PyObject *seconds = get ? PyObject_CallObject(get, NULL) : NULL;
    if (seconds && PyFloat_Check(seconds))
        sw_deadline_set_lead((uint64_t)(PyFloat_AS_DOUBLE(seconds) * SECONDS_TO_NS));
    Py_XDECREF(seconds);
    PyErr_Clear();
}

static void sleep_until(uint64_t at_ns)
{
    const struct timespec at = {(time_t)(at_ns / UINT64_C(1000000000)), (long)(at_ns % UINT64_C(1000000000))};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void run_errand(PyInterpreterState *interp, uint64_t at_ns)
{
    PyThreadState *own = PyThreadState_New(interp);
    if (!own) {
        sleep_until(sw_clock_ns() + TRY_AGAIN_NS); /* no memory: the errand comes again */
        return;
    }
    PyEval_RestoreThread(own);
    if (sw_clock_ns() < at_ns) { /* the GIL was to be had sooner than feared */
        PyEval_SaveThread();
        sleep_until(at_ns);
        PyEval_RestoreThread(own);
    }
    struct sw_deadline *d;
    for (int i = 0; i < DEADLINES_AT_ONCE; i++) {
        const uint64_t now = sw_clock_ns();
        if (!(d = sw_deadline_pick(interp, now)))
            break;
        attend(d, interp, now);
        PyErr_Clear();
    }
    learn_switch_interval();
    PyThreadState_Clear(own);
    PyThreadState_DeleteCurrent();
}

static void *post_thread(void *poster)
{
    struct poster *p = poster;
    uint64_t at_ns;
    while (sw_deadline_await(p->interp, &p->closed, &at_ns)) {
        pthread_mutex_lock(&p->errand);
        if (!atomic_load(&p->closed))
            run_errand(p->interp, at_ns);
        pthread_mutex_unlock(&p->errand);
    }
    pthread_mutex_lock(&p->errand);
    const bool closed = atomic_load(&p->closed);
    pthread_mutex_unlock(&p->errand);
    if (closed)
        free(p);
    return NULL;
}

static int place_of(const PyInterpreterState *interp)
{
    for (int i = 0; i < INTERPRETERS_MAX; i++) {
        const struct poster *p = posters[i];
        if (p ? p->interp == interp : !interp)
            return i;
    }
    return -1;
}

void sw_post_start(void *interp)
{
    const int place = place_of(interp);
    struct poster *p = interp && place >= 0 ? posters[place] : NULL;
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (!p || atomic_exchange(&p->started, true))
        return;
    if (pthread_attr_init(&attributes) != 0) {
        atomic_store(&p->started, false);
        return;
    }
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* it inherits the mask */
    const int err = pthread_create(&thread, &attributes, post_thread, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (err == 0)
        pthread_setname_np(thread, "sw-post");
    else
        atomic_store(&p->started, false); /* the next block tries again */
}

/* ---- interpreters ---- */

int sw_post_setup(void)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    learn_switch_interval();
    if (place_of(interp) >= 0)
        return 0;
    const int place = place_of(NULL);
    if (place < 0) {
        PyErr_Format(PyExc_ImportError, "slowwatch works in at most %d interpreters of a process at once",
                     INTERPRETERS_MAX);
        return -1;
    }
    struct poster *p = calloc(1, sizeof *p);
    if (!p) {
        PyErr_NoMemory();
        return -1;
    }
    pthread_mutex_init(&p->errand, NULL);
    p->interp = interp;
    posters[place] = p;
    return 0;
}

void sw_post_close(PyInterpreterState *interp)
{
    const int place = place_of(interp);
    if (place < 0)
        return;
    struct poster *p = posters[place];
    const bool started = atomic_load(&p->started);
    posters[place] = NULL;
    PyThreadState *own = PyEval_SaveThread();
    pthread_mutex_lock(&p->errand);
    atomic_store(&p->closed, true);
    pthread_mutex_unlock(&p->errand);
    sw_deadline_drop_group(interp); /* which makes its thread look at `closed` */
    PyEval_RestoreThread(own);
    if (!started)
        free(p);
}

void sw_post_fork_child(void)
{
    for (int i = 0; i < INTERPRETERS_MAX; i++)
        if (posters[i]) {
            pthread_mutex_init(&posters[i]->errand, NULL); /* the parent's thread may have held it */
            atomic_store(&posters[i]->started, false);
        }
}
