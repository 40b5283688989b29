/* Threads that enter and leave blocks whose time ends within microseconds of them, with the timer thread and a posting
 * thread at work: whatever the race, nothing is handed out, posted or kicked for a block that was left.
 * `gil` stands for Python's: whoever posts holds it, and so does a thread that is posted to, but while it works. */
#include "unit.h"

#include "deadlines.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define SIGNALLED     2
#define POSTED_TO     2
#define WORKERS       (SIGNALLED + POSTED_TO)
#define ROUNDS        30000          /* of each worker; each opens up to DEPTH blocks */
#define ENOUGH        (ROUNDS / 100) /* of each outcome, else the races did not happen */
#define DEPTH         3
#define LONGEST_NS    60000 /* of a limit, and of the work in a block */
#define LEAD_NS       20000
#define SHORT_THREADS 300
#define STATES        (SW_DEADLINE_OVERTAKEN + 1)

struct worker;

struct block {
    struct sw_deadline d;
    struct worker *worker;
    bool open; /* written by its worker; by one that is posted to with the gil held */
};

struct worker {
    struct sw_strand strand;
    struct block blocks[DEPTH];
    struct sw_deadline *mailbox; /* the asynchronous exception that is set; guarded by the gil */
    bool posted_to;
    uint32_t shields;
    unsigned seed, left[STATES];
    atomic_uint kicks;
};

static struct worker workers[WORKERS];
static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local volatile sig_atomic_t signalled;
static int posted_group;
static atomic_int failed_line;

#define must(condition)                                                                                      \
    do {                                                                                                     \
        int none_ = 0;                                                                                       \
        if (!(condition))                                                                                    \
            atomic_compare_exchange_strong(&failed_line, &none_, __LINE__);                                  \
    } while (0)

static void on_signal(int signum)
{
    (void)signum;
    signalled = 1;
}

static bool kick_with_signal(const struct sw_strand *s)
{
    return world_kick(s) && pthread_kill(s->thread, SIGRTMIN) == 0;
}

static uint64_t random_ns(struct worker *w)
{
    return (uint64_t)rand_r(&w->seed) % LONGEST_NS;
}

/* ---- a worker ---- */

static void take_gil(const struct worker *w)
{
    if (w->posted_to)
        pthread_mutex_lock(&gil);
}

static void release_gil(const struct worker *w)
{
    if (w->posted_to)
        pthread_mutex_unlock(&gil);
}

static void was_raised(const struct worker *w, const struct sw_deadline *d)
{
    const struct block *b = d->owner;
    must(b->open && b->worker == w);
    must(d->state == SW_DEADLINE_RAISED);
    must(sw_deadline_clock_ns() >= d->at_ns);
    must(d->shields == w->strand.shields);
}

/* What an interpreter does between two bytecodes. */
static void look(struct worker *w)
{
    if (w->mailbox) {
        struct sw_deadline *d = w->mailbox;
        w->mailbox = NULL;
        must(sw_strand_posted(&w->strand) == d);
        sw_deadline_settle(d, true);
        was_raised(w, d);
    }
    if (signalled) {
        signalled = 0;
        const struct sw_deadline *d = sw_strand_take(&w->strand);
        if (d)
            was_raised(w, d);
    }
}

/* Before it leaves a block or enters a shield. */
static void withdraw(struct worker *w)
{
    struct sw_deadline *d = sw_strand_posted(&w->strand);
    must(d == w->mailbox);
    w->mailbox = NULL;
    if (d)
        sw_deadline_settle(d, false);
}

static void open_block(struct worker *w, struct block *b)
{
    b->worker = w;
    b->d.owner = b;
    must(sw_deadline_enter(&b->d, &w->strand, sw_deadline_clock_ns(), random_ns(w)) == 0);
    b->open = true;
    if (rand_r(&w->seed) % 8 == 0) {
        withdraw(w);
        sw_strand_shield(&w->strand);
        w->shields++;
    }
}

static void leave_block(struct worker *w, struct block *b)
{
    withdraw(w);
    if (w->posted_to && rand_r(&w->seed) % 4 == 0) { /* as another timer would */
        if (sw_deadline_take(&b->d, sw_deadline_clock_ns()))
            was_raised(w, &b->d);
    }
    const enum sw_deadline_state state = sw_deadline_leave(&b->d);
    b->open = false;
    must(state != SW_DEADLINE_CLOSED && state != SW_DEADLINE_POSTED);
    w->left[state]++;
    const struct sw_deadline *d = sw_strand_take(&w->strand);
    if (d)
        was_raised(w, d);
    while (w->shields > 0 && rand_r(&w->seed) % 2) {
        w->shields--;
        sw_strand_unshield(&w->strand);
    }
}

