#include "pylayout.h"
#include "pydescribed.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#define MINOR_FIRST     8
#define MINOR_LAST      15
#define MINOR_DESCRIBED 13 /* from here on the interpreter describes itself: pydescribed.c */

#define LIBRARIES_MAX 4096 /* loaded objects looked at for a second interpreter */

/* ---- 3.8 to 3.12: measured on x86_64; the offsets of the GIL up to 3.11 depend on the size of pthread types ---- */

static const struct sw_pyoffsets TABLE[] = {
    {.minor = 8,
     .runtime_interp_head = 32,
     .interp_next = 0,
     .interp_tstate_head = 8,
     .interp_gil = SW_PYNONE,
     .ts_next = 8,
     .ts_thread_id = 176,
     .ts_native_id = SW_PYNONE,
     .ts_frame = 24,
     .cframe_frame = SW_PYNONE,
     .ts_chunk = SW_PYNONE,
     .ts_top = SW_PYNONE,
     .frame_back = 24,
     .frame_code = 32,
     .frame_lasti = 104,
     .frame_owner = SW_PYNONE,
     .code_firstline = 40,
     .code_filename = 104,
     .code_name = 112,
     .code_linetable = 120,
     .code_version = SW_PYNONE,
     .code_adaptive = SW_PYNONE,
     .code_first_traceable = SW_PYNONE,
     .unicode_ascii = 48,
     .unicode_compact = 72,
     .code_basicsize = 176,
     .unicode_basicsize = 80,
     .frame_basicsize = 368,
     .gil_locked = 1168,
     .gil_holder = 1160,
     .lasti = SW_PYLASTI_BYTES,
     .lines = SW_PYLINE_LNOTAB},
    {.minor = 9,
     .runtime_interp_head = 32,
     .interp_next = 0,
     .interp_tstate_head = 8,
     .interp_gil = SW_PYNONE,
     .ts_next = 8,
     .ts_thread_id = 176,
     .ts_native_id = SW_PYNONE,
     .ts_frame = 24,
     .cframe_frame = SW_PYNONE,
     .ts_chunk = SW_PYNONE,
     .ts_top = SW_PYNONE,
     .frame_back = 24,
     .frame_code = 32,
     .frame_lasti = 104,
     .frame_owner = SW_PYNONE,
     .code_firstline = 40,
     .code_filename = 104,
     .code_name = 112,
     .code_linetable = 120,
     .code_version = SW_PYNONE,
     .code_adaptive = SW_PYNONE,
     .code_first_traceable = SW_PYNONE,
     .unicode_ascii = 48,
     .unicode_compact = 72,
     .code_basicsize = 176,
     .unicode_basicsize = 80,
     .frame_basicsize = 368,
     .gil_locked = 368,
     .gil_holder = 360,
     .lasti = SW_PYLASTI_BYTES,
     .lines = SW_PYLINE_LNOTAB},
    {.minor = 10,
     .runtime_interp_head = 32,
     .interp_next = 0,
     .interp_tstate_head = 8,
     .interp_gil = SW_PYNONE,
     .ts_next = 8,
     .ts_thread_id = 176,
     .ts_native_id = SW_PYNONE,
     .ts_frame = 24,
     .cframe_frame = SW_PYNONE,
     .ts_chunk = SW_PYNONE,
     .ts_top = SW_PYNONE,
     .frame_back = 24,
     .frame_code = 32,
     .frame_lasti = 96,
     .frame_owner = SW_PYNONE,
     .code_firstline = 40,
     .code_filename = 104,
     .code_name = 112,
     .code_linetable = 120,
     .code_version = SW_PYNONE,
     .code_adaptive = SW_PYNONE,
     .code_first_traceable = SW_PYNONE,
     .unicode_ascii = 48,
     .unicode_compact = 72,
     .code_basicsize = 176,
     .unicode_basicsize = 80,
     .frame_basicsize = 360,
     .gil_locked = 368,
     .gil_holder = 360,
     .lasti = SW_PYLASTI_UNITS,
     .lines = SW_PYLINE_PAIRS},
    {.minor = 11,
     .runtime_interp_head = 40,
     .interp_next = 0,
     .interp_tstate_head = 16,
     .interp_gil = SW_PYNONE,
     .ts_next = 8,
     .ts_thread_id = 152,
     .ts_native_id = 160,
     .ts_frame = 56,
     .cframe_frame = 8,
     .ts_chunk = 296,
     .ts_top = 304,
     .frame_back = 48,
     .frame_code = 32,
     .frame_lasti = 56,
     .frame_owner = 69,
     .code_firstline = 72,
     .code_filename = 112,
     .code_name = 128,
     .code_linetable = 136,
     .code_version = SW_PYNONE,
     .code_adaptive = 184,
     .code_first_traceable = 168,
     .unicode_ascii = 48,
     .unicode_compact = 72,
     .code_basicsize = 184,
     .unicode_basicsize = 80,
     .gil_locked = 376,
     .gil_holder = 368,
     .shim_owner = SW_PYNONE,
     .lasti = SW_PYLASTI_POINTER,
     .lines = SW_PYLINE_LOCATIONS},
    {.minor = 12,
     .runtime_interp_head = 40,
     .interp_next = 0,
     .interp_tstate_head = 72,
     .interp_gil = 384,
     .ts_next = 8,
     .ts_thread_id = 136,
     .ts_native_id = 144,
     .ts_frame = 56,
     .cframe_frame = 0,
     .ts_chunk = 232,
     .ts_top = 240,
     .frame_back = 8,
     .frame_code = 0,
     .frame_lasti = 56,
     .frame_owner = 70,
     .code_firstline = 68,
     .code_filename = 112,
     .code_name = 128,
     .code_linetable = 136,
     .code_version = 92,
     .code_adaptive = 192,
     .code_first_traceable = 176,
     .unicode_ascii = 40,
     .unicode_compact = 56,
     .code_basicsize = 192,
     .unicode_basicsize = 64,
     .gil_locked = 16,
     .gil_holder = 8,
     .shim_owner = 3,
     .lasti = SW_PYLASTI_POINTER,
     .lines = SW_PYLINE_LOCATIONS},
};

