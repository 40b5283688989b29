/* shared.h - the memory that master and workers share: who is watched by whom, and the open reports.
 * Owns:    the mapping, from _create (post_init, before the first fork) to the end of the last process.
 * Callers: see each group. No locks anywhere: words are atomic, waiting is by futex, so a process killed at any
 *          instant leaves nothing locked.
 * Fork:    shared on purpose. */
#ifndef SW_SHARED_H
#define SW_SHARED_H

#include "metrics.h"
#include "report.h"
#include "timeouts.h"

struct sw_slot {                     /* one per worker */
    _Atomic pid_t pid, watchdog_tid; /* of the process that watches itself here, 0 = none */
    _Atomic uint32_t wake;           /* futex: changed by whoever wants the watchdog's attention */
    _Atomic uint32_t asked;          /* a last picture is wanted: counts up */
    _Atomic bool kill_follows;       /* the picture is the last: the reports end with it */
    _Atomic uint32_t answered;       /* futex: the last one given */
    _Atomic uint64_t dropped;        /* events that the full channel cost */
    _Atomic uint32_t waiting;        /* events in the backlog of its process, lost if that is killed now */
    _Atomic uint64_t dropped_said;   /* of them, those the reporter has told about */
    struct sw_counts counts;         /* what it emitted */
};

struct sw_shared {
    unsigned workers, cores;      /* set at _create */
    struct sw_slot *slots;        /* workers of them */
    struct sw_report *reports;    /* workers * cores */
    struct sw_mailbox *mailboxes; /* workers of them */
};

/* set-up: 0 or -errno */
int sw_shared_create(struct sw_shared *s, unsigned workers, unsigned cores) SW_MUST_CHECK;
/* worker and core count from 0; NULL when out of range */
struct sw_slot *sw_shared_slot(const struct sw_shared *s, unsigned worker);
struct sw_report *sw_shared_report(const struct sw_shared *s, unsigned worker, unsigned core);
struct sw_mailbox *sw_shared_mailbox(const struct sw_shared *s, unsigned worker);

/* watchdog: sleep until the word changes from `seen` or the monotonic clock says until_ns */
void sw_slot_wait(struct sw_slot *slot, uint32_t seen, uint64_t until_ns);
/* anybody, also a request thread: one system call, never blocks */
void sw_slot_wake(struct sw_slot *slot);

/* master: asks the watchdog for a last picture; sw_slot_await returns true when it was given within max_ns */
uint32_t sw_slot_ask(struct sw_slot *slot, bool kill_follows);
bool sw_slot_await(struct sw_slot *slot, uint32_t question, uint64_t max_ns);
void sw_slot_answer(struct sw_slot *slot, uint32_t question);

/* A process that is stopped or dead does not answer: asking it would only cost the wait. */
bool sw_slot_can_answer(const struct sw_slot *slot);

#endif
