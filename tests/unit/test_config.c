/* config.h, config_value.h: every option's limits, and the lines people read. */
#include "config.h"
#include "config_value.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define SEC SW_NS_PER_SEC
#define MS  SW_NS_PER_MS

static struct sw_config config;
static char why_buffer[SW_CONFIG_LINE_MAX];
static struct sw_text why;

static int set_up(void **state)
{
    (void)state;
    sw_text_init(&why, why_buffer, sizeof(why_buffer));
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
    sw_text_reset(&why);
    return sw_config_set(&config, name, value, &why);
}

static void refused(const char *name, const char *value, const char *line)
{
    assert_int_equal(set(name, value), -EINVAL);
    assert_string_equal(why_buffer, line);
}

static uint64_t threshold_of(const char *path, const char *variable)
{
    return sw_config_threshold(&config, path, strlen(path), variable, variable ? strlen(variable) : 0);
}

/* ---- values ---- */

static void seconds_are_decimal_text(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"0", 0},
                {"20", 20 * SEC},
                {"0.5", SEC / 2},
                {"007", 7 * SEC},
                {"1.25", SEC + SEC / 4},
                {"0.000000001", 1},
                {"0.0000000009", 0},
                {"2592000", SW_SECONDS_MAX_NS},
                {"2592000.0", SW_SECONDS_MAX_NS}};
    static const char *const bad[] = {"",
                                      ".",
                                      "5.",
                                      ".5",
                                      "-1",
                                      "+1",
                                      "1e3",
                                      "nan",
                                      "inf",
                                      "0x10",
                                      "1,5",
                                      "1.5.5",
                                      "1.5x",
                                      " 1",
                                      "1 ",
                                      "10s",
                                      "2592001",
                                      "2592000.1",
                                      "2592000.000000001",
                                      "18446744073709551616",
                                      "18446744074",
                                      "000000000000000000000000000000001"};
    uint64_t ns;
    (void)state;
    for (size_t i = 0; i < SW_COUNT(good); i++) {
        ns = 77;
        assert_int_equal(sw_value_seconds(good[i].text, strlen(good[i].text), &ns), 0);
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < SW_COUNT(bad); i++) {
        ns = 77;
        assert_int_equal(sw_value_seconds(bad[i], strlen(bad[i]), &ns), -EINVAL);
        assert_int_equal(ns, 77);
    }
    /* the length counts, not a zero behind it */
    assert_int_equal(sw_value_seconds("12x", 2, &ns), 0);
    assert_int_equal(ns, 12 * SEC);
}

static void seconds_survive_printing(void **state)
{
    static const uint64_t values[] = {0, 1, 10 * MS, SEC / 2, SEC, 10 * SEC + 250 * MS, SW_SECONDS_MAX_NS};
    (void)state;
    for (size_t i = 0; i < SW_COUNT(values); i++) {
        char buffer[64];
        struct sw_text t;
        uint64_t back;
        sw_text_init(&t, buffer, sizeof(buffer));
        sw_value_put_seconds(&t, values[i]);
        assert_int_equal(sw_value_seconds(buffer, t.used, &back), 0);
        assert_int_equal(back, values[i]);
    }
}

static void defaults_are_those_of_the_table(void **state)
{
    (void)state;
    assert_int_equal(config.threshold_ns, 10 * SEC);
    assert_int_equal(config.threshold_count, 0);
    assert_int_equal(config.sample_interval_ns, 100 * MS);
    assert_int_equal(config.stack_depth, 128);
    assert_int_equal(config.log, SW_LOG_TEXT);
    assert_int_equal(config.mail.to_count, 0);
    assert_null(config.mail.from);
    assert_string_equal(config.mail.server, "127.0.0.1:25");
    assert_int_equal(config.mail.tls, SW_TLS_OPTIONAL);
    assert_int_equal(config.mail.interval_ns, 300 * SEC);
    assert_int_equal(config.mail.per_hour, 20);
    assert_int_equal(config.mail.timeout_ns, 30 * SEC);
    assert_null(config.mail.spool_dir);
    assert_null(config.alarm);
    assert_int_equal(config.recycle_spread_percent, 20);
    assert_false(config.strict);
    assert_false(config.check);
    assert_true(config.redact.count > 0);
    assert_int_equal(config.given, 0);
}

