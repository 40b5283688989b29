#include "warmup.h"

#include "log.h"
#include "warmup_report.h"
#include "warmup_turn.h"
#include "warmup_why.h"
#include "watchdog.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

#define URI_CHARS      1024
#define PACKET_BYTES   (UINT16_MAX + 16)
#define NO_PLACE       (-1)
#define LOOK_NS        (100 * SW_NS_PER_MS) /* how often a worker that waits looks around */
#define WAIT_SAID_NS   SW_NS_PER_SEC        /* waits longer than this are said */
#define SAY_AGAIN_NS   (60 * SW_NS_PER_SEC)
#define LAST_FLUSH_NS  (200 * SW_NS_PER_MS)
#define FLUSH_STEP_MS  5
#define PLACE_SLACK_NS SW_NS_PER_SEC

struct work { /* large, mapped while it warms up */
    struct sw_warmup_voice voice;
    struct sw_hit_result result;
    char packet[PACKET_BYTES];
};

static struct {
    /* set-up process */
    struct sw_warmup_setup setup;
    const struct sw_warmup_plan *plan;
    struct sw_turns turns;
    char uris[SW_WARMUP_HITS_MAX][URI_CHARS]; /* redacted */
    bool ready;
    /* the watchdog reads these */
    _Atomic uint64_t hang_ns, count;
    /* this worker */
    pid_t pid;
    struct sw_warmup_worker *shared;
    struct work *work;
    struct sw_interrupter interrupter;
    int place;
    bool attempting;
    bool done[SW_WARMUP_HITS_MAX];
    unsigned hit;    /* under way */
    uint64_t hit_ns; /* since when */
    struct {         /* the last that failed */
        unsigned hit;
        int status;
        uint64_t bytes, took_ns;
    } failure;
    uint64_t since_ns;    /* the warm-up */
    uint64_t said_ns;     /* the last failure that was told; 0 = none */
    _Atomic bool leaving; /* the process is in exit() */
} warmup = {.hang_ns = SW_NS_NEVER, .place = NO_PLACE};

/* ---- set-up ---- */

static bool fits(const struct sw_warmup_hit *hit)
{
    char packet[PACKET_BYTES];
    const size_t room = sw_min_u64(sizeof packet, sizeof(struct uwsgi_header) + (uint64_t)uwsgi.buffer_size);
    if (sw_warmup_packet(warmup.plan, hit, packet, room) >= 0)
        return true;
    sw_log(
        "slowwatch-warmup %s %.*s: with its headers it is longer than buffer-size = %d, so it cannot work; "
        "raise buffer-size",
        hit->method, (int)strcspn(hit->uri, "?"), hit->uri, (int)uwsgi.buffer_size);
    return false;
}

void sw_warmup_create(const struct sw_warmup_setup *setup)
{
    warmup.setup = *setup;
    warmup.plan = &setup->config->warmup;
    if (warmup.plan->hit_count == 0)
        return;
    const int err = sw_turns_create(&warmup.turns, (unsigned)uwsgi.numproc);
    if (err < 0) {
        sw_log("no warm-up: %s", strerror(-err));
        return;
    }
    for (unsigned i = 0; i < warmup.plan->hit_count; i++) {
        const struct sw_warmup_hit *hit = &warmup.plan->hits[i];
        struct sw_text uri;
        sw_text_init(&uri, warmup.uris[i], sizeof warmup.uris[i]);
        sw_redact_uri(&setup->config->redact, hit->uri, strlen(hit->uri), &uri);
        if (!fits(hit) && setup->config->strict) {
            sw_log("slowwatch-strict is on: not starting");
            exit(1);
        }
    }
    warmup.ready = true;
}

/* ---- telling ---- */

static struct sw_warmup_story story_of(unsigned hit, unsigned attempt)
{
    const bool last = sw_warmup_gives_up(warmup.plan, attempt);
    return (struct sw_warmup_story){
        .method = warmup.plan->hits[hit].method,
        .uri = warmup.uris[hit],
        .attempt = attempt,
        .pause_ns = last ? SW_NS_NEVER : sw_warmup_pause_ns(attempt),
        .since_ns = warmup.since_ns,
    };
}

