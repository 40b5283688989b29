/* counts.c - the part of metrics.h that knows nothing of uWSGI. */
#include "metrics.h"

void sw_counts_event(struct sw_counts *counts, enum sw_event_kind kind)
{
    if (kind == SW_EVENT_SLOW_REQUEST)
        atomic_fetch_add(&counts->slow_requests, 1);
    else if (kind == SW_EVENT_REQUEST_KILLED)
        atomic_fetch_add(&counts->killed_requests, 1);
    else if (kind == SW_EVENT_TIMEOUT)
        atomic_fetch_add(&counts->timeouts, 1);
}
