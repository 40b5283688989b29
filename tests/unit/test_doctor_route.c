/* doctor_route.h: which routes let a warm-up request through, with the words of uWSGI's own options. */
#include "doctor_route.h"
#include "unit.h"

#include <string.h>

#define ROUTES_MAX 4

struct scene {
    const char *routes[ROUTES_MAX]; /* "name = value" */
    const char *hit, *host, *header;
    enum sw_routed outcome;
    unsigned decided_by; /* index of the route, unless routed through */
};

static void outcome_is(const struct scene *s)
{
    char names[ROUTES_MAX][32];
    struct sw_given_option given[ROUTES_MAX];
    struct sw_host_facts host = {.given = given};
    struct sw_warmup_plan plan = {.host = "localhost"};
    const struct sw_given_option *route = NULL;
    for (unsigned i = 0; i < ROUTES_MAX && s->routes[i]; i++) {
        const size_t n = strcspn(s->routes[i], " ");
        memcpy(names[i], s->routes[i], n);
        names[i][n] = 0;
        given[host.given_count++] =
            (struct sw_given_option){names[i], s->routes[i] + n + strlen(" = "), true};
    }
    assert_null(sw_warmup_add_hit(&plan, s->hit));
    assert_null(s->host ? sw_warmup_set_host(&plan, s->host) : NULL);
    assert_null(s->header ? sw_warmup_add_header(&plan, s->header) : NULL);
    assert_int_equal(sw_route_hit(&host, &plan, &plan.hits[0], &route), s->outcome);
    if (s->outcome != SW_ROUTED_THROUGH)
        assert_ptr_equal(route, &given[s->decided_by]);
}

#define THROUGH  SW_ROUTED_THROUGH, 0
#define PERHAPS  SW_ROUTED_PERHAPS
#define ANSWERED SW_ROUTED_ANSWERED

