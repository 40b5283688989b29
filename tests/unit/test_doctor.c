/* doctor.h: every finding with its line, what is repaired, and the summary. */
#include "doctor.h"
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEC SW_NS_PER_SEC
#define MS  SW_NS_PER_MS

static struct sw_config config;
static char said[32 * SW_CONFIG_LINE_MAX]; /* all lines of the last examination */
static unsigned lines_said;
static bool seen[SW_FINDINGS]; /* over all tests */

static int set_up(void **state)
{
    static char bytes[SW_CONFIG_LINE_MAX];
    struct sw_text why;
    (void)state;
    sw_text_init(&why, bytes, sizeof(bytes));
    return sw_config_init(&config, &why);
}

static int tear_down(void **state)
{
    (void)state;
    sw_config_fini(&config);
    return 0;
}

static int set(const char *name, const char *value)
{
    char bytes[SW_CONFIG_LINE_MAX];
    struct sw_text why;
    sw_text_init(&why, bytes, sizeof(bytes));
    return sw_config_set(&config, name, value, &why);
}

static void say(const char *line)
{
    assert_null(strchr(line, '\n'));
    assert_true(strlen(said) + strlen(line) + 2 < sizeof(said));
    strcat(said, line);
    strcat(said, "\n");
    lines_said++;
    const bool note = strncmp(line, "note: ", strlen("note: ")) == 0;
    const char *name = strrchr(line, '[');
    assert_non_null(name);
    for (unsigned i = 0; i < SW_FINDINGS; i++) {
        const size_t n = strlen(sw_findings[i].name);
        if (strncmp(name + 1, sw_findings[i].name, n) != 0 || strcmp(name + 1 + n, "]") != 0)
            continue;
        assert_int_equal(note, sw_findings[i].severity == SW_INFORMATION);
        seen[i] = true;
        return;
    }
    fail_msg("no finding has the name of: %s", line);
}

/* How many conflicts; the notes are the other lines. */
static unsigned examine(const struct sw_host_facts *host)
{
    said[0] = 0;
    lines_said = 0;
    const struct sw_diagnosis sum = sw_doctor_examine(&config, host, say);
    assert_int_equal(sum.conflicts + sum.notes, lines_said);
    return sum.conflicts;
}

static const struct sw_host_facts good_host = {.master = true,
                                               .threads_enabled = true,
                                               .need_app = true,
                                               .lazy_apps = true,
                                               .alarm_known = true,
                                               .workers = 2,
                                               .threads = 1,
                                               .harakiri_ns = 30 * SEC,
                                               .mercy_ns = 60 * SEC,
                                               .python = true,
                                               .python_version = "CPython 3.11.2",
                                               .mem_backend = "memfd"};

static uint64_t threshold_of(const char *path)
{
    return sw_config_threshold(&config, path, strlen(path), NULL, 0);
}

static void every_finding_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SW_FINDINGS; i++) {
        assert_non_null(sw_findings[i].name);
        assert_int_equal(strspn(sw_findings[i].name, "abcdefghijklmnopqrstuvwxyz-"),
                         strlen(sw_findings[i].name));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(sw_findings[i].name, sw_findings[j].name);
    }
}

static void a_good_configuration_has_no_conflict(void **state)
{
    (void)state;
    assert_int_equal(examine(&good_host), 0);
    assert_int_equal(lines_said, 0);
    assert_int_equal(config.threshold_ns, 10 * SEC);
}

static void thresholds_move_below_harakiri(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.harakiri_ns = 10 * SEC;
    assert_int_equal(set("slowwatch-threshold", "60 ^/reports/"), 0);
    assert_int_equal(set("slowwatch-threshold", "9.5 ^/near/"), 0);
    assert_int_equal(set("slowwatch-threshold", "0 ^/stream/"), 0);
    assert_int_equal(examine(&host), 2);
    assert_string_equal(
        said, "slowwatch-threshold 10 s is not below harakiri 10 s, which would kill the worker first: moved "
              "to 9 s; lower it or raise harakiri [threshold-over-harakiri]\n"
              "slowwatch-threshold 60 s for ^/reports/ is not below harakiri 10 s, which would kill the "
              "worker first: moved to 9 s; lower it or raise harakiri [threshold-over-harakiri]\n");
    assert_int_equal(threshold_of("/"), 9 * SEC);
    assert_int_equal(threshold_of("/reports/"), 9 * SEC);
    assert_int_equal(threshold_of("/near/"), 9 * SEC + SEC / 2);
    assert_int_equal(threshold_of("/stream/"), 0);
}

