/* The line that says what is on. */
#include "config_value.h"
#include "doctor.h"

static void put_watching(const struct sw_config *c, struct sw_text *out)
{
    char text[SW_SECONDS_CHARS_MAX];
    if (c->threshold_ns > 0)
        sw_text_printf(out, "watching requests over %s s", sw_value_seconds_text(text, c->threshold_ns));
    else if (sw_config_least_threshold_ns(c) != SW_NS_NEVER)
        sw_text_put(out, "watching some requests only");
    else
        sw_text_put(out, "watching no request without SLOWWATCH_THRESHOLD");
    for (unsigned i = 0; i < c->threshold_count; i++) {
        const struct sw_threshold *t = &c->thresholds[i];
        sw_text_put(out, i == 0 ? " (" : ", ");
        if (t->ns > 0)
            sw_text_printf(out, "%s s for %s", sw_value_seconds_text(text, t->ns), t->pattern);
        else
            sw_text_printf(out, "not %s", t->pattern);
    }
    sw_text_put(out, c->threshold_count > 0 ? ")" : "");
}

static void put_mail(const struct sw_mail_config *mail, struct sw_text *out)
{
    static const char *const tls[] = {
        [SW_TLS_OPTIONAL] = "", [SW_TLS_OFF] = " without TLS", [SW_TLS_REQUIRED] = " with TLS"};
    if (mail->to_count == 0) {
        sw_text_put(out, ", mail off");
        return;
    }
    for (unsigned i = 0; i < mail->to_count; i++)
        sw_text_printf(out, "%s%s", i == 0 ? ", mail to " : ", ", mail->to[i]);
    sw_text_printf(out, " via %s%s", mail->server, tls[mail->tls]);
    if (mail->user)
        sw_text_printf(out, " as %s", mail->user);
    if (mail->spool_dir)
        sw_text_printf(out, ", spool %s", mail->spool_dir);
}

static void put_warmup(const struct sw_warmup_plan *plan, struct sw_text *out)
{
    if (plan->hit_count > 0)
        sw_text_printf(out, ", warm-up with %u request%s%s", plan->hit_count, plan->hit_count == 1 ? "" : "s",
                       plan->required ? " that must succeed" : "");
}

static void put_range(struct sw_text *out, const char *name, const struct sw_recycle_range *range,
                      const char *unit)
{
    if (range->most != range->least)
        sw_text_printf(out, ", %s %llu to %llu%s", name, (unsigned long long)range->least,
                       (unsigned long long)range->most, unit);
}

/* what slowwatch-recycle-spread comes to */
static void put_recycling(const struct sw_recycle *r, struct sw_text *out)
{
    const struct sw_recycle_range requests = sw_recycle_requests(r), young = sw_recycle_min_lifetime_s(r),
                                  old = sw_recycle_max_lifetime_s(r);
    put_range(out, "max-requests", &requests, "");
    put_range(out, "min-worker-lifetime", &young, " s");
    put_range(out, "max-worker-lifetime", &old, " s");
}

void sw_config_summary(const struct sw_config *c, const struct sw_host_facts *host, struct sw_text *out)
{
    static const char *const log[] = {[SW_LOG_TEXT] = "text", [SW_LOG_JSON] = "json", [SW_LOG_OFF] = "off"};
    char text[SW_SECONDS_CHARS_MAX];
    put_watching(c, out);
    if (host->harakiri_ns > 0)
        sw_text_printf(out, ", harakiri %s s", sw_value_seconds_text(text, host->harakiri_ns));
    else
        sw_text_put(out, ", no harakiri");
    if (sw_host_has_stacks(host))
        sw_text_printf(out, ", stacks of %s by %s", host->python_version ? host->python_version : "Python",
                       host->mem_backend);
    else
        sw_text_put(out, ", no stacks");
    put_warmup(&c->warmup, out);
    put_recycling(&host->recycle, out);
    sw_text_printf(out, ", log %s", log[c->log]);
    put_mail(&c->mail, out);
    if (c->alarm)
        sw_text_printf(out, ", alarm %s", c->alarm);
}
