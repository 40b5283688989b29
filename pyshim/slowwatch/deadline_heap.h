/* deadline_heap.h - which deadline wakes first: a heap by wake_ns, and by order of arrival where those are equal.
 * Owns:    the array. The deadlines belong to their blocks; each knows its place (heap_pos), so that any can be taken
 *          out without a search.
 * Callers: hold the lock of deadline.c. Pure: no clock, no lock, no thread. Zeroed memory is an empty heap.
 * Fork:    a child forgets what is in it, and keeps the array. */
#ifndef SLOWWATCH_DEADLINE_HEAP_H
#define SLOWWATCH_DEADLINE_HEAP_H

#include "deadline.h"

struct sw_deadline_heap_entry {
    uint64_t wake_ns; /* copied, so that comparing does not touch the memory of other threads' blocks */
    struct sw_deadline *deadline;
};

struct sw_deadline_heap {
    struct sw_deadline_heap_entry *at;
    uint32_t used, room;
    uint64_t next_seq;
};

/* Puts it in by d->wake_ns, which must not be changed while it is in. 0 or -ENOMEM. */
int sw_deadline_heap_push(struct sw_deadline_heap *h, struct sw_deadline *d);
void sw_deadline_heap_remove(struct sw_deadline_heap *h,
                             struct sw_deadline *d); /* nothing, when it is not in */
void sw_deadline_heap_move(struct sw_deadline_heap *h, struct sw_deadline *d, uint64_t wake_ns);
void sw_deadline_heap_forget(struct sw_deadline_heap *h); /* empties it without touching the deadlines */
void sw_deadline_heap_free(struct sw_deadline_heap *h);

static inline struct sw_deadline *sw_deadline_heap_first(const struct sw_deadline_heap *h)
{
    return h->used ? h->at[0].deadline : NULL;
}

int sw_deadline_heap_check(
    const struct sw_deadline_heap *h); /* tests: 0, else the line that found it broken */

#endif
