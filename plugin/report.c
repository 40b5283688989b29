#include "report.h"

#include "schedule.h"

#include <string.h>
#include <sys/random.h>

void sw_report_new_id(char id[SW_EVENT_ID_CHARS + 1])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[SW_EVENT_ID_CHARS / 2];
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes) {
        /* No entropy yet, or the call is forbidden: time and address still tell requests apart. */
        const uint64_t words[2] = {sw_wall_us(), sw_now_ns() ^ (uintptr_t)id};
        memcpy(bytes, words, sizeof bytes);
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = hex[bytes[i] >> 4];
        id[2 * i + 1] = hex[bytes[i] & 15];
    }
    id[SW_EVENT_ID_CHARS] = 0;
}

void sw_report_open(struct sw_report *r, pid_t me)
{
    atomic_store(&r->ended_ns, 0);
    atomic_store(&r->ended_status, 0);
    atomic_store(&r->hook_start_us, r->data.request.started_us);
    atomic_store(&r->owner, me);
    atomic_store(&r->state, SW_REPORT_OPEN);
}

static void copy_name(char *to, size_t room, const char *from)
{
    struct sw_text t;
    sw_text_init(&t, to, room);
    sw_text_put(&t, from);
}

void sw_report_add_look(struct sw_report_data *d, const char *file, const char *function, int line)
{
    d->looks++;
    if (!file) {
        d->other_looks++;
        return;
    }
    for (unsigned i = 0; i < d->place_count; i++) {
        struct sw_report_place *p = &d->places[i];
        if (p->line == line && strncmp(p->file, file, sizeof p->file - 1) == 0 &&
            strncmp(p->function, function, sizeof p->function - 1) == 0) {
            p->looks++;
            return;
        }
    }
    if (d->place_count == SW_TIMELINE_MAX) {
        d->other_looks++;
        return;
    }
    struct sw_report_place *p = &d->places[d->place_count++];
    copy_name(p->file, sizeof p->file, file);
    copy_name(p->function, sizeof p->function, function);
    p->line = line;
    p->looks = 1;
}

bool sw_report_request_ended(struct sw_report *r, uint64_t start_us, int status, uint64_t now_ns)
{
    if (start_us == 0 || atomic_load(&r->hook_start_us) != start_us)
        return false;
    atomic_store(&r->ended_status, status);
    atomic_store(&r->ended_ns, now_ns);
    return true;
}

bool sw_report_claim(struct sw_report *r, pid_t me, bool owner_is_dead)
{
    uint32_t open = SW_REPORT_OPEN, ending = SW_REPORT_ENDING;
    bool mine = atomic_compare_exchange_strong(&r->state, &open, SW_REPORT_ENDING);
    if (!mine && owner_is_dead && atomic_load(&r->owner) != me)
        mine = atomic_compare_exchange_strong(&r->state, &ending, SW_REPORT_ENDING);
    if (mine)
        atomic_store(&r->owner, me);
    return mine;
}

void sw_report_free(struct sw_report *r)
{
    atomic_store(&r->hook_start_us, 0);
    atomic_store(&r->state, SW_REPORT_FREE);
}

#define TERMINATE(array) ((array)[sizeof(array) - 1] = 0)

void sw_report_snapshot(const struct sw_report *r, struct sw_report_data *out)
{
    memcpy(out, &r->data, sizeof *out);
    TERMINATE(out->id);
    TERMINATE(out->request.method);
    TERMINATE(out->request.uri);
    TERMINATE(out->request.host);
    TERMINATE(out->request.remote_addr);
    TERMINATE(out->request.user_agent);
    TERMINATE(out->request.request_id);
    TERMINATE(out->request.traceparent);
    TERMINATE(out->request.app);
    if (out->place_count > SW_TIMELINE_MAX)
        out->place_count = SW_TIMELINE_MAX;
    for (unsigned i = 0; i < out->place_count; i++) {
        TERMINATE(out->places[i].file);
        TERMINATE(out->places[i].function);
    }
}

static const char *text_or_null(const char *s)
{
    return s[0] ? s : NULL;
}

static void timeline_to_event(const struct sw_report_data *d, struct sw_event *e, struct sw_arena *arena)
{
    struct sw_timeline_place *to = sw_arena_alloc(arena, d->place_count * sizeof *to);
    if (!to)
        return;
    for (unsigned i = 0; i < d->place_count; i++) { /* insertion sort, most looks first */
        const struct sw_report_place *from = &d->places[i];
        unsigned at = i;
        for (; at > 0 && to[at - 1].looks < from->looks; at--)
            to[at] = to[at - 1];
        to[at] = (struct sw_timeline_place){from->file, from->function, from->line, from->looks};
    }
    e->timeline = to;
    e->timeline_count = d->place_count;
}

void sw_report_request_to_event(const struct sw_report_request *r, struct sw_event *e)
{
    e->app = text_or_null(r->app);
    e->request = (struct sw_event_request){
        .method = text_or_null(r->method),
        .uri = text_or_null(r->uri),
        .host = text_or_null(r->host),
        .remote_addr = text_or_null(r->remote_addr),
        .user_agent = text_or_null(r->user_agent),
        .request_id = text_or_null(r->request_id),
        .traceparent = text_or_null(r->traceparent),
        .started_us = r->started_us,
        .body_bytes = r->body_bytes,
    };
}

void sw_report_to_event(const struct sw_report_data *d, struct sw_event *e, struct sw_arena *arena)
{
    e->id = d->id;
    e->worker = d->worker;
    e->core = d->core;
    e->pid = d->pid;
    e->tid = d->tid;
    e->elapsed_ms = d->elapsed_ns / SW_NS_PER_MS;
    e->threshold_ms = d->threshold_ns / SW_NS_PER_MS;
    e->looks = d->looks;
    e->other_looks = d->other_looks;
    sw_report_request_to_event(&d->request, e);
    e->request.phase = sw_phase_name((enum sw_phase)d->phase);
    e->request.status = d->status;
    timeline_to_event(d, e, arena);
}
