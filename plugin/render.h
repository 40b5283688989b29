/* render.h - an event as people read it: the log entry and the mail body.
 * Callers: reporter; without a master the watchdog. No allocation, no lock, no I/O.
 * Whatever came from a client or from code objects is escaped: it cannot start a line or reorder text.
 * Layout: headline, wait line, traceback in Python's own format, timeline, request details, other threads; a part of
 * which nothing is known is left out. */
#ifndef SW_RENDER_H
#define SW_RENDER_H

#include "event.h"

/* A whole entry, "slowwatch: " in front of the headline; each line ended by \n. When `out` is too small its end is
 * missing and out->cut is set. */
void sw_render_event(const struct sw_event *e, struct sw_text *out);
/* The parts, for the mail */
void sw_render_headline(const struct sw_event *e,
                        struct sw_text *out); /* without "slowwatch: ", without \n */
/* "db.py:88 fetch": the innermost application frame (else the innermost), "" without a stack */
void sw_render_place(const struct sw_event *e, struct sw_text *out);

/* A frame that belongs to the site's own code: not the standard library, not site-packages, not frozen. */
bool sw_frame_is_application(const struct sw_frame *f);
/* The last part of a path: "db.py" */
const char *sw_frame_base_name(const char *file);

#endif
