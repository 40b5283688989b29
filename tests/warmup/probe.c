/* What test_warmup_python.py calls of warmup_python.c, in an interpreter of any version. */
#include "warmup_python.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static struct sw_interrupter interrupter;

EXPORT int probe_arm(void)
{
    sw_interrupter_arm(&interrupter);
    return interrupter.signal;
}

EXPORT void probe_fire(void)
{
    sw_interrupter_fire(&interrupter);
}

/* A request that ends by itself just as it is interrupted: nothing may come of it later. */
EXPORT void probe_fire_and_settle(void)
{
    sw_interrupter_fire(&interrupter);
    sw_interrupter_settle(&interrupter);
}

EXPORT void probe_disarm(void)
{
    sw_interrupter_disarm(&interrupter);
}

static void *python(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

/* What is read of this exception while it is pending: "words\nfile:line function\n..."; and is it pending afterwards? */
EXPORT int probe_read(void *type, void *value, void *traceback, char *out, size_t room)
{
    static char arena_bytes[1 << 20];
    struct sw_arena arena;
    struct sw_exception seen;
    struct sw_text text;
    void *const names[] = {python("Py_IncRef"), python("PyErr_Restore"), python("PyErr_Occurred"),
                           python("PyErr_Clear")};
    void (*incref)(void *), (*restore)(void *, void *, void *), (*clear)(void);
    void *(*occurred)(void);
    memcpy(&incref, &names[0], sizeof incref);
    memcpy(&restore, &names[1], sizeof restore);
    memcpy(&occurred, &names[2], sizeof occurred);
    memcpy(&clear, &names[3], sizeof clear);
    incref(type);
    incref(value);
    incref(traceback);
    restore(type, value, traceback);
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    sw_exception_read(&seen, &arena);
    const int pending = occurred() == type;
    clear();
    sw_text_init(&text, out, room);
    sw_text_printf(&text, "%s\n%u", seen.words, seen.stack.truncated);
    for (unsigned i = 0; i < seen.stack.count; i++)
        sw_text_printf(&text, "\n%s:%d %s", seen.stack.frames[i].file, seen.stack.frames[i].line,
                       seen.stack.frames[i].function);
    return pending;
}
