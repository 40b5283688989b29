/* Source lines come from real files in a folder of the test; whatever is not a plain file is left alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "source.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static char folder[64];
static char arena_bytes[SW_EVENT_ARENA_BYTES];
static struct sw_arena arena;
static struct sw_source *source;

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_source.XXXXXX");
    assert_non_null(mkdtemp(folder));
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    source = sw_source_new();
    assert_non_null(source);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"a.py", "b.py", "fifo", "link.py", "dir", "new"};
    (void)state;
    sw_source_free(source);
    for (unsigned i = 0; i < SW_COUNT(names); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    return rmdir(folder);
}

static const char *path_of(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % SW_COUNT(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *name, const char *data, size_t n)
{
    const int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    assert_int_equal(close(fd), 0);
}

static void write_file(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static const char *line_of(const char *file, int line)
{
    struct sw_frame frame = {file, "f", NULL, line};
    struct sw_event e = {.has_stack = true, .stack = {&frame, 1, 0, NULL}};
    sw_arena_reset(&arena);
    sw_source_fill(source, &e, &arena);
    return frame.source;
}

static void lines_are_found_and_stripped(void **state)
{
    (void)state;
    write_file("a.py", "first\n\t  second line \t\r\nthird\rfourth\n\n  sixth");
    const char *a = path_of("a.py");
    for (unsigned again = 0; again < 2; again++) { /* the second time out of the cache */
        assert_string_equal(line_of(a, 1), "first");
        assert_string_equal(line_of(a, 2), "second line");
        assert_string_equal(line_of(a, 3), "third");
        assert_string_equal(line_of(a, 4), "fourth");
        assert_string_equal(line_of(a, 5), "");
        assert_string_equal(line_of(a, 6), "sixth");
        assert_null(line_of(a, 7));
        assert_null(line_of(a, 0));
        assert_null(line_of(a, -1));
        assert_null(line_of(a, INT32_MAX));
    }
}

static void all_frames_of_the_event_are_filled(void **state)
{
    (void)state;
    write_file("a.py", "a1\na2\na3\n");
    write_file("b.py", "b1\nb2\nb3\n");
    const char *a = path_of("a.py"), *b = path_of("b.py");
    struct sw_frame frames[] = {
        {a, "f", NULL, 3}, {b, "f", NULL, 1}, {a, "f", NULL, 1}, {a, "f", "kept", 2}, {a, "f", NULL, 3}};
    struct sw_frame others[] = {{b, "f", NULL, 2}};
    struct sw_event_thread thread = {.stack = {others, 1, 0, NULL}};
    struct sw_event e = {.has_stack = true,
                         .stack = {frames, SW_COUNT(frames), 0, NULL},
                         .threads = &thread,
                         .thread_count = 1};
    sw_arena_reset(&arena);
    sw_source_fill(source, &e, &arena);
    assert_string_equal(frames[0].source, "a3");
    assert_string_equal(frames[1].source, "b1");
    assert_string_equal(frames[2].source, "a1");
    assert_string_equal(frames[3].source, "kept");
    assert_string_equal(frames[4].source, "a3");
    assert_string_equal(others[0].source, "b2");
}

static void a_changed_file_is_read_again(void **state)
{
    (void)state;
    const char *a = path_of("a.py");
    write_file("a.py", "old\n");
    assert_string_equal(line_of(a, 1), "old");
    write_file("a.py", "longer\n");
    assert_string_equal(line_of(a, 1), "longer");
    /* same size, other time */
    write_file("a.py", "wronger"), write_file("a.py", "better\n");
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_string_equal(line_of(a, 1), "better");
    /* same size and time, other file: as an editor or a deployment replaces it */
    write_file("new", "newest\n");
    assert_int_equal(utimensat(AT_FDCWD, path_of("new"), times, 0), 0);
    assert_int_equal(rename(path_of("new"), a), 0);
    assert_string_equal(line_of(a, 1), "newest");
    assert_int_equal(unlink(a), 0);
    assert_null(line_of(a, 1));
}

/* What is cached is not read again: the file changes behind an identity that stays the same. */
static void unchanged_files_are_served_from_the_cache(void **state)
{
    (void)state;
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    const char *a = path_of("a.py");
    write_file("a.py", "one\ntwo\n");
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_string_equal(line_of(a, 1), "one");
    write_file("a.py", "uno\ndue\n");
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_string_equal(line_of(a, 1), "one");
    assert_string_equal(line_of(a, 2), "due");
}

static void only_regular_files_are_opened(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0); /* a blocking open or read would hang here */
    assert_int_equal(mkdir(path_of("dir"), 0700), 0);
    assert_null(line_of(path_of("fifo"), 1));
    assert_null(line_of(path_of("dir"), 1));
    assert_null(line_of("/dev/zero", 1));
    assert_null(line_of("/dev/stdin", 1));
    assert_null(line_of("/no/such/file.py", 1));
    assert_null(line_of("", 1));
    assert_null(line_of(NULL, 1));
    write_file("a.py", "through a link\n");
    assert_int_equal(symlink(path_of("a.py"), path_of("link.py")), 0);
    assert_string_equal(line_of(path_of("link.py"), 1), "through a link");
}

