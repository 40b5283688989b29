/* The reader on an interpreter made of plain memory: every kind of frame, every kind of damage, and random damage. What
 * real interpreters do is tested in tests/pyreader. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pyread.h"

#define OK(c)       assert_true(c)
#define WORLD_BYTES ((size_t)2 * 1024 * 1024)
#define PAGE        4096U
#define ARENA_BYTES ((size_t)256 * 1024)
#define IDENT       0x7f00dead1000U
#define UNMAPPED    ((uintptr_t)0x10)
#define CODE_UNITS  50
#define DEPTH       128U

static char *world;
static size_t world_used;
static struct sw_pylayout layout;
static const struct sw_pyoffsets *const o = &layout.at;
static struct sw_pystack *reader;
static char arena_bytes[ARENA_BYTES];
static struct sw_arena arena;
static struct sw_stack stack;
static uintptr_t interp, thread, cframe, chunk, gil;
static uintptr_t last_frame;
static size_t chunk_used;

/* ---- building ---- */

static uintptr_t make(size_t bytes, size_t align)
{
    world_used = (world_used + align - 1) / align * align;
    const uintptr_t at = (uintptr_t)world + world_used;
    world_used += bytes;
    OK(world_used <= WORLD_BYTES);
    return at;
}

static void set64(uintptr_t at, size_t offset, uint64_t v)
{
    memcpy((void *)(at + offset), &v, sizeof v);
}

static void set32(uintptr_t at, size_t offset, uint32_t v)
{
    memcpy((void *)(at + offset), &v, sizeof v);
}

static uintptr_t make_text(unsigned kind, bool ascii, const void *chars, size_t count)
{
    const uint32_t head = ascii ? o->unicode_ascii : o->unicode_compact;
    const uintptr_t s = make(head + (count + 1) * kind, 16);
    set64(s, SW_PYOBJECT_TYPE, layout.type_unicode);
    set64(s, SW_PYUNICODE_LENGTH, count);
    set32(s, SW_PYUNICODE_STATE, kind << 2 | 0x20U | (ascii ? 0x40U : 0));
    memcpy((void *)(s + head), chars, count * kind);
    return s;
}

static uintptr_t make_ascii(const char *s)
{
    return make_text(1, true, s, strlen(s));
}

/* Instruction `n` of a code object lies on line first + n + 1. */
static uintptr_t make_code(uintptr_t file, uintptr_t name, int first_line)
{
    const uintptr_t table = make(SW_PYBYTES_DATA + CODE_UNITS * 3, 16);
    set64(table, SW_PYOBJECT_TYPE, layout.type_bytes);
    set64(table, SW_PYVAROBJECT_SIZE, CODE_UNITS * 3);
    for (unsigned i = 0; i < CODE_UNITS; i++) {
        const char entry[3] = {(char)(0x80 | 11 << 3), 0, 0};
        memcpy((void *)(table + SW_PYBYTES_DATA + i * 3), entry, sizeof entry);
    }
    const uintptr_t c = make(o->code_adaptive + CODE_UNITS * 2, 16);
    set64(c, SW_PYOBJECT_TYPE, layout.type_code);
    set64(c, SW_PYVAROBJECT_SIZE, CODE_UNITS);
    set64(c, o->code_filename, file);
    set64(c, o->code_name, name);
    set64(c, o->code_linetable, table);
    set32(c, o->code_firstline, (uint32_t)first_line);
    set32(c, o->code_version, (uint32_t)c);
    return c;
}

static void set_top(uintptr_t frame)
{
    last_frame = frame;
    set64(cframe, o->cframe_frame, frame);
}

static uintptr_t link_frame(uintptr_t at, uintptr_t code, int64_t unit, unsigned owner)
{
    set64(at, o->frame_back, last_frame);
    set64(at, o->frame_code, code);
    set64(at, o->frame_lasti, code + o->code_adaptive + (uint64_t)(unit * 2));
    *(unsigned char *)(at + o->frame_owner) = (unsigned char)owner;
    set_top(at);
    return at;
}

