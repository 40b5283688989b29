#include "warmup_why.h"

#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

enum sw_warmup_left { /* 0: the last process could not say, it was killed or crashed */
                      LEFT_SILENT,
                      LEFT_MAX_REQUESTS,
                      LEFT_LIFETIME,
                      LEFT_MEMORY,
                      LEFT_RELOAD,
                      LEFT_CHEAPER,
                      LEFT_EXITED,
                      LEFT_HUNG,
                      LEFT_KINDS
};

static const char *const words[LEFT_KINDS] = {
    [LEFT_SILENT] = "killed or crashed",
    [LEFT_MAX_REQUESTS] = "max-requests",
    [LEFT_LIFETIME] = "max-worker-lifetime",
    [LEFT_MEMORY] = "memory limit",
    [LEFT_RELOAD] = "reload",
    [LEFT_CHEAPER] = "cheaper",
    [LEFT_EXITED] = "exited",
    [LEFT_HUNG] = "its warm-up hung",
};

static struct uwsgi_worker *me(void)
{
    return &uwsgi.workers[uwsgi.mywid];
}

const char *sw_why_started(struct sw_warmup_worker *shared)
{
    const uint32_t left = atomic_exchange(&shared->left, LEFT_SILENT);
    const uint64_t harakiris = me()->harakiri_count;
    const bool harakiri = atomic_exchange(&shared->harakiris, harakiris) != harakiris;
    if (me()->respawn_count <= 1)
        return uwsgi.is_a_reload ? words[LEFT_RELOAD] : "first start";
    return harakiri ? "harakiri" : words[left < LEFT_KINDS ? left : LEFT_SILENT];
}

static enum sw_warmup_left reason(void)
{
    const struct uwsgi_worker *w = me();
    if (w->cheaped)
        return LEFT_CHEAPER;
    if (w->manage_next_request)
        return LEFT_EXITED;
    if (w->cursed_at == 0)
        return LEFT_LIFETIME; /* the only way out for which the master does not curse it */
    if (uwsgi.max_requests > 0 && w->delta_requests >= uwsgi.max_requests)
        return LEFT_MAX_REQUESTS;
    if ((uwsgi.reload_on_rss && w->rss_size >= uwsgi.reload_on_rss) ||
        (uwsgi.reload_on_as && w->vsz_size >= uwsgi.reload_on_as))
        return LEFT_MEMORY;
    return LEFT_RELOAD;
}

void sw_why_leaving(struct sw_warmup_worker *shared, bool hung)
{
    atomic_store(&shared->left, hung ? LEFT_HUNG : reason());
}

bool sw_why_asked_to_leave(void)
{
    const struct uwsgi_worker *w = me();
    return !__atomic_load_n(&w->manage_next_request, __ATOMIC_RELAXED) ||
           __atomic_load_n(&w->cursed_at, __ATOMIC_RELAXED) != 0 ||
           __atomic_load_n(&w->cheaped, __ATOMIC_RELAXED) != 0;
}
