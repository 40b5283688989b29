/* Redaction of arbitrary bytes. The first byte chooses the call and the room; the rest is the text. Beside what the
 * sanitizers see: the output is clean text, and a known secret behind "&password=" never shows. */
#include "redact.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OUT_BYTES     (256 * 1024)
#define INPUT_BYTES   (64 * 1024)
#define SMALL_ROOMS   128
#define SECRET        "hunter2hunter2"
#define SECRET_PAIR   "&password=" SECRET
#define CHOICE_VALUE  0x80 /* of the first byte */
#define CHOICE_SECRET 0x40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_clean(const struct sw_text *out)
{
    check(out->used < out->room && out->at[out->used] == 0);
    for (size_t i = 0; i < out->used;) {
        const size_t n = sw_utf8_len(out->at + i, out->used - i);
        check(n > 0 && (unsigned char)out->at[i] >= 0x20 && out->at[i] != 0x7f);
        i += n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sw_redact redact;
    static char in[INPUT_BYTES + sizeof SECRET_PAIR], text[OUT_BYTES];
    struct sw_text out;

    if (!redact.count) {
        sw_text_init(&out, text, sizeof text);
        check(sw_redact_init(&redact, &out) == 0);
    }
    if (size < 2 || size > INPUT_BYTES)
        return 0;
    const uint8_t choice = data[0];
    size_t n = size - 1;
    memcpy(in, data + 1, n);
    const bool hides = choice & CHOICE_SECRET && !memmem(in, n, "hunt", 4);
    if (hides) {
        memcpy(in + n, SECRET_PAIR, strlen(SECRET_PAIR));
        n += strlen(SECRET_PAIR);
    }
    const size_t room = choice % 2 ? sizeof text : 1 + choice % SMALL_ROOMS;
    sw_text_init(&out, text, room);
    if (choice & CHOICE_VALUE)
        sw_redact_value(&redact, "x", in, n, &out);
    else
        sw_redact_uri(&redact, in, n, &out);
    check_clean(&out);
    if (hides)
        check(strstr(text, "hunter") == NULL);
    return 0;
}