static void run_round(struct worker *w)
{
    const int depth = 1 + rand_r(&w->seed) % DEPTH;
    take_gil(w);
    for (int i = 0; i < depth; i++)
        open_block(w, &w->blocks[i]);
    release_gil(w);
    const uint64_t end_ns = sw_deadline_clock_ns() + random_ns(w);
    do {
        take_gil(w);
        look(w);
        release_gil(w);
    } while (sw_deadline_clock_ns() < end_ns);
    take_gil(w);
    for (int i = depth; i-- > 0;)
        leave_block(w, &w->blocks[i]);
    for (; w->shields > 0; w->shields--)
        sw_strand_unshield(&w->strand);
    must(!w->strand.innermost && !w->mailbox && !sw_strand_take(&w->strand));
    release_gil(w);
}

static void *work(void *worker)
{
    struct worker *w = worker;
    sw_strand_init(&w->strand, w->posted_to ? SW_WAY_POST : SW_WAY_SIGNAL,
                   w->posted_to ? (void *)&posted_group : (void *)&w->kicks);
    for (int i = 0; i < ROUNDS && !atomic_load(&failed_line); i++) {
        run_round(w);
        if (i % 1000 == 0)
            must(broken() == 0);
    }
    sw_strand_fini(&w->strand);
    return NULL;
}

/* ---- who posts ---- */

static void post(struct sw_deadline *d, uint64_t now)
{
    const struct block *b = d->owner;
    must(b->open && sw_deadline_clock_ns() >= d->at_ns);
    if (d->state == SW_DEADLINE_POSTED) { /* the worker did not look for a second, or an outer one is due */
        must(b->worker->mailbox == d);
        b->worker->mailbox = NULL;
        sw_deadline_settle(d, false);
        return;
    }
    must(!b->worker->mailbox);
    must(sw_deadline_post(d, now));
    b->worker->mailbox = d;
}

static void *post_all(void *count)
{
    uint64_t at_ns;
    struct sw_deadline *d;
    while (sw_deadline_await(&posted_group, &never, &at_ns)) {
        pthread_mutex_lock(&gil);
        for (uint64_t now = 0; (d = sw_deadline_pick(&posted_group, now = sw_deadline_clock_ns()));) {
            post(d, now);
            ++*(unsigned *)count;
        }
        pthread_mutex_unlock(&gil);
    }
    return NULL;
}

/* ---- threads that end with a block open ---- */

static pthread_key_t key;
static struct sw_deadline never_left;

static void thread_ends(void *strand)
{
    sw_strand_fini(strand);
    free(strand);
}

static void *end_inside_a_block(void *unused)
{
    struct sw_strand *s = malloc(sizeof *s);
    must(s);
    if (!s)
        return unused;
    sw_strand_init(s, SW_WAY_POST, NULL);
    must(pthread_setspecific(key, s) == 0);
    must(sw_deadline_enter(&never_left, s, sw_deadline_clock_ns(), LONGEST_NS) == 0);
    return unused;
}

static void run_short_threads(void)
{
    pthread_t thread;
    for (int i = 0; i < SHORT_THREADS; i++) {
        assert_int_equal(pthread_create(&thread, NULL, end_inside_a_block, NULL), 0);
        pthread_join(thread, NULL);
        must(sw_deadline_leave(&never_left) == SW_DEADLINE_CLOSED);
    }
}

static void nothing_comes_after_the_block(void **state)
{
    (void)state;
    static const struct sw_deadline_ops ops = {kick_with_signal, world_stuck};
    pthread_t threads[WORKERS], poster;
    unsigned posts = 0, kicks = 0, left[STATES] = {0};
    signal(SIGRTMIN, on_signal);
    pthread_key_create(&key, thread_ends);
    sw_deadline_setup(&ops);
    sw_deadline_set_lead(LEAD_NS);
    assert_int_equal(pthread_create(&poster, NULL, post_all, &posts), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].seed = i;
        workers[i].posted_to = i >= SIGNALLED;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    run_short_threads();
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    sw_deadline_stop();
    pthread_join(poster, NULL);
    pthread_key_delete(key);
    for (int i = 0; i < WORKERS; i++) {
        kicks += atomic_load(&workers[i].kicks);
        for (int k = 0; k < STATES; k++)
            left[k] += workers[i].left[k];
    }
    print_message("left in time %u, due %u, raised %u, overtaken %u; kicks %u, posts %u\n",
                  left[SW_DEADLINE_OPEN], left[SW_DEADLINE_DUE], left[SW_DEADLINE_RAISED],
                  left[SW_DEADLINE_OVERTAKEN], kicks, posts);
    if (atomic_load(&failed_line))
        fail_msg("%s:%d", __FILE__, atomic_load(&failed_line));
    for (int i = SW_DEADLINE_OPEN; i < STATES; i++)
        assert_true(i == SW_DEADLINE_POSTED || left[i] > ENOUGH);
    assert_true(kicks > ENOUGH && posts > ENOUGH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {world_test(nothing_comes_after_the_block)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