/* on the data stack */
static uintptr_t push(uintptr_t code, int64_t unit)
{
    const uintptr_t at = chunk + chunk_used;
    chunk_used += 96;
    OK(chunk_used <= SW_PYCHUNK_BYTES);
    set64(thread, o->ts_top, chunk + chunk_used);
    return link_frame(at, code, unit, 0);
}

/* elsewhere, as a generator's or a shim */
static uintptr_t push_apart(uintptr_t code, int64_t unit, unsigned owner)
{
    return link_frame(make(96, 16), code, unit, owner);
}

static uintptr_t make_thread(uint64_t ident)
{
    const uintptr_t t = make(512, 16), head = interp + o->interp_tstate_head;
    uint64_t next;
    memcpy(&next, (void *)head, sizeof next);
    set64(t, o->ts_next, next);
    set64(t, o->ts_thread_id, ident);
    set64(t, o->ts_native_id, 4711);
    set64(head, 0, t);
    cframe = make(64, 16);
    set64(t, o->ts_frame, cframe);
    chunk = make(SW_PYCHUNK_BYTES, PAGE);
    chunk_used = SW_PYCHUNK_FIRST_FRAME;
    set64(t, o->ts_chunk, chunk);
    set64(t, o->ts_top, chunk + chunk_used);
    last_frame = 0;
    return thread = t;
}

static uintptr_t make_interpreter(void)
{
    const uintptr_t i = make(4096, 16);
    uint64_t next;
    memcpy(&next, (void *)(layout.runtime + o->runtime_interp_head), sizeof next);
    set64(i, o->interp_next, next);
    set64(layout.runtime, o->runtime_interp_head, i);
    gil = make(256, 16);
    set64(i, o->interp_gil, gil);
    return interp = i;
}

static int begin(void **state)
{
    (void)state;
    char why[128];
    struct sw_text t;
    sw_text_init(&t, why, sizeof why);
    world = mmap(NULL, WORLD_BYTES + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (world == MAP_FAILED || mprotect(world + WORLD_BYTES, PAGE, PROT_NONE) != 0)
        return -1;
    world_used = 0;
    if (sw_pylayout_offsets(&layout.at, "3.12.1 (made of memory)", NULL, 0, &t) != 0)
        return -1;
    layout.runtime = make(4096, 16);
    layout.type_code = make(16, 16);
    layout.type_unicode = make(16, 16);
    layout.type_bytes = make(16, 16);
    layout.type_frame = 0;
    make_interpreter();
    make_thread(IDENT);
    if (sw_pystack_make(&reader, &layout, &t) != 0 || sw_pystack_open(reader, SW_PYMEM_MEMFD) != 0)
        return -1;
    return 0;
}

static int end(void **state)
{
    (void)state;
    sw_pystack_detach(reader);
    return munmap(world, WORLD_BYTES + PAGE);
}

static int capture(unsigned depth)
{
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    return sw_pystack_capture(reader, (pthread_t)IDENT, depth, &arena, &stack);
}

static void is_frame(unsigned i, const char *file, int line, const char *function)
{
    OK(i < stack.count);
    assert_string_equal(stack.frames[i].file, file);
    assert_string_equal(stack.frames[i].function, function);
    assert_int_equal(stack.frames[i].line, line);
    OK(stack.frames[i].source == NULL);
}

static uintptr_t simple_code(const char *name, int first_line)
{
    return make_code(make_ascii("/srv/app.py"), make_ascii(name), first_line);
}

/* ---- what is there is read ---- */

static void frames_outermost_first(void **state)
{
    (void)state;
    push(simple_code("main", 100), 7);
    push_apart(simple_code("generator", 200), 8, 1);
    push_apart(UNMAPPED, 0, 3); /* a shim: its code is nothing to us */
    push(simple_code("leaf", 300), 9);
    OK(capture(DEPTH) == 0 && stack.partial == NULL && stack.truncated == 0);
    assert_int_equal(stack.count, 3);
    is_frame(0, "/srv/app.py", 108, "main");
    is_frame(1, "/srv/app.py", 209, "generator");
    is_frame(2, "/srv/app.py", 310, "leaf");
}

static void innermost_are_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        push(simple_code("f", 1000 * i), 5);
    OK(capture(3) == 0 && stack.partial == NULL && stack.count == 3);
    assert_int_equal(stack.truncated, 97);
    is_frame(0, "/srv/app.py", 97006, "f");
    is_frame(2, "/srv/app.py", 99006, "f");
    OK(capture(100) == 0 && stack.truncated == 0 && stack.count == 100);
    OK(capture(UINT32_MAX) == 0 && stack.count == 100);
}

