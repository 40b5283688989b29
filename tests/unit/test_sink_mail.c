#include "unit.h"

#include "group.h"
#include "log.h"
#include "mail_delivery.h"
#include "mail_queue.h"
#include "sink_mail.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEC       SW_NS_PER_SEC
#define START     (1000 * SEC)
#define INTERVAL  (300 * SEC)
#define JOBS_MAX  64
#define STEPS_MAX 100000
#define HOUR      SW_RATE_WINDOW_NS
#define DAY       (24 * HOUR)

/* ---- a delivery that does what the test says ---- */

struct job {
    char to[8][64];
    unsigned to_count;
    char *message;
};

static struct {
    bool running;
    int start_error;
    struct sw_delivery_result outcome; /* of the next poll */
    struct job jobs[JOBS_MAX];         /* the last ones */
    unsigned started;
    unsigned cancelled;
} fake;

static struct sw_delivery *fake_create(void)
{
    return (struct sw_delivery *)&fake;
}

static int fake_start(struct sw_delivery *d, const struct sw_delivery_job *given, uint64_t now)
{
    (void)d;
    (void)now;
    assert_false(fake.running);
    if (fake.start_error)
        return fake.start_error;
    struct job *job = &fake.jobs[fake.started++ % JOBS_MAX];
    free(job->message);
    job->message = strndup(given->message, given->message_bytes);
    job->to_count = given->to_count;
    for (unsigned i = 0; i < given->to_count && i < SW_COUNT(job->to); i++)
        snprintf(job->to[i], sizeof job->to[i], "%s", given->to[i]);
    fake.running = true;
    return 0;
}

static bool fake_poll(struct sw_delivery *d, struct sw_delivery_result *out, uint64_t now)
{
    (void)d;
    (void)now;
    const bool told = fake.running;
    fake.running = false;
    *out = fake.outcome;
    return told;
}

static bool fake_busy(const struct sw_delivery *d)
{
    (void)d;
    return fake.running;
}

static int fake_fd(const struct sw_delivery *d)
{
    (void)d;
    return -1;
}

static uint64_t fake_next_ns(const struct sw_delivery *d, uint64_t now)
{
    (void)d;
    return fake.running ? now : SW_NS_NEVER;
}

static void fake_cancel(struct sw_delivery *d)
{
    (void)d;
    fake.cancelled += fake.running;
    fake.running = false;
}

static void fake_destroy(struct sw_delivery *d)
{
    fake_cancel(d);
}

static const struct sw_delivery_ops fake_ops = {.create = fake_create,
                                                .start = fake_start,
                                                .poll = fake_poll,
                                                .busy = fake_busy,
                                                .fd = fake_fd,
                                                .next_ns = fake_next_ns,
                                                .cancel = fake_cancel,
                                                .destroy = fake_destroy};

static void answer(enum sw_recipient_verdict verdict, bool server_fault, const char *words)
{
    fake.outcome = (struct sw_delivery_result){.server_fault = server_fault};
    snprintf(fake.outcome.why, sizeof fake.outcome.why, "%s", words);
    for (unsigned i = 0; i < SW_MAIL_RECIPIENTS_MAX; i++) {
        fake.outcome.verdict[i] = verdict;
        snprintf(fake.outcome.reply[i], sizeof fake.outcome.reply[i], "%s", words);
    }
}

static const struct job *last_job(void)
{
    assert_true(fake.started > 0);
    return &fake.jobs[(fake.started - 1) % JOBS_MAX];
}

