#include "spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX_CHARS 5 /* ".mail" */
#define FILE_MODE    0600

static const char suffix_mail[] = ".mail", suffix_tmp[] = ".tmp", suffix_bad[] = ".bad";

typedef char spool_path[SW_SPOOL_NAME_CHARS + SUFFIX_CHARS + 1];

/* The length of the name in front of this suffix, or 0 when the file is not ours. */
static size_t name_length(const char *file, const char *suffix)
{
    const size_t n = strspn(file, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return n > 0 && n <= SW_SPOOL_NAME_CHARS && strcmp(file + n, suffix) == 0 ? n : 0;
}

static int put_path(spool_path out, const char *name, const char *suffix)
{
    if (name_length(name, "") == 0)
        return -EINVAL;
    snprintf(out, sizeof(spool_path), "%s%s", name, suffix);
    return 0;
}

static DIR *open_listing(const struct sw_spool *s)
{
    const int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *listing = fdopendir(fd);
    if (!listing)
        close(fd);
    return listing;
}

static void remove_unfinished(const struct sw_spool *s)
{
    DIR *listing = open_listing(s);
    if (!listing)
        return;
    for (struct dirent *entry; (entry = readdir(listing));)
        if (name_length(entry->d_name, suffix_tmp))
            unlinkat(s->dir, entry->d_name, 0);
    closedir(listing);
}

int sw_spool_open(struct sw_spool *s, const char *path, struct sw_text *why)
{
    int err;
    s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0) {
        err = -errno;
        goto failed;
    }
    if (faccessat(s->dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0) {
        err = -errno;
        goto failed;
    }
    if (flock(s->dir, LOCK_EX | LOCK_NB) < 0) {
        err = -errno;
        goto failed;
    }
    remove_unfinished(s);
    return 0;

failed:
    sw_spool_close(s);
    sw_text_put_escaped(why, path, strlen(path));
    sw_text_printf(why, ": %s", err == -EWOULDBLOCK ? "in use by another process" : strerror(-err));
    return err;
}

void sw_spool_close(struct sw_spool *s)
{
    if (s->dir >= 0)
        close(s->dir);
    s->dir = -1;
}

static int write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        const ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        data += written;
        n -= (size_t)written;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

int sw_spool_put(struct sw_spool *s, const char *name, const char *data, size_t n)
{
    spool_path tmp, mail;
    if (s->dir < 0)
        return -EBADF;
    if (put_path(tmp, name, suffix_tmp) || put_path(mail, name, suffix_mail))
        return -EINVAL;
    if (n > SW_SPOOL_FILE_MAX)
        return -EFBIG;
    const int fd = openat(s->dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return -errno;
    int err = write_all(fd, data, n);
    if (close(fd) < 0 && !err)
        err = -errno;
    if (!err && renameat(s->dir, tmp, s->dir, mail) < 0)
        err = -errno;
    if (err)
        unlinkat(s->dir, tmp, 0);
    else if (fsync(s->dir) < 0) /* or the new name itself may be lost with the power */
        err = -errno;
    return err;
}

int sw_spool_remove(struct sw_spool *s, const char *name)
{
    spool_path mail;
    if (s->dir < 0)
        return -EBADF;
    if (put_path(mail, name, suffix_mail))
        return -EINVAL;
    if (unlinkat(s->dir, mail, 0) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

int sw_spool_set_aside(struct sw_spool *s, const char *name)
{
    spool_path mail, bad;
    if (s->dir < 0)
        return -EBADF;
    if (put_path(mail, name, suffix_mail) || put_path(bad, name, suffix_bad))
        return -EINVAL;
    return renameat(s->dir, mail, s->dir, bad) < 0 ? -errno : 0;
}

/* The whole file into `data` (SW_SPOOL_FILE_MAX bytes): its length, or -errno. */
static ssize_t read_file(const struct sw_spool *s, const char *file, char *data)
{
    struct stat st;
    size_t used = 0;
    /* O_NONBLOCK: somebody's FIFO of a fitting name must not stop the reporter */
    const int fd = openat(s->dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t result = 0;
    if (fstat(fd, &st) < 0)
        result = -errno;
    else if (!S_ISREG(st.st_mode))
        result = -EINVAL;
    else if (st.st_size > (off_t)SW_SPOOL_FILE_MAX)
        result = -EFBIG;
    while (result == 0 && used < SW_SPOOL_FILE_MAX) {
        const ssize_t n = read(fd, data + used, SW_SPOOL_FILE_MAX - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            result = -errno;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(fd);
    return result < 0 ? result : (ssize_t)used;
}

struct names {
    char (*at)[SW_SPOOL_NAME_CHARS + 1];
    size_t used, room;
};

static int collect(const struct sw_spool *s, struct names *names)
{
    DIR *listing = open_listing(s);
    if (!listing)
        return -errno;
    int err = 0;
    for (struct dirent *entry; names->used < SW_SPOOL_FILES_MAX && (entry = readdir(listing));) {
        const size_t n = name_length(entry->d_name, suffix_mail);
        if (n == 0)
            continue;
        if (names->used == names->room) {
            const size_t room = names->room ? names->room * 2 : 64;
            void *grown = realloc(names->at, room * sizeof names->at[0]);
            if (!grown) {
                err = -ENOMEM;
                break;
            }
            names->at = grown;
            names->room = room;
        }
        memcpy(names->at[names->used], entry->d_name, n);
        names->at[names->used++][n] = 0;
    }
    closedir(listing);
    return err;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

int sw_spool_each(struct sw_spool *s, bool (*f)(const char *name, const char *data, size_t n, void *arg),
                  void *arg)
{
    struct names names = {NULL, 0, 0};
    char *data = NULL;
    int bad = 0;
    if (s->dir < 0)
        return -EBADF;
    int err = collect(s, &names);
    if (err || names.used == 0)
        goto done;
    data = malloc(SW_SPOOL_FILE_MAX);
    if (!data) {
        err = -ENOMEM;
        goto done;
    }
    qsort(names.at, names.used, sizeof names.at[0], by_name);
    for (size_t i = 0; i < names.used; i++) {
        spool_path file;
        snprintf(file, sizeof file, "%s%s", names.at[i], suffix_mail);
        const ssize_t n = read_file(s, file, data);
        if (n == -ENOENT)
            continue;
        if (n >= 0) {
            if (!f(names.at[i], data, (size_t)n, arg))
                break;
            continue;
        }
        bad++;
        err = sw_spool_set_aside(s, names.at[i]);
        if (err)
            break;
    }
done:
    free(data);
    free(names.at);
    return err ? err : bad;
}