static void regular_expressions(void **state)
{
    static const struct scene scenes[] = {
        {{NULL}, "/", NULL, NULL, THROUGH},
        {{"route-run = redirect:/new"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route = ^/old redirect:/new"}, "/old/1", NULL, NULL, ANSWERED, 0},
        {{"route = ^/old redirect:/new"}, "/", NULL, NULL, THROUGH},
        {{"route = ^/old redirect-permanent:/new", "route = ^/o break:404"}, "/o", NULL, NULL, ANSWERED, 1},
        /* the path is decoded and has no query, the URI is as written */
        {{"route = ^/a\\?b$ redirect:/"}, "/a?b", NULL, NULL, THROUGH},
        {{"route-uri = ^/a\\?b$ redirect:/"}, "/a?b", NULL, NULL, ANSWERED, 0},
        {{"route = ^/aAb$ redirect-302:/"}, "/a%41b", NULL, NULL, ANSWERED, 0},
        {{"route-uri = ^/aAb$ redirect:/"}, "/a%41b", NULL, NULL, THROUGH},
        {{"route-qs = ^b=1 return:400"}, "/?b=1", NULL, NULL, ANSWERED, 0},
        {{"route-host = ^(?!www) redirect-301:http://www.e.org"}, "/", "e.org", NULL, ANSWERED, 0},
        {{"route-host = ^(?!www) redirect-301:http://www.e.org"}, "/", "www.e.org:80", NULL, THROUGH},
        {{"route-remote-addr = ^127\\. break:403"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route-user-agent = slowwatch redirect:/"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route-user-agent = slowwatch redirect:/"}, "/", NULL, "User-Agent: curl", THROUGH},
        {{"route-referer = ^http redirect:/"}, "/", NULL, "Referer: http://e.org/", ANSWERED, 0},
        {{"route-remote-user = ^$ break:401"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route = ( redirect:/"}, "/", NULL, NULL, PERHAPS, 0},
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(scenes); i++)
        outcome_is(&scenes[i]);
}

static void conditions(void **state)
{
    static const char *const https = "X-Forwarded-Proto: https";
    const struct scene scenes[] = {
        {{"route-if-not = equal:${HTTPS};on redirect:https://e.org"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route-if = equal:${HTTPS};on redirect:https://e.org"}, "/", NULL, NULL, THROUGH},
        {{"route-if = equal:${HTTPS}; redirect:https://e.org"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route-if-not = eq:${HTTP_X_FORWARDED_PROTO};https redirect:/"}, "/", NULL, https, THROUGH},
        {{"route-if-not = ==:${HTTP_X_FORWARDED_PROTO};http redirect:/"}, "/", NULL, https, ANSWERED, 0},
        {{"route-if = isequal:http://${HTTP_HOST}${PATH_INFO};http://e.org/a redirect:/"},
         "/a",
         "e.org",
         NULL,
         ANSWERED,
         0},
        {{"route-if = empty:${HTTPS} redirect:/"}, "/", NULL, NULL, ANSWERED, 0},
        {{"route-if = empty:${HTTP_HOST} redirect:/"}, "/", NULL, NULL, THROUGH},
        {{"route-if = startswith:${REQUEST_URI};/a redirect:/"}, "/ab", NULL, NULL, ANSWERED, 0},
        {{"route-if = startswith:${REQUEST_URI};/a redirect:/"}, "/b", NULL, NULL, THROUGH},
        {{"route-if = endswith:${REQUEST_URI};b redirect:/"}, "/ab", NULL, NULL, ANSWERED, 0},
        {{"route-if = endswith:${REQUEST_URI};a redirect:/"}, "/ab", NULL, NULL, THROUGH},
        {{"route-if = endswith:${REQUEST_URI};a-longer-one redirect:/"}, "/ab", NULL, NULL, THROUGH},
        {{"route-if = contains:${HTTP_HOST};e.o redirect:/"}, "/", "e.org", NULL, ANSWERED, 0},
        {{"route-if = contain:${HTTP_HOST};x redirect:/"}, "/", "e.org", NULL, THROUGH},
        {{"route-if = regexp:${REQUEST_METHOD};^(GET|HEAD)$ redirect:/"}, "HEAD /", NULL, NULL, ANSWERED, 0},
        {{"route-if-not = re:${REQUEST_METHOD};^(GET|HEAD)$ redirect:/"}, "HEAD /", NULL, NULL, THROUGH},
        /* what cannot be told before the request */
        {{"route-if = exists:/run/maintenance break:503"}, "/", NULL, NULL, PERHAPS, 0},
        {{"route-if-not = exists:/run/up break:503"}, "/", NULL, NULL, PERHAPS, 0},
        {{"route-if = ishigher:${time[unix]};5 redirect:/"}, "/", NULL, NULL, PERHAPS, 0},
        {{"route-if = equal:${time[unix]};5 redirect:/"}, "/", NULL, NULL, PERHAPS, 0},
        {{"route-if = equal:$1;5 redirect:/"}, "/", NULL, NULL, PERHAPS, 0},
        {{"route-if = equal:${HTTPS redirect:/"}, "/", NULL, NULL, PERHAPS, 0},
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(scenes); i++)
        outcome_is(&scenes[i]);
}

static void order_and_effects(void **state)
{
    static const struct scene scenes[] = {
        /* what comes first decides */
        {{"route = ^/health$ last:", "route-run = redirect:/"}, "/health", NULL, NULL, THROUGH},
        {{"route = ^/health$ continue:", "route-run = redirect:/"}, "/health", NULL, NULL, THROUGH},
        {{"route-run = redirect:/", "route = ^/health$ last:"}, "/health", NULL, NULL, ANSWERED, 0},
        {{"route = ^/other$ last:", "route-run = redirect:/"}, "/health", NULL, NULL, ANSWERED, 1},
        /* these change nothing */
        {{"route-run = log:seen", "route-run = addheader:X: y", "route-run = redirect:/"},
         "/",
         NULL,
         NULL,
         ANSWERED,
         2},
        /* and these may change everything */
        {{"route-run = goto:end", "route-run = redirect:/"}, "/", NULL, NULL, PERHAPS, 1},
        {{"route-run = rewrite:/new", "route = ^/ redirect:/"}, "/", NULL, NULL, PERHAPS, 1},
        {{"route-run = addvar:HTTPS=on", "route-if-not = equal:${HTTPS};on redirect:/"},
         "/",
         NULL,
         NULL,
         PERHAPS,
         1},
        {{"route = ^/other goto:end", "route-run = redirect:/"}, "/", NULL, NULL, ANSWERED, 1},
        {{"route-if = exists:/x last:", "route-run = redirect:/"}, "/", NULL, NULL, PERHAPS, 1},
        {{"route-run = goto:end", "route-run = last:", "route-run = redirect:/"},
         "/",
         NULL,
         NULL,
         PERHAPS,
         2},
        {{"route-run = static:/srv/index.html"}, "/", NULL, NULL, THROUGH},
        /* those of other moments, and what is no route */
        {{"final-route = ^/ redirect:/", "response-route = ^/ redirect:/"}, "/", NULL, NULL, THROUGH},
        {{"route-label = redirect:", "router-list = x", "routers = redirect:/"}, "/", NULL, NULL, THROUGH},
        {{"route-run = redirecting:/", "route-run = break"}, "/", NULL, NULL, PERHAPS, 1},
    };
    (void)state;
    for (size_t i = 0; i < SW_COUNT(scenes); i++)
        outcome_is(&scenes[i]);
}

static void options_that_uwsgi_does_not_know(void **state)
{
    const struct sw_given_option given[] = {{"route-run", "redirect:/", false}, {"route", NULL, true}};
    const struct sw_host_facts host = {.given = given, .given_count = SW_COUNT(given)};
    struct sw_warmup_plan plan = {.host = "localhost"};
    const struct sw_given_option *route = NULL;
    (void)state;
    assert_null(sw_warmup_add_hit(&plan, "/"));
    assert_int_equal(sw_route_hit(&host, &plan, &plan.hits[0], &route), SW_ROUTED_THROUGH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_expressions),
        cmocka_unit_test(conditions),
        cmocka_unit_test(order_and_effects),
        cmocka_unit_test(options_that_uwsgi_does_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