static void names_of_code_without_a_file_are_not_opened(void **state)
{
    (void)state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    write_file("a.py", "relative\n");
    write_file("new", "must not be read\n");
    assert_int_equal(rename("new", "<string>"), 0);
    assert_null(line_of("<string>", 1));
    assert_null(line_of("<frozen importlib._bootstrap>", 1));
    assert_string_equal(line_of("a.py", 1), "relative");
    assert_int_equal(unlink("<string>"), 0);
    assert_int_equal(chdir(before), 0);
}

static void long_lines_are_cut_at_a_character(void **state)
{
    (void)state;
    static char text[3 * SW_SOURCE_LINE_BYTES];
    struct sw_text t;
    sw_text_init(&t, text, sizeof text);
    sw_text_put(&t, "  x");
    for (unsigned i = 0; i < SW_SOURCE_LINE_BYTES; i++)
        sw_text_put(&t, "é");
    sw_text_put(&t, "\nnext\n");
    write_file("a.py", text);
    const char *line = line_of(path_of("a.py"), 1);
    assert_int_equal(strlen(line), SW_SOURCE_LINE_BYTES - 1);
    assert_int_equal(sw_utf8_floor(line, strlen(line)), strlen(line));
    assert_string_equal(line_of(path_of("a.py"), 2), "next");
    write_bytes("b.py", "\xff\xfe text\n", 8); /* not UTF-8: the renderer escapes it */
    assert_string_equal(line_of(path_of("b.py"), 1), "\xff\xfe text");
    write_bytes("b.py", "a\0b\nc", 5);
    assert_string_equal(line_of(path_of("b.py"), 1), "a");
    assert_string_equal(line_of(path_of("b.py"), 2), "c");
}

static void a_huge_file_is_not_read_to_its_end(void **state)
{
    (void)state;
    write_file("a.py", "head\n");
    const int fd = open(path_of("a.py"), O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\ntail\n", 6, (off_t)(SW_SOURCE_MAX_BYTES + 100)), 6);
    assert_int_equal(close(fd), 0);
    assert_string_equal(line_of(path_of("a.py"), 1), "head");
    assert_null(line_of(path_of("a.py"), 3));
}

static void a_full_arena_leaves_lines_out(void **state)
{
    (void)state;
    write_file("a.py", "0123456789\nabc\n");
    const char *a = path_of("a.py");
    struct sw_frame frames[] = {{a, "f", NULL, 1}, {a, "f", NULL, 2}};
    struct sw_event e = {.has_stack = true, .stack = {frames, 2, 0, NULL}};
    char little[8];
    struct sw_arena small;
    sw_arena_init(&small, little, sizeof little);
    sw_source_fill(source, &e, &small);
    assert_null(frames[0].source);
    assert_string_equal(frames[1].source, "abc");
    assert_false(small.cut);
}

/* As many frames as an event can have, each on a line of its own, and more lines than the cache holds. */
static void many_frames_of_one_file_are_filled(void **state)
{
    (void)state;
    static struct sw_frame frames[SW_STACK_FRAMES_MAX];
    static char text[SW_STACK_FRAMES_MAX * 3 * 16];
    struct sw_text t;
    sw_text_init(&t, text, sizeof text);
    for (unsigned i = 1; i <= SW_STACK_FRAMES_MAX * 3; i++)
        sw_text_printf(&t, "line %u\n", i);
    assert_false(t.cut);
    write_file("a.py", text);
    const char *a = path_of("a.py");
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SW_COUNT(frames); i++)
            frames[i] = (struct sw_frame){a, "f", NULL, (int)(3 * i + 1 + round)};
        struct sw_event e = {.has_stack = true, .stack = {frames, SW_COUNT(frames), 0, NULL}};
        sw_arena_reset(&arena);
        sw_source_fill(source, &e, &arena);
        for (unsigned i = 0; i < SW_COUNT(frames); i++) {
            char expected[32];
            snprintf(expected, sizeof expected, "line %d", frames[i].line);
            assert_string_equal(frames[i].source, expected);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(lines_are_found_and_stripped),      TEST(all_frames_of_the_event_are_filled),
        TEST(a_changed_file_is_read_again),      TEST(unchanged_files_are_served_from_the_cache),
        TEST(only_regular_files_are_opened),     TEST(names_of_code_without_a_file_are_not_opened),
        TEST(long_lines_are_cut_at_a_character), TEST(a_huge_file_is_not_read_to_its_end),
        TEST(a_full_arena_leaves_lines_out),     TEST(many_frames_of_one_file_are_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
