/* probe.c - the stack reader as a shared library for ctypes: tests/pyreader/check_reader.py and tests/bench/bench_reader.py
 * load it into each interpreter. Text it returns is one frame a line, outermost first: file, line, function, separated by
 * the byte 0x1f; before them one line with "clean" or the reason, and the number of frames left out.
 * Calls made through ctypes.CDLL run without the GIL, as the watchdog does. */
#include "pyread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define EXPORT        __attribute__((visibility("default")))
#define ARENA_BYTES   ((size_t)512 * 1024)
#define TEXT_BYTES    ((size_t)1024 * 1024)
#define SEPARATOR     "\x1f"
#define THREADS_ROOM  SW_EVENT_THREADS_MAX
#define HAMMER_FRAMES 64U

int probe_open(int backend);
void probe_close(void);
const char *probe_version(void);
const char *probe_why(void);
const char *probe_backend(void);
const char *probe_capture(unsigned long ident, unsigned depth);
const char *probe_threads(unsigned long except, unsigned depth);
const char *probe_gil(unsigned long ident, unsigned long futex, unsigned long *holder, long *tid);
void probe_gil_counts(unsigned long ident, long tid, unsigned long other, unsigned looks, long *counts);
int probe_self_check(void);
long probe_time_ns(unsigned long ident, unsigned depth, unsigned rounds);
long probe_hammer(unsigned long ident, unsigned depth, unsigned captures, unsigned seconds,
                  const char *const *allowed, unsigned allowed_count, long *counts);

static struct sw_pystack *reader;
static char version_text[128], why_text[256], arena_bytes[ARENA_BYTES], out_text[TEXT_BYTES];

/* 0, or -errno with probe_why() */
EXPORT int probe_open(int backend)
{
    struct sw_text version, why;
    probe_close();
    sw_text_init(&version, version_text, sizeof version_text);
    sw_text_init(&why, why_text, sizeof why_text);
    int rc = sw_pystack_attach(&reader, &version, &why);
    if (rc == 0)
        rc = sw_pystack_open(reader, (enum sw_pymem_backend)backend);
    if (rc != 0 && why_text[0] == 0)
        sw_text_printf(&why, "memory cannot be read: %s", strerror(-rc));
    return rc;
}

EXPORT void probe_close(void)
{
    sw_pystack_detach(reader);
    reader = NULL;
}

EXPORT const char *probe_version(void)
{
    return version_text;
}

EXPORT const char *probe_why(void)
{
    return why_text;
}

EXPORT const char *probe_backend(void)
{
    return sw_pymem_backend_name(sw_pystack_mem(reader)->backend);
}

static void put_stack(struct sw_text *t, const struct sw_stack *s)
{
    sw_text_printf(t, "%s" SEPARATOR "%u\n", s->partial ? s->partial : "clean", s->truncated);
    for (unsigned i = 0; i < s->count; i++)
        sw_text_printf(t, "%s" SEPARATOR "%d" SEPARATOR "%s\n", s->frames[i].file, s->frames[i].line,
                       s->frames[i].function);
}

/* "error: ..." when nothing could be captured */
EXPORT const char *probe_capture(unsigned long ident, unsigned depth)
{
    struct sw_arena arena;
    struct sw_stack stack;
    struct sw_text t;
    sw_text_init(&t, out_text, sizeof out_text);
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    const int rc = sw_pystack_capture(reader, (pthread_t)ident, depth, &arena, &stack);
    if (rc != 0)
        sw_text_printf(&t, "error: %s", strerror(-rc));
    else
        put_stack(&t, &stack);
    return out_text;
}

/* per thread a line "thread", ident, tid, 1 = it holds the GIL; then as probe_capture, then an empty line */
EXPORT const char *probe_threads(unsigned long except, unsigned depth)
{
    struct sw_event_thread threads[THREADS_ROOM];
    struct sw_arena arena;
    struct sw_text t;
    sw_text_init(&t, out_text, sizeof out_text);
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    const unsigned n = sw_pystack_threads(reader, (pthread_t)except, depth, &arena, threads, THREADS_ROOM);
    for (unsigned i = 0; i < n; i++) {
        sw_text_printf(&t, "thread" SEPARATOR "%lu" SEPARATOR "%d" SEPARATOR "%d\n",
                       (unsigned long)threads[i].ident, (int)threads[i].tid, threads[i].gil);
        put_stack(&t, &threads[i].stack);
        sw_text_put(&t, "\n");
    }
    return out_text;
}

EXPORT const char *probe_gil(unsigned long ident, unsigned long futex, unsigned long *holder, long *tid)
{
    static const char *const NAMES[] = {"unknown", "held", "wanted", "released"};
    struct sw_gil gil;
    sw_pystack_gil(reader, (pthread_t)ident, futex, &gil);
    *holder = gil.holder;
    *tid = gil.holder_tid;
    return NAMES[gil.state];
}

