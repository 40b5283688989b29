/* What keeps a warm-up from reaching the application. */
#include "doctor.h"

#include "doctor_route.h"
#include <string.h>

static void check_hit(struct sw_doctor *d, const struct sw_warmup_hit *hit)
{
    const struct sw_given_option *route = NULL;
    switch (sw_route_hit(d->host, &d->config->warmup, hit, &route)) {
    case SW_ROUTED_ANSWERED:
        sw_doctor_found(
            d, SW_FOUND_WARMUP_ANSWERED,
            "slowwatch-warmup %s %s does not reach the application: %s = %s answers it; put a route with "
            "last: for its path before, or give it the host or header that is asked for",
            hit->method, hit->uri, route->name, route->value);
        return;
    case SW_ROUTED_PERHAPS:
        sw_doctor_found(
            d, SW_FOUND_WARMUP_PERHAPS,
            "%s = %s may answer slowwatch-warmup %s %s in place of the application; the status in the "
            "log will tell",
            route->name, route->value, hit->method, hit->uri);
        return;
    case SW_ROUTED_THROUGH:
        return;
    }
}

static void check_useless(struct sw_doctor *d)
{
    static const char first[] = "slowwatch-warmup-";
    char names[SW_CONFIG_LINE_MAX];
    struct sw_text useless;
    sw_text_init(&useless, names, sizeof names);
    for (unsigned i = 0; i < sw_option_count; i++) {
        const char *name = sw_options[i].name;
        if (strncmp(name, first, strlen(first)) != 0 || !sw_config_is_given(d->config, name))
            continue;
        sw_text_put(&useless, useless.used > 0 ? ", " : "");
        sw_text_put(&useless, name);
    }
    if (useless.used > 0)
        sw_doctor_found(
            d, SW_FOUND_WARMUP_UNUSED,
            "no slowwatch-warmup: no request is sent, so these have no effect: %s; give it a path", names);
}

void sw_doctor_examine_warmup(struct sw_doctor *d)
{
    const struct sw_warmup_plan *plan = &d->config->warmup;
    if (plan->hit_count == 0) {
        check_useless(d);
        return;
    }
    for (unsigned i = 0; i < plan->hit_count; i++)
        check_hit(d, &plan->hits[i]);
    if (!d->host->lazy_apps)
        sw_doctor_found(d, SW_FOUND_WARMUP_AFTER_FORK,
                        "without lazy-apps the application is imported once, before the workers are forked: "
                        "slowwatch-warmup warms what is left, like connections and caches of each worker");
}
