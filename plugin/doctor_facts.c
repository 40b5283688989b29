#include "doctor_facts.h"

#include "log.h"
#include <stdlib.h>
#include <string.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

/* Before uWSGI has made the alarms there are only the options, "alarm = NAME ACTION". */
static bool is_alarm(const char *name)
{
    if (!name)
        return false;
    for (const struct uwsgi_alarm_instance *a = uwsgi.alarm_instances; a; a = a->next)
        if (strcmp(a->name, name) == 0)
            return true;
    const size_t n = strlen(name);
    for (const struct uwsgi_string_list *a = uwsgi.alarm_instances ? NULL : uwsgi.alarm_list; a; a = a->next)
        if (strncmp(a->value, name, n) == 0 && a->value[n] == ' ')
            return true;
    return false;
}

static struct sw_given_option *given_options(unsigned *count)
{
    struct sw_given_option *given =
        uwsgi.exported_opts_cnt > 0 ? calloc((size_t)uwsgi.exported_opts_cnt, sizeof *given) : NULL;
    *count = given ? (unsigned)uwsgi.exported_opts_cnt : 0;
    for (unsigned i = 0; i < *count; i++) {
        const struct uwsgi_opt *o = uwsgi.exported_opts[i];
        given[i] = (struct sw_given_option){o->key, o->value, o->configured != 0};
    }
    return given;
}

/* From 2.0.27 on they always are. */
static bool threads_enabled(void)
{
#if UWSGI_VERSION_BASE > 2 || UWSGI_VERSION_MAJOR > 0 || UWSGI_VERSION_MINOR >= 27
    return true;
#else
    return uwsgi.has_threads || uwsgi.threads > 1;
#endif
}

static bool is_set(const struct sw_host_facts *facts, const char *name)
{
    const char *value = sw_host_given(facts, name);
    return value && atoi(value) != 0;
}

void sw_host_facts_gather(struct sw_host_facts *facts, const struct sw_config *c)
{
    facts->master = uwsgi.master_process != 0;
    facts->threads_enabled = threads_enabled();
    facts->need_app = uwsgi.need_app != 0;
    facts->lazy_apps = uwsgi.lazy_apps || uwsgi.lazy;
    facts->alarm_known = is_alarm(c->alarm);
    facts->log_bytes = uwsgi.log_master ? uwsgi.log_master_bufsize : 0;
    facts->workers = uwsgi.numproc;
    facts->threads = uwsgi.threads;
    facts->harakiri_ns = (uint64_t)uwsgi.harakiri_options.workers * SW_NS_PER_SEC;
    facts->mercy_ns = (uint64_t)uwsgi.worker_reload_mercy * SW_NS_PER_SEC;
    facts->given = given_options(&facts->given_count);
    sw_recycle_read(&facts->recycle, c->recycle_spread_percent);
    facts->recycle.own_requests = is_set(facts, "max-requests-delta");
    facts->recycle.own_lifetime = is_set(facts, "max-worker-lifetime-delta");
}

void sw_host_facts_free(struct sw_host_facts *facts)
{
    free((void *)facts->given);
    facts->given = NULL;
    facts->given_count = 0;
}

/* getopt takes the beginning of a name for the name when there is only one. */
static bool begins_an_option(const char *name, size_t n)
{
    for (unsigned i = 0; i < sw_option_count; i++)
        if (strncmp(sw_options[i].name, name, n) == 0)
            return true;
    return false;
}

void sw_host_hint_arguments(void)
{
    for (int i = 1; i < uwsgi.argc; i++) {
        const char *argument = uwsgi.argv[i], *name = argument + strspn(argument, "-");
        const size_t n = strcspn(name, "=");
        if (strncmp(argument, "--slowwatch-", strlen("--slowwatch-")) != 0 || begins_an_option(name, n))
            continue;
        const char *meant = sw_doctor_meant(name);
        if (meant)
            sw_log("--%.*s is not an option of this version: did you mean --%s?", (int)n, name, meant);
    }
}