/* to be called with the GIL (ctypes.PyDLL) or without */
EXPORT int probe_self_check(void)
{
    struct sw_text why;
    sw_text_init(&why, why_text, sizeof why_text);
    return sw_pystack_self_check(reader, &why);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* the median of `rounds` captures, or -errno */
EXPORT long probe_time_ns(unsigned long ident, unsigned depth, unsigned rounds)
{
    struct sw_arena arena;
    struct sw_stack stack;
    uint64_t *took = calloc(rounds, sizeof *took);
    long result = -ENOMEM;
    for (unsigned i = 0; took && i < rounds; i++) {
        sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
        const uint64_t start = sw_now_ns();
        const int rc = sw_pystack_capture(reader, (pthread_t)ident, depth, &arena, &stack);
        took[i] = sw_now_ns() - start;
        if (rc != 0 || stack.partial) {
            free(took);
            return rc != 0 ? rc : -EAGAIN;
        }
    }
    if (took && rounds > 0) {
        qsort(took, rounds, sizeof *took, by_value);
        result = (long)took[rounds / 2];
    }
    free(took);
    return result;
}

/* Looks at what a thread has to do with the GIL, with the futex the kernel says it waits on, as the plugin does;
 * counts[] by enum sw_gil_state, counts[4]: a holder was named that is none of the two threads. */
EXPORT void probe_gil_counts(unsigned long ident, long tid, unsigned long other, unsigned looks, long *counts)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/syscall", tid);
    for (unsigned i = 0; i < looks; i++) {
        struct sw_gil gil;
        unsigned long nr = 0, futex = 0;
        FILE *f = fopen(path, "re");
        if (!f || fscanf(f, "%lu 0x%lx", &nr, &futex) != 2 || nr != SYS_futex)
            futex = 0;
        if (f)
            fclose(f);
        sw_pystack_gil(reader, (pthread_t)ident, futex, &gil);
        counts[gil.state]++;
        if (gil.holder != 0 && gil.holder != ident && gil.holder != other)
            counts[SW_GIL_RELEASED + 1]++;
    }
}

/* ---- hammering a thread that runs flat out ---- */

enum { COUNT_CLEAN, COUNT_PARTIAL, COUNT_ERROR, COUNT_TORN, COUNT_TORN_PARTIAL, COUNT_STILL, COUNTS };

/* The frames whose file begins so, as "file|function:line>file|function:line>...". */
static void chain_text(const struct sw_stack *s, const char *file_prefix, struct sw_text *t)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct sw_frame *f = &s->frames[i];
        if (strncmp(f->file, file_prefix, strlen(file_prefix)) == 0)
            sw_text_printf(t, "%s|%s:%d>", f->file, f->function, f->line);
    }
}

static bool is_allowed(const char *chain, bool whole, const char *const *allowed, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (whole ? strcmp(chain, allowed[i]) == 0 : strncmp(chain, allowed[i], strlen(chain)) == 0)
            return true;
    return false;
}

static void judge(const struct sw_stack *stack, const char *const *allowed, unsigned allowed_count,
                  long *counts)
{
    char text[HAMMER_FRAMES * 96];
    struct sw_text chain;
    sw_text_init(&chain, text, sizeof text);
    chain_text(stack, allowed[0], &chain);
    char *last = strrchr(text, ':');
    if (stack->partial && last) /* the innermost frame that is left may stand at any of its lines */
        last[1] = 0;
    counts[stack->partial ? COUNT_PARTIAL : COUNT_CLEAN]++;
    if (is_allowed(text, !stack->partial, allowed + 1, allowed_count - 1))
        return;
    counts[stack->partial ? COUNT_TORN_PARTIAL : COUNT_TORN]++;
    if (!stack->partial || counts[COUNT_TORN] == 0)
        snprintf(why_text, sizeof why_text, "%.200s", text);
}

/* `allowed[0]` is how the program's files begin, the others are all chains of its frames that can be, from the outermost
 * in, as chain_text() writes them. A clean capture must be one of them; a partial one the beginning of one, but for the
 * line of its innermost frame. Only captures count during which, or since the one before, the thread used CPU; the others
 * are counted as still. Returns how many counted: `captures`, or fewer when the time was over. An example of a torn one is
 * in probe_why(). */
EXPORT long probe_hammer(unsigned long ident, unsigned depth, unsigned captures, unsigned seconds,
                         const char *const *allowed, unsigned allowed_count, long *counts)
{
    const uint64_t until = sw_now_ns() + seconds * SW_NS_PER_SEC;
    uint64_t used = 0;
    unsigned counted = 0;
    clockid_t cpu;
    memset(counts, 0, COUNTS * sizeof *counts);
    if (pthread_getcpuclockid((pthread_t)ident, &cpu) != 0)
        return -1;
    while (counted < captures && sw_now_ns() < until) {
        struct sw_arena arena;
        struct sw_stack stack;
        sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
        const int rc = sw_pystack_capture(reader, (pthread_t)ident, depth, &arena, &stack);
        const uint64_t now_used = sw_clock_ns(cpu);
        const bool ran = now_used != used;
        used = now_used;
        if (!ran) {
            counts[COUNT_STILL]++;
            continue;
        }
        counted++;
        if (rc != 0)
            counts[COUNT_ERROR]++;
        else
            judge(&stack, allowed, allowed_count, counts);
    }
    return counted;
}
