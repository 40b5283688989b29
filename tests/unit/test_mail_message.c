#include "unit.h"

#include "mail_message.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_ROUNDS 3000

static char room[256 * 1024];

static struct sw_text fresh(void)
{
    struct sw_text t;
    sw_text_init(&t, room, sizeof room);
    return t;
}

static const char *header(const char *name, const char *value)
{
    struct sw_text t = fresh();
    sw_mail_put_header(&t, name, value);
    return room;
}

static const char *body(const char *text)
{
    struct sw_text t = fresh();
    sw_mail_put_body(&t, text, strlen(text));
    return room;
}

/* ---- decoding, the other way round, to compare with ---- */

static size_t decode_base64(const char *s, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned have = 0;
    size_t used = 0;
    for (size_t i = 0; i < n && s[i] != '='; i++) {
        const char *digit = strchr(digits, s[i]);
        assert_true(digit && *digit);
        bits = bits << 6 | (uint32_t)(digit - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[used++] = (char)(bits >> have & 0xff);
        }
    }
    return used;
}

/* The value of an unfolded, decoded header. */
static void decode_header(const char *text, char *out)
{
    static const char open[] = "=?utf-8?B?";
    const char *at = strchr(text, ':') + 1;
    size_t used = 0;
    bool after_word = false;
    at += *at == ' ';
    while (*at) {
        if (strncmp(at, "\r\n", 2) == 0) {
            at += at[2] == ' ' && (after_word || strncmp(at + 3, open, strlen(open)) == 0) ? 3 : 2;
        } else if (strncmp(at, open, strlen(open)) == 0) {
            at += strlen(open);
            const char *end = strstr(at, "?=");
            assert_non_null(end);
            const size_t n = decode_base64(at, (size_t)(end - at), out + used);
            assert_int_equal(sw_utf8_floor(out + used, n), n); /* no character is cut in two */
            used += n;
            at = end + 2;
            after_word = true;
        } else {
            out[used++] = *at++;
            after_word = false;
        }
    }
    out[used] = 0;
}

static size_t decode_body(const char *text, char *out)
{
    size_t used = 0;
    while (*text) {
        unsigned byte;
        if (strncmp(text, "=\r\n", 3) == 0) {
            text += 3;
        } else if (strncmp(text, "\r\n", 2) == 0) {
            out[used++] = '\n';
            text += 2;
        } else if (*text == '=') {
            assert_int_equal(sscanf(text + 1, "%2X", &byte), 1);
            out[used++] = (char)byte;
            text += 3;
        } else {
            out[used++] = *text++;
        }
    }
    return used;
}

/* CRLF only, ASCII only, no line over `most` */
static void assert_lines(const char *text, size_t most)
{
    while (*text) {
        const size_t n = strcspn(text, "\r\n");
        assert_true(n <= most);
        assert_memory_equal(text + n, "\r\n", 2);
        for (size_t i = 0; i < n; i++)
            assert_in_range((unsigned char)text[i], '\t', 0x7e);
        text += n + 2;
    }
}

/* ---- headers ---- */

static void plain_header_stays_as_it_is(void **state)
{
    (void)state;
    assert_string_equal(header("Subject", "[slowwatch] GET / slow"), "Subject: [slowwatch] GET / slow\r\n");
    assert_string_equal(header("X", ""), "X: \r\n");
}

static void long_header_is_folded_at_blanks(void **state)
{
    (void)state;
    const char *value = "[slowwatch] GET /orders/17 slower than 10 s on web3: "
                        "a_rather_long_module_name.py:88 and_a_function_name_of_some_length";
    char decoded[512];
    assert_lines(header("Subject", value), SW_MAIL_LINE_MAX);
    assert_non_null(strstr(room, "\r\n "));
    decode_header(room, decoded);
    assert_string_equal(decoded, value);
}

