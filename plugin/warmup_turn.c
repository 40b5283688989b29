#include "warmup_turn.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NO_LIMIT INT_MAX /* a place that needs no room */

int sw_turns_create(struct sw_turns *t, unsigned workers)
{
    const size_t worker_bytes = workers * sizeof *t->worker, place_bytes = workers * sizeof *t->places;
    char *at = mmap(NULL, worker_bytes + place_bytes + sizeof *t->given, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return -errno;
    *t = (struct sw_turns){workers, (struct sw_warmup_worker *)(void *)at,
                           (_Atomic pid_t *)(void *)(at + worker_bytes),
                           (_Atomic uint32_t *)(void *)(at + worker_bytes + place_bytes)};
    return 0;
}

static void count_given(struct sw_turns *t)
{
    atomic_fetch_add(t->given, 1);
    syscall(SYS_futex, t->given, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* A place whose holder died is free; that counts as given back. */
static bool take_place(struct sw_turns *t, unsigned place, pid_t me)
{
    pid_t holder = 0;
    if (atomic_compare_exchange_strong(&t->places[place], &holder, me))
        return true;
    if (kill(holder, 0) == 0 || errno != ESRCH ||
        !atomic_compare_exchange_strong(&t->places[place], &holder, me))
        return false;
    count_given(t);
    return true;
}

int sw_turn_take(struct sw_turns *t, unsigned parallel, pid_t me)
{
    if (parallel == 0)
        return NO_LIMIT;
    /* The first alone: what it fills for all (compiled files, caches) the others find done. */
    const uint64_t at_once = sw_turns_given(t) == 0 ? 1 : sw_min_u64(parallel, t->workers);
    for (unsigned i = 0; i < at_once; i++)
        if (take_place(t, i, me))
            return (int)i;
    return -EAGAIN;
}

void sw_turn_give(struct sw_turns *t, int place, pid_t me)
{
    if (place >= 0 && (unsigned)place < t->workers &&
        atomic_compare_exchange_strong(&t->places[place], &me, 0))
        count_given(t);
}

uint32_t sw_turns_given(const struct sw_turns *t)
{
    return atomic_load(t->given);
}

/* No FUTEX_PRIVATE_FLAG: the waker is another process. FUTEX_WAIT_BITSET takes an absolute monotonic time. */
void sw_turns_wait(struct sw_turns *t, uint32_t seen, uint64_t until_ns)
{
    const struct timespec until = {(time_t)(until_ns / SW_NS_PER_SEC), (long)(until_ns % SW_NS_PER_SEC)};
    syscall(SYS_futex, t->given, FUTEX_WAIT_BITSET, seen, &until, NULL, FUTEX_BITSET_MATCH_ANY);
}
