#include "metrics.h"

#include "shared.h"
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

#define EVERY_SECONDS 1

static const struct sw_shared *shared;

static const struct {
    const char *name;
    size_t offset; /* of the word in struct sw_slot */
} metrics[] = {
    {"slowwatch.slow_requests", offsetof(struct sw_slot, counts.slow_requests)},
    {"slowwatch.killed_requests", offsetof(struct sw_slot, counts.killed_requests)},
    {"slowwatch.timeouts", offsetof(struct sw_slot, counts.timeouts)},
    {"slowwatch.lost_events", offsetof(struct sw_slot, dropped)},
};

static int64_t sum_of_workers(struct uwsgi_metric *metric)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < shared->workers; i++) {
        const char *slot = (const char *)sw_shared_slot(shared, i);
        sum += atomic_load((const _Atomic uint64_t *)(const void *)(slot + (size_t)metric->custom));
    }
    return (int64_t)sum;
}

void sw_metrics_register(const struct sw_shared *s)
{
    static char collector[] = "slowwatch"; /* uWSGI keeps the pointer */
    if (!uwsgi.has_metrics)
        return;
    shared = s;
    uwsgi_register_metric_collector(collector, sum_of_workers);
    for (unsigned i = 0; i < SW_COUNT(metrics); i++)
        uwsgi_register_metric((char *)metrics[i].name, NULL, UWSGI_METRIC_COUNTER, collector, NULL,
                              EVERY_SECONDS, (void *)metrics[i].offset);
}