static void what_is_not_plain_is_encoded(void **state)
{
    (void)state;
    static const char *const values[] = {
        "größe",
        "日本語のとても長い件名、折り返しが必要になるくらい長いもの、まだまだ続く、もう少し",
        "x日本語のとても長い件名、折り返しが必要になるくらい長いもの、まだまだ続く、もう少し",
        "=?utf-8?B?aGlkZGVu?=",
        "two  blanks",
        " blank in front",
        "blank behind ",
        "one_word_that_is_too_long_for_a_line_of_mail_because_it_has_far_more_than_seventy_characters",
    };
    for (size_t i = 0; i < SW_COUNT(values); i++) {
        char decoded[512];
        assert_lines(header("Subject", values[i]), SW_MAIL_LINE_MAX);
        assert_non_null(strstr(room, "=?utf-8?B?"));
        decode_header(room, decoded);
        assert_string_equal(decoded, values[i]);
    }
}

static void control_characters_are_escaped(void **state)
{
    (void)state;
    char decoded[512];
    assert_lines(header("Subject", "a\r\nBcc: x@y\r\n\r\nbody\x7f\x01\xff"), SW_MAIL_LINE_MAX);
    decode_header(room, decoded);
    assert_string_equal(decoded, "a\\r\\nBcc: x@y\\r\\n\\r\\nbody\\x7f\\x01\\xff");
}

static void addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"ops@example.org", "a.b+c_d=e@sub.example.org", "x@localhost"};
    static const char *const bad[] = {
        "",        "ops",         "@example.org", "ops@",  "a b@example.org", "a@b@c", "<a@b>",
        "a@b>",    "a@b\r\nX: y", "a,b@c",        "a@b;c", "\"a\"@b",         "a@bü",  "Name <a@b>",
        "a@b\x01", "a@[::1]:25",  "a(comment)@b", "a\\@b", "a@b RCPT TO:x"};
    char longest[300];
    for (size_t i = 0; i < SW_COUNT(good); i++)
        assert_true(sw_mail_address_ok(good[i]));
    for (size_t i = 0; i < SW_COUNT(bad); i++)
        assert_false(sw_mail_address_ok(bad[i]));
    memset(longest, 'a', sizeof longest);
    longest[1] = '@';
    longest[SW_MAIL_ADDRESS_MAX] = 0;
    assert_true(sw_mail_address_ok(longest));
    longest[SW_MAIL_ADDRESS_MAX] = 'a';
    longest[SW_MAIL_ADDRESS_MAX + 1] = 0;
    assert_false(sw_mail_address_ok(longest));
}

static const char *domain(const char *host, size_t most)
{
    struct sw_text t = fresh();
    sw_mail_put_domain(&t, host, most);
    return room;
}

static void domains(void **state)
{
    (void)state;
    assert_string_equal(domain("web3.example.org", 99), "web3.example.org");
    assert_string_equal(domain("a b\r\nc>ü", 99), "a-b--c---");
    assert_string_equal(domain("", 99), "localhost");
    assert_string_equal(domain("abc.def", 4), "abc-"); /* no dot at the end */
    assert_string_equal(domain(".a..b.", 99), "-a.-b-");
}

/* ---- body ---- */

static void body_lines(void **state)
{
    (void)state;
    assert_string_equal(body("a\nb\n"), "a\r\nb\r\n");
    assert_string_equal(body("no end"), "no end\r\n");
    assert_string_equal(body("a=b\r\n\n"), "a=3Db=0D\r\n\r\n");
    assert_string_equal(body("blank \ntab\t\n"), "blank=20\r\ntab=09\r\n");
    assert_string_equal(body("größe\n"), "gr=C3=B6=C3=9Fe\r\n");
    assert_string_equal(body(""), "");
}

static void line_that_just_fits_is_not_broken(void **state)
{
    (void)state;
    char line[SW_MAIL_LINE_MAX + 2];
    memset(line, 'x', SW_MAIL_LINE_MAX);
    strcpy(line + SW_MAIL_LINE_MAX, "\n");
    assert_int_equal(strlen(body(line)), SW_MAIL_LINE_MAX + 2);
    strcpy(line + SW_MAIL_LINE_MAX, "x");
    assert_non_null(strstr(body(line), "=\r\n"));
    assert_lines(room, SW_MAIL_LINE_MAX);
}