struct version {
    unsigned major, minor, micro;
    bool final, free_threaded;
};

/* "3.13.1 (main, ...", "3.14.0rc2+ free-threading build (..." */
static bool parse_version(const char *text, struct version *v)
{
    int used = 0;
    if (sscanf(text, "%2u.%3u.%3u%n", &v->major, &v->minor, &v->micro, &used) != 3)
        return false;
    v->final = text[used] == ' ' || text[used] == '+' || text[used] == 0;
    v->free_threaded = strstr(text, "free-threading") != NULL;
    return true;
}

static int refuse(struct sw_text *why, const struct version *v, const char *reason)
{
    sw_text_printf(why, "the stacks of CPython %u.%u.%u cannot be read: %s", v->major, v->minor, v->micro,
                   reason);
    return -ENOTSUP;
}

int sw_pylayout_offsets(struct sw_pyoffsets *out, const char *version, const void *described,
                        size_t described_bytes, struct sw_text *why)
{
    struct version v;
    if (!parse_version(version, &v)) {
        sw_text_put(why, "the version of the Python in this process cannot be told");
        return -ENOTSUP;
    }
    if (v.major != 3 || v.minor < MINOR_FIRST || v.minor > MINOR_LAST)
        return refuse(why, &v, "only 3.8 to 3.15 are known");
    if (v.free_threaded)
        return refuse(why, &v, "it is a free-threaded build");
    if (!v.final)
        return refuse(why, &v, "it is not a final release");
    if (v.minor >= MINOR_DESCRIBED) {
        const char *wrong = sw_pydescribed_read(out, v.minor, v.micro, described, described_bytes);
        return wrong ? refuse(why, &v, wrong) : 0;
    }
    *out = TABLE[v.minor - MINOR_FIRST];
#if !defined(__x86_64__)
    if (out->interp_gil == SW_PYNONE) /* lies behind pthread types, whose sizes differ */
        out->gil_locked = out->gil_holder = SW_PYNONE;
#endif
    return 0;
}