static void frames_not_begun_are_left_out(void **state)
{
    (void)state;
    const uintptr_t starting = simple_code("starting", 50);
    set32(starting, o->code_first_traceable, 3);
    push(simple_code("main", 100), 7);
    push(starting, 2);
    push(simple_code("leaf", 300), 9);
    OK(capture(DEPTH) == 0 && stack.partial == NULL && stack.count == 2);
    OK(capture(1) == 0 && stack.count == 1 && stack.truncated == 1);
    set32(starting, o->code_first_traceable, 2);
    OK(capture(DEPTH) == 0 && stack.count == 3);
    is_frame(1, "/srv/app.py", 53, "starting");
}

static void texts(void **state)
{
    (void)state;
    const uint8_t latin[] = {'d', 0xe9, 'j', 0xe0};
    const uint16_t wide[] = {0x6f22, 0x5b57, 0xdcff, 0xd83d};
    const uint32_t wider[] = {0x1f600, 'x', 0x110000};
    push(make_code(make_text(1, false, latin, 4), make_text(2, false, wide, 4), 1), 4);
    push(make_code(make_text(4, false, wider, 3), make_ascii(""), 1), 4);
    OK(capture(DEPTH) == 0 && stack.partial == NULL);
    is_frame(0, "d\xc3\xa9j\xc3\xa0", 6, "\xe6\xbc\xa2\xe5\xad\x97\xff\\ud83d");
    is_frame(1, "\xf0\x9f\x98\x80x?", 6, "");
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    static char name[100000];
    memset(name, 'n', sizeof name - 1);
    push(simple_code(name, 1), 4);
    /* the last bytes before memory that is not there: what is read beyond the end of a text does not fail */
    world_used = WORLD_BYTES - o->unicode_ascii - 4;
    const uintptr_t edge = (uintptr_t)world + world_used;
    set64(edge, SW_PYOBJECT_TYPE, layout.type_unicode);
    set64(edge, SW_PYUNICODE_LENGTH, 3);
    set32(edge, SW_PYUNICODE_STATE, 1U << 2 | 0x60U);
    memcpy((void *)(edge + o->unicode_ascii), "end", 4);
    world_used = 1024 * 1024;
    push(make_code(edge, edge, 1), 4);
    OK(capture(DEPTH) == 0 && stack.partial == NULL && stack.count == 2);
    assert_int_equal(strlen(stack.frames[0].function), SW_PYTEXT_CHARS + 3);
    OK(strcmp(stack.frames[0].function + SW_PYTEXT_CHARS, "...") == 0);
    is_frame(1, "end", 6, "end");
}

static void the_state_with_frames_wins(void **state)
{
    (void)state;
    assert_int_equal(capture(DEPTH), -ESRCH);
    push(simple_code("first", 10), 4);
    make_thread(IDENT); /* without frames, before it in the list */
    OK(capture(DEPTH) == 0 && stack.count == 1 && !stack.partial);
    is_frame(0, "/srv/app.py", 15, "first");
    make_interpreter();
    const uintptr_t second = make_thread(IDENT);
    push(simple_code("second", 20), 4);
    OK(capture(DEPTH) == 0 && strstr(stack.partial, "several Python stacks"));
    is_frame(0, "/srv/app.py", 25, "second");
    uint64_t older;
    memcpy(&older, (void *)(interp + o->interp_next), sizeof older);
    memcpy(&older, (void *)(older + o->interp_tstate_head), sizeof older);
    memcpy(&older, (void *)(older + o->ts_next), sizeof older);
    OK(older != second);
    uint64_t older_interp, older_gil;
    memcpy(&older_interp, (void *)(interp + o->interp_next), sizeof older_interp);
    memcpy(&older_gil, (void *)(older_interp + o->interp_gil), sizeof older_gil);
    set32(older_gil, o->gil_locked, 1);
    set64(older_gil, o->gil_holder, older);
    OK(capture(DEPTH) == 0);
    is_frame(0, "/srv/app.py", 15, "first");
    assert_int_equal(sw_pystack_capture(reader, (pthread_t)(IDENT + 1), DEPTH, &arena, &stack), -ESRCH);
}

