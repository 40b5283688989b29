/* How it gets into every interpreter. uWSGI's Python plugin has an option, pymodule-alias = NAME=URL, that runs the Python
 * text found at a URL as module NAME; it does so in each interpreter, after it has put together sys.path and before it
 * loads the application. A plugin may register a scheme of URLs, a C function that returns the text. So an alias is
 * added by the Python plugin's own option function, and our scheme answers with the lines that append the folder. No
 * symbol of Python is needed, and no order of plugins. */
#include "pypath.h"

#include "log.h"
#include "text.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

#define OPTION "pymodule-alias"
#define SCHEME "slowwatch"
#define ALIAS  "_slowwatch_path=" SCHEME "://"
#define MARKER "/slowwatch/__init__.py"

static const char *const beside_plugin[] = {
    "/slowwatch_python", /* make install */
    "/python",           /* build/ */
};

static struct {
    char plugin[PATH_MAX]; /* folder of the plugin */
    char alias[sizeof ALIAS + PATH_MAX];
} path;

void sw_pypath_locate(void)
{
    Dl_info self;
    if (!dladdr(&path, &self) || !self.dli_fname || !realpath(self.dli_fname, path.plugin)) {
        path.plugin[0] = 0;
        return;
    }
    *strrchr(path.plugin, '/') = 0;
}

static bool find_package(void)
{
    for (unsigned i = 0; path.plugin[0] && i < SW_COUNT(beside_plugin); i++) {
        struct sw_text alias;
        sw_text_init(&alias, path.alias, sizeof path.alias);
        sw_text_put(&alias, ALIAS);
        sw_text_put(&alias, path.plugin);
        sw_text_put(&alias, beside_plugin[i]);
        const size_t end = alias.used;
        sw_text_put(&alias, MARKER);
        if (!alias.cut && access(path.alias + strlen(ALIAS), R_OK) == 0) {
            path.alias[end] = 0;
            return true;
        }
    }
    return false;
}

/* What our URL stands for. uWSGI ends the process when the text is missing or raises, so it must not raise. Each byte of
 * the path becomes \xNN, since a path may hold any. */
static char *python_text(char *folder, size_t *size, int add_zero)
{
    static const char before[] = "try:\n"
                                 "    import os, sys\n"
                                 "    folder = os.fsdecode(b'";
    static const char after[] = "')\n"
                                "    if folder not in sys.path:\n"
                                "        sys.path.append(folder)\n"
                                "except Exception:\n"
                                "    pass\n";
    const size_t room = sizeof before + sizeof after + strlen("\\xNN") * strlen(folder);
    char *bytes = malloc(room);
    if (!bytes)
        return NULL; /* uWSGI does not live on without memory either */
    struct sw_text text;
    sw_text_init(&text, bytes, room);
    sw_text_put(&text, before);
    for (const char *c = folder; *c; c++)
        sw_text_printf(&text, "\\x%02x", (unsigned)(unsigned char)*c);
    sw_text_put(&text, after);
    *size = text.used + (add_zero ? 1 : 0);
    return bytes;
}

static const struct uwsgi_option *find_option(const char *name)
{
    const struct uwsgi_option *o = uwsgi.options;
    while (o && o->name && strcmp(o->name, name) != 0)
        o++;
    return o && o->name ? o : NULL;
}

void sw_pypath_offer(void)
{
    const struct uwsgi_option *alias = find_option(OPTION);
    if (!alias || !alias->func)
        return; /* no Python here */
    if (!find_package()) {
        sw_log("no Python package beside the plugin in %s: applications can import slowwatch only if it is "
               "installed for their Python",
               path.plugin);
        return;
    }
    uwsgi_register_scheme(SCHEME, python_text);
    alias->func(OPTION, path.alias, alias->data);
}
