#include "unit.h"

#include "redact.h"
#include "secretlike.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_BYTES   4096
#define URI_BYTES   ((size_t)64 * 1024)
#define FUZZ_ROUNDS 20000
#define WHOLE_NS_MAX                                                                                         \
    (20 * SW_NS_PER_SEC) /* of 64 KiB: generous for sanitizers, unreachable for linear work */

static struct sw_redact redact;

static int set_up(void **state)
{
    char text[256] = "";
    struct sw_text why;
    (void)state;
    sw_text_init(&why, text, sizeof text);
    const int err = sw_redact_init(&redact, &why);
    if (err)
        fprintf(stderr, "%s\n", text);
    return err;
}

static int tear_down(void **state)
{
    (void)state;
    sw_redact_fini(&redact);
    return 0;
}

static void suspicious_names(void **state)
{
    static const char *const yes[] = {
        "password",
        "Password",
        "PASSWD",
        "passwort",
        "old_password2",
        "pwd",
        "userPwd",
        "pass",
        "user_pass",
        "user[password]",
        "user%5Bpassword%5D",
        "p%61ssword",
        "pass%77or%64",
        "p%2561ssword",
        "new+password",
        "api_key",
        "apiKey",
        "api-key",
        "x-api-key",
        "APIKEY",
        "api+key",
        "X-Amz-Signature",
        "access_key",
        "AWSAccessKeyId",
        "privateKey",
        "private.key",
        "token",
        "access_token",
        "refreshToken",
        "csrfmiddlewaretoken",
        "id_token_hint",
        "auth",
        "x-auth",
        "authUser",
        "Authorization",
        "Proxy-Authorization",
        "oauth_verifier",
        "code_verifier",
        "Cookie",
        "Set-Cookie",
        "session",
        "sessionid",
        "PHPSESSID",
        "JSESSIONID",
        "sid",
        "connect.sid",
        "sig",
        "signature",
        "hmac",
        "jwt",
        "code",
        "otp",
        "totp",
        "pin",
        "userPin",
        "PIN",
        "ssn",
        "credit_card",
        "creditCard",
        "card-number",
        "ccnum",
        "cvv",
        "cvc2",
        "client_secret",
        "clientSecret",
        "SECRET_KEY",
        "SAMLResponse",
        "db_credentials",
        "X-CSRF-Token",
        "passphrase",
        "ticket",
    };
    static const char *const no[] = {
        "",         "q",      "page",       "key",       "sort_key", "country_code", "zipcode",
        "opinion",  "spin",   "pinned",     "sidebar",   "inside",   "passenger",    "compass",
        "bypass",   "author", "authority",  "author_id", "signal",   "design",       "assign",
        "keyboard", "monkey", "robot",      "option",    "user",     "id",           "email",
        "uri",      "Host",   "User-Agent", "Accept",    "encode",   "xpwd1x",       "%",
        "%zz",      "%7",     "%00",        "postcode",  "tanned",   "Referer",      "size",
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(yes); i++)
        if (!sw_redact_name(&redact, yes[i], strlen(yes[i])))
            fail_msg("%s should be suspicious", yes[i]);
    for (size_t i = 0; i < SW_COUNT(no); i++)
        if (sw_redact_name(&redact, no[i], strlen(no[i])))
            fail_msg("%s should not be suspicious", no[i]);
}

struct text_case {
    const char *in, *out;
};

#define SAME(text)                                                                                           \
    {                                                                                                        \
        text, text                                                                                           \
    }
#define HEX32 "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
#define B62   "x8Kq2ZtY7vBn4MwR1pLs9GhJ"
#define JWT   "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
#define UUID  "550e8400-e29b-41d4-a716-446655440000"

