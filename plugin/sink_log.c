#include "sink_log.h"

#include "log.h"
#include "render.h"

static const char cut_mark[] = "\n... (cut)\n";

static size_t make_text(const struct sw_event *e, char *entry)
{
    struct sw_text out;
    sw_text_init(&out, entry, SW_SINK_LOG_BYTES - sizeof cut_mark);
    sw_render_event(e, &out);
    if (out.cut) {
        out.room = SW_SINK_LOG_BYTES;
        sw_text_put(&out, cut_mark);
    }
    return out.used;
}

/* One event is one line: where the host takes less at once, the event is cut like one that does not fit into a
 * datagram, rather than torn into lines that no reader of JSON understands. */
static size_t make_json(const struct sw_event *e, char *entry)
{
    const size_t most = sw_min_u64(SW_SINK_LOG_BYTES, sw_log_write_max());
    const ssize_t n = sw_event_encode(e, entry, sw_max_u64(most, SW_EVENT_ROOM_MIN + 1) - 1);
    if (n < 0)
        return 0;
    entry[n] = '\n';
    return (size_t)n + 1;
}

void sw_sink_log_write_with(enum sw_log_format format, const struct sw_event *e, bool raw, char *entry)
{
    if (format == SW_LOG_OFF)
        return;
    size_t n = format == SW_LOG_JSON ? make_json(e, entry) : 0;
    if (n == 0) /* also when there is no JSON of it: better as text than not at all */
        n = make_text(e, entry);
    if (raw)
        sw_log_entry_raw(entry, n);
    else
        sw_log_entry(entry, n);
}

void sw_sink_log_write(enum sw_log_format format, const struct sw_event *e, bool raw)
{
    static char entry[SW_SINK_LOG_BYTES]; /* the stack of some thread would be too small for it */
    sw_sink_log_write_with(format, e, raw, entry);
}
