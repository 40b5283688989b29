/* entry.c - one entered block of a timeout object: opened in the strand that runs, found again, left.
 * A timeout object may be open several times at once: nested in itself, and in several threads. */
#include "glue.h"

static uint64_t next_serial = 1;

struct entry *sw_entry_new(struct timeout_object *t)
{
    struct entry *e = &t->first;
    if (e->block) {
        e = PyMem_Calloc(1, sizeof *e);
        if (!e)
            return (struct entry *)PyErr_NoMemory();
    }
    PyThreadState *state = PyThreadState_Get();
    e->block = t;
    e->deadline.owner = e;
    e->deadline.context = state;
    e->deadline.what = PyExceptionClass_Check(t->exception) ? ((PyTypeObject *)t->exception)->tp_name
                                                            : Py_TYPE(t->exception)->tp_name;
    e->thread_state_id = state->id;
    e->serial = next_serial++;
    e->told = false;
    return e;
}

/* Takes it out of the object's list, if it is in there, and drops what it holds. */
void sw_entry_free(struct entry *e)
{
    struct timeout_object *t = e->block;
    for (struct entry **at = &t->open; *at; at = &(*at)->next)
        if (*at == e) {
            *at = e->next;
            break;
        }
    PyObject *held[] = {e->strand, e->token, e->raised, e->posted};
    e->next = NULL;
    e->strand = e->token = e->raised = e->posted = NULL;
    e->serial = 0;
    e->block = NULL;
    if (e != &t->first)
        PyMem_Free(e);
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        Py_XDECREF(held[i]); /* last: it may run Python code */
}

struct entry *sw_entry_find(const struct timeout_object *block, uint64_t serial)
{
    struct entry *e = block->open;
    while (e && e->serial != serial)
        e = e->next;
    return e;
}

struct entry *sw_entry_of_strand(const struct timeout_object *t)
{
    if (!t->open)
        return NULL;
    PyObject *owner;
    const struct sw_strand *s = sw_strand_current(&owner);
    Py_XDECREF(owner);
    PyErr_Clear();
    struct entry *e = t->open;
    while (e && e->deadline.strand != s)
        e = e->next;
    return e;
}

struct entry *sw_entry_current(const struct timeout_object *t)
{
    if (!t->open || !t->open->next)
        return t->open;
    struct entry *e = sw_entry_of_strand(t);
    return e ? e : t->open;
}

/* ---- the timer of its event loop ---- */

int sw_entry_start_timer(struct entry *e, uint64_t limit_ns)
{
    if (!e->strand || limit_ns == SW_DEADLINE_NEVER)
        return 0;
    sw_in_coop++;
    e->token = PyObject_CallMethod(e->strand, "enter", "dOK", sw_seconds(limit_ns), (PyObject *)e->block,
                                   (unsigned long long)e->serial);
    sw_in_coop--;
    return e->token ? 0 : -1;
}

/* The event loop's timer: disarmed. 1: the exception in flight stands for ours. */
int sw_entry_stop_timer(struct entry *e, PyObject *kind)
{
    if (!e->token)
        return 0;
    sw_in_coop++;
    PyObject *stands = PyObject_CallMethod(e->strand, "leave", "OO", e->token, kind);
    sw_in_coop--;
    const int result = stands ? PyObject_IsTrue(stands) : -1;
    Py_XDECREF(stands);
    return result;
}

/* ---- leaving ---- */

/* Was it entered in this thread, or in a greenlet or task? Then its strand cannot go meanwhile. */
bool sw_entry_strand_is_safe(const struct entry *e)
{
    return e->deadline.strand && (e->strand || e->deadline.context == PyThreadState_Get());
}

/* Leaves the deadline: the state in which it was. Nothing of it can be raised by anybody afterwards. */
enum sw_deadline_state sw_entry_leave(struct entry *e)
{
    struct timeout_object *t = e->block;
    if (sw_entry_strand_is_safe(e))
        sw_post_settle(e->deadline.strand);
    else
        sw_post_settle_with(&e->deadline);
    enum sw_deadline_state state = sw_deadline_leave(&e->deadline);
    const uint64_t now = sw_clock_ns();
    if (state == SW_DEADLINE_OPEN && now >= e->deadline.at_ns)
        state = SW_DEADLINE_DUE; /* the timer thread did not get to run */
    t->expired = state != SW_DEADLINE_OPEN && state != SW_DEADLINE_CLOSED;
    if (t->quota)
        sw_quota_stop(t->quota, now);
    return state;
}
