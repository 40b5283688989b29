#include "recent.h"

#include "group.h"
#include <string.h>

/* Newest first: the events of a report come close together. */
static int find(const struct sw_recent *recent, const char *id)
{
    for (unsigned back = 1; back <= SW_RECENT_MAX; back++) {
        const unsigned i = (recent->next + SW_RECENT_MAX - back) % SW_RECENT_MAX;
        if (strncmp(recent->reports[i].id, id, SW_EVENT_ID_CHARS) == 0)
            return (int)i;
    }
    return -1;
}

bool sw_recent_event(struct sw_recent *recent, struct sw_event *e)
{
    if (!sw_event_is_of_report(e->kind)) {
        sw_group_fingerprint(e, recent->single);
        e->fingerprint = e->has_stack ? recent->single : NULL;
        return true;
    }
    int i = find(recent, e->id);
    if (i < 0) {
        i = (int)recent->next;
        recent->next = (recent->next + 1) % SW_RECENT_MAX;
        struct sw_text id;
        sw_text_init(&id, recent->reports[i].id, sizeof recent->reports[i].id);
        sw_text_put(&id, e->id);
        sw_group_fingerprint(e, recent->reports[i].fingerprint);
        recent->reports[i].ended = false;
    }
    e->fingerprint = recent->reports[i].fingerprint;
    if (recent->reports[i].ended)
        return false;
    recent->reports[i].ended = sw_event_is_end(e->kind);
    return true;
}