/* ---- finding it ---- */

static uintptr_t symbol(const char *name)
{
    return (uintptr_t)dlsym(RTLD_DEFAULT, name);
}

/* Another loaded object with a _PyRuntime of its own, by name; NULL = there is none. */
static const char *second_runtime(uintptr_t runtime)
{
    void *self = dlopen(NULL, RTLD_LAZY);
    struct link_map *map = NULL;
    const char *other = NULL;
    if (!self)
        return NULL;
    if (dlinfo(self, RTLD_DI_LINKMAP, &map) != 0)
        map = NULL;
    for (unsigned i = 0; map && !other && i < LIBRARIES_MAX; i++, map = map->l_next) {
        void *library = map->l_name && map->l_name[0] ? dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
        if (!library)
            continue;
        const uintptr_t found = (uintptr_t)dlsym(library, "_PyRuntime");
        if (found != 0 && found != runtime)
            other = map->l_name;
        dlclose(library);
    }
    dlclose(self);
    return other;
}

static bool type_is(uintptr_t type, uintptr_t type_type, uint32_t basicsize)
{
    uintptr_t metatype;
    int64_t size;
    memcpy(&metatype, (const char *)type + SW_PYOBJECT_TYPE, sizeof metatype);
    memcpy(&size, (const char *)type + SW_PYTYPE_BASICSIZE, sizeof size);
    return metatype == type_type && (basicsize == 0 || size == basicsize);
}

/* Debug and patched builds may move fields; the sizes of the types tell. */
static bool types_fit(const struct sw_pylayout *l, uintptr_t type_type)
{
    return type_is(l->type_code, type_type, l->at.code_basicsize) &&
           type_is(l->type_unicode, type_type, l->at.unicode_basicsize) &&
           type_is(l->type_bytes, type_type, SW_PYBYTES_DATA + 1) &&
           (l->type_frame == 0 || type_is(l->type_frame, type_type, l->at.frame_basicsize));
}

int sw_pylayout_find(struct sw_pylayout *out, struct sw_text *version, struct sw_text *why)
{
    const char *(*get_version)(void);
    *out = (struct sw_pylayout){.runtime = symbol("_PyRuntime")};
    const uintptr_t get_version_at = symbol("Py_GetVersion");
    memcpy(&get_version, &get_version_at, sizeof get_version);
    if (out->runtime == 0 || get_version_at == 0) {
        sw_text_put(why, "there is no Python in this process");
        return -ENOENT;
    }
    const char *text = get_version();
    sw_text_put(version, "CPython ");
    sw_text_put_bytes(version, text, strcspn(text, " "));
#if !defined(__LP64__)
    sw_text_put(why, "stacks are only read on 64-bit machines");
    return -ENOTSUP;
#endif
    const char *other = second_runtime(out->runtime);
    if (other) {
        sw_text_printf(why, "there are two Pythons in this process, the other one is %s", other);
        return -ENOTSUP;
    }
    /* _PyRuntime is far larger than what it says of itself */
    const int rc =
        sw_pylayout_offsets(&out->at, text, (const void *)out->runtime, SW_PYDESCRIBED_BYTES_MAX, why);
    if (rc != 0)
        return rc;
    const uintptr_t type_type = symbol("PyType_Type");
    out->type_code = symbol("PyCode_Type");
    out->type_unicode = symbol("PyUnicode_Type");
    out->type_bytes = symbol("PyBytes_Type");
    out->type_frame = out->at.frame_basicsize ? symbol("PyFrame_Type") : 0;
    if (!type_type || !out->type_code || !out->type_unicode || !out->type_bytes ||
        (out->at.frame_basicsize && !out->type_frame)) {
        sw_text_put(why, "the Python in this process hides its types");
        return -ENOTSUP;
    }
    if (!types_fit(out, type_type)) {
        sw_text_put(why, "the Python in this process is built unlike the one that is known (a debug build?)");
        return -ENOTSUP;
    }
    return 0;
}
