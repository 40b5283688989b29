#include "sink_alarm.h"

#include "render.h"

#define ALARM_BYTES 1024 /* uWSGI ignores messages over its alarm-msg-size, 8192 by default */

void sw_sink_alarm_event(const struct sw_sink_alarm *a, const struct sw_event *e)
{
    if (!a->name || (e->kind != SW_EVENT_SLOW_REQUEST && e->kind != SW_EVENT_REQUEST_KILLED &&
                     e->kind != SW_EVENT_WORKER_DIED))
        return;
    char bytes[ALARM_BYTES];
    struct sw_text text;
    sw_text_init(&text, bytes, sizeof bytes);
    sw_text_put(&text, "slowwatch: ");
    sw_render_headline(e, &text);
    const size_t headline = text.used;
    sw_text_put(&text, ": ");
    const size_t before = text.used;
    sw_render_place(e, &text);
    if (text.used == before)
        text.used = headline;
    a->raise(a->name, text.at, text.used);
}
