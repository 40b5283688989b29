#include "watch.h"

#include "describe.h"
#include "hook.h"
#include "warmup.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

/* A body that uWSGI buffers before it calls the application takes long only when it is large. */
#define LARGE_BODY_BYTES ((uint64_t)1024 * 1024)
/* A variable of a request may shorten the idle looks of this worker, but not to hundreds a second. */
#define LEARNED_THRESHOLD_LEAST_NS (100 * SW_NS_PER_MS)

static struct uwsgi_core *host_core(unsigned core)
{
    return &uwsgi.workers[uwsgi.mywid].cores[core];
}

static pthread_t thread_of(const struct sw_watch *w, unsigned core)
{
    return uwsgi.threads > 1 && host_core(core)->thread_id ? host_core(core)->thread_id : w->main_thread;
}

/* With threads those of the cores but the first are started later, and are unknown until then. */
static bool has_thread(unsigned core)
{
    return uwsgi.threads <= 1 || core == 0 || host_core(core)->thread_id;
}

int sw_watch_core_of(const struct sw_watch *w, pthread_t thread)
{
    for (unsigned i = 0; i < w->core_count; i++)
        if (has_thread(i) && pthread_equal(thread_of(w, i), thread))
            return (int)i;
    return -1;
}

/* uWSGI makes the thread states of all cores for a further mounted application in one thread and keeps them here. */
static uintptr_t thread_state_of(unsigned core)
{
    void **states = host_core(core)->ts;
    const int app = __atomic_load_n(&host_core(core)->req.app_id, __ATOMIC_RELAXED);
    if (uwsgi.threads <= 1 || !states || app < 0 || app >= uwsgi.max_apps)
        return 0;
    return (uintptr_t)states[app];
}

static struct sw_report *report_of(const struct sw_watch *w, unsigned core)
{
    return sw_shared_report(w->setup.shared, (unsigned)w->worker - 1, core);
}

/* The request that was looked at is still there: what was read in between is of this request. */
static bool still_there(const struct sw_core *c, unsigned core)
{
    struct sw_peek peek;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    sw_request_peek(host_core(core), &peek);
    return peek.running && sw_identity_same(c->track.who, peek.who);
}

static uint64_t cpu_of(struct sw_watch *w, struct sw_core *c, unsigned core)
{
    if (c->tid == 0 && has_thread(core))
        c->tid = pthread_equal(thread_of(w, core), w->main_thread) ? w->pid
                                                                   : sw_eye_tid(&w->eye, thread_of(w, core));
    return c->tid ? sw_waitstate_cpu_ns(c->tid) : 0;
}

static void begin(struct sw_watch *w, struct sw_core *c, unsigned core, const struct sw_peek *peek,
                  struct sw_moment now)
{
    sw_track_begin(&c->track, peek->who, c->previous_look, now);
    c->ended = false;
    c->status = 0;
    /* No other request ended since the core was seen idle: all CPU time of the thread since then is this one's. */
    if (c->idle_cpu_ns > 0 && c->idle_requests == peek->who.requests + sw_warmup_count()) {
        c->seen_ns = c->track.start_ns;
        c->seen_cpu_ns = c->idle_cpu_ns;
    } else {
        c->seen_ns = now.ns;
        c->seen_cpu_ns = cpu_of(w, c, core);
    }
}

static void find_threshold(struct sw_watch *w, struct sw_core *c, unsigned core, const struct sw_peek *peek,
                           uint64_t now_ns)
{
    if (sw_request_copy(host_core(core), c->track.who, &w->raw) < 0)
        return; /* gone: the next look sees it */
    const uint64_t hang_ns = sw_warmup_hang_ns();
    if (hang_ns != SW_NS_NEVER) { /* a request of the warm-up: only one that hangs is reported */
        sw_track_set_threshold(&c->track, hang_ns, true, now_ns);
        return;
    }
    const uint64_t threshold_ns =
        sw_config_threshold(w->setup.config, w->raw.uri, sw_request_path_bytes(&w->raw), w->raw.threshold.at,
                            w->raw.threshold.bytes);
    /* A variable may ask for less than any option: from now on idle looks are as frequent. */
    if (threshold_ns > 0)
        w->least_threshold_ns =
            sw_min_u64(w->least_threshold_ns, sw_max_u64(threshold_ns, LEARNED_THRESHOLD_LEAST_NS));
    const bool from_start = uwsgi.post_buffering == 0 || peek->body_bytes < LARGE_BODY_BYTES;
    sw_track_set_threshold(&c->track, threshold_ns, from_start, now_ns);
}

