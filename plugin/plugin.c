/* plugin.c - struct uwsgi_plugin: uWSGI's callbacks handed to the modules, and nothing else.
 * See docs/internals.md for which process calls what, and when. */
#include "channel.h"
#include "check.h"
#include "config.h"
#include "config_value.h"
#include "doctor_facts.h"
#include "identity.h"
#include "log.h"
#include "master.h"
#include "metrics.h"
#include "pypath.h"
#include "pystack.h"
#include "shared.h"
#include "uwsgi_identity.h"
#include "warmup.h"
#include "watchdog.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;
extern struct uwsgi_plugin slowwatch_plugin;

#define ROUTE_VARIABLE "addvar:SLOWWATCH_THRESHOLD="

static struct uwsgi_option options[SW_OPTIONS_MAX + 1]; /* ends with a zeroed one */

static struct {
    struct sw_shared shared;
    struct sw_channel channel;
    struct sw_watchdog_setup watchdog;
    struct sw_recycle recycle;
    bool ready;
    char python_version[64], python_why[256];
} plugin;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the format is the administrator's */
/* The date as uwsgi_log would put it (log-date). uwsgi_log itself drops what a full log pipe does not take, and tears
 * lines whose length with the date is just over its buffer. */
static size_t host_date(char *to, size_t room)
{
    struct tm tm;
    const time_t now = time(NULL);
    if (!uwsgi.logdate || !localtime_r(&now, &tm))
        return 0;
    const size_t n =
        strftime(to, room - 3, uwsgi.log_strftime ? uwsgi.log_strftime : "%a %b %e %H:%M:%S %Y", &tm);
    memcpy(to + n, " - ", 3);
    return n + 3;
}

#pragma GCC diagnostic pop

static void say(const char *line)
{
    sw_log("%s", line);
}

static void attach_python(struct sw_host_facts *facts);

/* ---- options ---- */

static void set_option(char *name, char *value, void *data)
{
    (void)data;
    char bytes[SW_CONFIG_LINE_MAX];
    struct sw_text why;
    sw_text_init(&why, bytes, sizeof bytes);
    if (sw_config_set(&sw_config, name, value, &why) < 0) {
        sw_log("%s", bytes);
        exit(1);
    }
    if (sw_config.check)
        sw_check_arrange(attach_python);
}

/* uWSGI reads the table right after loading the plugin, before any callback. */
__attribute__((constructor)) static void make_options(void)
{
    char bytes[SW_CONFIG_LINE_MAX];
    struct sw_text why;
    sw_text_init(&why, bytes, sizeof bytes);
    if (sw_config_init(&sw_config, &why) < 0)
        fprintf(stderr, "slowwatch: %s\n", bytes);
    for (unsigned i = 0; i < sw_option_count; i++)
        options[i] = (struct uwsgi_option){
            .name = (char *)sw_options[i].name,
            .type = sw_options[i].type == SW_OPT_BOOL ? optional_argument : required_argument,
            .help = (char *)sw_options[i].help,
            .func = set_option,
        };
}

/* ---- set-up process ---- */

/* uWSGI checks no ABI: with another build every field of its structs may lie elsewhere, so nothing of it may be
 * touched before this. */
static void check_identity(void)
{
    char *dot_h = uwsgi_get_dot_h(), *cflags = uwsgi_get_cflags();
    const bool same = dot_h && cflags && sw_identity_of(dot_h, cflags) == SW_UWSGI_IDENTITY;
    free(dot_h);
    free(cflags);
    if (same)
        return;
    fprintf(stderr,
            "slowwatch: this plugin was built for another uWSGI (%s); rebuild it for this one with "
            "`make UWSGI=/path/to/this/uwsgi`\n",
            SW_UWSGI_VERSION);
    exit(1);
}

static void on_load(void)
{
    check_identity();
    sw_log_set_prefix(host_date);
    sw_host_hint_arguments();
    sw_pypath_locate();
}

static void attach_python(struct sw_host_facts *facts)
{
    struct sw_text version, why;
    sw_text_init(&version, plugin.python_version, sizeof plugin.python_version);
    sw_text_init(&why, plugin.python_why, sizeof plugin.python_why);
    struct sw_pystack *py = NULL;
    const int err = sw_pystack_attach(&py, &version, &why);
    facts->python = err != -ENOENT;
    facts->python_version = version.used ? plugin.python_version : NULL;
    if (err == 0 && sw_pystack_open(py, SW_PYMEM_MEMFD) < 0) {
        sw_text_put(&why, "no way to read memory works here");
    } else if (err == 0) {
        plugin.watchdog.backend = sw_pystack_mem(py)->backend;
        facts->mem_backend = sw_pymem_backend_name(plugin.watchdog.backend);
        /* slowwatch-check ends before any interpreter runs */
        if (sw_config.check || sw_pystack_self_check(py, &why) == 0)
            plugin.watchdog.py = py;
        /* Workers open their own: a memfd mapped here would be shared by all of them. */
        sw_pystack_close(py);
    }
    if (!plugin.watchdog.py) {
        facts->python_why = plugin.python_why;
        plugin.watchdog.no_stack = plugin.python_why;
        sw_pystack_detach(py);
    }
}