static void the_sample_interval_moves_below_the_least_threshold(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-threshold", "0.05 ^/fast/"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_string_equal(
        said, "slowwatch-sample-interval 100 ms is not below the threshold of 0.05 s: moved to 5 ms; "
              "lower it or raise the threshold [interval-over-threshold]\n");
    assert_int_equal(config.sample_interval_ns, 5 * MS);
    assert_int_equal(set("slowwatch-threshold", "0.01 ^/faster/"), 0);
    assert_int_equal(set("slowwatch-sample-interval", "10"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_int_equal(config.sample_interval_ns, MS);
    assert_int_equal(examine(&good_host), 0);
}

static void mail_options_need_a_recipient(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-mail-from", "a@b.org"), 0);
    assert_int_equal(set("slowwatch-smtp", "mail:25"), 0);
    assert_int_equal(set("slowwatch-spool", "/nonexistent"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_string_equal(
        said, "no slowwatch-mail-to: no mail is sent, so these have no effect: slowwatch-mail-from, "
              "slowwatch-smtp, slowwatch-spool [mail-without-recipient]\n");
    assert_null(config.mail.spool_dir);
}

static void json_lines_need_room_in_the_log_pipe(void **state)
{
    (void)state;
    struct sw_host_facts host = good_host;
    host.log_bytes = 1024;
    assert_int_equal(examine(&host), 0); /* text is split at line ends */
    assert_int_equal(set("slowwatch-log", "json"), 0);
    assert_int_equal(examine(&host), 1);
    assert_non_null(strstr(said, "slowwatch-log = json with log-master-bufsize = 1024"));
    assert_int_equal(config.log, SW_LOG_TEXT);
    host.log_bytes = 8192;
    assert_int_equal(set("slowwatch-log", "json"), 0);
    assert_int_equal(examine(&host), 0);
}

static void without_master(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.master = false;
    assert_int_equal(examine(&host), 0);
    assert_string_equal(
        said, "note: without a master there is no reporter process; each worker writes its log entries "
              "itself [no-master]\n");
    assert_int_equal(set("slowwatch-mail-to", "a@b.org"), 0);
    assert_int_equal(set("slowwatch-alarm", "bell"), 0);
    assert_int_equal(examine(&host), 2);
    assert_non_null(strstr(said, "slowwatch-mail-to without master: mail is off"));
    assert_non_null(strstr(
        said,
        "slowwatch-alarm bell without master: the alarm is off; set master = true [alarm-without-master]\n"));
    assert_int_equal(config.mail.to_count, 0);
    assert_null(config.alarm);

    struct sw_host_facts quiet = good_host;
    quiet.alarm_known = false;
    assert_int_equal(set("slowwatch-alarm", "bell"), 0);
    assert_true(examine(&quiet) >= 1);
    assert_non_null(strstr(said, "slowwatch-alarm bell: uWSGI has no alarm of this name, it is off"));
    assert_null(config.alarm);
}

static void a_long_line_keeps_its_name(void **state)
{
    static char name[2 * SW_CONFIG_LINE_MAX];
    struct sw_host_facts host = good_host;
    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    host.alarm_known = false;
    assert_int_equal(set("slowwatch-alarm", name), 0);
    assert_int_equal(examine(&host), 1);
    assert_true(strlen(said) > SW_CONFIG_LINE_MAX / 2);
    assert_non_null(strstr(said, "xxx [alarm-unknown]\n"));
}

static void log_off_needs_another_outlet(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-log", "off"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_string_equal(
        said,
        "slowwatch-log = off, and neither mail nor alarm is on: what is seen goes nowhere [no-outlet]\n");
    assert_int_equal(set("slowwatch-alarm", "bell"), 0);
    assert_int_equal(examine(&good_host), 0);
}

static void stacks_off_says_why(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.python = false;
    assert_int_equal(examine(&host), 1);
    assert_non_null(strstr(said, "there is no Python in this process"));
    host.python = true;
    host.python_why = "CPython 9.9 is not known";
    assert_int_equal(examine(&host), 1);
    assert_non_null(strstr(said, "no Python stacks: CPython 9.9 is not known; "));
    host.python_why = NULL;
    host.mem_backend = "off";
    assert_int_equal(examine(&host), 1);
    assert_non_null(strstr(said, "ways to read memory"));
    host.mem_backend = NULL;
    assert_int_equal(examine(&host), 1);
}

static void threads_with_harakiri_is_a_note(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.threads = 8;
    assert_int_equal(examine(&host), 0);
    assert_int_equal(lines_said, 1);
    assert_int_equal(strncmp(said, "note: ", 6), 0);
    assert_non_null(strstr(said, "8 threads renews it"));
    host.harakiri_ns = 0;
    assert_int_equal(examine(&host), 0);
    assert_int_equal(lines_said, 0);
}

/* ---- uWSGI ---- */

static void what_python_needs_is_information(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.need_app = host.threads_enabled = false;
    assert_int_equal(examine(&host), 0);
    assert_string_equal(said,
                        "note: without need-app uWSGI starts even if the application cannot be imported, "
                        "and answers every request with an error; set need-app = true [no-need-app]\n"
                        "note: without enable-threads the threads that the application starts stand "
                        "still between requests; set enable-threads = true [no-enable-threads]\n");
    host.python = false; /* then that is all there is to say */
    assert_int_equal(examine(&host), 1);
    assert_string_equal(said,
                        "no Python stacks: there is no Python in this process; load the Python plugin of "
                        "uWSGI [no-python]\n");
}

static void the_tracebacker_waits_in_the_master(void **state)
{
    const struct sw_given_option given[] = {{"harakiri", "30", true}, {"py-tracebacker", "/run/tb", true}};
    struct sw_host_facts host = good_host;
    (void)state;
    host.given = given;
    host.given_count = 1;
    assert_int_equal(examine(&host), 0);
    host.given_count = 2;
    assert_int_equal(examine(&host), 1);
    assert_string_equal(said,
                        "py-tracebacker with harakiri: before each kill the master waits for a traceback "
                        "from the worker, for seconds if that holds the GIL; drop it, slowwatch reports "
                        "the stack [py-tracebacker]\n");
    host.harakiri_ns = 0;
    assert_int_equal(examine(&host), 0);
}

static void given_options(void **state)
{
    const struct sw_given_option given[] = {{"master", NULL, true},
                                            {"processes", "2", true},
                                            {"processes", "4", true},
                                            {"processes", "8", false}};
    struct sw_host_facts host = {.given = given, .given_count = SW_COUNT(given)};
    (void)state;
    assert_string_equal(sw_host_given(&host, "master"), "");
    assert_string_equal(sw_host_given(&host, "processes"), "4");
    assert_null(sw_host_given(&host, "threads"));
}

/* ---- names ---- */

static void unknown_names_are_said_with_the_nearest(void **state)
{
    const struct sw_given_option given[] = {{"slowwatch-treshold", "3", false},
                                            {"slowwatch-log", "text", true},
                                            {"slowwatch_mail_to", "a@b", false},
                                            {"slowatch-spool", "/x", false},
                                            {"slowwatch-colour", "1", false},
                                            {"my-own-placeholder", "x", false},
                                            {"slowlog", "x", false},
                                            {"warmup", "/", false},
                                            {"log", "json", false}};
    struct sw_host_facts host = good_host;
    (void)state;
    host.given = given;
    host.given_count = SW_COUNT(given);
    assert_int_equal(examine(&host), 4);
    assert_string_equal(said,
                        "slowwatch-treshold is not an option of this version and has no effect: did you mean "
                        "slowwatch-threshold? [unknown-option]\n"
                        "slowwatch_mail_to is not an option of this version and has no effect: did you mean "
                        "slowwatch-mail-to? [unknown-option]\n"
                        "slowatch-spool is not an option of this version and has no effect: did you mean "
                        "slowwatch-spool? [unknown-option]\n"
                        "slowwatch-colour is not an option of this version and has no effect: remove it "
                        "[unknown-option]\n");
}

static void what_was_meant(void **state)
{
    static const struct {
        const char *written, *meant;
    } slips[] = {
        {"slowwatch-lgo", "slowwatch-log"},
        {"slowwatch-smpt", "slowwatch-smtp"},
        {"slowwatch-mailto", "slowwatch-mail-to"},
        {"slowwatch-sampel-intervall", "slowwatch-sample-interval"},
        {"slowwatchthreshold", "slowwatch-threshold"},
        {"--slowwatch-treshold=3", "slowwatch-threshold"},
        {"slow-watch-threshold", "slowwatch-threshold"},
        {"slow-watch_log", "slowwatch-log"},
        {"slow-watch_lgo", NULL},
        {"slowwatch-", NULL},
        {"slowwatch", NULL},
        {"slowwatch-timeout-of-mine", NULL},
        {"slowwatch-xyz", NULL},
        {"threshold", NULL},
        {"", NULL},
        {"slowwatch-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         NULL},
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(slips); i++) {
        const char *meant = sw_doctor_meant(slips[i].written);
        if (slips[i].meant)
            assert_string_equal(meant, slips[i].meant);
        else
            assert_null(meant);
    }
}

/* ---- warm-up ---- */

static void warm_up_needs_a_path(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-warmup-timeout", "5"), 0);
    assert_int_equal(set("slowwatch-warmup-host", "www.example.org"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_string_equal(said, "no slowwatch-warmup: no request is sent, so these have no effect: "
                              "slowwatch-warmup-host, slowwatch-warmup-timeout; give it a path "
                              "[warmup-without-path]\n");
    assert_int_equal(set("slowwatch-warmup", "/"), 0);
    assert_int_equal(examine(&good_host), 0);
    assert_int_equal(lines_said, 0);
}

static void warm_up_after_an_import_before_the_fork(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.lazy_apps = false;
    assert_int_equal(examine(&host), 0);
    assert_int_equal(lines_said, 0);
    assert_int_equal(set("slowwatch-warmup", "/"), 0);
    assert_int_equal(examine(&host), 0);
    assert_string_equal(said,
                        "note: without lazy-apps the application is imported once, before the workers are "
                        "forked: slowwatch-warmup warms what is left, like connections and caches of each "
                        "worker [warmup-without-lazy-apps]\n");
}

static void routes_that_answer_the_warm_up(void **state)
{
    const struct sw_given_option given[] = {
        {"route", "^/health$ last:", true},
        {"route-if-not", "equal:${HTTP_X_FORWARDED_PROTO};https redirect-permanent:https://${HTTP_HOST}/",
         true},
        {"route-if", "isfile:/run/down break:503", true}};
    struct sw_host_facts host = good_host;
    (void)state;
    host.given = given;
    host.given_count = SW_COUNT(given);
    assert_int_equal(set("slowwatch-warmup", "/health"), 0);
    assert_int_equal(set("slowwatch-warmup", "HEAD /shop?page=1"), 0);
    assert_int_equal(examine(&host), 1);
    assert_string_equal(said,
                        "slowwatch-warmup HEAD /shop?page=1 does not reach the application: route-if-not = "
                        "equal:${HTTP_X_FORWARDED_PROTO};https redirect-permanent:https://${HTTP_HOST}/ "
                        "answers it; put a route with last: for its path before, or give it the host or "
                        "header that is asked for [warmup-answered-by-route]\n");
    assert_int_equal(set("slowwatch-warmup-header", "X-Forwarded-Proto: https"), 0);
    assert_int_equal(examine(&host), 0);
    assert_string_equal(said, "note: route-if = isfile:/run/down break:503 may answer slowwatch-warmup HEAD "
                              "/shop?page=1 in place of the application; the status in the log will tell "
                              "[warmup-perhaps-answered]\n");
}

/* ---- recycling ---- */

static const struct sw_recycle recycling = {
    .workers = 4, .percent = 20, .max_requests = 5000, .min_lifetime_s = 10, .max_lifetime_s = 3600};

static void a_spread_needs_a_limit(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.recycle = recycling;
    host.recycle.max_requests = host.recycle.max_lifetime_s = 0;
    assert_int_equal(examine(&host), 0); /* the default is no wish of the user */
    assert_int_equal(set("slowwatch-recycle-spread", "20"), 0);
    assert_int_equal(examine(&host), 1);
    assert_string_equal(said, "slowwatch-recycle-spread has no effect: neither max-requests nor "
                              "max-worker-lifetime is set; remove it [spread-without-limit]\n");
    host.recycle.percent = 0;
    assert_int_equal(examine(&host), 0);
    host.recycle = recycling;
    assert_int_equal(examine(&host), 0);
    assert_int_equal(lines_said, 0);
}

static void the_spread_of_uwsgi_wins(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.recycle = recycling;
    host.recycle.own_requests = host.recycle.own_lifetime = true;
    assert_int_equal(examine(&host), 0);
    assert_string_equal(said,
                        "note: max-requests-delta is set: max-requests is spread by it, not by "
                        "slowwatch-recycle-spread [spread-left-to-uwsgi]\n"
                        "note: max-worker-lifetime-delta is set: max-worker-lifetime is spread by it, not by "
                        "slowwatch-recycle-spread [spread-left-to-uwsgi]\n");
    host.recycle.max_requests = host.recycle.max_lifetime_s = 0;
    assert_int_equal(examine(&host), 0);
    assert_int_equal(lines_said, 0);
}

static void lifetimes_too_short_to_differ(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.recycle = recycling;
    host.recycle.max_lifetime_s = 12;
    assert_int_equal(examine(&host), 0);
    assert_string_equal(
        said, "note: max-worker-lifetime 12 s is too short to be spread over 4 workers by 20 percent: "
              "they recycle together; raise it or slowwatch-recycle-spread [spread-too-fine]\n");
    host.recycle.workers = 1;
    assert_int_equal(examine(&host), 0);
    assert_int_equal(lines_said, 0);
}

/* ---- files ---- */

static char folder[] = "/tmp/test_doctor.XXXXXX";
static char spool[64], secret[64];

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(spool, sizeof(spool), "%s/spool", folder);
    snprintf(secret, sizeof(secret), "%s/secret", folder);
    const int fd = open(secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || close(fd) < 0 || mkdir(spool, 0700) < 0 || set_up(state) < 0)
        return -1;
    return set("slowwatch-mail-to", "a@b.org");
}

static int remove_folder(void **state)
{
    unlink(secret);
    rmdir(spool);
    rmdir(folder);
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    return tear_down(state);
}

static void spool_must_be_a_folder(void **state)
{
    char missing[96];
    (void)state;
    assert_int_equal(set("slowwatch-spool", spool), 0);
    assert_int_equal(examine(&good_host), 0);
    assert_string_equal(config.mail.spool_dir, spool);

    snprintf(missing, sizeof(missing), "%s/missing", folder);
    assert_int_equal(set("slowwatch-spool", missing), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(strstr(said, "No such file or directory"));
    assert_null(config.mail.spool_dir);
    assert_int_equal(set("slowwatch-spool", secret), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(strstr(said, "not a folder"));
}

/* whose folders everybody may empty and fill, however deep ours lies in them */
static void spool_must_not_be_open_to_others(void **state)
{
    char deep[96], link[96];
    (void)state;
    snprintf(deep, sizeof(deep), "%s/deep", spool);
    snprintf(link, sizeof(link), "%s/link", folder);
    assert_int_equal(chmod(spool, 0777), 0);
    assert_int_equal(mkdir(deep, 0700), 0);
    assert_int_equal(symlink(deep, link), 0);
    const char *const folders[] = {spool, deep, link};
    for (size_t i = 0; i < SW_COUNT(folders); i++) {
        assert_int_equal(set("slowwatch-spool", folders[i]), 0);
        assert_int_equal(examine(&good_host), 1);
        char line[SW_CONFIG_LINE_MAX];
        snprintf(
            line, sizeof(line),
            "slowwatch-spool %s: every user of this machine may write in %s and put mail there or take it "
            "away; unsent mail is kept in memory only and lost at a restart; chmod o-w it [spool-exposed]\n",
            folders[i], spool);
        assert_string_equal(said, line);
        assert_null(config.mail.spool_dir);
    }
    assert_int_equal(chmod(spool, 01777), 0); /* as /tmp: what is there stays its owner's */
    for (size_t i = 0; i < SW_COUNT(folders); i++) {
        assert_int_equal(set("slowwatch-spool", folders[i]), 0);
        assert_int_equal(examine(&good_host), 0);
    }
    unlink(link);
    rmdir(deep);
}

static void mail_on_its_way_outlives_no_reload(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.mercy_ns = 5 * SEC;
    assert_int_equal(examine(&host), 1);
    assert_string_equal(said,
                        "slowwatch-smtp-timeout 30 s is longer than worker-reload-mercy 5 s: a mail on its "
                        "way may be lost at a reload or stop; set slowwatch-spool [mail-over-mercy]\n");
    assert_int_equal(set("slowwatch-smtp-timeout", "5"), 0);
    assert_int_equal(examine(&host), 0);
    assert_int_equal(set("slowwatch-smtp-timeout", "5.5"), 0);
    assert_int_equal(examine(&host), 1);
    assert_int_equal(set("slowwatch-spool", spool), 0);
    assert_int_equal(examine(&host), 0);
    config.mail.to_count = 0;
    config.given = 0;
    assert_int_equal(examine(&host), 0);
}

static void spool_must_be_writable(void **state)
{
    const uid_t me = geteuid();
    (void)state;
    assert_int_equal(set("slowwatch-spool", spool), 0);
    assert_int_equal(chmod(folder, 0711), 0);
    assert_int_equal(chmod(spool, 0555), 0);
    /* root may write anywhere, so look with the eyes of somebody else */
    if (me == 0)
        assert_int_equal(seteuid(65534), 0);
    const unsigned conflicts = examine(&good_host);
    if (me == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(conflicts, 1);
    assert_non_null(strstr(said, "Permission denied"));
    assert_null(config.mail.spool_dir);
}

static void login_needs_name_and_password(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-smtp-tls", "required"), 0);
    assert_int_equal(set("slowwatch-smtp-user", "bob"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_string_equal(
        said, "slowwatch-smtp-user without slowwatch-smtp-password-file: mail is sent without login; "
              "give both [login-incomplete]\n");
    assert_null(config.mail.user);

    assert_int_equal(set("slowwatch-smtp-password-file", secret), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_string_equal(
        said, "slowwatch-smtp-password-file without slowwatch-smtp-user: mail is sent without login; "
              "give both [login-incomplete]\n");
    assert_null(config.mail.password_file);

    assert_int_equal(set("slowwatch-smtp-user", "bob"), 0);
    assert_int_equal(set("slowwatch-smtp-password-file", secret), 0);
    assert_int_equal(examine(&good_host), 0);
    assert_int_equal(lines_said, 0);
    assert_int_equal(set("slowwatch-smtp-tls", "optional"), 0);
    assert_int_equal(examine(&good_host), 0);
    assert_non_null(strstr(said, "note: the password is sent to"));
    assert_int_equal(set("slowwatch-smtp-tls", "off"), 0);
    assert_int_equal(examine(&good_host), 0);
    assert_non_null(strstr(said, "note: slowwatch-smtp-tls = off: the password travels unencrypted"));

    assert_int_equal(chmod(secret, 0644), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(strstr(said, "can be read by every user"));
    assert_int_equal(set("slowwatch-smtp-password-file", "/nonexistent"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(
        strstr(said, "slowwatch-smtp-password-file /nonexistent: No such file or directory; no mail"));
    assert_int_equal(set("slowwatch-smtp-password-file", folder), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(strstr(said, "not a regular file"));
}

static void certificates_must_be_readable_and_used(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-smtp-ca", secret), 0);
    assert_int_equal(examine(&good_host), 0);
    assert_int_equal(set("slowwatch-smtp-tls", "off"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(strstr(said, "slowwatch-smtp-ca with slowwatch-smtp-tls = off"));
    assert_int_equal(set("slowwatch-smtp-tls", "required"), 0);
    assert_int_equal(set("slowwatch-smtp-ca", "/nonexistent"), 0);
    assert_int_equal(examine(&good_host), 1);
    assert_non_null(strstr(said, "slowwatch-smtp-ca /nonexistent: No such file"));
}

/* ---- summary ---- */

static void summary_is(const struct sw_host_facts *host, const char *line)
{
    char buffer[SW_CONFIG_SUMMARY_MAX];
    struct sw_text t;
    sw_text_init(&t, buffer, sizeof(buffer));
    sw_config_summary(&config, host, &t);
    assert_string_equal(buffer, line);
}

static void summary_says_what_is_on(void **state)
{
    struct sw_host_facts bare = {.workers = 1, .threads = 1};
    (void)state;
    summary_is(&good_host,
               "watching requests over 10 s, harakiri 30 s, stacks of CPython 3.11.2 by memfd, log text, "
               "mail off");
    assert_int_equal(set("slowwatch-threshold", "0.5 ^/reports/"), 0);
    assert_int_equal(set("slowwatch-threshold", "0 ^/stream/"), 0);
    assert_int_equal(set("slowwatch-mail-to", "ops@example.org"), 0);
    config.mail.spool_dir = "/var/spool/slowwatch";
    summary_is(
        &good_host,
        "watching requests over 10 s (0.5 s for ^/reports/, not ^/stream/), harakiri 30 s, stacks of CPython "
        "3.11.2 by memfd, log text, mail to ops@example.org via 127.0.0.1:25, spool /var/spool/slowwatch");
    assert_int_equal(set("slowwatch-mail-to", "dev@example.org"), 0);
    assert_int_equal(set("slowwatch-smtp-tls", "required"), 0);
    assert_int_equal(set("slowwatch-smtp-user", "bob"), 0);
    assert_int_equal(set("slowwatch-alarm", "bell"), 0);
    assert_int_equal(set("slowwatch-threshold", "0"), 0);
    assert_int_equal(set("slowwatch-log", "json"), 0);
    summary_is(
        &bare,
        "watching some requests only (0.5 s for ^/reports/, not ^/stream/), no harakiri, no stacks, log "
        "json, mail to ops@example.org, dev@example.org via 127.0.0.1:25 with TLS as bob, spool "
        "/var/spool/slowwatch, alarm bell");
    assert_int_equal(set("slowwatch-threshold", "0 ^/reports/"), 0);
    config.threshold_count = 1;
    config.mail.to_count = 0;
    summary_is(
        &bare,
        "watching no request without SLOWWATCH_THRESHOLD (not ^/reports/), no harakiri, no stacks, log "
        "json, mail off, alarm bell");
    config.threshold_count = 2;
}

static void summary_says_how_recycling_is_spread(void **state)
{
    struct sw_host_facts host = good_host;
    (void)state;
    host.recycle = recycling;
    summary_is(&host,
               "watching requests over 10 s, harakiri 30 s, stacks of CPython 3.11.2 by memfd, max-requests "
               "4000 to 5000, min-worker-lifetime 8 to 10 s, max-worker-lifetime 2880 to 3600 s, log text, "
               "mail off");
    host.recycle.own_lifetime = true;
    host.recycle.min_lifetime_s = 0;
    summary_is(&host,
               "watching requests over 10 s, harakiri 30 s, stacks of CPython 3.11.2 by memfd, max-requests "
               "4000 to 5000, log text, mail off");
}

static void summary_says_with_how_much_workers_are_warmed(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-warmup", "/"), 0);
    summary_is(
        &good_host,
        "watching requests over 10 s, harakiri 30 s, stacks of CPython 3.11.2 by memfd, warm-up with 1 "
        "request, log text, mail off");
    assert_int_equal(set("slowwatch-warmup", "HEAD /shop"), 0);
    assert_int_equal(set("slowwatch-warmup-required", "true"), 0);
    summary_is(
        &good_host,
        "watching requests over 10 s, harakiri 30 s, stacks of CPython 3.11.2 by memfd, warm-up with 2 "
        "requests that must succeed, log text, mail off");
}

/* the last one: each line of the doctor was made by some test before */
static void every_finding_was_made(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SW_FINDINGS; i++)
        if (!seen[i])
            fail_msg("no test makes the finding %s", sw_findings[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)  cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define FILES(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
        cmocka_unit_test(every_finding_has_a_name_of_its_own),
        TEST(a_good_configuration_has_no_conflict),
        TEST(thresholds_move_below_harakiri),
        TEST(the_sample_interval_moves_below_the_least_threshold),
        TEST(mail_options_need_a_recipient),
        TEST(without_master),
        TEST(json_lines_need_room_in_the_log_pipe),
        TEST(a_long_line_keeps_its_name),
        TEST(log_off_needs_another_outlet),
        TEST(stacks_off_says_why),
        TEST(threads_with_harakiri_is_a_note),
        TEST(what_python_needs_is_information),
        TEST(the_tracebacker_waits_in_the_master),
        cmocka_unit_test(given_options),
        TEST(unknown_names_are_said_with_the_nearest),
        cmocka_unit_test(what_was_meant),
        TEST(warm_up_needs_a_path),
        TEST(warm_up_after_an_import_before_the_fork),
        TEST(routes_that_answer_the_warm_up),
        TEST(a_spread_needs_a_limit),
        TEST(the_spread_of_uwsgi_wins),
        TEST(lifetimes_too_short_to_differ),
        FILES(spool_must_be_a_folder),
        FILES(spool_must_not_be_open_to_others),
        FILES(spool_must_be_writable),
        FILES(mail_on_its_way_outlives_no_reload),
        FILES(login_needs_name_and_password),
        FILES(certificates_must_be_readable_and_used),
        TEST(summary_says_what_is_on),
        TEST(summary_says_how_recycling_is_spread),
        TEST(summary_says_with_how_much_workers_are_warmed),
        cmocka_unit_test(every_finding_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
