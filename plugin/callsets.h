/* callsets.h - the descriptors that poll and select wait for, in words: "fd 5 → 127.0.0.1:5432 IN".
 * A part of callwords.h, whose rules hold here too. */
#ifndef SW_CALLSETS_H
#define SW_CALLSETS_H

#include "callwords.h"

/* Append the first few of the set; of a set of one, `out` gets the descriptor and the direction. */
void sw_callsets_put_poll(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out);
void sw_callsets_put_select(struct sw_text *t, const struct sw_call *call, struct sw_waitstate *out);

#endif