/* Where the kernel hides the system call (after a change of uid) the client's descriptor itself is asked: a sleeping
 * thread whose client does not send the rest of its body, or does not read, is taken to wait for it. */
static enum sw_phase guess_client_phase(const struct sw_peek *peek, const struct sw_waitstate *wait)
{
    struct pollfd client = {.fd = peek->fd, .events = POLLIN | POLLOUT};
    if (wait->state != 'S' || poll(&client, 1, 0) < 0)
        return peek->phase;
    if (peek->body_missing && !(client.revents & POLLIN))
        return SW_PHASE_UPLOAD;
    return peek->status && !(client.revents & POLLOUT) ? SW_PHASE_STREAMING : peek->phase;
}

/* An application that waits for its own client does not run: the kernel says on which descriptor it waits. */
static enum sw_phase client_phase(const struct sw_peek *peek, const struct sw_waitstate *wait)
{
    if (peek->phase != SW_PHASE_APPLICATION)
        return peek->phase;
    if (!wait->known_syscall)
        return guess_client_phase(peek, wait);
    if (wait->fd < 0 || wait->fd != peek->fd)
        return peek->phase;
    if (wait->fd_read && peek->body_missing)
        return SW_PHASE_UPLOAD;
    return wait->fd_write ? SW_PHASE_STREAMING : peek->phase;
}

/* ---- a look ---- */

static void add_cpu(const struct sw_core *c, const struct sw_waitstate *wait, struct sw_event *e,
                    uint64_t now_ns)
{
    e->thread.cpu_ms = sw_sub_floor(wait->cpu_ns, c->seen_cpu_ns) / SW_NS_PER_MS;
    e->thread.cpu_window_ms = sw_sub_floor(now_ns, c->seen_ns) / SW_NS_PER_MS;
}

/* What is seen of a thread now, into the event; true when the kernel said something of it. */
static bool look_at(struct sw_watch *w, pthread_t thread, uintptr_t state, pid_t tid, bool with_threads)
{
    /* While the main thread leaves it waits for us: the kernel would show that, not the request. */
    const bool known = !w->leaving && sw_eye_wait(&w->eye, tid, &w->wait);
    sw_eye_look(&w->eye, thread, state, known ? &w->wait : NULL, with_threads, &w->arena, &w->event);
    return known;
}

void sw_watch_look(struct sw_watch *w, pthread_t thread, int core)
{
    struct sw_event *e = &w->event;
    e->tid = pthread_equal(thread, w->main_thread) ? w->pid : sw_eye_tid(&w->eye, thread);
    look_at(w, thread, core >= 0 ? thread_state_of((unsigned)core) : 0, e->tid, false);
}

/* The same of a request; false when it could not be told whose it is. */
static bool look(struct sw_watch *w, struct sw_core *c, unsigned core, bool with_threads, uint64_t now_ns)
{
    struct sw_event *e = &w->event;
    sw_arena_reset(&w->arena);
    memset(e, 0, sizeof *e);
    const bool known = look_at(w, thread_of(w, core), thread_state_of(core), c->tid, with_threads);
    if (known && !w->eye.shared_thread) /* else it is the CPU time of all requests on the thread */
        add_cpu(c, &w->wait, e, now_ns);
    return still_there(c, core);
}

/* The look that is in the event, into the report. */
static void add_look(struct sw_watch *w, struct sw_core *c, unsigned core, enum sw_phase phase,
                     uint64_t now_ns)
{
    struct sw_report_data *d = &report_of(w, core)->data;
    const struct sw_frame *place = w->event.has_stack ? sw_stack_place(&w->event.stack) : NULL;
    d->elapsed_ns = sw_track_app_ns(&c->track, now_ns);
    d->phase = (int)phase;
    d->status = c->status;
    sw_report_add_look(d, place ? place->file : NULL, place ? place->function : NULL,
                       place ? place->line : 0);
}

static void emit(struct sw_watch *w, unsigned core, enum sw_event_kind kind)
{
    struct sw_event *e = &w->event;
    sw_report_snapshot(report_of(w, core), &w->snapshot);
    sw_report_to_event(&w->snapshot, e, &w->arena);
    e->kind = kind;
    if (!sw_event_is_end(kind))
        sw_describe_harakiri(e);
    sw_emit(&w->emitter, e, &w->arena);
}

