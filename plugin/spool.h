/* spool.h - mail that could not be sent yet, one file each, in a folder that survives restarts.
 * Owns:    the open folder and its lock, from _open to _close.
 * Callers: reporter only. Files are written to a temporary name, synced, then renamed: whole or absent.
 *          Files are 0600; names are ours (NAME.mail, NAME.tmp, NAME.bad); whatever else lies there is left alone.
 *          One reporter at a time (flock on the folder).
 * Fork:    a delivery child must not touch it, and closes its copy: the lock goes with the last one. */
#ifndef SW_SPOOL_H
#define SW_SPOOL_H

#include "base.h"
#include "text.h"

#define SW_SPOOL_NAME_CHARS 64
#define SW_SPOOL_FILE_MAX   ((size_t)256 * 1024)
#define SW_SPOOL_FILES_MAX  10000

struct sw_spool {
    int dir; /* -1 = closed */
};

#define SW_SPOOL_CLOSED                                                                                      \
    {                                                                                                        \
        -1                                                                                                   \
    }

/* 0; -errno with one line in `why` (missing, not a folder, not writable; -EWOULDBLOCK: held by another process).
 * Removes what a crash left half written. */
int sw_spool_open(struct sw_spool *s, const char *path, struct sw_text *why) SW_MUST_CHECK;
void sw_spool_close(struct sw_spool *s);

/* Writes or replaces the file of this name ([a-z0-9-]+). 0 or -errno (-ENOSPC, -EDQUOT, -EROFS ...). */
int sw_spool_put(struct sw_spool *s, const char *name, const char *data, size_t n) SW_MUST_CHECK;
/* 0, also when there is no such file; or -errno */
int sw_spool_remove(struct sw_spool *s, const char *name) SW_MUST_CHECK;
/* A file whose content makes no sense: kept as NAME.bad, never read again. */
int sw_spool_set_aside(struct sw_spool *s, const char *name) SW_MUST_CHECK;
/* Calls f for each file, oldest name first, until f says false; f may remove or set aside. A file that is too large,
 * no regular file or cannot be read is set aside and counted. Returns the number of those, or -errno. */
int sw_spool_each(struct sw_spool *s, bool (*f)(const char *name, const char *data, size_t n, void *arg),
                  void *arg) SW_MUST_CHECK;

#endif