static void the_gil(void **state)
{
    (void)state;
    struct sw_gil g;
    sw_pystack_gil(reader, (pthread_t)IDENT, 0, &g);
    OK(g.state == SW_GIL_RELEASED && g.holder == 0);
    sw_pystack_gil(reader, (pthread_t)IDENT, gil + 60, &g);
    OK(g.state == SW_GIL_WANTED);
    sw_pystack_gil(reader, (pthread_t)IDENT, gil + SW_PYGIL_BYTES, &g);
    OK(g.state == SW_GIL_RELEASED);
    set32(gil, o->gil_locked, 1);
    set64(gil, o->gil_holder, thread);
    sw_pystack_gil(reader, (pthread_t)IDENT, 0, &g);
    OK(g.state == SW_GIL_HELD && g.holder == IDENT && g.holder_tid == 4711);
    set64(gil, o->gil_holder, make_thread(1234));
    sw_pystack_gil(reader, (pthread_t)IDENT, gil + 60, &g);
    OK(g.state == SW_GIL_WANTED && g.holder == 1234);
    set64(gil, o->gil_holder, UNMAPPED); /* has ended */
    sw_pystack_gil(reader, (pthread_t)IDENT, 0, &g);
    OK(g.state == SW_GIL_RELEASED && g.holder == 0);
    sw_pystack_gil(reader, (pthread_t)4321, gil + 60, &g);
    OK(g.state == SW_GIL_UNKNOWN);
    set64(interp, o->interp_gil, UNMAPPED);
    sw_pystack_gil(reader, (pthread_t)IDENT, 0, &g);
    OK(g.holder == 0);
}

static void other_threads(void **state)
{
    (void)state;
    struct sw_event_thread out[8];
    push(simple_code("mine", 1), 4);
    for (int i = 0; i < 5; i++) {
        make_thread((uint64_t)i + 1);
        push(simple_code("outer", 1), 4);
        push(simple_code("inner", 1), 5);
    }
    set32(gil, o->gil_locked, 1);
    set64(gil, o->gil_holder, thread);
    make_thread(77); /* runs nothing */
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    assert_int_equal(sw_pystack_threads(reader, (pthread_t)IDENT, 1, &arena, out, 8), 5);
    for (unsigned i = 0; i < 5; i++) {
        OK(out[i].ident == 5 - i && out[i].tid == 4711 && out[i].gil == (i == 0));
        OK(out[i].stack.count == 1 && out[i].stack.truncated == 1 && !out[i].stack.partial);
        assert_string_equal(out[i].stack.frames[0].function, "inner");
    }
    assert_int_equal(sw_pystack_threads(reader, (pthread_t)IDENT, 1, &arena, out, 2), 2);
    sw_arena_init(&arena, arena_bytes, 8);
    assert_int_equal(sw_pystack_threads(reader, (pthread_t)IDENT, 1, &arena, out, 8), 0);
}

/* ---- what is broken is never shown as clean ---- */

static void unreadable_frames_are_marked(void **state)
{
    (void)state;
    const uintptr_t no_code = simple_code("x", 1), no_file = simple_code("x", 1),
                    no_name = simple_code("x", 1);
    const uintptr_t no_table = simple_code("x", 1), outside = simple_code("x", 1),
                    long_table = simple_code("x", 1);
    set64(no_code, SW_PYOBJECT_TYPE, layout.type_bytes);
    set64(no_file, o->code_filename, UNMAPPED);
    set64(no_name, o->code_name, no_file);
    set64(no_table, o->code_linetable, UINT64_MAX - 3);
    uint64_t table;
    memcpy(&table, (void *)(long_table + o->code_linetable), sizeof table);
    set64(table, SW_PYVAROBJECT_SIZE, UINT64_MAX);
    push(simple_code("main", 1), 4);
    push(no_code, 4);
    push(no_file, 4);
    push(no_name, 4);
    push(no_table, 4);
    push(outside, CODE_UNITS);
    push(long_table, 4);
    push(simple_code("leaf", 1), 4);
    OK(capture(DEPTH) == 0 && stack.count == 8);
    assert_string_equal(stack.partial, "6 frames could not be read");
    is_frame(0, "/srv/app.py", 6, "main");
    for (unsigned i = 1; i < 7; i++)
        is_frame(i, "???", 0, "???");
    is_frame(7, "/srv/app.py", 6, "leaf");
}