/* ---- subject ---- */

static struct sw_frame frames[] = {{.file = "/srv/app/views.py", .function = "order", .line = 41},
                                   {.file = "/srv/app/db.py", .function = "fetch", .line = 88}};
static const struct sw_event sample = {.kind = SW_EVENT_SLOW_REQUEST,
                                       .id = "0123456789abcdef0123456789abcdef",
                                       .request = {.method = "GET", .uri = "/orders/17?token=x"},
                                       .threshold_ms = 10000,
                                       .has_stack = true,
                                       .stack = {.frames = frames, .count = 2}};

static const char *subject(const struct sw_event *e, const char *host)
{
    static char at[SW_GROUP_SUBJECT_MAX];
    struct sw_text t;
    sw_text_init(&t, at, sizeof at);
    sw_mail_put_subject(&t, e, host);
    return at;
}

static void subjects(void **state)
{
    (void)state;
    struct sw_event e = sample;
    assert_string_equal(subject(&e, "web3"),
                        "[slowwatch] GET /orders/17 slower than 10 s on web3: db.py:88 fetch");
    e.threshold_ms = 400;
    assert_non_null(strstr(subject(&e, "web3"), "slower than 400 ms on web3"));
    e.threshold_ms = 2500;
    assert_non_null(strstr(subject(&e, "web3"), "slower than 2.500 s on web3"));
    e.has_stack = false;
    e.stack = (struct sw_stack){.frames = NULL};
    e.threshold_ms = 0;
    e.kind = SW_EVENT_WORKER_DIED;
    e.request = (struct sw_event_request){.method = NULL};
    assert_string_equal(subject(&e, "web3"), "[slowwatch] a request lost with its worker on web3");
}

static void long_path_leaves_room_for_host_and_place(void **state)
{
    (void)state;
    char uri[4000];
    struct sw_event e = sample;
    memset(uri, 'a', sizeof uri);
    uri[0] = '/';
    uri[sizeof uri - 1] = 0;
    e.request.uri = uri;
    assert_non_null(strstr(subject(&e, "web3"), "… slower than 10 s on web3: db.py:88 fetch"));
}

/* ---- the whole ---- */

static const char *const recipients[] = {"ops@example.org", "dev@example.org"};

static struct sw_mail_message whole(void)
{
    return (struct sw_mail_message){.from = "slowwatch@web3",
                                    .to = recipients,
                                    .to_count = 2,
                                    .subject = "[slowwatch] s",
                                    .message_id = "id-1@web3",
                                    .date_us = UINT64_C(1715065689123456),
                                    .host = "web3",
                                    .fingerprint = "0123456789abcdef",
                                    .id = "42",
                                    .body = "Hello\n",
                                    .body_bytes = 6};
}

static void whole_message(void **state)
{
    (void)state;
    struct sw_mail_message m = whole();
    struct sw_text t = fresh();
    assert_int_equal(sw_mail_message_build(&m, &t), 0);
    assert_string_equal(room, "From: slowwatch@web3\r\n"
                              "To: ops@example.org,\r\n dev@example.org\r\n"
                              "Subject: [slowwatch] s\r\n"
                              "Date: Tue, 07 May 2024 07:08:09 +0000\r\n"
                              "Message-ID: <id-1@web3>\r\n"
                              "Auto-Submitted: auto-generated\r\n"
                              "X-Auto-Response-Suppress: All\r\n"
                              "X-Slowwatch-Host: web3\r\n"
                              "X-Slowwatch-Fingerprint: 0123456789abcdef\r\n"
                              "X-Slowwatch-Id: 42\r\n"
                              "MIME-Version: 1.0\r\n"
                              "Content-Type: text/plain; charset=utf-8\r\n"
                              "Content-Transfer-Encoding: quoted-printable\r\n"
                              "\r\n"
                              "Hello\r\n");
    m.references = "first@web3";
    t = fresh();
    assert_int_equal(sw_mail_message_build(&m, &t), 0);
    assert_non_null(strstr(room, "\r\nIn-Reply-To: <first@web3>\r\nReferences: <first@web3>\r\n"));
}

