#include "look.h"

#include "render.h"
#include <errno.h>

void sw_eye_open(struct sw_eye *eye, struct sw_pystack *py, enum sw_pymem_backend backend,
                 const char *no_stack)
{
    eye->py = py;
    eye->no_stack = no_stack;
    eye->finder.ready = false;
    if (!py)
        return;
    if (sw_pystack_open(py, backend) < 0) {
        eye->py = NULL;
        eye->no_stack = "the memory of this process cannot be read";
        return;
    }
    /* Without it wait states are off for threads other than main; stacks do not need it. */
    if (sw_tid_finder_init(&eye->finder, sw_pystack_mem(py)) < 0)
        eye->finder.ready = false;
}

void sw_eye_close(struct sw_eye *eye)
{
    if (eye->py)
        sw_pystack_close(eye->py);
    eye->py = NULL;
}

pid_t sw_eye_tid(struct sw_eye *eye, pthread_t thread)
{
    if (!eye->py || !eye->finder.ready)
        return 0;
    const pid_t tid = sw_tid_of(&eye->finder, sw_pystack_mem(eye->py), (uintptr_t)thread);
    return tid > 0 ? tid : 0;
}

bool sw_eye_wait(struct sw_eye *eye, pid_t tid, struct sw_waitstate *out)
{
    return tid > 0 && sw_waitstate_read(tid, eye->py ? sw_pystack_mem(eye->py) : NULL, out) == 0;
}

static void look_at_stack(struct sw_eye *eye, pthread_t thread, struct sw_arena *arena, struct sw_event *e)
{
    e->has_stack = false;
    e->no_stack = eye->no_stack;
    if (!eye->py)
        return;
    const int err = sw_pystack_capture(eye->py, thread, eye->depth, arena, &e->stack);
    if (err == -ESRCH) {
        e->no_stack = "no Python code runs on this thread";
    } else if (err < 0) {
        e->no_stack = "the stack could not be read";
    } else {
        e->has_stack = true;
        if (eye->shared_thread && !e->stack.partial)
            e->stack.partial = "many requests share this thread; this is what it runs now";
    }
}

static void look_at_gil(struct sw_eye *eye, pthread_t thread, const struct sw_waitstate *wait,
                        struct sw_event *e)
{
    struct sw_gil gil = {SW_GIL_UNKNOWN, 0, 0};
    if (eye->py)
        sw_pystack_gil(eye->py, thread, wait ? wait->futex : 0, &gil);
    switch (gil.state) {
    case SW_GIL_HELD:
        e->thread.gil = "held";
        break;
    case SW_GIL_WANTED:
        e->thread.gil = "wanted";
        e->thread.gil_holder = gil.holder;
        break;
    case SW_GIL_RELEASED:
        e->thread.gil = "released";
        break;
    case SW_GIL_UNKNOWN:
        break;
    }
}

void sw_eye_look(struct sw_eye *eye, pthread_t thread, uintptr_t state, const struct sw_waitstate *wait,
                 bool with_threads, struct sw_arena *arena, struct sw_event *e)
{
    if (eye->py)
        sw_pystack_prefer(eye->py, state);
    look_at_stack(eye, thread, arena, e);
    look_at_gil(eye, thread, wait, e);
    if (wait) {
        e->thread.state = sw_waitstate_name(wait);
        e->thread.syscall = wait->syscall[0] ? wait->syscall : NULL;
        e->thread.wait = wait->words[0] ? wait->words : NULL;
    }
    if (!with_threads || !eye->py)
        return;
    e->threads = sw_arena_alloc(arena, SW_EVENT_THREADS_MAX * sizeof *e->threads);
    if (e->threads)
        e->thread_count = sw_pystack_threads(eye->py, thread, SW_THREAD_FRAMES_MAX, arena, e->threads,
                                             SW_EVENT_THREADS_MAX);
    /* CPython's own record of the id is the parent's after a fork that it was not told about. */
    for (unsigned i = 0; i < e->thread_count; i++)
        e->threads[i].tid = sw_eye_tid(eye, (pthread_t)e->threads[i].ident);
}

const struct sw_frame *sw_stack_place(const struct sw_stack *s)
{
    for (unsigned i = s->count; i > 0; i--)
        if (sw_frame_is_application(&s->frames[i - 1]))
            return &s->frames[i - 1];
    return s->count ? &s->frames[s->count - 1] : NULL;
}