static const struct text_case uris[] = {
    SAME(""),
    SAME("/"),
    SAME("/orders/17"),
    SAME("/orders/17?page=2&sort=-date"),
    SAME("*"),
    SAME("?"),
    SAME("/a?&&;;=&=x&a=&#"),
    SAME("/how-to-build-a-flight-recorder-2024?utm_source=news_letter_week_34"),
    SAME("/users/" UUID "/orders/" UUID),
    SAME("/events/order-" UUID),
    SAME("/n/12345678901234567890123456789012"),
    SAME("/report/20240115T103000.123456Z/2024-01-15T10:30:00+01:00"),
    SAME("/geo?ll=48.13715411234,11.57612412345&zoom=12"),
    SAME("/static/js/app.3f2a9c81.js"),
    SAME("/GetUserProfileByAccountId/internationalizationguidelines"),
    SAME("/d/numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
    SAME("/suche?q=M%C3%BCnchen+Donaudampfschifffahrtsgesellschaft&x=%zz%"),
    SAME("http://example.org:8000/a?b=c#d"),
    SAME("http://[::1]:8000/x"),
    SAME("/next?to=http%3A%2F%2Fexample.org%3A8000%2Fa%3Fb%3Dc"),
    {"/l?password=hunter2", "/l?password=[redacted]"},
    {"/l?a=1&password=hunter2&b=2", "/l?a=1&password=[redacted]&b=2"},
    {"/l?password=hunter2&password=hunter3&password=",
     "/l?password=[redacted]&password=[redacted]&password="},
    {"/l?password=hun;ter2&b=2", "/l?password=[redacted]&b=2"},
    {"/l?password=hun=ter2", "/l?password=[redacted]"},
    {"/l?a=1;password=hunter2", "/l?a=1;password=[redacted]"},
    {"/l?password=hun#ter2", "/l?password=[redacted]"},
    {"/l?password=hun?ter/2", "/l?password=[redacted]"},
    {"/l?p%61ssword=hunter2", "/l?p%61ssword=[redacted]"},
    {"/l?user%5Bpassword%5D=hunter2", "/l?user%5Bpassword%5D=[redacted]"},
    {"/l?api+key=hunter2", "/l?api+key=[redacted]"},
    {"/a;sid=hunter2/b?c=d", "/a;sid=[redacted]/b?c=d"},
    {"/a;jsessionid=hunter2?c=d", "/a;jsessionid=[redacted]?c=d"},
    {"/a#access_token=hunter2&token_type=x", "/a#access_token=[redacted]&token_type=[redacted]"},
    {"/a&password=hunter2", "/a&password=[redacted]"},
    {"?password=hunter2", "?password=[redacted]"},
    {"password=hunter2", "password=[redacted]"},
    {"/cb?code=hunter2&state=x", "/cb?code=[redacted]&state=x"},
    {"/l?next=/login?password=hunter2", "/l?next=[redacted]"},
    {"/l?next=%2Flogin%3Fpassword%3Dhunter2&a=b", "/l?next=[redacted]&a=b"},
    {"/l?next=%252Flogin%253Fpassword%253Dhunter2", "/l?next=[redacted]"},
    {"/l?data=%7B%22password%22%3A%20%22hunter2%22%7D", "/l?data=[redacted]"},
    {"/l?data={\"password\" : \"hunter2\"}", "/l?data=[redacted]"},
    {"/l?password:hunter2", "/l?[redacted]"},
    {"http://bob:hunter2@example.org/x", "http://[redacted]@example.org/x"},
    {"http://bob:hun@ter2@example.org/x", "http://[redacted]@example.org/x"},
    {"http://bob:hun/ter2@example.org/x", "http://[redacted]@example.org/x"},
    {"http://bob@example.org/x", "http://[redacted]@example.org/x"},
    {"http://bob:hunter2", "http://[redacted]"},
    {"//bob:hunter2@example.org/x", "//[redacted]@example.org/x"},
    {"/l?url=postgres://bob:hunter2@db/x", "/l?url=[redacted]"},
    {"/l?url=postgres%3A%2F%2Fbob%3Ahunter2%40db%2Fx&a=b", "/l?url=[redacted]&a=b"},
    {"/proxy/http://bob:hunter2@db/x", "/proxy/http://[redacted]@db/x"},
    {"/proxy/http%3A%2F%2Fbob%3Ahunter2%40db", "/proxy/[redacted]"},
    {"/t/" HEX32, "/t/0a1b…[redacted]"},
    {"/t/" B62 "/x?y=" B62, "/t/x8Kq…[redacted]/x?y=x8Kq…[redacted]"},
    {"/t?x=" JWT, "/t?x=eyJh…[redacted]"},
    {"/t?x=a%20" B62, "/t?x=a%20…[redacted]"},
    {"/t?x=ab%20" B62, "/t?x=ab…[redacted]"},
    {"/t?x=%C3%A4" B62, "/t?x=%C3…[redacted]"},
    {"/t?x=\xc3\xa4\xc3\xa4" B62, "/t?x=ää…[redacted]"},
    {"/t?" B62 "=1", "/t?x8Kq…[redacted]=1"},
    {"/a\r\nSet-Cookie: x", "/[redacted]"},
    {"/a\nb\x1b[31m", "/a\\nb\\x1b[31m"},
    {"/\xff\xfe", "/\\xff\\xfe"},
};

static void redacts_uris(void **state)
{
    char text[OUT_BYTES];
    struct sw_text out;
    (void)state;
    for (size_t i = 0; i < SW_COUNT(uris); i++) {
        sw_text_init(&out, text, sizeof text);
        sw_redact_uri(&redact, uris[i].in, strlen(uris[i].in), &out);
        if (strcmp(text, uris[i].out) != 0)
            fail_msg("%s\n  gave   %s\n  wanted %s", uris[i].in, text, uris[i].out);
    }
}

struct value_case {
    const char *name, *in, *out;
};

static const struct value_case values[] = {
    {"Authorization", "Basic Ym9iOmh1bnRlcjI=", "[redacted]"},
    {"Cookie", "a=b", "[redacted]"},
    {"x-api-key", "", "[redacted]"},
    {"Accept", "text/html;q=0.9, */*", "text/html;q=0.9, */*"},
    {NULL, "plain words", "plain words"},
    {"", "plain words", "plain words"},
    {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
     "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0"},
    {"User-Agent",
     "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
     "Mobile/15E148",
     "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
     "Mobile/15E148"},
    {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    {"X-Request-ID", HEX32, HEX32},
    {"x", HEX32, "0a1b…[redacted]"},
    {"x", "id " UUID ".", "id " UUID "."},
    {"x", "Bearer hunter2", "Bearer [redacted]"},
    {"x", "bearer   hunter2 and more", "bearer   [redacted] and more"},
    {"x", "token password: hunter2", "token [redacted]"},
    {"x", "curl -H 'Authorization: Basic hunter2 x' y", "curl -H 'Authorization: [redacted]"},
    {"x", "Authorization: Digest hunter2\nHost: a", "Authorization: [redacted]\\nHost: a"},
    {"x", "password = hunter2 user=bob", "password = [redacted] user=bob"},
    {"x", "user=bob,password=hunter,2 x", "user=bob,password=[redacted] x"},
    {"x", "{\"user\": \"bob\", \"password\": \"hun\\\"ter2\", \"a\": 1}",
     "{\"user\": \"bob\", \"password\": [redacted], \"a\": 1}"},
    {"x", "{'password': 'hunter2'}", "{'password': [redacted]}"},
    {"x", "{'password': 'hunter2", "{'password': [redacted]"},
    {"x", "{'password': b'hun ter2'}", "{'password': [redacted]"},
    {"x", "{\\\"password\\\": \\\"hunter2\\\"}", "{\\\"password\\\": [redacted]"},
    {"x", "user[password]=hunter2", "user[password]=[redacted]"},
    {"Referer", "https://h/p?token=hunter2&a=b", "https://h/p?token=[redacted]&a=b"},
    {"x", "see <https://bob:hunter2@h/p?a=b>, ok", "see <https://[redacted]@h/p?a=b>, ok"},
    {"x", "url=redis://:hunter2@h:6379/0", "url=redis://[redacted]@h:6379/0"},
    {"x", "password=http://hunter2/hunter2", "password=[redacted]"},
    {"x", "//bob:hunter2@h/", "//[redacted]@h/"},
    {"x", "password%3Dhunter2", "[redacted]"},
    {"x", "a=1; sessionid=hunter2; b=2", "a=1; sessionid=[redacted] b=2"},
    {"x", "jwt is " JWT ".", "jwt is eyJh…[redacted]"},
    {"x", "a\r\nb\x7f", "a\\r\\nb\\x7f"},
};

static void redacts_values(void **state)
{
    char text[OUT_BYTES];
    struct sw_text out;
    (void)state;
    for (size_t i = 0; i < SW_COUNT(values); i++) {
        sw_text_init(&out, text, sizeof text);
        sw_redact_value(&redact, values[i].name, values[i].in, strlen(values[i].in), &out);
        if (strcmp(text, values[i].out) != 0)
            fail_msg("%s\n  gave   %s\n  wanted %s", values[i].in, text, values[i].out);
    }
}

static void own_patterns_come_on_top(void **state)
{
    char text[256] = "";
    struct sw_text why, out;
    struct sw_redact own;
    (void)state;
    sw_text_init(&why, text, sizeof text);
    assert_int_equal(sw_redact_init(&own, &why), 0);
    assert_int_equal(sw_redact_add(&own, "^kunden nummer$", &why), 0);
    assert_int_equal(sw_redact_add(&own, "(", &why), -EINVAL);
    assert_non_null(strstr(text, "at character"));
    sw_text_init(&out, text, sizeof text);
    static const char uri[] = "/?Kunden+Nummer=17&kunden%20nummer=18&password=x";
    sw_redact_uri(&own, uri, strlen(uri), &out);
    assert_string_equal(text, "/?Kunden+Nummer=[redacted]&kunden%20nummer=[redacted]&password=[redacted]");
    while (own.count < SW_REDACT_PATTERNS_MAX)
        assert_int_equal(sw_redact_add(&own, "x", &why), 0);
    assert_int_equal(sw_redact_add(&own, "x", &why), -ENOSPC);
    sw_redact_fini(&own);
    assert_int_equal(own.count, 0);
}

static void names_that_are_too_long_are_not_trusted(void **state)
{
    char uri[1024], text[OUT_BYTES];
    struct sw_text out;
    (void)state;
    memset(uri, 'a', sizeof uri);
    memcpy(uri, "/?", 2);
    memcpy(uri + sizeof uri - 8, "=hunter2", 8);
    sw_text_init(&out, text, sizeof text);
    sw_redact_uri(&redact, uri, sizeof uri, &out);
    assert_null(strstr(text, "hunter2"));
}

static void tokens_by_their_looks(void **state)
{
    static const char *const yes[] = {
        HEX32,
        B62,
        JWT,
        "507f1f77bcf86cd799439011",
        "AKIAIOSFODNN7EXAMPLE2W9Q",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "sk_live_51H8xK2eZvKYlo2CabcdEfgH",
        "MFRGGZDFMZTWQ2LKNNWG23TPOA5Q2XGE",
        "dGhpcyBpcyBhIHNlY3JldCB0b2tlbg==",
        "wJ4lrXUt9FEMI/K7MD3NG/bPxRf2CYz8XaMPLq",
        "xoxb-2345678901-aB3dE5fG7hI9jK1lM3nO5pQ7",
    };
    static const char *const no[] = {
        "",
        "a",
        UUID,
        "order-" UUID "-x",
        "12345678901234567890",
        "getUserProfileByAccountId",
        "a-b-c-d-e-f-g-h-i-j-k-l",
        "the_quick_brown_fox_jumps_over_the_lazy_dog",
        "20240115T103000Z-20240116T103000Z",
        "v1.2.3-rc4+build.567",
        "iphone-15-pro-max-256gb-blue",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "AppleWebKit/537.36",
        "1920x1080",
        "eyJabc",
        "eyJabc.def",
        "heyJoe.thisissomething.com",
        "2001:db8:85a3::8a2e:370:7334",
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(yes); i++)
        if (!sw_secretlike_random(yes[i], strlen(yes[i]), 0))
            fail_msg("%s should look like a token", yes[i]);
    for (size_t i = 0; i < SW_COUNT(no); i++)
        if (sw_secretlike_random(no[i], strlen(no[i]), 0))
            fail_msg("%s should not look like a token", no[i]);
}

/* ---- random input against an oracle -------------------------------------------------------------------------- */

static uint64_t random_state = 0x9E3779B97F4A7C15u; /* fixed: a failure comes again */

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) * n >> 32);
}

