/* text.h - text built in a buffer of fixed size, always terminated, never past its end.
 * Owns:    nothing; the caller lends the bytes.
 * Callers: any thread, one at a time per buffer. No allocation, no lock, no locale.
 * Fork:    nothing to do.
 * What does not fit is cut at a UTF-8 boundary and `cut` is set; the caller decides whether that matters. */
#ifndef SW_TEXT_H
#define SW_TEXT_H

#include "base.h"

struct sw_text {
    char *at;    /* borrowed; at[used] == 0 whenever room > 0 */
    size_t room; /* bytes at `at`, the terminating zero included */
    size_t used; /* bytes of text, the zero not counted */
    bool cut;    /* something did not fit since the start or the last reset */
};

void sw_text_init(struct sw_text *t, char *at, size_t room);
void sw_text_reset(struct sw_text *t);

/* append */
void sw_text_put(struct sw_text *t, const char *s);
void sw_text_put_bytes(struct sw_text *t, const char *s, size_t n);
void sw_text_put_char(struct sw_text *t, char c);
void sw_text_printf(struct sw_text *t, const char *fmt, ...) SW_PRINTF(2, 3);

/* Append hostile bytes so that they stay on one line and stay text: control characters and DEL become \n, \r,
 * \t or \xNN; bytes that are not UTF-8 become \xNN; line separators (U+0085, U+2028, U+2029) and the characters
 * that reorder text (U+200E/F, U+202A-E, U+2066-9) become \uNNNN; a backslash stays as it is. */
void sw_text_put_escaped(struct sw_text *t, const char *s, size_t n);

/* Durations as people read them: "350 ms", "1.0 s", "10.0 s", "20 s" (whole when `whole`), "2 min 5 s". */
void sw_text_put_seconds(struct sw_text *t, uint64_t ms);
void sw_text_put_rfc3339(struct sw_text *t, uint64_t wall_us);

/* UTF-8: length in bytes (1 to 4) of the valid sequence at s, or 0 when it is not one */
size_t sw_utf8_len(const char *s, size_t n);
/* the largest length <= n that does not cut a character of s in two */
size_t sw_utf8_floor(const char *s, size_t n);

/* A bump allocator for strings that live as long as one event.  Never fails: when it is full the copies are cut,
 * at worst to "", and `cut` is set. */
struct sw_arena {
    char *at;
    size_t room, used;
    bool cut;
};

void sw_arena_init(struct sw_arena *a, void *at, size_t room);
void sw_arena_reset(struct sw_arena *a);
const char *sw_arena_copy(struct sw_arena *a, const char *s, size_t n);
/* zeroed memory aligned for any type, or NULL when it does not fit */
void *sw_arena_alloc(struct sw_arena *a, size_t bytes);

#endif
