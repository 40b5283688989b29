#include "pyread.h"

#include <errno.h>

#define INTERPRETERS_MAX 256
#define THREADS_MAX      8192 /* also ends a list that goes round */
#define FIND_TRIES       3    /* the lists change under us when threads come and go */

void sw_pythread_first(struct sw_pystack *p, struct sw_pythread_iter *it)
{
    uint64_t head = 0;
    *it = (struct sw_pythread_iter){0};
    it->error = sw_py_read_word(p, p->layout.runtime + p->layout.at.runtime_interp_head, &head);
    it->interp = head;
    if (it->error == 0 && head != 0) {
        it->error = sw_py_read_word(p, head + p->layout.at.interp_tstate_head, &head);
        it->next = head;
    }
}

static bool next_interpreter(struct sw_pystack *p, struct sw_pythread_iter *it)
{
    uint64_t word;
    if (it->interp == 0)
        return false;
    if (++it->interps >= INTERPRETERS_MAX) {
        it->error = -ELOOP;
        return false;
    }
    it->error = sw_py_read_word(p, it->interp + p->layout.at.interp_next, &word);
    it->interp = it->error == 0 ? word : 0;
    if (it->interp == 0)
        return false;
    it->error = sw_py_read_word(p, it->interp + p->layout.at.interp_tstate_head, &word);
    it->next = word;
    return it->error == 0;
}

bool sw_pythread_next(struct sw_pystack *p, struct sw_pythread_iter *it, struct sw_pythread *out)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    char bytes[SW_PYTHREAD_BYTES_MAX];
    if (it->error != 0)
        return false;
    while (it->next == 0)
        if (!next_interpreter(p, it))
            return false;
    if (++it->threads > THREADS_MAX) {
        it->error = -ELOOP;
        return false;
    }
    it->error = sw_pymem_read(&p->mem, it->next, bytes, p->thread_bytes);
    if (it->error != 0)
        return false;
    *out = (struct sw_pythread){
        .at = it->next,
        .interp = it->interp,
        .ident = sw_py_u64(bytes, o->ts_thread_id),
        .native = o->ts_native_id == SW_PYNONE ? 0 : (pid_t)sw_py_u64(bytes, o->ts_native_id),
    };
    it->next = sw_py_u64(bytes, o->ts_next);
    return true;
}

static bool has_frames(struct sw_pystack *p, const struct sw_pythread *t)
{
    struct sw_pywalk w;
    return sw_pyframe_start(p, t, &w) == 0 && w.top != 0;
}

bool sw_pythread_is(const struct sw_pystack *p, const struct sw_pythread *t, uint64_t ident)
{
    return p->preferred ? t->at == p->preferred : t->ident == ident;
}

/* The main interpreter comes last in the list.  One thread can have several states, when it uses sub-interpreters; and a state made for another thread keeps the ident
 * of the thread that made it, so that which of them is meant cannot always be told. */
static int find_once(struct sw_pystack *p, uint64_t ident, struct sw_pythread *out)
{
    struct sw_pythread_iter it;
    struct sw_pythread t;
    bool found = false;
    unsigned framed = 0;
    sw_pythread_first(p, &it);
    while (sw_pythread_next(p, &it, &t)) {
        uintptr_t gil;
        if (!sw_pythread_is(p, &t, ident))
            continue;
        const bool frames = has_frames(p, &t);
        const bool better = !found || (frames && framed == 0) ||
                            (frames && (p->main_first || sw_pythread_gil_holder(p, t.interp, &gil) == t.at));
        if (better)
            *out = t;
        found = true;
        framed += frames;
    }
    out->ambiguous = framed > 1 && !p->main_first;
    return found ? 0 : it.error != 0 ? it.error : -ESRCH;
}

int sw_pythread_find(struct sw_pystack *p, uint64_t ident, struct sw_pythread *out)
{
    int rc = -ESRCH;
    for (unsigned i = 0; i < FIND_TRIES && rc != 0; i++)
        rc = find_once(p, ident, out);
    return rc;
}

uintptr_t sw_pythread_gil_holder(struct sw_pystack *p, uintptr_t interp, uintptr_t *gil)
{
    const struct sw_pyoffsets *o = &p->layout.at;
    uint64_t base = p->layout.runtime, holder;
    int32_t locked;
    *gil = 0;
    if (o->gil_locked == SW_PYNONE)
        return 0;
    if (o->interp_gil != SW_PYNONE && sw_py_read_word(p, interp + o->interp_gil, &base) != 0)
        return 0;
    *gil = base + o->gil_holder - SW_PYGIL_BEFORE_HOLDER;
    if (sw_py_read_word(p, base + o->gil_holder, &holder) != 0 ||
        sw_pymem_read(&p->mem, base + o->gil_locked, &locked, sizeof locked) != 0)
        return 0;
    return locked == 1 ? holder : 0;
}
