/* procfs.h - small files of /proc, read into buffers of fixed size.
 * Owns:    the descriptor of a line reader, from _open to _close; nothing else.
 * Callers: any thread. No allocation, no stdio, no lock.
 * Fork:    nothing to do. */
#ifndef SW_PROCFS_H
#define SW_PROCFS_H

#include "base.h"
#include "text.h"
#include <sys/types.h>

/* What fits of a file, zero-terminated: its length, or -errno. */
ssize_t sw_procfs_read(const char *path, char *out, size_t room) SW_MUST_CHECK;

/* A file line by line. A line longer than the buffer comes in pieces; after `budget` bytes the file "ends". */
#define SW_PROCFS_LINE_CHARS 1024

struct sw_procfs_lines {
    int fd;
    size_t start, end; /* unread part of buf */
    size_t budget;     /* bytes that may still be read */
    char buf[SW_PROCFS_LINE_CHARS];
};

int sw_procfs_lines_open(struct sw_procfs_lines *l, const char *path, size_t budget) SW_MUST_CHECK;
/* the next line without its newline, zero-terminated, valid until the next call; NULL at the end */
char *sw_procfs_lines_next(struct sw_procfs_lines *l);
void sw_procfs_lines_close(struct sw_procfs_lines *l);

/* Appends: pid 9255 "sleep" */
void sw_procfs_put_process(struct sw_text *t, pid_t pid);

/* Decimal or (with base 16, an optional 0x) hexadecimal digits at *s, after blanks; moves *s behind them.
 * False, and *s stays, when there is no digit or the number is too large. */
bool sw_procfs_number(const char **s, unsigned base, uint64_t *out) SW_MUST_CHECK;

#endif