/* The value of a header of a mail, as it stands on its first line. */
static const char *header(const struct job *job, const char *name)
{
    static char values[4][256];
    static unsigned turn;
    char *value = values[turn++ % 4], begin[64];
    value[0] = 0;
    snprintf(begin, sizeof begin, "\r\n%s: ", name);
    const char *at = strstr(job->message, begin);
    const char *end = strstr(job->message, "\r\n\r\n");
    if (!at || at > end)
        return value;
    at += strlen(begin);
    snprintf(value, sizeof values[0], "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

/* ---- the log ---- */

static char log_at[64 * 1024];
static struct sw_text log_text;

static void note_log(const char *text, size_t n)
{
    sw_text_put_bytes(&log_text, text, n);
}

static unsigned logged(const char *words)
{
    unsigned count = 0;
    for (const char *at = log_at; (at = strstr(at, words)); at += strlen(words))
        count++;
    return count;
}

/* ---- set-up ---- */

static struct sw_mail_config config;
static struct sw_sink_mail *sink;
static char folder[64];

static int set_up(void **state)
{
    (void)state;
    answer(SW_RECIPIENT_SENT, false, "");
    fake.running = false;
    fake.start_error = 0;
    fake.started = fake.cancelled = 0;
    config = (struct sw_mail_config){.to = {"ops@example.org"},
                                     .to_count = 1,
                                     .from = "slowwatch@web3",
                                     .host = "web3",
                                     .server = "mx:25",
                                     .timeout_ns = 30 * SEC,
                                     .interval_ns = INTERVAL,
                                     .per_hour = 20};
    sw_text_init(&log_text, log_at, sizeof log_at);
    sw_log_set_writer(note_log);
    strcpy(folder, "/tmp/test_sink_mail.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    sw_sink_mail_free(sink);
    sink = NULL;
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        free(fake.jobs[i].message);
        fake.jobs[i].message = NULL;
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void begin(void)
{
    sink = sw_sink_mail_new_with(&config, &fake_ops, START);
    assert_non_null(sink);
}

static struct sw_frame frames[] = {{.file = "/srv/app/db.py", .function = "fetch", .line = 88}};

static void give(enum sw_event_kind kind, unsigned group, unsigned number, uint64_t now)
{
    char fingerprint[SW_FINGERPRINT_CHARS + 1], id[SW_EVENT_ID_CHARS + 1], uri[32];
    snprintf(fingerprint, sizeof fingerprint, "%016x", group);
    snprintf(id, sizeof id, "%032x", number);
    snprintf(uri, sizeof uri, "/group/%u", group);
    const struct sw_event e = {
        .kind = kind,
        .id = id,
        .time_us = UINT64_C(1715065689123000),
        .host = "web3",
        .app = "shop",
        .worker = 1,
        .pid = 4711,
        .tid = 4711,
        .request = {.method = "GET", .uri = uri, .started_us = UINT64_C(1715065679123000)},
        .elapsed_ms = 10000,
        .threshold_ms = 10000,
        .has_stack = true,
        .stack = {.frames = frames, .count = SW_COUNT(frames)},
        .fingerprint = fingerprint};
    sw_sink_mail_event(sink, &e, now);
}

static void slow(unsigned group, unsigned number, uint64_t now)
{
    give(SW_EVENT_SLOW_REQUEST, group, number, now);
}

/* Steps as the reporter would, from one due time to the next, up to `end`; the last one is at `end`. */
static void run(uint64_t from, uint64_t end)
{
    uint64_t now = from;
    for (unsigned steps = 0; now < end; steps++) {
        assert_true(steps < STEPS_MAX);
        sw_sink_mail_step(sink, now);
        now = sw_max_u64(now, sw_sink_mail_next_ns(sink, now));
    }
    sw_sink_mail_step(sink, end);
}

static unsigned files(const char *suffix)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        const char *at = strstr(entry->d_name, suffix);
        count += at && at[strlen(suffix)] == 0;
    }
    if (dir)
        closedir(dir);
    return count;
}

static void assert_id(const struct job *job, unsigned number)
{
    char id[SW_EVENT_ID_CHARS + 1];
    snprintf(id, sizeof id, "%032x", number);
    assert_string_equal(header(job, "X-Slowwatch-Id"), id);
}

/* ---- which, when ---- */

static void first_slow_request_mails_at_once(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    sw_sink_mail_step(sink, START);
    assert_int_equal(fake.started, 1);
    assert_id(last_job(), 1);
    assert_string_equal(header(last_job(), "References"), "");
    assert_string_equal(last_job()->to[0], "ops@example.org");
    run(START, START + HOUR);
    assert_int_equal(fake.started, 1);
    assert_string_equal(log_at, "");
    assert_int_equal(sw_sink_mail_next_ns(sink, START + HOUR), SW_NS_NEVER);
}

static void killed_request_mails_at_once_when_it_is_the_first(void **state)
{
    (void)state;
    begin();
    give(SW_EVENT_REQUEST_KILLED, 1, 1, START);
    give(SW_EVENT_WORKER_DIED, 2, 2, START);
    run(START, START + SEC);
    assert_int_equal(fake.started, 2);
}

static void other_kinds_do_not_count(void **state)
{
    (void)state;
    begin();
    give(SW_EVENT_SLOW_REQUEST_UPDATE, 1, 1, START);
    give(SW_EVENT_REQUEST_FINISHED, 1, 2, START);
    give(SW_EVENT_TIMEOUT, 1, 3, START);
    give(SW_EVENT_WARMUP, 1, 4, START);
    run(START, START + HOUR);
    assert_int_equal(fake.started, 0);
}

static void nobody_to_write_to(void **state)
{
    (void)state;
    config.to_count = 0;
    begin();
    slow(1, 1, START);
    run(START, START + HOUR);
    assert_int_equal(fake.started, 0);
}

static void what_comes_within_the_interval_follows_at_its_end(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    run(START, START + SEC);
    char first[256];
    snprintf(first, sizeof first, "%s", header(last_job(), "Message-ID"));
    slow(1, 2, START + 10 * SEC);
    give(SW_EVENT_REQUEST_KILLED, 1, 3, START + 20 * SEC);
    slow(1, 4, START + 30 * SEC);
    assert_true(sw_sink_mail_next_ns(sink, START + 30 * SEC) == START + INTERVAL);
    run(START + 30 * SEC, START + INTERVAL - 1);
    assert_int_equal(fake.started, 1);
    run(START + INTERVAL - 1, START + INTERVAL);
    assert_int_equal(fake.started, 2);
    assert_id(last_job(), 3); /* the kill tells more than the newer slow request */
    assert_string_equal(header(last_job(), "References"), first);
    assert_string_equal(header(last_job(), "In-Reply-To"), first);
    assert_string_not_equal(header(last_job(), "Message-ID"), first);
    assert_string_equal(header(last_job(), "Subject"), header(&fake.jobs[0], "Subject"));
    assert_non_null(
        strstr(last_job()->message, "2 more slow requests and 1 kill of this group since the last mail"));
    run(START + INTERVAL, START + DAY);
    assert_int_equal(fake.started, 2);
}

static void newest_of_the_counted_is_shown(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    slow(1, 2, START + SEC);
    slow(1, 3, START + 2 * SEC);
    run(START, START + INTERVAL);
    assert_id(last_job(), 3);
}

static void after_the_interval_the_next_one_mails_at_once(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    run(START, START + INTERVAL);
    slow(1, 2, START + INTERVAL);
    run(START + INTERVAL, START + INTERVAL);
    assert_int_equal(fake.started, 2);
    assert_id(last_job(), 2);
    assert_null(strstr(last_job()->message, "more slow request"));
}

static void over_the_hourly_limit_there_is_one_digest(void **state)
{
    (void)state;
    config.per_hour = 2;
    begin();
    for (unsigned i = 1; i <= 5; i++)
        slow(i, i, START);
    give(SW_EVENT_REQUEST_KILLED, 5, 6, START + SEC);
    run(START, START + HOUR - 1);
    assert_int_equal(fake.started, 2);
    run(START + HOUR - 1, START + HOUR + SEC);
    assert_int_equal(fake.started, 3);
    assert_string_equal(header(last_job(), "Subject"),
                        "[slowwatch] digest: 4 slow requests in 3 groups on web3");
    assert_string_equal(header(last_job(), "X-Slowwatch-Fingerprint"), "");
    assert_non_null(strstr(last_job()->message, "1 slow      1 killed  [slowwatch] GET /group/5 slower"));
}

/* Many groups at once: all are counted, whatever becomes of the events kept to be shown. */
static void more_groups_than_are_remembered(void **state)
{
    (void)state;
    config.per_hour = 1;
    begin();
    for (unsigned i = 0; i < 3 * SW_GROUPS_MAX; i++)
        slow(i, i, START + i);
    run(START + SEC, START + 2 * HOUR);
    unsigned total = 0;
    for (unsigned i = 1; i < fake.started && i < JOBS_MAX; i++) {
        unsigned count = 0;
        sscanf(header(&fake.jobs[i], "Subject"), "[slowwatch] digest: %u slow", &count);
        total += count;
    }
    assert_int_equal(total, 3 * SW_GROUPS_MAX - 1);
}

/* ---- failures ---- */

static void pauses_grow_and_end_at_a_quarter_of_an_hour(void **state)
{
    (void)state;
    static const unsigned seconds[] = {5, 15, 45, 135, 405, 900, 900, 900};
    begin();
    slow(1, 1, START);
    answer(SW_RECIPIENT_LATER, true, "while connecting: Connection refused");
    uint64_t now = START;
    sw_sink_mail_step(sink, now); /* starts */
    for (unsigned i = 0; i < SW_COUNT(seconds); i++) {
        sw_sink_mail_step(sink, now); /* collects */
        assert_int_equal(fake.started, i + 1);
        assert_true(sw_sink_mail_next_ns(sink, now) == now + seconds[i] * SEC);
        assert_int_equal(logged("\n"), i + 1); /* one line a try */
        now += seconds[i] * SEC;
        sw_sink_mail_step(sink, now - 1);
        assert_int_equal(fake.started, i + 1);
        sw_sink_mail_step(sink, now);
    }
    assert_int_equal(logged("mx:25: while connecting: Connection refused; 1 mail waits, next try in"), 8);
    answer(SW_RECIPIENT_SENT, false, "");
    sw_sink_mail_step(sink, now);
    assert_int_equal(logged("mx:25 works again after 8 failed tries"), 1);
    run(now, now + DAY);
    assert_int_equal(fake.started, 9);
    for (unsigned i = 1; i < 9; i++) /* the same mail each time */
        assert_string_equal(fake.jobs[i].message, fake.jobs[0].message);
    now += DAY;
    slow(2, 2, now);
    answer(SW_RECIPIENT_LATER, true, "no");
    run(now, now + SEC);
    assert_true(sw_sink_mail_next_ns(sink, now + SEC) == now + 5 * SEC); /* a new failure begins anew */
}

static void dead_server_is_asked_once_a_step_whatever_waits(void **state)
{
    (void)state;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    for (unsigned i = 1; i <= 10; i++)
        slow(i, i, START);
    run(START, START + 4 * SEC);
    assert_int_equal(fake.started, 1);
    assert_int_equal(logged("\n"), 1);
    assert_int_equal(logged("10 mails wait"), 1);
    run(START + 4 * SEC, START + 6 * SEC);
    assert_int_equal(fake.started, 2);
    assert_id(last_job(), 2); /* not always the same one: it may be the mail that kills the session */
}

static void mail_that_is_not_taken_pauses_alone(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    answer(SW_RECIPIENT_LATER, false, "451 greylisted");
    run(START, START + SEC);
    assert_int_equal(logged("not taken for now, to ops@example.org: 451 greylisted; next try in 5.0 s"), 1);
    answer(SW_RECIPIENT_SENT, false, "");
    slow(2, 2, START + SEC);
    run(START + SEC, START + SEC);
    assert_int_equal(fake.started, 2);
    assert_id(last_job(), 2);
    run(START + 2 * SEC, START + 10 * SEC);
    assert_int_equal(fake.started, 3);
    assert_id(last_job(), 1);
}

static void refused_for_good_is_said_and_forgotten(void **state)
{
    (void)state;
    config.to[1] = "dev@example.org";
    config.to_count = 2;
    config.spool_dir = folder;
    begin();
    slow(1, 1, START);
    answer(SW_RECIPIENT_REFUSED, false, "550 5.7.1 spam");
    run(START, START + SEC);
    assert_int_equal(logged("refused for good, to ops@example.org, dev@example.org: 550 5.7.1 spam"), 1);
    assert_int_equal(logged("\n"), 1);
    assert_int_equal(files(".mail"), 0);
    run(START + SEC, START + DAY);
    assert_int_equal(fake.started, 1);
}

static void only_those_who_failed_for_now_are_tried_again(void **state)
{
    (void)state;
    static const char *const to[] = {"a@x", "b@x", "c@x", "d@x"};
    memcpy(config.to, to, sizeof to);
    config.to_count = SW_COUNT(to);
    begin();
    slow(1, 1, START);
    answer(SW_RECIPIENT_SENT, false, "");
    fake.outcome.verdict[1] = SW_RECIPIENT_REFUSED;
    strcpy(fake.outcome.reply[1], "550 no such user");
    fake.outcome.verdict[2] = SW_RECIPIENT_LATER;
    strcpy(fake.outcome.reply[2], "452 full");
    run(START, START + SEC);
    assert_int_equal(logged("refused for good, to b@x: 550 no such user"), 1);
    assert_int_equal(logged("not taken for now, to c@x: 452 full"), 1);
    answer(SW_RECIPIENT_SENT, false, "");
    run(START + SEC, START + HOUR);
    assert_int_equal(fake.started, 2);
    assert_int_equal(last_job()->to_count, 1);
    assert_string_equal(last_job()->to[0], "c@x");
    assert_string_equal(header(last_job(), "Message-ID"), header(&fake.jobs[0], "Message-ID"));
}

static void refused_login_waits_longest(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    answer(SW_RECIPIENT_LATER, true, "in answer to AUTH: 535 no");
    fake.outcome.login_refused = true;
    run(START, START + SEC);
    slow(2, 2, START + SEC);
    run(START + SEC, START + SW_MAIL_RETRY_MAX_NS - SEC);
    assert_int_equal(fake.started, 1);
    assert_int_equal(logged("next try in 15 min"), 1);
    run(START + SW_MAIL_RETRY_MAX_NS - SEC, START + SW_MAIL_RETRY_MAX_NS + SEC);
    assert_int_equal(fake.started, 2);
}

static void process_that_cannot_be_made_is_a_failure_for_now(void **state)
{
    (void)state;
    begin();
    slow(1, 1, START);
    fake.start_error = -EAGAIN;
    run(START, START + SEC);
    assert_int_equal(fake.started, 0);
    assert_int_equal(logged("no delivery can be started: Resource temporarily unavailable; 1 mail waits"), 1);
    fake.start_error = 0;
    run(START + SEC, START + 6 * SEC);
    assert_int_equal(fake.started, 1);
}

static void after_three_days_a_mail_is_given_up(void **state)
{
    (void)state;
    config.spool_dir = folder;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    slow(1, 1, START);
    run(START, START + SW_MAIL_AGE_MAX_NS - SEC);
    assert_int_equal(logged("given up"), 0);
    assert_int_equal(files(".mail"), 1);
    run(START + SW_MAIL_AGE_MAX_NS - SEC, START + SW_MAIL_AGE_MAX_NS + HOUR);
    assert_int_equal(logged("1 mail given up after 3 days, the first: [slowwatch] GET /group/1 "), 1);
    assert_int_equal(files(".mail"), 0);
    assert_int_equal(sw_sink_mail_next_ns(sink, START + 4 * DAY), SW_NS_NEVER);
}

static void full_queue_takes_no_more_and_says_so(void **state)
{
    (void)state;
    config.per_hour = SW_RATE_MAILS_MAX;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    for (unsigned i = 0; i < SW_MAIL_QUEUE_MAX + 50; i++)
        slow(i, i, START);
    run(START, START + 60 * SEC);
    assert_int_equal(logged("the queue is full (1000 mails wait), 1 new mail not sent"), 1);
    run(START + 60 * SEC, START + HOUR);
    assert_int_equal(logged("the queue is full (1000 mails wait), 49 new mails not sent"), 1);
    assert_int_equal(logged("the queue is full"), 2);
    answer(SW_RECIPIENT_SENT, false, "");
    const unsigned before = fake.started;
    run(START + HOUR, START + 2 * HOUR);
    assert_int_equal(fake.started - before, SW_MAIL_QUEUE_MAX);
}

/* ---- spool ---- */

static void mail_is_spooled_until_it_is_sent(void **state)
{
    (void)state;
    config.spool_dir = folder;
    begin();
    slow(1, 1, START);
    assert_int_equal(files(".mail"), 1);
    run(START, START + SEC);
    assert_int_equal(files(".mail"), 0);
}

static void restart_sends_what_is_spooled(void **state)
{
    (void)state;
    char before[4096];
    config.spool_dir = folder;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    slow(1, 1, START);
    slow(1, 2, START + SEC);
    slow(2, 3, START + SEC);
    run(START, START + INTERVAL + SEC);
    snprintf(before, sizeof before, "%s", fake.jobs[0].message);
    assert_int_equal(files(".mail"), 3);
    sw_sink_mail_free(sink);
    fake.started = 0;
    answer(SW_RECIPIENT_SENT, false, "");
    begin();
    assert_int_equal(logged("3 unsent mails found in the spool"), 1);
    run(START, START + SEC);
    assert_int_equal(fake.started, 3);
    assert_string_equal(fake.jobs[0].message, before); /* to the letter */
    assert_non_null(
        strstr(fake.jobs[2].message, "1 more slow request of this group since the last mail at 20"));
    assert_int_equal(files(".mail"), 0);
}

static void digest_survives_a_restart(void **state)
{
    (void)state;
    config.spool_dir = folder;
    config.per_hour = 1;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    slow(1, 1, START);
    slow(2, 2, START);
    run(START, START + HOUR + SEC);
    sw_sink_mail_free(sink);
    answer(SW_RECIPIENT_SENT, false, "");
    fake.started = 0;
    begin();
    run(START, START + SEC);
    assert_int_equal(fake.started, 2);
    assert_string_equal(header(last_job(), "Subject"),
                        "[slowwatch] digest: 1 slow requests in 1 group on web3");
    assert_non_null(strstr(last_job()->message, "1 slow      0 killed  [slowwatch] GET /group/2"));
}

static void spool_that_fails_is_said_once_and_mail_goes_on(void **state)
{
    (void)state;
    config.spool_dir = folder;
    begin();
    assert_int_equal(rmdir(folder), 0);
    slow(1, 1, START);
    slow(2, 2, START);
    run(START, START + SEC);
    assert_int_equal(fake.started, 2);
    assert_int_equal(logged("cannot be written: No such file or directory; unsent mail is in memory only"),
                     1);
    assert_int_equal(logged("\n"), 1);
}

static void spool_that_appears_later_is_used(void **state)
{
    (void)state;
    config.spool_dir = folder;
    assert_int_equal(rmdir(folder), 0);
    begin();
    assert_int_equal(logged("No such file or directory; unsent mail is in memory only"), 1);
    answer(SW_RECIPIENT_LATER, true, "no");
    slow(1, 1, START);
    assert_int_equal(mkdir(folder, 0700), 0);
    run(START, START + 61 * SEC);
    assert_int_equal(files(".mail"), 1);
    assert_int_equal(logged("can be used again"), 1);
}

static void spool_that_is_removed_and_made_again_is_used(void **state)
{
    (void)state;
    config.spool_dir = folder;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    assert_int_equal(rmdir(folder), 0);
    slow(1, 1, START);
    assert_int_equal(mkdir(folder, 0700), 0);
    run(START, START + 61 * SEC);
    assert_int_equal(files(".mail"), 1);
    assert_int_equal(logged("can be used again"), 1);
}

static void more_in_the_spool_than_the_queue_holds(void **state)
{
    (void)state;
    const unsigned more = SW_MAIL_QUEUE_MAX + 20;
    for (unsigned i = 0; i < more; i++) {
        char path[256];
        size_t n;
        struct sw_mail *m = sw_mail_new("web3", sw_wall_us());
        assert_int_equal(sw_mail_add_recipient(m, "ops@example.org"), 0);
        m->text = strdup("hello\n");
        char *json = sw_mail_to_json(m, &n);
        assert_non_null(json);
        snprintf(path, sizeof path, "%s/%s.mail", folder, m->name);
        FILE *file = fopen(path, "w"); /* not by the spool, which syncs each */
        assert_non_null(file);
        assert_int_equal(fwrite(json, 1, n, file), n);
        fclose(file);
        free(json);
        sw_mail_free(m);
    }
    config.spool_dir = folder;
    begin();
    run(START, START + SEC);
    assert_int_equal(fake.started, more);
    assert_int_equal(files(".mail"), 0);
}

static void records_are_checked(void **state)
{
    (void)state;
    size_t n;
    struct sw_mail *m = sw_mail_new("web3", 1);
    assert_int_equal(sw_mail_add_recipient(m, "ops@example.org"), 0);
    m->text = strdup("hello\n");
    char *json = sw_mail_to_json(m, &n);
    struct sw_mail *back = sw_mail_from_json("name", json, n);
    assert_non_null(back);
    assert_string_equal(back->message_id, m->message_id);
    sw_mail_free(back);
    for (size_t cut = 0; cut < n; cut++)
        assert_null(sw_mail_from_json("name", json, cut));
    srand(1);
    for (unsigned round = 0; round < 5000; round++) { /* must not crash, and let no line end through */
        const size_t at = (size_t)rand() % n;
        const char was = json[at];
        json[at] = (char)rand();
        back = sw_mail_from_json("name", json, n);
        if (back)
            assert_null(strpbrk(back->subject, "\r\n"));
        sw_mail_free(back);
        json[at] = was;
    }
    free(json);
    sw_mail_free(m);
    static const char *const bad[] = {
        "[]", "{}", "{\"record\":2}",
        "{\"record\":1,\"message_id\":\"x\",\"references\":\"\",\"subject\":\"a\\r\\nBcc: "
        "b\",\"fingerprint\":\"\","
        "\"to\":[\"a@b\"],\"queued_us\":1,\"attempts\":0,\"slow\":0,\"killed\":0,\"since_us\":0,\"text\":"
        "\"t\"}",
        "{\"record\":1,\"message_id\":\"x\",\"references\":\"\",\"subject\":\"a\",\"fingerprint\":\"\","
        "\"to\":[\"a@b>\\r\\nRCPT "
        "TO:<c@d\"],\"queued_us\":1,\"attempts\":0,\"slow\":0,\"killed\":0,\"since_us\":0,"
        "\"text\":\"t\"}"};
    for (size_t i = 0; i < SW_COUNT(bad); i++)
        assert_null(sw_mail_from_json("name", bad[i], strlen(bad[i])));
}

static void spooled_event_that_cannot_be_read_is_given_up(void **state)
{
    (void)state;
    static const char record[] = "{\"record\":1,\"message_id\":\"x@y\",\"references\":\"\",\"subject\":\"s\","
                                 "\"fingerprint\":\"\",\"to\":[\"a@b\"],"
                                 "\"queued_us\":9999999999999999,\"attempts\":0,\"slow\":0,\"killed\":0,"
                                 "\"since_us\":0,\"event\":{\"schema\":99}}";
    struct sw_spool spool = SW_SPOOL_CLOSED;
    struct sw_text why = {.room = 0};
    assert_int_equal(sw_spool_open(&spool, folder, &why), 0);
    assert_int_equal(sw_spool_put(&spool, "1", record, strlen(record)), 0);
    sw_spool_close(&spool);
    config.spool_dir = folder;
    begin();
    run(START, START + SEC);
    assert_int_equal(fake.started, 0);
    assert_int_equal(logged("given up, it cannot be written"), 1);
    assert_int_equal(files(".mail"), 0);
}

/* ---- shutdown; here the clock is the real one ---- */

static void drain_sends_what_groups_have_counted(void **state)
{
    (void)state;
    begin();
    const uint64_t now = sw_now_ns();
    slow(1, 1, now);
    slow(1, 2, now);
    sw_sink_mail_drain(sink, now + 10 * SEC);
    assert_int_equal(fake.started, 2);
    assert_non_null(strstr(last_job()->message, "digest: 1 slow request"));
    assert_string_equal(log_at, "");
    assert_true(sw_now_ns() < now + 9 * SEC); /* it does not wait when there is nothing to wait for */
}

static void drain_without_spool_counts_what_is_lost(void **state)
{
    (void)state;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    const uint64_t now = sw_now_ns();
    slow(1, 1, now);
    slow(2, 2, now);
    slow(2, 3, now);
    sw_sink_mail_drain(sink, now + 10 * SEC);
    assert_int_equal(logged("3 unsent mails lost"), 1);
    assert_true(sw_now_ns() < now + 9 * SEC);
}

static void drain_keeps_the_rest_in_the_spool(void **state)
{
    (void)state;
    config.spool_dir = folder;
    begin();
    answer(SW_RECIPIENT_LATER, true, "no");
    slow(1, 1, sw_now_ns());
    sw_sink_mail_drain(sink, 0);
    assert_int_equal(logged("1 unsent mail kept in the spool"), 1);
    assert_int_equal(files(".mail"), 1);
}

static void addresses_are_checked(void **state)
{
    (void)state;
    config.to[0] = "a@b\r\nX: y";
    config.to[1] = "ops@example.org";
    config.to_count = 2;
    config.from = NULL;
    config.host = "web 3\r\n";
    begin();
    slow(1, 1, START);
    run(START, START + SEC);
    assert_int_equal(last_job()->to_count, 1);
    assert_int_equal(strncmp(last_job()->message, "From: slowwatch@web-3--\r\n", 25), 0);
    assert_int_equal(logged("is no usable address"), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(first_slow_request_mails_at_once),
        TEST(killed_request_mails_at_once_when_it_is_the_first),
        TEST(other_kinds_do_not_count),
        TEST(nobody_to_write_to),
        TEST(what_comes_within_the_interval_follows_at_its_end),
        TEST(newest_of_the_counted_is_shown),
        TEST(after_the_interval_the_next_one_mails_at_once),
        TEST(over_the_hourly_limit_there_is_one_digest),
        TEST(more_groups_than_are_remembered),
        TEST(pauses_grow_and_end_at_a_quarter_of_an_hour),
        TEST(dead_server_is_asked_once_a_step_whatever_waits),
        TEST(mail_that_is_not_taken_pauses_alone),
        TEST(refused_for_good_is_said_and_forgotten),
        TEST(only_those_who_failed_for_now_are_tried_again),
        TEST(refused_login_waits_longest),
        TEST(process_that_cannot_be_made_is_a_failure_for_now),
        TEST(after_three_days_a_mail_is_given_up),
        TEST(full_queue_takes_no_more_and_says_so),
        TEST(mail_is_spooled_until_it_is_sent),
        TEST(restart_sends_what_is_spooled),
        TEST(digest_survives_a_restart),
        TEST(spool_that_fails_is_said_once_and_mail_goes_on),
        TEST(spool_that_appears_later_is_used),
        TEST(spool_that_is_removed_and_made_again_is_used),
        TEST(more_in_the_spool_than_the_queue_holds),
        TEST(records_are_checked),
        TEST(spooled_event_that_cannot_be_read_is_given_up),
        TEST(drain_sends_what_groups_have_counted),
        TEST(drain_without_spool_counts_what_is_lost),
        TEST(drain_keeps_the_rest_in_the_spool),
        TEST(addresses_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