static void the_table_is_sound(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sw_option_count; i++) {
        const struct sw_option *o = &sw_options[i];
        assert_int_equal(strncmp(o->name, "slowwatch-", 10), 0);
        assert_true(strlen(o->help) > 10 && o->argument[0] != 0);
        assert_true(o->min <= o->max);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(o->name, sw_options[j].name);
        /* the empty value and a control character are wrong for every option but a pattern */
        if (o->type != SW_OPT_REGEX) {
            assert_int_equal(set(o->name, ""), -EINVAL);
            assert_int_equal(set(o->name, "1\n2"), -EINVAL);
            assert_non_null(strstr(why_buffer, o->name));
            assert_non_null(strstr(why_buffer, "1\\n2"));
            assert_null(strchr(why_buffer, '\n'));
        }
        /* standing alone is right for a switch only */
        if (o->type != SW_OPT_REGEX)
            assert_int_equal(set(o->name, NULL), o->type == SW_OPT_BOOL ? 0 : -EINVAL);
    }
}

static void numbers_have_limits(void **state)
{
    static const struct {
        const char *name, *least, *below, *most, *above;
    } limits[] = {
        {"slowwatch-sample-interval", "1", "0", "60000", "60001"},
        {"slowwatch-stack-depth", "1", "0", "1024", "1025"},
        {"slowwatch-mail-interval", "0", "-1", "2592000", "2592001"},
        {"slowwatch-mail-max", "1", "0", "10000", "10001"},
        {"slowwatch-smtp-timeout", "1", "0.99", "3600", "3600.1"},
        {"slowwatch-recycle-spread", "0", "-1", "90", "91"},
        {"slowwatch-threshold", "0.01", "0.009", "2592000", "2592000.1"},
        {"slowwatch-threshold", "0", "-0", "2592000", "99999999999999999999999"},
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(limits); i++) {
        assert_int_equal(set(limits[i].name, limits[i].least), 0);
        assert_int_equal(set(limits[i].name, limits[i].most), 0);
        assert_int_equal(set(limits[i].name, limits[i].below), -EINVAL);
        assert_int_equal(set(limits[i].name, limits[i].above), -EINVAL);
    }
    assert_int_equal(config.sample_interval_ns, 60 * SEC);
    assert_int_equal(config.stack_depth, 1024);
    assert_int_equal(config.mail.per_hour, 10000);
    assert_int_equal(config.recycle_spread_percent, 90);
    assert_int_equal(config.mail.timeout_ns, 3600 * SEC);
}

static void a_refusal_names_option_value_and_what_is_right(void **state)
{
    (void)state;
    refused("slowwatch-threshold", "ten",
            "slowwatch-threshold = \"ten\": expected SECONDS (0, or 0.01 to 2592000), optionally followed by "
            "a regular "
            "expression, like \"10\" or \"60 ^/reports/\"");
    refused("slowwatch-sample-interval", "0",
            "slowwatch-sample-interval = \"0\": expected a whole number of milliseconds from 1 to 60000, "
            "like \"100\"");
    refused("slowwatch-stack-depth", "many",
            "slowwatch-stack-depth = \"many\": expected a whole number from 1 to 1024, like \"128\"");
    refused("slowwatch-smtp-timeout", "0.2",
            "slowwatch-smtp-timeout = \"0.2\": expected seconds from 1 to 3600, like \"30\" or \"1.5\"");
    refused("slowwatch-log", "xml", "slowwatch-log = \"xml\": expected one of text|json|off");
    refused("slowwatch-strict", "maybe", "slowwatch-strict = \"maybe\": expected true or false");
    refused("slowwatch-mail-to", "ops",
            "slowwatch-mail-to = \"ops\": expected one e-mail address in ASCII, like \"ops@example.org\"");
    refused("slowwatch-smtp", "[::1]:25",
            "slowwatch-smtp = \"[::1]:25\": an IPv6 address does not work here (the SMTP library splits at "
            "the first "
            "colon); expected HOST:PORT with a host name or an IPv4 address");
    refused("slowwatch-spool", "", "slowwatch-spool = \"\": expected the path of a folder");
    refused("slowwatch-nonsense", "1", "slowwatch-nonsense is not an option of this version");
    assert_int_equal(set("slowwatch-threshold", "10 ^/("), -EINVAL);
    assert_non_null(strstr(why_buffer, "slowwatch-threshold = \"10 ^/(\": not a regular expression: "));
    assert_true(strlen(strstr(why_buffer, "expression: ")) > strlen("expression: "));
    assert_int_equal(set("slowwatch-redact", "["), -EINVAL);
    assert_non_null(strstr(why_buffer, "slowwatch-redact = \"[\": not a regular expression: "));
    assert_int_equal(config.threshold_count, 0);
}