static void broken_chains_end(void **state)
{
    (void)state;
    const uintptr_t first = push(simple_code("first", 1), 4);
    const uintptr_t second = push(simple_code("second", 1), 4);
    push(simple_code("third", 1), 4);
    set64(first, o->frame_back, UNMAPPED);
    OK(capture(DEPTH) == 0 && stack.count == 3 && stack.partial);
    set64(first, o->frame_back, second); /* a ring */
    OK(capture(DEPTH) == 0 && stack.partial && stack.count <= DEPTH);
    set64(first, o->frame_back, first);
    OK(capture(DEPTH) == 0 && stack.partial && stack.count <= DEPTH);
    set64(first, o->frame_back, 0);
    OK(capture(DEPTH) == 0 && !stack.partial && stack.count == 3);
    /* the end of a chain that leaves out what lies below on the data stack */
    set64(second, o->frame_back, 0);
    OK(capture(DEPTH) == 0 && stack.partial);
    set_top(UNMAPPED);
    assert_int_equal(capture(DEPTH), -EFAULT);
    set64(thread, o->ts_frame, UNMAPPED);
    assert_int_equal(capture(DEPTH), -EFAULT);
}

static void lists_that_go_round_end(void **state)
{
    (void)state;
    struct sw_event_thread out[8];
    push(simple_code("f", 1), 4);
    set64(thread, o->ts_next, thread);
    sw_arena_init(&arena, arena_bytes, sizeof arena_bytes);
    OK(sw_pystack_capture(reader, (pthread_t)1, DEPTH, &arena, &stack) == -ELOOP);
    OK(sw_pystack_threads(reader, (pthread_t)IDENT, 1, &arena, out, 8) == 0);
    set64(thread, o->ts_next, 0);
    set64(interp, o->interp_next, interp);
    OK(sw_pystack_capture(reader, (pthread_t)1, DEPTH, &arena, &stack) == -ELOOP);
    set64(layout.runtime, o->runtime_interp_head, UNMAPPED);
    assert_int_equal(capture(DEPTH), -EFAULT);
    set64(layout.runtime, o->runtime_interp_head, 0);
    assert_int_equal(capture(DEPTH), -ESRCH);
}

static void little_room(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        push(simple_code("function_of_some_length", i), 4);
    for (size_t room = 0; room < 4000; room += 50) {
        sw_arena_init(&arena, arena_bytes, room);
        const int rc = sw_pystack_capture(reader, (pthread_t)IDENT, DEPTH, &arena, &stack);
        if (rc != 0) {
            OK(rc == -ENOSPC && room < 200);
            continue;
        }
        OK(stack.count > 0 && stack.count + stack.truncated == 50);
        OK(arena.used <= arena.room && (!arena.cut || stack.partial));
    }
}

static void closed_reads_nothing(void **state)
{
    (void)state;
    struct sw_event_thread out[1];
    struct sw_gil g;
    push(simple_code("f", 1), 4);
    sw_pystack_close(reader);
    assert_int_equal(capture(DEPTH), -ENOTCONN);
    sw_pystack_gil(reader, (pthread_t)IDENT, 0, &g);
    OK(g.state == SW_GIL_UNKNOWN && sw_pystack_threads(reader, 0, 1, &arena, out, 1) == 0);
    OK(sw_pystack_open(reader, SW_PYMEM_VM_READV) == 0 && capture(DEPTH) == 0 && stack.count == 1);
    OK(sw_pystack_open(reader, SW_PYMEM_PIPE) == 0 && capture(DEPTH) == 0 && stack.count == 1);
}

/* ---- random damage: whatever comes back, it comes back ---- */

