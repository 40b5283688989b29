#include "sink_log.h"

#include "log.h"
#include "render.h"

#define ENTRY_BYTES                                                                                          \
    ((size_t)256 * 1024) /* text repeats nothing of the JSON, but adds source lines and headings */

static const char cut_mark[] = "\n... (cut)\n";

/* One thread of a process logs events, so one buffer does; the watchdog's stack would be too small for it. */
static char entry[ENTRY_BYTES];

static size_t make_text(const struct sw_event *e)
{
    struct sw_text out;
    sw_text_init(&out, entry, sizeof entry - sizeof cut_mark);
    sw_render_event(e, &out);
    if (out.cut) {
        out.room = sizeof entry;
        sw_text_put(&out, cut_mark);
    }
    return out.used;
}

/* One event is one line: where the host takes less at once, the event is cut like one that does not fit into a
 * datagram, rather than torn into lines that no reader of JSON understands. */
static size_t make_json(const struct sw_event *e)
{
    const size_t most = sw_min_u64(sizeof entry, sw_log_write_max());
    const ssize_t n = sw_event_encode(e, entry, sw_max_u64(most, SW_EVENT_ROOM_MIN + 1) - 1);
    if (n < 0)
        return 0;
    entry[n] = '\n';
    return (size_t)n + 1;
}

void sw_sink_log_write(enum sw_log_format format, const struct sw_event *e, bool raw)
{
    if (format == SW_LOG_OFF)
        return;
    size_t n = format == SW_LOG_JSON ? make_json(e) : 0;
    if (n == 0) /* also when there is no JSON of it: better as text than not at all */
        n = make_text(e);
    if (raw)
        sw_log_entry_raw(entry, n);
    else
        sw_log_entry(entry, n);
}
