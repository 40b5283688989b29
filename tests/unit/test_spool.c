#include "unit.h"

#include "spool.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEN_MAX 16

static char folder[] = "/tmp/test_spool.XXXXXX";
static char why_at[256];
static struct sw_text why;

static struct {
    unsigned count, stop_at;
    char names[SEEN_MAX][SW_SPOOL_NAME_CHARS + 1];
    char first[64];
} seen;

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_spool.XXXXXX");
    memset(&seen, 0, sizeof seen);
    seen.stop_at = SEEN_MAX;
    sw_text_init(&why, why_at, sizeof why_at);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in_folder(const char *file)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

static bool exists(const char *file)
{
    struct stat st;
    return lstat(in_folder(file), &st) == 0;
}

static void write_file(const char *file, const char *content)
{
    FILE *f = fopen(in_folder(file), "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static struct sw_spool opened(void)
{
    struct sw_spool s = SW_SPOOL_CLOSED;
    assert_int_equal(sw_spool_open(&s, folder, &why), 0);
    return s;
}

static bool note(const char *name, const char *data, size_t n, void *arg)
{
    assert_ptr_equal(arg, &seen);
    assert_true(seen.count < SEEN_MAX);
    if (seen.count == 0)
        snprintf(seen.first, sizeof seen.first, "%.*s", (int)n, data);
    strcpy(seen.names[seen.count++], name);
    return seen.count < seen.stop_at;
}

static void what_is_put_is_read_back_in_order(void **state)
{
    (void)state;
    struct sw_spool s = opened();
    assert_int_equal(sw_spool_put(&s, "b-2", "two", 3), 0);
    assert_int_equal(sw_spool_put(&s, "a-1", "old", 3), 0);
    assert_int_equal(sw_spool_put(&s, "a-1", "one", 3), 0);
    assert_int_equal(sw_spool_put(&s, "c-3", "three", 5), 0);
    assert_int_equal(sw_spool_remove(&s, "b-2"), 0);
    assert_int_equal(sw_spool_remove(&s, "b-2"), 0);
    sw_spool_close(&s);
    s = opened();
    assert_int_equal(sw_spool_each(&s, note, &seen), 0);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.names[0], "a-1");
    assert_string_equal(seen.names[1], "c-3");
    assert_string_equal(seen.first, "one");
    sw_spool_close(&s);
}

static void names_come_in_their_order_not_in_that_of_the_folder(void **state)
{
    (void)state;
    static const char order[] = "gbkcanhdjmfile";
    struct sw_spool s = opened();
    for (const char *at = order; *at; at++) {
        const char name[] = {*at, 0};
        assert_int_equal(sw_spool_put(&s, name, "x", 1), 0);
    }
    assert_int_equal(sw_spool_each(&s, note, &seen), 0);
    assert_int_equal(seen.count, strlen(order));
    for (unsigned i = 1; i < seen.count; i++)
        assert_true(strcmp(seen.names[i - 1], seen.names[i]) < 0);
    sw_spool_close(&s);
}

static void files_are_private(void **state)
{
    (void)state;
    struct stat st;
    struct sw_spool s = opened();
    const mode_t before = umask(0);
    assert_int_equal(sw_spool_put(&s, "a", "x", 1), 0);
    umask(before);
    assert_int_equal(stat(in_folder("a.mail"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(exists("a.tmp"));
    sw_spool_close(&s);
}

static void reading_stops_when_told(void **state)
{
    (void)state;
    struct sw_spool s = opened();
    assert_int_equal(sw_spool_put(&s, "a", "x", 1), 0);
    assert_int_equal(sw_spool_put(&s, "b", "x", 1), 0);
    seen.stop_at = 1;
    assert_int_equal(sw_spool_each(&s, note, &seen), 0);
    assert_int_equal(seen.count, 1);
    sw_spool_close(&s);
}

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "../x", "a/b", "A", "a.mail", ".", "a b", "ü"};
    char longest[SW_SPOOL_NAME_CHARS + 2];
    struct sw_spool s = opened();
    for (size_t i = 0; i < SW_COUNT(bad); i++) {
        assert_int_equal(sw_spool_put(&s, bad[i], "x", 1), -EINVAL);
        assert_int_equal(sw_spool_remove(&s, bad[i]), -EINVAL);
        assert_int_equal(sw_spool_set_aside(&s, bad[i]), -EINVAL);
    }
    memset(longest, 'a', sizeof longest);
    longest[SW_SPOOL_NAME_CHARS + 1] = 0;
    assert_int_equal(sw_spool_put(&s, longest, "x", 1), -EINVAL);
    longest[SW_SPOOL_NAME_CHARS] = 0;
    assert_int_equal(sw_spool_put(&s, longest, "x", 1), 0);
    sw_spool_close(&s);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    struct sw_spool s = opened();
    char *much = calloc(1, SW_SPOOL_FILE_MAX + 1);
    assert_int_equal(sw_spool_put(&s, "a", much, SW_SPOOL_FILE_MAX + 1), -EFBIG);
    assert_false(exists("a.mail"));
    assert_int_equal(sw_spool_put(&s, "a", much, SW_SPOOL_FILE_MAX), 0);
    free(much);
    sw_spool_close(&s);
}

static void bad_files_are_set_aside_and_foreign_ones_left_alone(void **state)
{
    (void)state;
    struct sw_spool s = opened();
    assert_int_equal(sw_spool_put(&s, "good", "x", 1), 0);
    write_file("large.mail", "");
    assert_int_equal(truncate(in_folder("large.mail"), (off_t)SW_SPOOL_FILE_MAX + 1), 0);
    assert_int_equal(symlink("/etc/passwd", in_folder("link.mail")), 0);
    assert_int_equal(mkfifo(in_folder("fifo.mail"), 0600), 0);
    assert_int_equal(mkdir(in_folder("dir.mail"), 0700), 0);
    write_file("README", "mine");
    write_file("UPPER.mail", "mine");
    assert_int_equal(sw_spool_each(&s, note, &seen), 4);
    assert_int_equal(seen.count, 1);
    assert_true(exists("large.bad") && exists("link.bad") && exists("fifo.bad") && exists("dir.bad"));
    assert_true(exists("README") && exists("UPPER.mail"));
    seen.count = 0;
    assert_int_equal(sw_spool_each(&s, note, &seen), 0);
    assert_int_equal(seen.count, 1);
    assert_int_equal(sw_spool_set_aside(&s, "good"), 0);
    assert_true(exists("good.bad"));
    sw_spool_close(&s);
}

static void half_written_files_of_a_crash_go(void **state)
{
    (void)state;
    write_file("a.tmp", "half");
    write_file("Foreign.tmp", "mine");
    struct sw_spool s = opened();
    assert_false(exists("a.tmp"));
    assert_true(exists("Foreign.tmp"));
    sw_spool_close(&s);
}

static void one_process_at_a_time(void **state)
{
    (void)state;
    struct sw_spool s = opened(), second = SW_SPOOL_CLOSED;
    assert_int_equal(sw_spool_open(&second, folder, &why), -EWOULDBLOCK);
    assert_non_null(strstr(why_at, "in use by another process"));
    assert_int_equal(second.dir, -1);
    sw_spool_close(&s);
    assert_int_equal(sw_spool_open(&second, folder, &why), 0);
    sw_spool_close(&second);
}

static void what_cannot_be_opened_says_why(void **state)
{
    (void)state;
    struct sw_spool s = SW_SPOOL_CLOSED;
    assert_int_equal(sw_spool_open(&s, in_folder("none"), &why), -ENOENT);
    assert_non_null(strstr(why_at, "/none: No such file"));
    write_file("file", "");
    assert_int_equal(sw_spool_open(&s, in_folder("file"), &why), -ENOTDIR);
    assert_int_equal(s.dir, -1);
}

static void folder_that_may_not_be_written(void **state)
{
    (void)state;
    struct sw_spool s = SW_SPOOL_CLOSED;
    if (geteuid() == 0) { /* to whom no folder is closed: as somebody else, in a child */
        const pid_t pid = fork();
        if (pid == 0) {
            const int got = chmod(folder, 0555) || setegid(65534) || seteuid(65534)
                                ? 1
                                : sw_spool_open(&s, folder, &why) != -EACCES;
            _exit(got);
        }
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        return;
    }
    assert_int_equal(chmod(folder, 0555), 0);
    assert_int_equal(sw_spool_open(&s, folder, &why), -EACCES);
    assert_int_equal(chmod(folder, 0755), 0);
}

static void folder_that_vanished(void **state)
{
    (void)state;
    struct sw_spool s = opened();
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(sw_spool_put(&s, "a", "x", 1), -ENOENT);
    assert_int_equal(sw_spool_remove(&s, "a"), 0);
    assert_true(sw_spool_each(&s, note, &seen) <= 0);
    sw_spool_close(&s);
}

static void closed_spool_takes_nothing(void **state)
{
    (void)state;
    struct sw_spool s = SW_SPOOL_CLOSED;
    assert_int_equal(sw_spool_put(&s, "a", "x", 1), -EBADF);
    assert_int_equal(sw_spool_remove(&s, "a"), -EBADF);
    assert_int_equal(sw_spool_set_aside(&s, "a"), -EBADF);
    assert_int_equal(sw_spool_each(&s, note, &seen), -EBADF);
    sw_spool_close(&s);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_is_put_is_read_back_in_order),
        IN_FOLDER(names_come_in_their_order_not_in_that_of_the_folder),
        IN_FOLDER(files_are_private),
        IN_FOLDER(reading_stops_when_told),
        IN_FOLDER(names_are_checked),
        IN_FOLDER(too_much_is_refused),
        IN_FOLDER(bad_files_are_set_aside_and_foreign_ones_left_alone),
        IN_FOLDER(half_written_files_of_a_crash_go),
        IN_FOLDER(one_process_at_a_time),
        IN_FOLDER(what_cannot_be_opened_says_why),
        IN_FOLDER(folder_that_may_not_be_written),
        IN_FOLDER(folder_that_vanished),
        IN_FOLDER(closed_spool_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