static uint64_t random_word(void)
{
    const uint64_t r = (uint64_t)rand() << 32 ^ (uint64_t)rand();
    switch (rand() % 8) {
    case 0:
        return r;
    case 1:
        return r & 0xff;
    case 2:
        return UINT64_MAX - (r & 0xff);
    case 3:
        return 0;
    case 4:
        return r & 0x7fffffffffff;
    default:
        return (uintptr_t)world + r % world_used / (rand() % 2 ? 1 : 8) * 8; /* an object, or close to one */
    }
}

static void check_whatever(int rc)
{
    OK(rc <= 0);
    if (rc != 0)
        return;
    OK(stack.count <= DEPTH && stack.truncated < 100000);
    for (unsigned i = 0; i < stack.count; i++) {
        OK(strlen(stack.frames[i].file) < SW_PYTEXT_CHARS * 6 + 8);
        OK(strlen(stack.frames[i].function) < SW_PYTEXT_CHARS * 6 + 8);
        OK(stack.frames[i].line >= 0);
    }
}

static void damage(void **state)
{
    (void)state;
    enum { ROUNDS = 3000 };
    for (int i = 0; i < 12; i++) {
        push(simple_code("outer", i), 4);
        push_apart(simple_code("generator", i), 4, 1);
    }
    make_thread(99);
    push(simple_code("other", 1), 4);
    char *copy = malloc(world_used);
    OK(copy != NULL);
    memcpy(copy, world, world_used);
    srand(4);
    unsigned clean = 0, partial = 0, failed = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct sw_event_thread out[4];
        struct sw_gil g;
        for (int n = rand() % 30; n > 0; n--)
            set64((uintptr_t)world, (size_t)rand() % (world_used / 8) * 8, random_word());
        /* the roots are small in all that memory: hit them more often */
        if (rand() % 3 == 0)
            set64(thread, (size_t)rand() % 64 * 8, random_word());
        if (rand() % 3 == 0)
            set64(chunk, (size_t)rand() % 256 * 8, random_word());
        const int rc = capture(DEPTH);
        check_whatever(rc);
        clean += rc == 0 && !stack.partial;
        partial += rc == 0 && stack.partial;
        failed += rc != 0;
        OK(sw_pystack_threads(reader, (pthread_t)IDENT, 12, &arena, out, 4) <= 4);
        sw_pystack_gil(reader, (pthread_t)IDENT, gil + 60, &g);
        memcpy(world, copy, world_used);
    }
    OK(clean > 0 && partial > 0 && failed + partial > ROUNDS / 20);
    OK(capture(DEPTH) == 0 && !stack.partial && stack.count == 24);
    free(copy);
}

static void noise(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        world_used = WORLD_BYTES;
        for (size_t i = 0; i < 64 * 1024; i += 8)
            set64((uintptr_t)world, i, random_word());
        check_whatever(capture(DEPTH));
    }
    struct sw_pylayout nowhere = layout;
    struct sw_pystack *lost;
    struct sw_text t;
    char why[128];
    sw_text_init(&t, why, sizeof why);
    nowhere.runtime = 0xdead00000000;
    OK(sw_pystack_make(&lost, &nowhere, &t) == 0 && sw_pystack_open(lost, SW_PYMEM_MEMFD) == 0);
    OK(sw_pystack_capture(lost, (pthread_t)IDENT, DEPTH, &arena, &stack) == -EFAULT);
    sw_pystack_detach(lost);
    nowhere.at.code_linetable = 100000; /* offsets no object has */
    OK(sw_pystack_make(&lost, &nowhere, &t) == -ENOTSUP && why[0] != 0);
    sw_pystack_detach(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_outermost_first),
        TEST(innermost_are_kept),
        TEST(frames_not_begun_are_left_out),
        TEST(texts),
        TEST(long_texts_are_cut),
        TEST(the_state_with_frames_wins),
        TEST(the_gil),
        TEST(other_threads),
        TEST(unreadable_frames_are_marked),
        TEST(broken_chains_end),
        TEST(lists_that_go_round_end),
        TEST(little_room),
        TEST(closed_reads_nothing),
        TEST(damage),
        TEST(noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
