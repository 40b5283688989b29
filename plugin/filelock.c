#include "filelock.h"

#include "procfs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROC_PATH_CHARS    64
#define INFO_CHARS         512 /* the start of an fdinfo: pos, flags, mnt_id, ino */
#define LOCKS_PATH         "/proc/locks"
#define LOCKS_BUDGET_BYTES ((size_t)256 * 1024)

/* "3: FLOCK  ADVISORY  WRITE 4711 fe:01:131 0 EOF", and with "-> " before the kind one that waits for lock 3. */
struct lock_line {
    uint64_t lock; /* a holder and those who wait for it share the number */
    uint64_t pid;
    uint64_t inode;
    bool waits, is_kind;
};

static const char *skip_word(const char *s)
{
    s += strspn(s, " ");
    return s + strcspn(s, " ");
}

static bool parse_line(const char *line, const char *kind, struct lock_line *out)
{
    if (!sw_procfs_number(&line, 10, &out->lock) || *line++ != ':')
        return false;
    line += strspn(line, " ");
    out->waits = strncmp(line, "->", 2) == 0;
    if (out->waits)
        line += 2 + strspn(line + 2, " ");
    out->is_kind = strncmp(line, kind, strlen(kind)) == 0;
    line = skip_word(skip_word(skip_word(line))); /* kind, advisory, read or write */
    if (!sw_procfs_number(&line, 10, &out->pid))  /* -1: an open file description's lock */
        return false;
    const char *inode = strchr(line, ':');
    if (!inode || !(inode = strchr(inode + 1, ':')))
        return false;
    inode++;
    return sw_procfs_number(&inode, 10, &out->inode);
}

/* 0 = unknown (before Linux 5.14). Not by fstat: that may ask a file server, which may be what hangs. */
static uint64_t inode_of(int fd)
{
    char path[PROC_PATH_CHARS], info[INFO_CHARS];
    uint64_t inode;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    if (sw_procfs_read(path, info, sizeof info) <= 0)
        return 0;
    const char *line = strstr(info, "\nino:");
    if (!line)
        return 0;
    line += strlen("\nino:");
    return sw_procfs_number(&line, 10, &inode) ? inode : 0;
}

pid_t sw_filelock_holder(int fd, enum sw_filelock_kind kind)
{
    const char *name = kind == SW_FILELOCK_FLOCK ? "FLOCK" : "POSIX";
    const uint64_t inode = inode_of(fd), self = (uint64_t)getpid();
    struct sw_procfs_lines lines;
    struct lock_line held = {0}, line;
    uint64_t exact = 0, other = 0;
    unsigned others = 0;

    if (sw_procfs_lines_open(&lines, LOCKS_PATH, LOCKS_BUDGET_BYTES))
        return 0;
    for (const char *text; !exact && (text = sw_procfs_lines_next(&lines));) {
        if (!parse_line(text, name, &line))
            continue;
        if (!line.waits) {
            held = line;
            continue;
        }
        if (!line.is_kind || line.pid != self || line.lock != held.lock || held.pid == 0)
            continue;
        if (line.inode == inode) {
            exact = held.pid;
        } else {
            other = held.pid;
            others++;
        }
    }
    sw_procfs_lines_close(&lines);
    /* without a known inode only a single candidate counts */
    if (!exact && others == 1)
        exact = other;
    return exact <= INT32_MAX ? (pid_t)exact : 0;
}