static void a_refused_value_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-smtp", "mail:587"), 0);
    assert_int_equal(set("slowwatch-smtp", "other:0"), -EINVAL);
    assert_string_equal(config.mail.server, "mail:587");
    assert_int_equal(set("slowwatch-log", "json"), 0);
    assert_int_equal(set("slowwatch-log", "jso"), -EINVAL);
    assert_int_equal(set("slowwatch-log", "json|off"), -EINVAL);
    assert_int_equal(config.log, SW_LOG_JSON);
}

static void switches_have_eight_words(void **state)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    (void)state;
    for (size_t i = 0; i < SW_COUNT(yes); i++) {
        assert_int_equal(set("slowwatch-strict", yes[i]), 0);
        assert_true(config.strict);
        assert_int_equal(set("slowwatch-strict", no[i]), 0);
        assert_false(config.strict);
    }
    assert_int_equal(set("slowwatch-strict", NULL), 0);
    assert_true(config.strict);
}

static void what_was_given_is_known(void **state)
{
    (void)state;
    assert_false(sw_config_is_given(&config, "slowwatch-log"));
    assert_int_equal(set("slowwatch-log", "text"), 0);
    assert_int_equal(set("slowwatch-mail-max", "0"), -EINVAL);
    assert_true(sw_config_is_given(&config, "slowwatch-log"));
    assert_false(sw_config_is_given(&config, "slowwatch-mail-max"));
    assert_false(sw_config_is_given(&config, "slowwatch-nonsense"));
}

static void choices_are_positions(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-log", "off"), 0);
    assert_int_equal(config.log, SW_LOG_OFF);
    assert_int_equal(set("slowwatch-smtp-tls", "off"), 0);
    assert_int_equal(config.mail.tls, SW_TLS_OFF);
    assert_int_equal(set("slowwatch-smtp-tls", "required"), 0);
    assert_int_equal(config.mail.tls, SW_TLS_REQUIRED);
    assert_int_equal(set("slowwatch-smtp-tls", "optional"), 0);
    assert_int_equal(config.mail.tls, SW_TLS_OPTIONAL);
}