/* Random tokens of the usual alphabets and lengths: nearly all are seen, and no run of this test differs. */
static void random_tokens_are_seen(void **state)
{
    static const struct {
        const char *alphabet;
        size_t chars, of_1000;
    } kinds[] = {
        {"0123456789abcdef", 32, 995},
        {"0123456789abcdef", 64, 999},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 32, 970},
        {"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 24, 960},
        {"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 32, 990},
        {"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_", 43, 980},
        {"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/", 64, 995},
    };
    (void)state;
    for (size_t k = 0; k < SW_COUNT(kinds); k++) {
        size_t seen = 0;
        char token[64];
        for (unsigned i = 0; i < 10000; i++) {
            for (size_t c = 0; c < kinds[k].chars; c++)
                token[c] = kinds[k].alphabet[random_below((uint32_t)strlen(kinds[k].alphabet))];
            seen += sw_secretlike_random(token, kinds[k].chars, 0);
        }
        if (getenv("SLOWWATCH_TEST_TIMES"))
            print_message("%.40s %zu: %zu\n", kinds[k].alphabet, kinds[k].chars, seen);
        if (seen < kinds[k].of_1000 * 10)
            fail_msg("%zu of %s: seen %zu of 10000", kinds[k].chars, kinds[k].alphabet, seen);
    }
}

static void add_noise(char *text, size_t *used, uint32_t most)
{
    static const char *const bits[] = {
        "a",    "b7",           "%", "%2",  "%41", "%3D", "%26",     "%2F",  "=",  "&",  ";", "?", "#", "/",
        "//",   "://",          "@", ":",   "+",   " ",   "\n",      "\"",   "'",  "\\", "[", "]", "{", ",",
        "\xff", "\xe2\x80\xa8", "ä", "eyJ", ".",   "-",   "Bearer ", "user", UUID, "x=y"};
    for (uint32_t i = random_below(most + 1); i > 0; i--) {
        const char *bit = bits[random_below(SW_COUNT(bits))];
        memcpy(text + *used, bit, strlen(bit));
        *used += strlen(bit);
    }
}

static void add(char *text, size_t *used, const char *s)
{
    memcpy(text + *used, s, strlen(s));
    *used += strlen(s);
}

/* "hun%74er2": some characters as escapes, escapes escaped again */
static void add_encoded(char *text, size_t *used, const char *s)
{
    for (; *s; s++) {
        const uint32_t how = random_below(4);
        if (how < 2)
            text[(*used)++] = *s;
        else
            *used += (size_t)sprintf(text + *used, how == 2 ? "%%%02x" : "%%25%02X", (unsigned char)*s);
    }
}

static const char secret[] = "hunter2";

static void assert_hidden(const char *in, size_t n, const char *text, const struct sw_text *out)
{
    assert_true(out->used < out->room || out->room == 0);
    assert_int_equal(strlen(text), out->used);
    for (size_t i = 0; i < out->used;) {
        const size_t len = sw_utf8_len(text + i, out->used - i);
        assert_true(len > 0);
        assert_true((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
        i += len;
    }
    /* the first half would be too much as well */
    if (strstr(text, "hunt"))
        fail_msg("%.*s\n  gave %s", (int)n, in, text);
}

static void a_secret_never_shows(void **state)
{
    static const char *const names[] = {"password", "api_key", "user[token]", "clientSecret",
                                        "sid",      "x-auth",  "code"};
    char in[4096], text[OUT_BYTES];
    struct sw_text out;
    (void)state;
    for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
        const char *name = names[random_below(SW_COUNT(names))];
        const bool encoded = random_below(2);
        size_t n = 0;
        /* query parameter: the noise before ends with a separator, or it would be a part of the name */
        add(in, &n, "/p?");
        add_noise(in, &n, 20);
        add(in, &n, random_below(2) ? "&" : ";");
        encoded ? add_encoded(in, &n, name) : add(in, &n, name);
        add(in, &n, "=");
        encoded ? add_encoded(in, &n, secret) : add(in, &n, secret);
        add(in, &n, random_below(2) ? "&" : ";");
        add_noise(in, &n, 20);
        sw_text_init(&out, text,
                     1 + random_below(2) * (sizeof text - 1) + random_below(2) * random_below(200));
        out.room = out.room > sizeof text ? sizeof text : out.room;
        sw_redact_uri(&redact, in, n, &out);
        assert_hidden(in, n, text, &out);

        /* userinfo, plain and in a parameter */
        n = 0;
        add_noise(in, &n, random_below(2) * 5);
        add(in, &n, random_below(2) ? "/https://" : "/?u=https%3A%2F%2F");
        add(in, &n, "bob:");
        add(in, &n, secret);
        add(in, &n, "@h/");
        add_noise(in, &n, 10);
        sw_text_init(&out, text, sizeof text);
        sw_redact_uri(&redact, in, n, &out);
        assert_hidden(in, n, text, &out);

        /* free text */
        n = 0;
        add_noise(in, &n, 20);
        add(in, &n, " ");
        add(in, &n, name);
        add(in, &n, random_below(2) ? "=" : "\": ");
        add(in, &n, secret);
        add(in, &n, " ");
        add_noise(in, &n, 20);
        sw_text_init(&out, text, random_below(2) ? sizeof text : 1 + random_below(200));
        sw_redact_value(&redact, "x", in, n, &out);
        assert_hidden(in, n, text, &out);
    }
}

static void any_bytes_give_clean_text(void **state)
{
    char in[512], text[OUT_BYTES];
    struct sw_text out;
    (void)state;
    for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
        size_t n = 0;
        add_noise(in, &n, 8);
        for (uint32_t i = random_below(64); i > 0; i--)
            in[n++] = (char)random_below(256);
        sw_text_init(&out, text, random_below(2) ? sizeof text : 1 + random_below(100));
        round % 2 ? sw_redact_uri(&redact, in, n, &out) : sw_redact_value(&redact, "x", in, n, &out);
        assert_hidden(in, n, text, &out);
    }
}

/* Whatever the room, the text is a prefix of the whole one (or less), and an escape in it is whole. */
static void a_cut_shows_less_and_no_half_escape(void **state)
{
    static const char uri[] = "/a%41%42?x=%43%44&password=hunter2&t=" B62 "\x01\x02%45%46";
    char whole[256], text[256];
    struct sw_text out;
    (void)state;
    sw_text_init(&out, whole, sizeof whole);
    sw_redact_uri(&redact, uri, strlen(uri), &out);
    assert_false(out.cut);
    const size_t length = out.used;
    for (size_t room = 0; room <= length + 1; room++) {
        text[0] = 0;
        sw_text_init(&out, text, room);
        sw_redact_uri(&redact, uri, strlen(uri), &out);
        assert_int_equal(out.cut, room <= length);
        assert_memory_equal(text, whole, strlen(text));
        const char *percent = strrchr(text, '%');
        assert_true(!percent || strlen(percent) >= 3);
    }
}

/* 64 KiB of what could make a careless scanner quadratic. */
static void long_input_takes_linear_time(void **state)
{
    static const char *const units[] = {"a=b&",
                                        "%25",
                                        "%",
                                        "//a:b",
                                        "a ",
                                        "a\"",
                                        "a\"\\ ",
                                        "=",
                                        ":",
                                        "password:",
                                        "password=x&",
                                        "://",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=&",
                                        "Bearer ",
                                        "eyJ",
                                        "x",
                                        "?",
                                        "\n",
                                        "1a2B",
                                        "a://",
                                        "@",
                                        "%2525252541",
                                        "s",
                                        "_",
                                        "se-"};
    char *in = malloc(URI_BYTES), *text = malloc(4 * URI_BYTES);
    struct sw_text out;
    (void)state;
    assert_non_null(in);
    assert_non_null(text);
    for (size_t u = 0; u < SW_COUNT(units); u++) {
        const size_t len = strlen(units[u]);
        for (size_t i = 0; i < URI_BYTES; i++)
            in[i] = units[u][i % len];
        const uint64_t start = sw_now_ns();
        sw_text_init(&out, text, 4 * URI_BYTES);
        sw_redact_uri(&redact, in, URI_BYTES, &out);
        sw_text_init(&out, text, 4 * URI_BYTES);
        sw_redact_value(&redact, "x", in, URI_BYTES, &out);
        const uint64_t took = sw_now_ns() - start;
        if (getenv("SLOWWATCH_TEST_TIMES"))
            print_message("%-20s %llu us\n", units[u], (unsigned long long)(took / SW_NS_PER_US));
        if (took > WHOLE_NS_MAX)
            fail_msg("%s took %llu ms", units[u], (unsigned long long)(took / SW_NS_PER_MS));
    }
    free(in);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suspicious_names),
        cmocka_unit_test(redacts_uris),
        cmocka_unit_test(redacts_values),
        cmocka_unit_test(own_patterns_come_on_top),
        cmocka_unit_test(names_that_are_too_long_are_not_trusted),
        cmocka_unit_test(tokens_by_their_looks),
        cmocka_unit_test(random_tokens_are_seen),
        cmocka_unit_test(a_secret_never_shows),
        cmocka_unit_test(any_bytes_give_clean_text),
        cmocka_unit_test(a_cut_shows_less_and_no_half_escape),
        cmocka_unit_test(long_input_takes_linear_time),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
