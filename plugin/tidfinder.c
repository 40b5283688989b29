/* The second half of waitstate.h: from pthread_self() to the kernel's id of a thread. */
#include "waitstate.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SCAN_BYTES  4096 /* struct pthread has 200 (musl) to 2304 (glibc) */
#define CHUNK_BYTES 64   /* it may lie at the end of a mapping: what follows may be unreadable */
#define SLOTS       (SCAN_BYTES / sizeof(int32_t))

struct scan {
    struct sw_pymem *mem;
    uintptr_t thread[2]; /* the calling one and the helper */
    int32_t tid[2];
    size_t offset; /* SCAN_BYTES = none */
    int32_t word[2][SLOTS];
};

static size_t read_slots(struct sw_pymem *mem, uintptr_t thread, int32_t *out)
{
    size_t done = 0;
    while (done < SCAN_BYTES && sw_pymem_read(mem, thread + done, (char *)out + done, CHUNK_BYTES) == 0)
        done += CHUNK_BYTES;
    return done / sizeof *out;
}

/* Runs while its creator waits in pthread_join, so both structures stand still. One thread's memory may hold its
 * id by accident at several places (ids are small numbers in a container); one place that holds both threads'
 * different ids is the field. Were there two, the lower one lies in the struct and the other behind it. */
static void *compare_threads(void *arg)
{
    struct scan *s = arg;
    s->thread[1] = (uintptr_t)pthread_self();
    s->tid[1] = (int32_t)syscall(SYS_gettid);
    const size_t a = read_slots(s->mem, s->thread[0], s->word[0]);
    const size_t b = read_slots(s->mem, s->thread[1], s->word[1]);
    for (size_t i = 0; i < a && i < b; i++)
        if (s->word[0][i] == s->tid[0] && s->word[1][i] == s->tid[1]) {
            s->offset = i * sizeof(int32_t);
            break;
        }
    return NULL;
}

int sw_tid_finder_init(struct sw_tid_finder *f, struct sw_pymem *mem)
{
    struct scan s = {
        .mem = mem,
        .thread = {(uintptr_t)pthread_self()},
        .tid = {(int32_t)syscall(SYS_gettid)},
        .offset = SCAN_BYTES,
    };
    sigset_t all, before;
    pthread_t helper;

    *f = (struct sw_tid_finder){0};
    if (mem->backend == SW_PYMEM_OFF)
        return -ENOTSUP;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all,
                    &before); /* the helper inherits it: no handler of the process runs there */
    const int err = pthread_create(&helper, NULL, compare_threads, &s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err)
        return -err;
    pthread_join(helper, NULL);
    if (s.offset == SCAN_BYTES)
        return -ENOTSUP;
    f->offset = s.offset;
    f->ready = true;
    return 0;
}

pid_t sw_tid_of(const struct sw_tid_finder *f, struct sw_pymem *mem, uintptr_t thread)
{
    int32_t tid;
    if (!f->ready)
        return -ENOTSUP;
    if (sw_pymem_read(mem, thread + f->offset, &tid, sizeof tid) || tid <= 0)
        return -ESRCH;
    /* the memory may be another thread's by now, or no thread's */
    return syscall(SYS_tgkill, getpid(), tid, 0) == 0 ? tid : -ESRCH;
}
