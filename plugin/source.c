#include "source.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAMES_MAX (SW_STACK_FRAMES_MAX + SW_EVENT_THREADS_MAX * SW_THREAD_FRAMES_MAX)
#define READ_BYTES ((size_t)64 * 1024)

/* One content of one file: what another path, a rewrite or a replacement would change. */
struct identity {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct cached_line {
    struct identity of;
    int line; /* 0 = empty slot */
    unsigned short bytes;
    char text[SW_SOURCE_LINE_BYTES];
};

struct sw_source {
    struct cached_line cache[SW_SOURCE_CACHE];
    struct sw_frame *open[FRAMES_MAX]; /* frames of this event that are not settled yet */
    unsigned open_count;
    struct sw_frame *same[FRAMES_MAX]; /* those of them that lie in the file at hand */
    unsigned same_count;
    char read[READ_BYTES];
};

struct sw_source *sw_source_new(void)
{
    return calloc(1, sizeof(struct sw_source));
}

void sw_source_free(struct sw_source *s)
{
    free(s);
}

/* ---- the cache: each line has one place where it can be ---- */

static bool same_identity(const struct identity *a, const struct identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static struct cached_line *slot_of(struct sw_source *s, const struct identity *of, int line)
{
    const uint64_t mixed = ((uint64_t)of->inode * 31 + (uint64_t)of->device) * UINT64_C(0x9e3779b97f4a7c15);
    return &s->cache[((mixed >> 32) + (uint64_t)line) % SW_SOURCE_CACHE];
}

static void settle(struct sw_frame *frame, const char *text, size_t n, struct sw_arena *arena)
{
    if (n < arena->room - arena->used) /* a cut source line would look like another statement */
        frame->source = sw_arena_copy(arena, text, n);
}

/* ---- lines out of a file ---- */

struct line_reader {
    int line;          /* number of the one being read, from 1 */
    bool after_return; /* a \n that comes now belongs to the \r before it */
    size_t bytes;      /* of text so far, leading blanks left out */
    char text[SW_SOURCE_LINE_BYTES];
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f' || c == '\v';
}

/* The line is complete: give it to the frames that want it. */
static void end_line(struct sw_source *s, struct line_reader *r, const struct identity *of,
                     struct sw_arena *arena)
{
    size_t n = sw_utf8_floor(r->text, r->bytes);
    while (n > 0 && is_blank(r->text[n - 1]))
        n--;
    bool wanted = false;
    for (unsigned i = 0; i < s->same_count; i++)
        if (s->same[i]->line == r->line) {
            settle(s->same[i], r->text, n, arena);
            wanted = true;
        }
    if (wanted) {
        struct cached_line *slot = slot_of(s, of, r->line);
        slot->of = *of;
        slot->line = r->line;
        slot->bytes = (unsigned short)n;
        memcpy(slot->text, r->text, n);
    }
    r->line++;
    r->bytes = 0;
}

/* The nearest line, from this one on, that a frame without source wants; 0 = none. */
static int next_wanted(const struct sw_source *s, int from)
{
    int nearest = 0;
    for (unsigned i = 0; i < s->same_count; i++) {
        const struct sw_frame *f = s->same[i];
        if (!f->source && f->line >= from && (nearest == 0 || f->line < nearest))
            nearest = f->line;
    }
    return nearest;
}

static void read_lines(struct sw_source *s, int fd, const struct identity *of, struct sw_arena *arena)
{
    struct line_reader r = {.line = 1};
    size_t total = 0;
    int wanted = next_wanted(s, 1);
    while (wanted && total < SW_SOURCE_MAX_BYTES) {
        const ssize_t n = read(fd, s->read, sizeof s->read);
        if (n <= 0)
            break;
        total += (size_t)n;
        for (ssize_t i = 0; i < n && wanted; i++) {
            const char c = s->read[i];
            const bool second_half = c == '\n' && r.after_return;
            r.after_return = c == '\r';
            if (second_half)
                continue;
            if (c == '\n' || c == '\r') {
                if (r.line == wanted) {
                    end_line(s, &r, of, arena);
                    wanted = next_wanted(s, r.line);
                } else {
                    r.line++;
                }
            } else if (r.line == wanted && r.bytes < sizeof r.text && (r.bytes > 0 || !is_blank(c))) {
                r.text[r.bytes++] = c;
            }
        }
    }
    if (wanted == r.line && r.bytes > 0) /* the last line may lack its newline */
        end_line(s, &r, of, arena);
}

static bool identify(const struct stat *st, struct identity *of)
{
    *of = (struct identity){st->st_dev, st->st_ino, st->st_size, st->st_mtim};
    return S_ISREG(st->st_mode);
}

static void take_from_cache(struct sw_source *s, const struct identity *of, struct sw_arena *arena)
{
    for (unsigned i = 0; i < s->same_count; i++) {
        const struct cached_line *slot = slot_of(s, of, s->same[i]->line);
        if (slot->line == s->same[i]->line && same_identity(&slot->of, of))
            settle(s->same[i], slot->text, slot->bytes, arena);
    }
}

static void fill_file(struct sw_source *s, const char *file, struct sw_arena *arena)
{
    struct stat st;
    struct identity of;
    /* Looked at before it is opened, since merely opening a device can have effects; looked at again afterwards,
     * since it may have been replaced in between. */
    if (stat(file, &st) || !identify(&st, &of))
        return;
    take_from_cache(s, &of, arena);
    if (!next_wanted(s, 1))
        return;
    const int fd = open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (!fstat(fd, &st) && identify(&st, &of))
        read_lines(s, fd, &of, arena);
    close(fd);
}

/* ---- one event ---- */

static void add_frames(struct sw_source *s, const struct sw_stack *stack)
{
    for (unsigned i = 0; i < stack->count && s->open_count < FRAMES_MAX; i++) {
        struct sw_frame *f = &stack->frames[i];
        if (!f->source && f->line > 0 && f->file && f->file[0] && f->file[0] != '<')
            s->open[s->open_count++] = f;
    }
}

/* Moves the frames of the first open frame's file from `open` to `same`. */
static void take_first_file(struct sw_source *s)
{
    const char *file = s->open[0]->file;
    unsigned kept = 0;
    s->same_count = 0;
    for (unsigned i = 0; i < s->open_count; i++) {
        struct sw_frame *f = s->open[i];
        if (f->file == file || !strcmp(f->file, file))
            s->same[s->same_count++] = f;
        else
            s->open[kept++] = f;
    }
    s->open_count = kept;
}

void sw_source_fill(struct sw_source *s, struct sw_event *e, struct sw_arena *arena)
{
    s->open_count = 0;
    if (e->has_stack)
        add_frames(s, &e->stack);
    for (unsigned i = 0; i < e->thread_count; i++)
        add_frames(s, &e->threads[i].stack);
    while (s->open_count > 0) {
        take_first_file(s);
        fill_file(s, s->same[0]->file, arena);
    }
}
