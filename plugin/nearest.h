/* nearest.h - the known name that a misspelt one most likely stands for.
 * Owns nothing, holds no state, allocates nothing: any thread, any process. Nothing to do at a fork. */
#ifndef SW_NEAREST_H
#define SW_NEAREST_H

#include "base.h"

#define SW_NEAREST_CHARS_MAX 64 /* of one name; a longer one is near to nothing */

/* How many letters were added, left out, replaced or swapped with their neighbour between a and b (no letter twice);
 * most + 1 when it is more than `most`. */
unsigned sw_nearest_edits(const char *a, const char *b, unsigned most);

/* The index of the name with the fewest edits to `name`, at most `most`; the first of equals; -1 = none. */
int sw_nearest(const char *name, const char *const known[], unsigned count, unsigned most);

#endif