static void message_that_does_not_fit_is_an_error(void **state)
{
    (void)state;
    const struct sw_mail_message m = whole();
    struct sw_text t;
    sw_text_init(&t, room, 100);
    assert_int_equal(sw_mail_message_build(&m, &t), -EMSGSIZE);
}

/* ---- whatever the values hold ---- */

static void random_bytes(char *at, size_t most)
{
    static const char *const nasty[] = {
        "\r\nBcc: x@y", "\n", "\r", "=?", "?=", "\r\n\r\n", "  ", "ü", "\xff", "."};
    const size_t n = (size_t)rand() % most;
    size_t used = 0;
    while (used < n) {
        const char *piece = nasty[(size_t)rand() % SW_COUNT(nasty)];
        if (rand() % 3 == 0 && used + strlen(piece) < most) {
            memcpy(at + used, piece, strlen(piece));
            used += strlen(piece);
        } else {
            at[used++] = (char)(rand() % 255 + 1);
        }
    }
    at[used] = 0;
}

/* Header names in order, one letter each: continuation lines begin with a blank. */
static void assert_headers(const char *text, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; text = strstr(text, "\r\n") + 2) {
        if (*text == ' ')
            continue;
        assert_memory_equal(text, names[i], strlen(names[i]));
        assert_int_equal(text[strlen(names[i])], ':');
        i++;
    }
    while (*text == ' ')
        text = strstr(text, "\r\n") + 2;
    assert_memory_equal(text, "\r\n", 2); /* the end of the headers, and not sooner */
}

static void nothing_can_start_a_header(void **state)
{
    (void)state;
    static const char *const names[] = {"From",
                                        "To",
                                        "Subject",
                                        "Date",
                                        "Message-ID",
                                        "In-Reply-To",
                                        "References",
                                        "Auto-Submitted",
                                        "X-Auto-Response-Suppress",
                                        "X-Slowwatch-Host",
                                        "X-Slowwatch-Fingerprint",
                                        "X-Slowwatch-Id",
                                        "MIME-Version",
                                        "Content-Type",
                                        "Content-Transfer-Encoding"};
    srand(1);
    for (int round = 0; round < FUZZ_ROUNDS; round++) {
        char words[6][300], text[2000], decoded[2100];
        struct sw_mail_message m = whole();
        for (size_t i = 0; i < SW_COUNT(words); i++)
            random_bytes(words[i], sizeof words[i]);
        random_bytes(text, sizeof text);
        m.subject = words[0];
        m.message_id = words[1];
        m.references = words[2][0] ? words[2] : "x";
        m.host = words[3];
        m.fingerprint = words[4];
        m.id = words[5];
        m.body = text;
        m.body_bytes = strlen(text);
        struct sw_text t = fresh();
        assert_int_equal(sw_mail_message_build(&m, &t), 0);
        assert_true(t.used < SW_MAIL_MESSAGE_ROOM(m.body_bytes));
        assert_lines(room, SW_MAIL_LINE_MAX + 2);
        assert_headers(room, names, SW_COUNT(names));
        const size_t n = decode_body(strstr(room, "\r\n\r\n") + 4, decoded);
        assert_memory_equal(decoded, text, strlen(text));
        assert_true(n == strlen(text) || (n == strlen(text) + 1 && decoded[n - 1] == '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_header_stays_as_it_is),
        cmocka_unit_test(long_header_is_folded_at_blanks),
        cmocka_unit_test(what_is_not_plain_is_encoded),
        cmocka_unit_test(control_characters_are_escaped),
        cmocka_unit_test(addresses),
        cmocka_unit_test(domains),
        cmocka_unit_test(body_lines),
        cmocka_unit_test(line_that_just_fits_is_not_broken),
        cmocka_unit_test(subjects),
        cmocka_unit_test(long_path_leaves_room_for_host_and_place),
        cmocka_unit_test(whole_message),
        cmocka_unit_test(message_that_does_not_fit_is_an_error),
        cmocka_unit_test(nothing_can_start_a_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
