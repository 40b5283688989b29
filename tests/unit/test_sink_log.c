/* What reaches the log: through the installed writer, or raw on descriptor 2. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "log.h"
#include "sink_log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID "0123456789abcdef0123456789abcdef"

static char written[512 * 1024];
static size_t written_bytes;

static void collect(const char *text, size_t n)
{
    assert_true(written_bytes + n < sizeof written);
    memcpy(written + written_bytes, text, n);
    written_bytes += n;
    written[written_bytes] = 0;
}

static int set_up(void **state)
{
    (void)state;
    written_bytes = 0;
    written[0] = 0;
    sw_log_set_writer(collect);
    return 0;
}

static struct sw_event event(void)
{
    return (struct sw_event){.id = ID,
                             .worker = 1,
                             .pid = 7,
                             .request = {.method = "GET", .uri = "/a\n\xff"},
                             .elapsed_ms = 1500,
                             .threshold_ms = 1000};
}

static void text_is_the_rendered_entry(void **state)
{
    (void)state;
    const struct sw_event e = event();
    sw_sink_log_write(SW_LOG_TEXT, &e, false);
    assert_string_equal(written, "slowwatch: slow request " ID
                                 ": GET /a\\n\\xff on worker 1 core 0 (pid 7): 1.5 s so far\n");
}

static void json_is_one_line(void **state)
{
    (void)state;
    const struct sw_event e = event();
    sw_sink_log_write(SW_LOG_JSON, &e, false);
    assert_memory_equal(written, "{\"schema\":1,", 12);
    assert_ptr_equal(strchr(written, '\n'), written + written_bytes - 1);
    assert_non_null(strstr(written, "\"uri\":\"/a\\n\\\\xff\""));
}

static void off_writes_nothing(void **state)
{
    (void)state;
    const struct sw_event e = event();
    sw_sink_log_write(SW_LOG_OFF, &e, false);
    assert_int_equal(written_bytes, 0);
}

static void raw_goes_around_the_writer(void **state)
{
    (void)state;
    const struct sw_event e = event();
    char name[] = "/tmp/test_sink_log.XXXXXX", back[4096];
    const int kept = dup(STDERR_FILENO), file = mkstemp(name);
    assert_true(kept >= 0 && file >= 0);
    assert_int_equal(unlink(name), 0);
    assert_true(dup2(file, STDERR_FILENO) >= 0);
    sw_sink_log_write(SW_LOG_JSON, &e, true);
    sw_sink_log_write(SW_LOG_TEXT, &e, true);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    const ssize_t n = pread(file, back, sizeof back - 1, 0);
    assert_true(n > 0);
    back[n] = 0;
    assert_int_equal(written_bytes, 0);
    assert_memory_equal(back, "{\"schema\":1,", 12);
    const char *second = strchr(back, '\n');
    assert_non_null(second);
    assert_memory_equal(second + 1, "slowwatch: slow request ", 24);
    assert_int_equal(back[n - 1], '\n');
    close(kept);
    close(file);
}

/* The largest events keep their form: text ends with a line that says it was cut, JSON stays whole. */
static void huge_entries_are_cut_and_say_so(void **state)
{
    (void)state;
    static struct sw_frame frames[SW_STACK_FRAMES_MAX];
    static char source[500];
    memset(source, 's', sizeof source - 1);
    for (unsigned i = 0; i < SW_COUNT(frames); i++)
        frames[i] = (struct sw_frame){"/srv/app/module.py", "f", source, (int)i + 1};
    struct sw_event e = event();
    e.has_stack = true;
    e.stack = (struct sw_stack){frames, SW_COUNT(frames), 0, NULL};
    sw_sink_log_write(SW_LOG_TEXT, &e, false);
    assert_string_equal(written + written_bytes - strlen("\n... (cut)\n"), "\n... (cut)\n");
    written_bytes = 0;
    sw_sink_log_write(SW_LOG_JSON, &e, false);
    assert_string_equal(written + written_bytes - 2, "}\n");
    assert_non_null(strstr(written, "\"truncated\":"));
    assert_non_null(strstr(written, "\"line\":1024,"));
    /* a host that takes less at once still gets one line in one piece */
    static const size_t limits[] = {100, 4000, 8192, 20000};
    for (unsigned i = 0; i < SW_COUNT(limits); i++) {
        sw_log_set_write_max(limits[i]);
        written_bytes = 0;
        sw_sink_log_write(SW_LOG_JSON, &e, false);
        assert_true(written_bytes <= (limits[i] > SW_EVENT_ROOM_MIN ? limits[i] : SW_EVENT_ROOM_MIN + 1));
        assert_ptr_equal(strchr(written, '\n'), written + written_bytes - 1);
        assert_non_null(strstr(written, "\"line\":1024,"));
    }
    sw_log_set_write_max(SW_LOG_WRITE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(text_is_the_rendered_entry, set_up),
        cmocka_unit_test_setup(json_is_one_line, set_up),
        cmocka_unit_test_setup(off_writes_nothing, set_up),
        cmocka_unit_test_setup(raw_goes_around_the_writer, set_up),
        cmocka_unit_test_setup(huge_entries_are_cut_and_say_so, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
