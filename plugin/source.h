/* source.h - the source line of a frame, from the file on disk.
 * Owns:    a small cache of recently read lines; only _new allocates.
 * Callers: reporter; without a master the watchdog. Reads files (the reporter may block, nobody waits for it),
 *          opens only regular files, O_NONBLOCK | O_NOCTTY, reads at most SW_SOURCE_MAX_BYTES of one.
 * Fork:    nothing to do.
 * A relative name is looked for from the reader's own working directory. */
#ifndef SW_SOURCE_H
#define SW_SOURCE_H

#include "event.h"

#define SW_SOURCE_MAX_BYTES  ((size_t)8 * 1024 * 1024)
#define SW_SOURCE_LINE_BYTES ((size_t)512)
#define SW_SOURCE_CACHE      1024

struct sw_source;                      /* the cache */
struct sw_source *sw_source_new(void); /* NULL: no memory */
void sw_source_free(struct sw_source *s);

/* Fills in frame->source of every frame of the event (its threads too), stripped of outer blanks, copied to the
 * arena; a frame whose file or line cannot be read keeps NULL, as does one that no longer fits into the arena. A file
 * that changed since (mtime, size, inode) is read again. For one event a file is looked at once, and read at most
 * once, however many frames lie in it. */
void sw_source_fill(struct sw_source *s, struct sw_event *e, struct sw_arena *arena);

#endif
