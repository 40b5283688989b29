/* mail_driver.c - the real sink_mail with real sockets, driven by a test.
 *   mail_driver KEY=VALUE ... < lines
 * Keys: to (repeatable), from, host, server, tls (off|optional|required), ca, user, password_file, spool, timeout_ms,
 * interval_ms, retry_ms, per_hour.
 * Each input line is an event (JSON), or "drain MS": drain for at most so long, then leave. At the end of input it goes
 * on until it is killed. "ready" is printed once the sink is there; the log goes to stderr. */
#include "event.h"
#include "sink_mail.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES (2 * SW_EVENT_MAX_BYTES)

static struct sw_mail_config config = {
    .from = "slowwatch@web3.example",
    .host = "web3",
    .tls = SW_TLS_OFF,
    .timeout_ns = 5 * SW_NS_PER_SEC,
    .interval_ns = 300 * SW_NS_PER_SEC,
    .per_hour = 20,
};

static uint64_t ms(const char *value)
{
    return strtoull(value, NULL, 10) * SW_NS_PER_MS;
}

static bool take_option(const char *key, const char *value)
{
    static const char *const modes[] = {
        [SW_TLS_OPTIONAL] = "optional", [SW_TLS_OFF] = "off", [SW_TLS_REQUIRED] = "required"};
    const struct {
        const char *key;
        const char **to;
    } texts[] = {{"from", &config.from},      {"host", &config.host},
                 {"server", &config.server},  {"ca", &config.ca_file},
                 {"user", &config.user},      {"password_file", &config.password_file},
                 {"spool", &config.spool_dir}};
    const struct {
        const char *key;
        uint64_t *to;
    } times[] = {{"timeout_ms", &config.timeout_ns},
                 {"interval_ms", &config.interval_ns},
                 {"retry_ms", &config.retry_ns}};
    if (strcmp(key, "to") == 0 && config.to_count < SW_MAIL_RECIPIENTS_MAX) {
        config.to[config.to_count++] = value;
        return true;
    }
    if (strcmp(key, "per_hour") == 0) {
        config.per_hour = (unsigned)strtoul(value, NULL, 10);
        return true;
    }
    for (unsigned i = 0; strcmp(key, "tls") == 0 && i < SW_COUNT(modes); i++)
        if (strcmp(value, modes[i]) == 0) {
            config.tls = (enum sw_smtp_tls)i;
            return true;
        }
    for (unsigned i = 0; i < SW_COUNT(texts); i++)
        if (strcmp(key, texts[i].key) == 0) {
            *texts[i].to = value;
            return true;
        }
    for (unsigned i = 0; i < SW_COUNT(times); i++)
        if (strcmp(key, times[i].key) == 0) {
            *times[i].to = ms(value);
            return true;
        }
    return false;
}

static int give_event(struct sw_sink_mail *sink, const char *line, size_t n)
{
    static char room[SW_EVENT_ARENA_BYTES];
    char why_at[256];
    struct sw_text why;
    struct sw_arena arena;
    struct sw_event event = {.kind = SW_EVENT_KINDS};
    sw_text_init(&why, why_at, sizeof why_at);
    sw_arena_init(&arena, room, sizeof room);
    const int err = sw_event_decode(&event, &arena, line, n, &why);
    if (err)
        fprintf(stderr, "mail_driver: %s\n", why_at);
    else
        sw_sink_mail_event(sink, &event, sw_now_ns());
    return err;
}

/* One line; true when that was the last thing to do. */
static bool take_line(struct sw_sink_mail *sink, char *line, size_t n, int *code)
{
    line[n] = 0;
    if (strncmp(line, "drain ", 6) == 0) {
        sw_sink_mail_drain(sink, sw_now_ns() + ms(line + 6));
        return true;
    }
    if (give_event(sink, line, n)) {
        *code = 2;
        return true;
    }
    return false;
}

static int run(struct sw_sink_mail *sink)
{
    static char input[LINE_MAX_BYTES + 1];
    size_t used = 0;
    int code = 0;
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
    for (;;) {
        uint64_t now = sw_now_ns();
        sw_sink_mail_step(sink, now);
        const uint64_t next = sw_sink_mail_next_ns(sink, now);
        const uint64_t wait = (sw_sub_floor(next, now) + SW_NS_PER_MS - 1) / SW_NS_PER_MS;
        fds[1].fd = sw_sink_mail_fd(sink);
        poll(fds, SW_COUNT(fds), (int)sw_min_u64(wait, 60000));
        if (!fds[0].revents || fds[0].fd < 0)
            continue;
        const ssize_t n = read(STDIN_FILENO, input + used, LINE_MAX_BYTES - used);
        if (n <= 0) {
            fds[0].fd = -1;
            continue;
        }
        used += (size_t)n;
        for (char *end; (end = memchr(input, '\n', used));) {
            const size_t line = (size_t)(end - input);
            if (take_line(sink, input, line, &code))
                return code;
            used -= line + 1;
            memmove(input, end + 1, used);
        }
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value)
            *value++ = 0;
        if (!value || !take_option(argv[i], value)) {
            fprintf(stderr, "mail_driver: what is %s?\n", argv[i]);
            return 2;
        }
    }
    struct sw_sink_mail *sink = sw_sink_mail_new(&config, sw_now_ns());
    if (!sink)
        return 2;
    puts("ready");
    fflush(stdout);
    const int code = run(sink);
    sw_sink_mail_free(sink);
    return code;
}