/* One that is retried for ever is told with each of the first attempts, then once a minute. */
static bool is_time_to_say(unsigned attempt)
{
    return attempt <= SW_WARMUP_ATTEMPTS || warmup.said_ns == 0 ||
           sw_now_ns() >= warmup.said_ns + SAY_AGAIN_NS;
}

static void flush(struct sw_emitter *em)
{
    const uint64_t until_ns = sw_now_ns() + LAST_FLUSH_NS;
    while (!sw_emitter_flush(em) && sw_now_ns() < until_ns)
        poll(NULL, 0, FLUSH_STEP_MS);
    sw_emitter_give_up(em);
}

/* ---- a request that takes too long: the guard's thread ---- */

static void interrupt(void)
{
    if (!atomic_load(&warmup.leaving))
        sw_interrupter_fire(&warmup.interrupter);
}

/* An attempt is counted as failed while it is under way, and forgotten when it is cut short because the worker is to
 * leave. */
static void end_attempt(bool counts)
{
    if (!warmup.attempting)
        return;
    warmup.attempting = false;
    if (!counts) {
        atomic_fetch_sub(&warmup.shared->failed, 1);
        atomic_store(&warmup.shared->hit, 0);
    }
    sw_turn_give(&warmup.turns, warmup.place, warmup.pid);
    warmup.place = NO_PLACE;
}

static void tell_stuck(enum sw_warmup_outcome outcome)
{
    const struct sw_warmup_story story = story_of(warmup.hit, atomic_load(&warmup.shared->failed));
    const struct sw_hit_result so_far = {.took_ns = sw_now_ns() - warmup.hit_ns};
    sw_warmup_tell(&warmup.work->voice, &story, outcome, &so_far);
    warmup.said_ns = sw_now_ns();
}

/* The main thread is stuck in the request: what it owns may be used here. */
static void replace(void)
{
    const bool asked = sw_why_asked_to_leave();
    if (atomic_load(&warmup.leaving))
        return; /* exit() is under way */
    if (!asked && !uwsgi.master_process) {
        if (sw_now_ns() >= warmup.said_ns + SAY_AGAIN_NS)
            tell_stuck(SW_WARMUP_WEDGED);
        return;
    }
    if (!asked) {
        tell_stuck(SW_WARMUP_STUCK);
        atomic_store(&warmup.shared->hit, 0); /* it is told */
    }
    end_attempt(!asked);
    sw_why_leaving(warmup.shared, !asked);
    sw_watchdog_stop(); /* ends the report of the request */
    flush(&warmup.work->voice.emitter);
    /* To the quiet code the master adds no words of its own. */
    _exit(asked ? UWSGI_RELOAD_CODE : UWSGI_QUIET_CODE);
}

/* ---- an attempt ---- */

static bool run_hit(unsigned i, unsigned attempt, bool say)
{
    static const struct sw_guard_hooks hooks = {sw_why_asked_to_leave, interrupt, replace};
    struct work *work = warmup.work;
    struct sw_hit_result *r = &work->result;
    const struct sw_warmup_hit *hit = &warmup.plan->hits[i];
    warmup.hit = i;
    warmup.hit_ns = sw_now_ns();
    atomic_store(&warmup.shared->hit, i + 1);
    sw_arena_init(&work->voice.arena, work->voice.arena_bytes, sizeof work->voice.arena_bytes);
    const ssize_t n = sw_warmup_packet(warmup.plan, hit, work->packet, sizeof work->packet);
    const int err =
        n < 0 ? (int)n
              : sw_hit_run(work->packet, (size_t)n, warmup.plan->timeout_ns, &hooks, r, &work->voice.arena);
    atomic_store(&warmup.shared->hit, 0);
    atomic_fetch_add(&warmup.count, 1);
    if (err < 0) {
        *r = (struct sw_hit_result){.took_ns = sw_now_ns() - warmup.hit_ns};
        snprintf(r->exception.words, sizeof r->exception.words, "the request could not be sent: %s",
                 strerrordesc_np(-err));
    }
    if (r->interrupted)
        sw_interrupter_settle(&warmup.interrupter);
    if (r->interrupted && !r->timed_out)
        return false; /* the worker is asked to leave */
    const enum sw_warmup_outcome outcome = sw_warmup_outcome(r);
    const bool done = outcome == SW_WARMUP_OK || outcome == SW_WARMUP_REDIRECTED;
    const struct sw_warmup_story story = story_of(i, attempt);
    if (done || say)
        sw_warmup_tell(&work->voice, &story, outcome, r);
    if (!done) {
        warmup.failure.hit = i;
        warmup.failure.status = r->status;
        warmup.failure.bytes = r->bytes;
        warmup.failure.took_ns = r->took_ns;
    }
    return done;
}

