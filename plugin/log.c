#include "log.h"

#include "text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 4096

static const char prefix[] = "slowwatch: ";

static void write_raw(const char *text, size_t n)
{
    /* A log that cannot be written has nowhere to be complained about. */
    const ssize_t written = write(STDERR_FILENO, text, n);
    (void)written;
}

static void (*log_writer)(const char *, size_t) = write_raw;

void sw_log_set_writer(void (*writer)(const char *, size_t))
{
    log_writer = writer;
}

static size_t write_max = SW_LOG_WRITE_MAX;

void sw_log_set_write_max(size_t bytes)
{
    write_max = bytes >= LINE_BYTES ? bytes : LINE_BYTES;
}

size_t sw_log_write_max(void)
{
    return write_max;
}

static void log_line(void (*writer)(const char *, size_t), const char *fmt, va_list ap)
{
    char words[LINE_BYTES], line[LINE_BYTES + sizeof prefix + 1];
    vsnprintf(words, sizeof words, fmt, ap);
    struct sw_text out;
    sw_text_init(&out, line, sizeof line - 1); /* room for the newline even when the line is cut */
    sw_text_put(&out, prefix);
    sw_text_put_escaped(&out, words, strlen(words));
    line[out.used++] = '\n';
    writer(line, out.used);
}

void sw_log(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(log_writer, fmt, ap);
    va_end(ap);
}

void sw_log_raw(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(write_raw, fmt, ap);
    va_end(ap);
}

/* The length of the first piece of text: whole lines up to the limit, or a cut line when one alone is longer. */
static size_t first_piece(const char *text, size_t n)
{
    if (n <= write_max)
        return n;
    const char *newline = memrchr(text, '\n', write_max);
    return newline ? (size_t)(newline - text) + 1 : sw_utf8_floor(text, write_max);
}

static void log_entry(void (*writer)(const char *, size_t), const char *text, size_t n)
{
    while (n > 0) {
        const size_t piece = first_piece(text, n);
        writer(text, piece);
        text += piece;
        n -= piece;
    }
}

void sw_log_entry(const char *text, size_t n)
{
    log_entry(log_writer, text, n);
}

void sw_log_entry_raw(const char *text, size_t n)
{
    log_entry(write_raw, text, n);
}