static void addresses_cannot_carry_headers(void **state)
{
    static const char *const good[] = {"ops@example.org", "root@localhost", "a.b+c=d@x-1.example",
                                       "o'neil@e.org"};
    static const char *const bad[] = {"ops",
                                      "@example.org",
                                      "ops@",
                                      "a@b@c",
                                      "a b@c",
                                      "a@b c",
                                      "ops@example.org\r\nBcc: x@y",
                                      "ops@example.org,root@localhost",
                                      "Ops <ops@example.org>",
                                      "\"a b\"@c",
                                      "\xc3\xa4@example.org",
                                      "a@\xc3\xa4.org",
                                      ".a@b",
                                      "a.@b",
                                      "a..b@c",
                                      "a@b..c",
                                      "a@.b",
                                      "a@b.",
                                      "a@-b",
                                      "a@[127.0.0.1]",
                                      "a>@b",
                                      "a\t@b"};
    char many[128];
    (void)state;
    for (size_t i = 0; i < SW_COUNT(good); i++)
        assert_int_equal(set("slowwatch-mail-to", good[i]), 0);
    assert_int_equal(config.mail.to_count, SW_COUNT(good));
    for (size_t i = 0; i < SW_COUNT(bad); i++) {
        assert_int_equal(set("slowwatch-mail-to", bad[i]), -EINVAL);
        assert_int_equal(set("slowwatch-mail-from", bad[i]), -EINVAL);
    }
    /* 64 characters before the @ and no more */
    memset(many, 'x', sizeof(many));
    memcpy(many + 64, "@b", 3);
    assert_true(sw_value_is_address(many));
    memset(many, 'x', sizeof(many));
    memcpy(many + 65, "@b", 3);
    assert_false(sw_value_is_address(many));
}

static void recipients_are_distinct_and_limited(void **state)
{
    static char names[SW_MAIL_RECIPIENTS_MAX + 1][32];
    (void)state;
    for (unsigned i = 0; i <= SW_MAIL_RECIPIENTS_MAX; i++)
        snprintf(names[i], sizeof(names[i]), "ops%u@example.org", i);
    for (unsigned i = 0; i < SW_MAIL_RECIPIENTS_MAX; i++) {
        assert_int_equal(set("slowwatch-mail-to", names[i]), 0);
        assert_int_equal(set("slowwatch-mail-to", names[i]), 0);
        assert_int_equal(config.mail.to_count, i + 1);
    }
    assert_int_equal(set("slowwatch-mail-to", names[SW_MAIL_RECIPIENTS_MAX]), -ENOSPC);
    assert_string_equal(why_buffer,
                        "slowwatch-mail-to = \"ops32@example.org\": too many addresses, the limit is 32");
}

static void mail_servers(void **state)
{
    static const char *const bad[] = {"",         ":25",   "host:",      "host:0",  "host:65536",  "host:25x",
                                      "::1",      "[::1]", "fe80::1:25", "a b:25",  "host :25",    "host:-1",
                                      "smtp://h", "25",    "-h:25",      "h..x:25", "host:25\r\n", "h/x:25"};
    (void)state;
    assert_int_equal(set("slowwatch-smtp", "mail.example.org"), 0);
    assert_string_equal(config.mail.server, "mail.example.org:25");
    assert_int_equal(set("slowwatch-smtp", "10.0.0.1:00587"), 0);
    assert_string_equal(config.mail.server, "10.0.0.1:587");
    for (size_t i = 0; i < SW_COUNT(bad); i++)
        assert_int_equal(set("slowwatch-smtp", bad[i]), -EINVAL);
    assert_string_equal(config.mail.server, "10.0.0.1:587");

    /* the longest host name there can be: 253 characters */
    char longest[300] = "";
    for (unsigned i = 0; i < 126; i++)
        strcat(longest, "a.");
    strcat(longest, "a");
    assert_int_equal(set("slowwatch-smtp", longest), 0);
    assert_int_equal(strlen(config.mail.server), 253 + strlen(":25"));
    strcat(longest, "a");
    assert_int_equal(set("slowwatch-smtp", longest), -EINVAL);
}

/* ---- thresholds of requests ---- */

static void first_matching_path_wins(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-threshold", "5"), 0);
    assert_int_equal(set("slowwatch-threshold", "  60 \t ^/reports/"), 0);
    assert_int_equal(set("slowwatch-threshold", "0 ^/stream/"), 0);
    assert_int_equal(set("slowwatch-threshold", "1 ^/"), 0);
    assert_string_equal(config.thresholds[0].pattern, "^/reports/");
    assert_int_equal(threshold_of("/reports/1", NULL), 60 * SEC);
    assert_int_equal(threshold_of("/stream/x", NULL), 0);
    assert_int_equal(threshold_of("/x", NULL), SEC);
    assert_int_equal(threshold_of("x", NULL), 5 * SEC);
    assert_int_equal(threshold_of("", NULL), 5 * SEC);
}

