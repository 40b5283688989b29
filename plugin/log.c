#include "log.h"

#include "text.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINE_BYTES      4096
#define WRITE_MAX_LEAST ((size_t)256)

static const char ours[] = "slowwatch: ";

static size_t (*log_prefix)(char *, size_t);
static size_t write_max = SW_LOG_WRITE_MAX;
static void (*log_writer)(const char *, size_t);
static uint64_t patience_ns;
static _Atomic unsigned lost; /* writes that found no room */

void sw_log_set_prefix(size_t (*prefix)(char *, size_t))
{
    log_prefix = prefix;
}

void sw_log_set_write_max(size_t bytes)
{
    write_max = bytes < WRITE_MAX_LEAST + SW_LOG_PREFIX_MAX ? WRITE_MAX_LEAST : bytes - SW_LOG_PREFIX_MAX;
}

size_t sw_log_write_max(void)
{
    return write_max;
}

void sw_log_set_writer(void (*writer)(const char *, size_t))
{
    log_writer = writer;
}

void sw_log_set_patience(uint64_t ns)
{
    patience_ns = ns;
}

static bool wait_for_room(uint64_t until_ns)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    const uint64_t now_ns = sw_now_ns();
    return now_ns < until_ns && poll(&out, 1, (int)((until_ns - now_ns) / SW_NS_PER_MS) + 1) >= 0;
}

/* Prefix and text in one call, so that a pipe of packets gets one packet. A stream may take a part: then the rest. */
static bool write_all(struct iovec parts[2])
{
    const uint64_t until_ns = sw_add_sat(sw_now_ns(), patience_ns);
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        const ssize_t n = writev(STDERR_FILENO, parts, 2);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno != EAGAIN || !wait_for_room(until_ns)))
            return false;
        for (size_t i = 0, left = n > 0 ? (size_t)n : 0; i < 2; i++) {
            const size_t done = left < parts[i].iov_len ? left : parts[i].iov_len;
            parts[i].iov_base = (char *)parts[i].iov_base + done;
            parts[i].iov_len -= done;
            left -= done;
        }
    }
    return true;
}

static bool write_piece(const char *text, size_t n, bool raw)
{
    char prefix[SW_LOG_PREFIX_MAX];
    if (log_writer && !raw) {
        log_writer(text, n);
        return true;
    }
    struct iovec parts[2] = {{prefix, raw || !log_prefix ? 0 : log_prefix(prefix, sizeof prefix)},
                             {(void *)text, n}};
    return write_all(parts);
}

/* The length of the first piece of text: whole lines up to the limit, or a cut line when one alone is longer. */
static size_t first_piece(const char *text, size_t n)
{
    if (n <= write_max)
        return n;
    for (size_t end = write_max; end > 0; end--)
        if (text[end - 1] == '\n')
            return end;
    return sw_utf8_floor(text, write_max);
}

static bool write_entry(const char *text, size_t n, bool raw)
{
    bool written = true;
    while (n > 0) {
        const size_t piece = first_piece(text, n);
        written = write_piece(text, piece, raw) && written;
        text += piece;
        n -= piece;
    }
    return written;
}

static bool write_line(bool raw, const char *words)
{
    char line[LINE_BYTES + sizeof ours + 1];
    struct sw_text out;
    sw_text_init(&out, line, sizeof line - 1); /* room for the newline even when the line is cut */
    sw_text_put(&out, ours);
    sw_text_put_escaped(&out, words, strlen(words));
    line[out.used++] = '\n';
    return write_entry(line, out.used, raw);
}

/* What was lost before is told first, and stays counted until that line gets through. */
static void say_lost(bool raw)
{
    char words[96];
    const unsigned count = atomic_load(&lost);
    if (count == 0)
        return;
    snprintf(words, sizeof words, "%u writes to the log were lost: the log did not take them in time", count);
    if (write_line(raw, words))
        atomic_fetch_sub(&lost, count);
}

void sw_log(const char *fmt, ...)
{
    char words[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    say_lost(false);
    if (!write_line(false, words))
        atomic_fetch_add(&lost, 1);
}

static void log_entry(const char *text, size_t n, bool raw)
{
    say_lost(raw);
    if (!write_entry(text, n, raw))
        atomic_fetch_add(&lost, 1);
}

void sw_log_entry(const char *text, size_t n)
{
    log_entry(text, n, false);
}

void sw_log_entry_raw(const char *text, size_t n)
{
    log_entry(text, n, true);
}
