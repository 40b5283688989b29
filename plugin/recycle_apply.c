#include "recycle.h"

#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

void sw_recycle_read(struct sw_recycle *r, unsigned percent)
{
    /* Without a master a worker that recycles ends the server: nobody asked for that any earlier. */
    r->percent = uwsgi.master_process ? percent : 0;
    r->workers = uwsgi.numproc > 0 ? (unsigned)uwsgi.numproc : 0;
    r->max_requests = uwsgi.max_requests;
    r->min_lifetime_s = uwsgi.min_worker_lifetime;
    r->max_lifetime_s = uwsgi.max_worker_lifetime;
}

/* The master compares a worker's age with max_worker_lifetime + (worker - 1) * max_worker_lifetime_delta, in unsigned
 * arithmetic: a delta that wraps around is a negative one, and each worker has less than the one before it. */
void sw_recycle_in_master(const struct sw_recycle *r)
{
    if (!r->own_lifetime)
        uwsgi.max_worker_lifetime_delta = 0 - sw_recycle_step_s(r);
}

/* A worker looks at these itself, after each request. Under load all workers are past max-requests when they reach
 * min-worker-lifetime, and would leave in the same second: so that has its share taken off too. */
void sw_recycle_in_worker(const struct sw_recycle *r, unsigned worker)
{
    if (r->max_requests == 0 || r->own_requests)
        return;
    uwsgi.max_requests = sw_recycle_limit(r->max_requests, r->percent, worker, r->workers);
    uwsgi.min_worker_lifetime = sw_recycle_limit(r->min_lifetime_s, r->percent, worker, r->workers);
}
