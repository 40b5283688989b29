/* doctor_route.h - does uWSGI's internal routing let a warm-up request through to the application?
 * Owns nothing, holds no state: set-up process, before any fork.
 * The routes are followed in their order, as uWSGI does, with the variables that the request will have. What cannot be
 * told here (a goto, a rewritten path, a condition about files or time) makes the answer uncertain, never wrong. */
#ifndef SW_DOCTOR_ROUTE_H
#define SW_DOCTOR_ROUTE_H

#include "doctor.h"

enum sw_routed {
    SW_ROUTED_THROUGH,  /* to the application */
    SW_ROUTED_PERHAPS,  /* a route may answer it */
    SW_ROUTED_ANSWERED, /* a route answers it: redirect, break, return */
};

/* `route` = the one that answers, when it is not routed through. */
enum sw_routed sw_route_hit(const struct sw_host_facts *host, const struct sw_warmup_plan *plan,
                            const struct sw_warmup_hit *hit, const struct sw_given_option **route);

#endif