/* ---- the steps of a slow request ---- */

static void open_report(struct sw_watch *w, struct sw_core *c, unsigned core, const struct sw_peek *peek,
                        enum sw_phase phase, uint64_t now_ns)
{
    if (!look(w, c, core, true, now_ns) || sw_request_copy(host_core(core), c->track.who, &w->raw) < 0)
        return; /* it ended while it was looked at */
    struct sw_report *r = report_of(w, core);
    struct sw_report_data *d = &r->data;
    d->looks = d->other_looks = d->place_count = 0;
    sw_report_new_id(d->id);
    d->pid = w->pid;
    d->tid = c->tid;
    d->worker = w->worker;
    d->core = (int)core;
    d->start_ns = c->track.start_ns;
    d->threshold_ns = c->track.threshold_ns;
    sw_describe_request(&w->raw, peek, &w->setup.config->redact, &d->request);
    add_look(w, c, core, phase, now_ns);
    sw_report_open(r, w->pid);
    sw_hook_in(w->setup.shared, (unsigned)w->worker - 1);
    sw_track_slow(&c->track);
    sw_sampler_start(&w->sampler, now_ns);
    emit(w, core, SW_EVENT_SLOW_REQUEST);
}

/* One more look at a slow request; false when it ended meanwhile. */
static bool sample(struct sw_watch *w, struct sw_core *c, unsigned core, const struct sw_peek *peek,
                   uint64_t now_ns)
{
    if (!look(w, c, core, false, now_ns))
        return false;
    const enum sw_phase phase = w->event.thread.state ? client_phase(peek, &w->wait) : peek->phase;
    sw_track_phase(&c->track, phase, now_ns);
    add_look(w, c, core, phase, now_ns);
    return true;
}

/* elapsed: since the request began, whatever it waited for */
static void end_report(struct sw_watch *w, struct sw_core *c, unsigned core, enum sw_event_kind kind,
                       const char *reason, uint64_t end_ns)
{
    struct sw_report *r = report_of(w, core);
    c->ended = true;
    sw_hook_out();
    if (!sw_report_claim(r, w->pid, false))
        return; /* the master was faster */
    r->data.elapsed_ns = sw_sub_floor(end_ns, c->track.start_ns);
    w->event.reason = reason;
    emit(w, core, kind);
    /* Until the event is on its way the report stays in ENDING: if we are killed now, the master ends it. */
    if (sw_emitter_holds_ends(&w->emitter))
        c->unfreed = true;
    else
        sw_report_free(r);
}

void sw_watch_free_sent(struct sw_watch *w)
{
    if (sw_emitter_holds_ends(&w->emitter))
        return;
    for (unsigned i = 0; i < w->core_count; i++) {
        if (w->cores[i].unfreed)
            sw_report_free(report_of(w, i));
        w->cores[i].unfreed = false;
    }
}

static void forget_look(struct sw_watch *w)
{
    sw_arena_reset(&w->arena);
    memset(&w->event, 0, sizeof w->event);
}

static void finished(struct sw_watch *w, struct sw_core *c, unsigned core, uint64_t now_ns)
{
    struct sw_report *r = report_of(w, core);
    const uint64_t ended_ns = atomic_load(&r->ended_ns);
    if (ended_ns)
        r->data.status = atomic_load(&r->ended_status);
    forget_look(w);
    end_report(w, c, core, SW_EVENT_REQUEST_FINISHED, NULL, ended_ns ? ended_ns : now_ns);
}

/* The phase as far as it can be told: between application and client the kernel's word decides, asked for only when
 * it matters. */
static enum sw_phase refine_phase(struct sw_watch *w, struct sw_core *c, const struct sw_peek *peek,
                                  uint64_t now_ns)
{
    const bool matters = peek->phase == SW_PHASE_APPLICATION && c->track.threshold_known &&
                         (c->track.app_since_ns == SW_NS_NEVER || sw_track_due(&c->track, now_ns));
    return matters && sw_eye_wait(&w->eye, c->tid, &w->wait) ? client_phase(peek, &w->wait) : peek->phase;
}

