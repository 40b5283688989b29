#include "deadline_heap.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 64
#define CHILDREN   4 /* of a place: half as deep as with two, and they share a cache line */
#define MOST_ROOM  (UINT32_MAX / (2 * CHILDREN)) /* the index of a child fits */

static bool before(const struct sw_deadline_heap_entry *a, const struct sw_deadline_heap_entry *b)
{
    return a->wake_ns != b->wake_ns ? a->wake_ns < b->wake_ns : a->deadline->seq < b->deadline->seq;
}

/* The only writer of at[] and heap_pos. */
static void put(struct sw_deadline_heap *h, uint32_t i, struct sw_deadline_heap_entry e)
{
    h->at[i] = e;
    e.deadline->heap_pos = i + 1;
}

/* Of the children that begin at `from` the one that wakes first. */
static uint32_t first_of(const struct sw_deadline_heap *h, uint32_t from)
{
    const uint32_t end = h->used - from > CHILDREN ? from + CHILDREN : h->used;
    uint32_t first = from;
    for (uint32_t i = from + 1; i < end; i++)
        if (before(&h->at[i], &h->at[first]))
            first = i;
    return first;
}

/* Place i is free: e goes there, or towards the root, or towards the leaves, wherever the order wants it. */
static void settle(struct sw_deadline_heap *h, uint32_t i, struct sw_deadline_heap_entry e)
{
    for (uint32_t parent; i > 0 && before(&e, &h->at[parent = (i - 1) / CHILDREN]); i = parent)
        put(h, i, h->at[parent]);
    for (uint32_t child; (child = CHILDREN * i + 1) < h->used; i = child) {
        child = first_of(h, child);
        if (!before(&h->at[child], &e))
            break;
        put(h, i, h->at[child]);
    }
    put(h, i, e);
}

static int grow(struct sw_deadline_heap *h)
{
    const uint32_t room = h->room ? h->room * 2 : FIRST_ROOM;
    if (room > MOST_ROOM)
        return -ENOMEM;
    struct sw_deadline_heap_entry *at = realloc(h->at, room * sizeof *at);
    if (!at)
        return -ENOMEM;
    h->at = at;
    h->room = room;
    return 0;
}

int sw_deadline_heap_push(struct sw_deadline_heap *h, struct sw_deadline *d)
{
    const int error = h->used == h->room ? grow(h) : 0;
    if (error)
        return error;
    d->seq = h->next_seq++;
    h->used++;
    settle(h, h->used - 1, (struct sw_deadline_heap_entry){d->wake_ns, d});
    return 0;
}

void sw_deadline_heap_remove(struct sw_deadline_heap *h, struct sw_deadline *d)
{
    if (d->heap_pos == 0)
        return;
    const uint32_t hole = d->heap_pos - 1;
    d->heap_pos = 0;
    h->used--;
    if (hole < h->used)
        settle(h, hole, h->at[h->used]);
}

void sw_deadline_heap_move(struct sw_deadline_heap *h, struct sw_deadline *d, uint64_t wake_ns)
{
    d->wake_ns = wake_ns;
    settle(h, d->heap_pos - 1, (struct sw_deadline_heap_entry){wake_ns, d});
}

void sw_deadline_heap_forget(struct sw_deadline_heap *h)
{
    h->used = 0;
}

void sw_deadline_heap_free(struct sw_deadline_heap *h)
{
    free(h->at);
    *h = (struct sw_deadline_heap){0};
}

int sw_deadline_heap_check(const struct sw_deadline_heap *h)
{
    if (h->used > h->room)
        return __LINE__;
    for (uint32_t i = 0; i < h->used; i++) {
        const struct sw_deadline_heap_entry *e = &h->at[i];
        if (e->deadline->heap_pos != i + 1 || e->deadline->wake_ns != e->wake_ns)
            return __LINE__;
        if (i > 0 && before(e, &h->at[(i - 1) / CHILDREN]))
            return __LINE__;
    }
    return 0;
}