/* The shortest threshold that can apply: an idle worker looks this often. A route may set its own (addvar). */
static uint64_t least_threshold(void)
{
    uint64_t least_ns = sw_config_least_threshold_ns(&sw_config);
    for (int i = 0; i < uwsgi.exported_opts_cnt; i++) {
        const struct uwsgi_opt *opt = uwsgi.exported_opts[i];
        const char *at = opt->value && strstr(opt->key, "route") ? strstr(opt->value, ROUTE_VARIABLE) : NULL;
        uint64_t ns = 0;
        if (!at)
            continue;
        at += strlen(ROUTE_VARIABLE);
        if (sw_value_seconds(at, strcspn(at, " \t"), &ns) == 0 && ns > 0)
            least_ns = sw_min_u64(least_ns, ns);
    }
    return least_ns;
}

static void check_configuration(struct sw_host_facts *facts)
{
    const struct sw_diagnosis found = sw_doctor_examine(&sw_config, facts, say);
    char bytes[SW_CONFIG_SUMMARY_MAX];
    struct sw_text summary;
    sw_text_init(&summary, bytes, sizeof bytes);
    sw_config_summary(&sw_config, facts, &summary);
    sw_log("%s", bytes);
    if (sw_config.strict && found.conflicts > 0) {
        sw_log("%u conflict%s and slowwatch-strict is on: not starting", found.conflicts,
               found.conflicts == 1 ? "" : "s");
        exit(1);
    }
}

static void post_init(void)
{
    struct sw_host_facts facts = {0};
    if (uwsgi.log_master)
        sw_log_set_write_max(uwsgi.log_master_bufsize);
    sw_pypath_offer();
    if (uwsgi.numproc < 1)
        return;
    sw_host_facts_gather(&facts, &sw_config);
    attach_python(&facts);
    check_configuration(&facts);
    sw_host_facts_free(&facts);
    plugin.recycle = facts.recycle;
    sw_recycle_in_master(&plugin.recycle);

    int err = sw_shared_create(&plugin.shared, (unsigned)uwsgi.numproc, (unsigned)uwsgi.cores);
    if (err == 0 && facts.master)
        err = sw_channel_open(&plugin.channel);
    if (err < 0) {
        sw_log("off: %s", strerror(-err));
        return;
    }
    sw_config.mail.host = uwsgi.hostname;
    plugin.watchdog.config = &sw_config;
    plugin.watchdog.shared = &plugin.shared;
    plugin.watchdog.channel = facts.master ? &plugin.channel : NULL;
    plugin.watchdog.host = uwsgi.hostname;
    plugin.watchdog.least_threshold_ns = least_threshold();
    if (facts.master)
        sw_master_init(
            &(struct sw_master_setup){&sw_config, &plugin.shared, &plugin.channel, uwsgi.hostname});
    sw_metrics_register(&plugin.shared);
    sw_warmup_create(
        &(struct sw_warmup_setup){&sw_config, &plugin.shared, plugin.watchdog.channel, uwsgi.hostname});
    plugin.ready = true;
}

/* ---- workers ---- */

static void post_fork(void)
{
    if (!plugin.ready || uwsgi.mywid < 1 || uwsgi.muleid || uwsgi.i_am_a_spooler)
        return;
    sw_recycle_in_worker(&plugin.recycle, (unsigned)uwsgi.mywid);
    const int err = sw_watchdog_start(&plugin.watchdog);
    if (err < 0)
        sw_log("worker %d runs without a watchdog: %s", uwsgi.mywid, strerror(-err));
}

static void leave(void)
{
    sw_warmup_leave();
    sw_watchdog_stop();
}

/* ---- master ---- */

static void master_cycle(void)
{
    if (plugin.ready)
        sw_master_cycle();
}

static void on_harakiri(int worker)
{
    if (plugin.ready)
        sw_master_harakiri(worker);
}

static void master_cleanup(void)
{
    if (plugin.ready)
        sw_master_cleanup();
}

__attribute__((visibility("default"))) struct uwsgi_plugin slowwatch_plugin = {
    .name = "slowwatch",
    .options = options,
    .on_load = on_load,
    .post_init = post_init,
    .post_fork = post_fork,
    .hijack_worker = sw_warmup_worker,
    .atexit = leave,
    .master_cycle = master_cycle,
    .harakiri = on_harakiri,
    .master_cleanup = master_cleanup,
};
