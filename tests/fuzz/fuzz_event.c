/* Any bytes as a datagram: decode answers without harm, and what it accepts survives the rest of the reporter's way:
 * it is rendered, grouped, encoded again, and comes back the same. */
#include "event.h"
#include "group.h"
#include "render.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char arena_bytes[SW_EVENT_ARENA_BYTES], again_bytes[SW_EVENT_ARENA_BYTES];
static char first[2 * SW_EVENT_MAX_BYTES], second[2 * SW_EVENT_MAX_BYTES], text[256 * 1024];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sw_event event, again;
    struct sw_arena arena, again_arena;
    struct sw_text why, out;
    char why_bytes[256], fingerprint[SW_FINGERPRINT_CHARS + 1];

    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    sw_arena_init(&again_arena, again_bytes, sizeof again_bytes);
    sw_text_init(&why, why_bytes, sizeof why_bytes);
    sw_text_init(&out, text, sizeof text);

    const int err = sw_event_decode(&event, &arena, (const char *)data, size, &why);
    if (arena.cut)
        abort(); /* SW_EVENT_ARENA_BYTES promises room */
    if (err)
        return why.used ? 0 : (abort(), 0); /* refused without a reason */
    sw_render_event(&event, &out);
    sw_group_fingerprint(&event, fingerprint);

    const ssize_t n = sw_event_encode(&event, first, SW_EVENT_MAX_BYTES);
    if (n <= 0)
        abort();
    if (sw_event_decode(&again, &again_arena, first, (size_t)n, &why))
        abort();
    if (sw_event_encode(&again, second, SW_EVENT_MAX_BYTES) != n || memcmp(first, second, (size_t)n) != 0)
        abort();
    return 0;
}