static void look_at_slow(struct sw_watch *w, struct sw_core *c, unsigned core, const struct sw_peek *peek,
                         bool sampling, uint64_t now_ns)
{
    if (atomic_load(&report_of(w, core)->ended_ns))
        finished(w, c, core, now_ns); /* its hook has run; uWSGI is about to clear the core */
    else if (sampling && sample(w, c, core, peek, now_ns) && sw_track_sampled(&c->track, now_ns))
        emit(w, core, SW_EVENT_SLOW_REQUEST_UPDATE);
}

struct sw_moment sw_watch_now(void)
{
    return (struct sw_moment){sw_now_ns(), uwsgi_micros()};
}

uint64_t sw_watch_core(struct sw_watch *w, unsigned core, bool sampling)
{
    const struct sw_moment now = sw_watch_now();
    const uint64_t now_ns = now.ns;
    struct sw_core *c = &w->cores[core];
    struct sw_peek peek;
    sw_request_peek(host_core(core), &peek);

    if (c->track.known && !(peek.running && sw_identity_same(c->track.who, peek.who))) {
        if (c->track.slow && !c->ended)
            finished(w, c, core, now_ns);
        c->track.known = false;
    }
    if (peek.running && !c->track.known)
        begin(w, c, core, &peek, now);
    c->previous_look = now;
    if (!peek.running) {
        c->idle_cpu_ns = w->eye.shared_thread ? 0 : cpu_of(w, c, core);
        c->idle_requests = peek.who.requests + sw_warmup_count();
        return SW_NS_NEVER;
    }
    if (c->ended)
        return SW_NS_NEVER;

    if (peek.status)
        c->status = peek.status;
    if (c->track.slow) {
        look_at_slow(w, c, core, &peek, sampling, now_ns);
    } else {
        const enum sw_phase phase = refine_phase(w, c, &peek, now_ns);
        sw_track_phase(&c->track, phase, now_ns);
        if (phase == SW_PHASE_APPLICATION && !c->track.threshold_known)
            find_threshold(w, c, core, &peek, now_ns);
        if (sw_track_due(&c->track, now_ns) && !c->unfreed)
            open_report(w, c, core, &peek, phase, now_ns);
    }
    const uint64_t least_ns = sw_min_u64(w->least_threshold_ns, sw_warmup_hang_ns());
    return c->ended ? SW_NS_NEVER : sw_track_next_ns(&c->track, now_ns, least_ns);
}

/* ---- the end of the worker ---- */

/* The running request that began first, if it may be reported at all. */
static int oldest_watched(const struct sw_watch *w)
{
    int oldest = -1;
    for (unsigned i = 0; i < w->core_count; i++) {
        const struct sw_core *c = &w->cores[i];
        if (!c->track.known || c->ended || !c->track.threshold_known || c->track.threshold_ns == 0)
            continue;
        if (oldest < 0 || c->track.start_ns < w->cores[oldest].track.start_ns)
            oldest = (int)i;
    }
    return oldest;
}

void sw_watch_harakiri(struct sw_watch *w, bool final)
{
    for (unsigned i = 0; i < w->core_count; i++)
        sw_watch_core(w, i, false); /* see who is there now; what is due is opened */
    const uint64_t now_ns = sw_now_ns();
    const int oldest = sw_hook_count() == 0 ? oldest_watched(w) : -1;
    if (oldest >= 0) {
        struct sw_peek peek;
        sw_request_peek(host_core((unsigned)oldest), &peek);
        open_report(w, &w->cores[oldest], (unsigned)oldest, &peek, peek.phase, now_ns);
    }
    for (unsigned i = 0; i < w->core_count; i++) {
        struct sw_core *c = &w->cores[i];
        struct sw_peek peek;
        if (!c->track.known || !c->track.slow || c->ended)
            continue;
        sw_request_peek(host_core(i), &peek);
        if (!sample(w, c, i, &peek, now_ns))
            continue;
        if (final)
            end_report(w, c, i, SW_EVENT_REQUEST_KILLED, "harakiri", sw_now_ns());
        else
            emit(w, i, SW_EVENT_SLOW_REQUEST_UPDATE);
    }
}

void sw_watch_leave(struct sw_watch *w, const char *reason)
{
    for (unsigned i = 0; i < w->core_count; i++) {
        struct sw_core *c = &w->cores[i];
        sw_watch_core(w, i, false); /* what has finished, ends as finished */
        if (!c->track.known || !c->track.slow || c->ended)
            continue;
        forget_look(w);
        end_report(w, c, i, SW_EVENT_WORKER_DIED, reason, sw_now_ns());
    }
}