static void the_last_value_wins(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-threshold", "5"), 0);
    assert_int_equal(set("slowwatch-threshold", "6"), 0);
    assert_int_equal(set("slowwatch-threshold", "60 ^/a"), 0);
    assert_int_equal(set("slowwatch-threshold", "61 ^/a"), 0);
    assert_int_equal(config.threshold_count, 1);
    assert_int_equal(threshold_of("/", NULL), 6 * SEC);
    assert_int_equal(threshold_of("/a", NULL), 61 * SEC);
}

static void thresholds_are_limited(void **state)
{
    static char values[SW_THRESHOLDS_MAX + 1][32];
    (void)state;
    for (unsigned i = 0; i <= SW_THRESHOLDS_MAX; i++) {
        snprintf(values[i], sizeof(values[i]), "%u ^/%u$", i + 20, i);
        assert_int_equal(set("slowwatch-threshold", values[i]), i < SW_THRESHOLDS_MAX ? 0 : -ENOSPC);
    }
    assert_string_equal(why_buffer, "slowwatch-threshold = \"84 ^/64$\": too many thresholds with a regular "
                                    "expression, the limit is 64");
    assert_int_equal(threshold_of("/63", NULL), 83 * SEC);
}

static void a_request_variable_wins_when_it_parses(void **state)
{
    (void)state;
    assert_int_equal(set("slowwatch-threshold", "60 ^/reports/"), 0);
    assert_int_equal(threshold_of("/reports/1", "2.5"), 2 * SEC + SEC / 2);
    assert_int_equal(threshold_of("/reports/1", "0"), 0);
    assert_int_equal(threshold_of("/reports/1", "0.001"), 60 * SEC);
    assert_int_equal(threshold_of("/reports/1", "soon"), 60 * SEC);
    assert_int_equal(threshold_of("/reports/1", ""), 60 * SEC);
    assert_int_equal(threshold_of("/x", "-1"), 10 * SEC);
    /* one of the client's making cannot come after harakiri */
    config.harakiri_ns = 30 * SEC;
    assert_int_equal(threshold_of("/x", "1000"), 27 * SEC);
    assert_int_equal(threshold_of("/x", "29"), 29 * SEC);
    assert_int_equal(threshold_of("/x", "0"), 0);
}

/* ---- harakiri ---- */

static void below_harakiri(void **state)
{
    (void)state;
    assert_int_equal(sw_config_below_harakiri(30 * SEC), 27 * SEC);
    assert_int_equal(sw_config_below_harakiri(10 * SEC), 9 * SEC);
    assert_int_equal(sw_config_below_harakiri(5 * SEC), 4 * SEC);
    assert_int_equal(sw_config_below_harakiri(2 * SEC), SEC);
    assert_int_equal(sw_config_below_harakiri(1 * SEC), SEC / 2);
    for (uint64_t h = 1; h < 1000; h++) {
        assert_true(sw_config_below_harakiri(h * SEC) < h * SEC);
        assert_true(sw_config_below_harakiri(h * SEC) >= h * SEC / 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(seconds_are_decimal_text),
        TEST(seconds_survive_printing),
        TEST(defaults_are_those_of_the_table),
        TEST(the_table_is_sound),
        TEST(numbers_have_limits),
        TEST(a_refusal_names_option_value_and_what_is_right),
        TEST(a_refused_value_changes_nothing),
        TEST(switches_have_eight_words),
        TEST(what_was_given_is_known),
        TEST(choices_are_positions),
        TEST(addresses_cannot_carry_headers),
        TEST(recipients_are_distinct_and_limited),
        TEST(mail_servers),
        TEST(first_matching_path_wins),
        TEST(the_last_value_wins),
        TEST(thresholds_are_limited),
        TEST(a_request_variable_wins_when_it_parses),
        TEST(below_harakiri),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