/* Each request that has not worked yet, once. True when all have. */
static bool run_attempt(unsigned attempt)
{
    const bool say = is_time_to_say(attempt);
    bool all = true;
    for (unsigned i = 0; i < warmup.plan->hit_count; i++) {
        if (!warmup.done[i] && !sw_why_asked_to_leave())
            warmup.done[i] = run_hit(i, attempt, say);
        all = all && warmup.done[i];
    }
    if (!all && say)
        warmup.said_ns = sw_now_ns();
    return all;
}

/* ---- waiting ---- */

/* False: asked to leave. */
static bool wait_until(uint64_t until_ns)
{
    for (;;) {
        const uint64_t left_ns = sw_sub_floor(until_ns, sw_now_ns());
        if (sw_why_asked_to_leave())
            return false;
        if (left_ns == 0)
            return true;
        poll(NULL, 0, (int)(sw_min_u64(left_ns, LOOK_NS) / SW_NS_PER_MS) + 1);
    }
}

/* The longest that a worker can keep a place, if it is not stopped. */
static uint64_t longest_attempt_ns(void)
{
    const uint64_t hit_ns = sw_add_sat(warmup.plan->timeout_ns, SW_GUARD_PATIENCE_NS + PLACE_SLACK_NS);
    return hit_ns > SW_NS_NEVER / SW_WARMUP_HITS_MAX ? SW_NS_NEVER : hit_ns * warmup.plan->hit_count;
}

static void say_waited(uint64_t waited_ns)
{
    char text[32];
    struct sw_text waited;
    if (waited_ns < WAIT_SAID_NS)
        return;
    sw_text_init(&waited, text, sizeof text);
    sw_text_put_seconds(&waited, waited_ns / SW_NS_PER_MS);
    sw_log("worker %d (pid %d) waited %s for others to warm up (slowwatch-warmup-parallel = %u)%s",
           uwsgi.mywid, (int)warmup.pid, text, warmup.plan->parallel,
           warmup.place < 0 ? " and goes ahead without its turn" : "");
}

/* Waits as long as others come and go; one that keeps its place for longer than it can need does not hold us up. */
static void take_place(void)
{
    const uint64_t begin_ns = sw_now_ns();
    uint32_t given = sw_turns_given(&warmup.turns);
    uint64_t until_ns = sw_add_sat(begin_ns, longest_attempt_ns());
    while (!sw_why_asked_to_leave()) {
        warmup.place = sw_turn_take(&warmup.turns, warmup.plan->parallel, warmup.pid);
        if (warmup.place >= 0 || sw_now_ns() >= until_ns)
            break;
        sw_turns_wait(&warmup.turns, given, sw_now_ns() + LOOK_NS);
        if (sw_turns_given(&warmup.turns) != given) {
            given = sw_turns_given(&warmup.turns);
            until_ns = sw_add_sat(sw_now_ns(), longest_attempt_ns());
        }
    }
    say_waited(sw_now_ns() - begin_ns);
}

/* ---- a new worker ---- */

