#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_BYTES 64 /* of the processor's caches: parts of different owners share none */

static size_t aligned(size_t bytes)
{
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

int sw_shared_create(struct sw_shared *s, unsigned workers, unsigned cores)
{
    /* Untouched pages cost nothing: reports are only written while something is slow. */
    const size_t slots_bytes = workers * sizeof *s->slots;
    const size_t reports_bytes = (size_t)workers * cores * sizeof *s->reports;
    const size_t mailboxes_bytes = workers * sizeof *s->mailboxes;
    const size_t reports_at = aligned(slots_bytes), mailboxes_at = reports_at + aligned(reports_bytes);
    char *at =
        mmap(NULL, mailboxes_at + mailboxes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return -errno;
    *s = (struct sw_shared){workers, cores, (struct sw_slot *)(void *)at,
                            (struct sw_report *)(void *)(at + reports_at),
                            (struct sw_mailbox *)(void *)(at + mailboxes_at)};
    return 0;
}

struct sw_slot *sw_shared_slot(const struct sw_shared *s, unsigned worker)
{
    return worker < s->workers ? &s->slots[worker] : NULL;
}

struct sw_report *sw_shared_report(const struct sw_shared *s, unsigned worker, unsigned core)
{
    return worker < s->workers && core < s->cores ? &s->reports[(size_t)worker * s->cores + core] : NULL;
}

struct sw_mailbox *sw_shared_mailbox(const struct sw_shared *s, unsigned worker)
{
    return worker < s->workers ? &s->mailboxes[worker] : NULL;
}

/* No FUTEX_PRIVATE_FLAG: the waker may be another process. FUTEX_WAIT_BITSET takes an absolute monotonic time. */
static void futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t until_ns)
{
    struct timespec until = {(time_t)(until_ns / SW_NS_PER_SEC), (long)(until_ns % SW_NS_PER_SEC)};
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, until_ns == SW_NS_NEVER ? NULL : &until, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void sw_slot_wait(struct sw_slot *slot, uint32_t seen, uint64_t until_ns)
{
    futex_wait(&slot->wake, seen, until_ns);
}

void sw_slot_wake(struct sw_slot *slot)
{
    atomic_fetch_add(&slot->wake, 1);
    futex_wake(&slot->wake);
}

uint32_t sw_slot_ask(struct sw_slot *slot, bool kill_follows)
{
    atomic_store(&slot->kill_follows, kill_follows);
    const uint32_t question = atomic_fetch_add(&slot->asked, 1) + 1;
    sw_slot_wake(slot);
    return question;
}

static bool is_answered(struct sw_slot *slot, uint32_t question, uint32_t *seen)
{
    *seen = atomic_load(&slot->answered);
    return (int32_t)(*seen - question) >= 0; /* the counters may wrap */
}

bool sw_slot_await(struct sw_slot *slot, uint32_t question, uint64_t max_ns)
{
    const uint64_t until_ns = sw_add_sat(sw_now_ns(), max_ns);
    uint32_t seen;
    while (!is_answered(slot, question, &seen)) {
        if (sw_now_ns() >= until_ns)
            return false;
        futex_wait(&slot->answered, seen, until_ns);
    }
    return true;
}

void sw_slot_answer(struct sw_slot *slot, uint32_t question)
{
    atomic_store(&slot->answered, question);
    futex_wake(&slot->answered);
}

bool sw_slot_can_answer(const struct sw_slot *slot)
{
    const pid_t pid = atomic_load(&slot->pid), tid = atomic_load(&slot->watchdog_tid);
    char path[64], stat[512];
    if (pid == 0 || tid == 0 || (syscall(SYS_tgkill, pid, tid, 0) < 0 && errno != EPERM))
        return false;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true; /* hidden or not mounted: it is there, so ask; the wait is bounded */
    const ssize_t n = read(fd, stat, sizeof stat - 1);
    close(fd);
    if (n <= 0)
        return false;
    stat[n] = 0;
    const char *name_end = strrchr(stat, ')'); /* "pid (name) S ...": the name may hold anything */
    return name_end && name_end[1] == ' ' && !strchr("TtZX", name_end[2]);
}
