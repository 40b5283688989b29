#include "regex.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Three limits, since each covers what the others do not: PCRE2 counts backtracking anew at each start position, so
 * steps (pattern items tried) are counted over the whole match by a callout; memory is the arena below. */
#define STEPS_MAX   20000
#define MATCH_LIMIT 10000
#define DEPTH_LIMIT 10000
#define HEAP_KIB    64
#define ARENA_BYTES                                                                                          \
    ((size_t)192 * 1024) /* the frame vectors doubling up to HEAP_KIB, and what set-up takes */
#define ERROR_CHARS   128
#define EFFORT_IS_OUT PCRE2_ERROR_MATCHLIMIT

struct sw_regex {
    pcre2_code *code;           /* owned, from malloc: set-up only */
    pcre2_general_context *mem; /* these three live in the arena */
    pcre2_match_context *limits;
    pcre2_match_data *result;
    unsigned steps;    /* of the match that runs */
    size_t used;       /* of the arena */
    size_t floor;      /* what set-up used of it */
    unsigned borrowed; /* blocks taken above the floor and not given back */
    alignas(max_align_t) unsigned char arena[ARENA_BYTES];
};

/* ---- memory: PCRE2 takes and returns it around a match; when all is back, the arena starts again ------------- */

static void *arena_take(PCRE2_SIZE bytes, void *arg)
{
    struct sw_regex *re = arg;
    const size_t align = alignof(max_align_t);
    if (bytes > ARENA_BYTES - re->used)
        return NULL;
    const size_t rounded = (bytes + align - 1) / align * align;
    if (rounded > ARENA_BYTES - re->used)
        return NULL;
    void *block = re->arena + re->used;
    re->used += rounded;
    re->borrowed++;
    return block;
}

static void arena_give(void *block, void *arg)
{
    struct sw_regex *re = arg;
    if (!block || re->borrowed == 0)
        return;
    if (--re->borrowed == 0)
        re->used = re->floor;
}

/* ---- compile ------------------------------------------------------------------------------------------------- */

static int count_step(pcre2_callout_block *block, void *arg)
{
    struct sw_regex *re = arg;
    (void)block;
    return ++re->steps > STEPS_MAX ? EFFORT_IS_OUT : 0;
}

static int prepare_match(struct sw_regex *re)
{
    re->mem = pcre2_general_context_create(arena_take, arena_give, re);
    if (!re->mem)
        return -ENOMEM;
    re->limits = pcre2_match_context_create(re->mem);
    re->result = pcre2_match_data_create(1, re->mem);
    if (!re->limits || !re->result)
        return -ENOMEM;
    pcre2_set_match_limit(re->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(re->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(re->limits, HEAP_KIB);
    pcre2_set_callout(re->limits, count_step, re);
    re->floor = re->used;
    re->borrowed = 0;
    return 0;
}

int sw_regex_compile(struct sw_regex **out, const char *pattern, bool ignore_case, struct sw_text *why)
{
    const uint32_t options =
        PCRE2_NEVER_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_AUTO_CALLOUT | (ignore_case ? PCRE2_CASELESS : 0);
    int error = 0;
    PCRE2_SIZE at = 0;

    *out = NULL;
    struct sw_regex *re = calloc(1, sizeof *re);
    if (!re)
        return -ENOMEM;
    re->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &at, NULL);
    if (!re->code) {
        PCRE2_UCHAR reason[ERROR_CHARS] = "";
        (void)pcre2_get_error_message(error, reason, sizeof reason);
        sw_text_printf(why, "at character %zu: %s", (size_t)at, (const char *)reason);
        free(re);
        return -EINVAL;
    }
    const int err = prepare_match(re);
    if (err) {
        sw_regex_free(re);
        return err;
    }
    *out = re;
    return 0;
}

void sw_regex_free(struct sw_regex *re)
{
    if (!re)
        return;
    pcre2_code_free(re->code); /* the rest lies in the arena */
    free(re);
}

bool sw_regex_match(struct sw_regex *re, const char *s, size_t n)
{
    if (n > SW_REGEX_SUBJECT_BYTES)
        return false;
    re->steps = 0;
    return pcre2_match(re->code, (PCRE2_SPTR)s, n, 0, 0, re->result, re->limits) >= 0;
}