static void give_up(unsigned failed)
{
    const struct sw_warmup_story story = story_of(warmup.failure.hit, failed);
    const struct sw_hit_result last = {
        .status = warmup.failure.status, .bytes = warmup.failure.bytes, .took_ns = warmup.failure.took_ns};
    sw_warmup_tell(&warmup.work->voice, &story, SW_WARMUP_GAVE_UP, &last);
    atomic_store(&warmup.shared->failed, 0); /* its next process tries again */
}

static void warm_up(void)
{
    while (!sw_why_asked_to_leave()) {
        const unsigned failed = atomic_load(&warmup.shared->failed);
        if (sw_warmup_gives_up(warmup.plan, failed)) {
            give_up(failed);
            return;
        }
        if (!wait_until(sw_now_ns() + sw_warmup_pause_ns(failed)))
            return;
        take_place();
        atomic_fetch_add(&warmup.shared->failed, 1);
        warmup.attempting = true;
        const bool warm = run_attempt(failed + 1);
        end_attempt(warm || !sw_why_asked_to_leave());
        if (warm) {
            atomic_store(&warmup.shared->failed, 0);
            return;
        }
    }
}

/* The last process of this worker died in a request: it could not tell. */
static void tell_death(void)
{
    const uint32_t hit = atomic_exchange(&warmup.shared->hit, 0);
    if (hit == 0 || hit > warmup.plan->hit_count)
        return;
    const struct sw_warmup_story story = story_of(hit - 1, atomic_load(&warmup.shared->failed));
    sw_warmup_tell(&warmup.work->voice, &story, SW_WARMUP_DIED, &(struct sw_hit_result){0});
    warmup.failure.hit = hit - 1;
}

static bool begin(void)
{
    struct sw_slot *slot = sw_shared_slot(warmup.setup.shared, (unsigned)uwsgi.mywid - 1);
    struct work *work =
        mmap(NULL, sizeof *work, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (work == MAP_FAILED || !slot) {
        sw_log("worker %d accepts requests without a warm-up: no memory", uwsgi.mywid);
        return false;
    }
    warmup.pid = getpid();
    warmup.shared = &warmup.turns.worker[uwsgi.mywid - 1];
    warmup.work = work;
    warmup.since_ns = sw_now_ns();
    work->voice.worker = uwsgi.mywid;
    work->voice.plan = warmup.plan;
    work->voice.why = sw_why_started(warmup.shared);
    sw_emitter_init(&work->voice.emitter, warmup.setup.channel, &slot->dropped, NULL, warmup.setup.host,
                    warmup.setup.config->log);
    sw_interrupter_arm(&warmup.interrupter);
    sw_hit_begin();
    atomic_store(&warmup.hang_ns, warmup.plan->timeout_ns / 2);
    sw_slot_wake(slot); /* the watchdog may sleep longer than that */
    return true;
}

static void end(void)
{
    struct work *work = warmup.work;
    atomic_store(&warmup.hang_ns, SW_NS_NEVER);
    sw_hit_finish();
    sw_interrupter_disarm(&warmup.interrupter);
    flush(&work->voice.emitter);
    if (work->voice.emitter.source)
        sw_source_free(work->voice.emitter.source);
    warmup.work = NULL;
    munmap(work, sizeof *work);
}

void sw_warmup_worker(void)
{
    if (!warmup.ready || uwsgi.mywid < 1 || !begin())
        return;
    tell_death();
    warm_up();
    end();
    if (sw_why_asked_to_leave())
        exit(UWSGI_RELOAD_CODE); /* as uWSGI does with a worker that serves nobody */
}

void sw_warmup_leave(void)
{
    if (!warmup.ready || warmup.pid != getpid())
        return;
    atomic_store(&warmup.leaving, true);
    end_attempt(!sw_why_asked_to_leave());
    sw_why_leaving(warmup.shared, false);
}

/* ---- the watchdog ---- */

uint64_t sw_warmup_hang_ns(void)
{
    return atomic_load(&warmup.hang_ns);
}

uint64_t sw_warmup_count(void)
{
    return atomic_load(&warmup.count);
}
