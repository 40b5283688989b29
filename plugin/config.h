/* config.h - the options: one table, their values, the start-up summary, and what contradicts what.
 * Owns:    every value, from _init to _fini (the strings are the host's own and outlive us).
 * Callers: init, set, resolve, fini: set-up process, before any fork. Afterwards the struct is read-only; _threshold
 *          runs in the watchdog thread: no lock, no allocation.
 * Fork:    children read their copy.
 * Lines made here carry neither the "slowwatch: " prefix nor a newline; sw_log adds both. */
#ifndef SW_CONFIG_H
#define SW_CONFIG_H

#include "redact.h"
#include "regex.h"
#include "sink_log.h"
#include "sink_mail.h"

#define SW_THRESHOLDS_MAX      64
#define SW_THRESHOLD_MIN_NS    (10 * SW_NS_PER_MS)
#define SW_SAMPLE_MIN_NS       SW_NS_PER_MS
#define SW_SAMPLE_MAX_NS       (60 * SW_NS_PER_SEC)
#define SW_SMTP_TIMEOUT_MIN_NS SW_NS_PER_SEC /* libESMTP's own floor */
#define SW_SMTP_TIMEOUT_MAX_NS (3600 * SW_NS_PER_SEC)
#define SW_SMTP_SERVER_MAX     272 /* a host name has at most 253 characters */
#define SW_CONFIG_LINE_MAX     1024
#define SW_CONFIG_SUMMARY_MAX  4000 /* one line of the log */

struct sw_threshold {
    uint64_t ns;           /* 0 = such requests are not watched */
    struct sw_regex *path; /* owned */
    const char *pattern;   /* the regex as written */
};

struct sw_config {
    struct sw_threshold thresholds[SW_THRESHOLDS_MAX]; /* per path, in the order given: first match wins */
    unsigned threshold_count;
    uint64_t threshold_ns; /* of all other requests, 0 = not watched */
    uint64_t harakiri_ns;  /* set by _resolve: thresholds stay below it; 0 = none */
    uint64_t sample_interval_ns;
    unsigned stack_depth;
    struct sw_redact redact;
    enum sw_log_format log;
    struct sw_mail_config mail;           /* to_count == 0: off */
    char smtp_server[SW_SMTP_SERVER_MAX]; /* what mail.server points at: the port is always there */
    const char *alarm;                    /* NULL = none */
    bool strict;
    uint64_t given; /* bit i: option i of the table was set by the user */
};

extern struct sw_config sw_config;

/* ---- set-up: defaults, then one call per option of the user ---- */

/* The defaults, from the table. 0, or -errno with one line in `why`. Before anything else. */
int sw_config_init(struct sw_config *c, struct sw_text *why) SW_MUST_CHECK;
/* Parses one value (NULL: the option stands alone). 0, or -EINVAL / -ENOSPC / -ENOMEM with one clear line in `why`: the option, the
 * value, what would be right. An option that is not repeatable, or a threshold for the same regex: the last one wins. */
int sw_config_set(struct sw_config *c, const char *name, const char *value,
                  struct sw_text *why) SW_MUST_CHECK;
void sw_config_fini(struct sw_config *c);

/* ---- start-up checks (config_check.c) ---- */

/* What the rest of the host says, gathered by plugin.c so that the checks need no uwsgi.h (unit tested). */
struct sw_host_facts {
    bool master, threads_enabled;
    bool alarm_known; /* the alarm asked for is one of uWSGI's */
    size_t log_bytes; /* log-master-bufsize: the most that a line of the log may have; 0 = no limit */
    int workers, threads;
    uint64_t harakiri_ns;       /* 0 = none */
    bool python;                /* a Python is in this process */
    const char *python_version; /* "CPython 3.11.2", or NULL */
    const char *python_why;     /* why its stacks cannot be read, or NULL when they can */
    const char *mem_backend;    /* "memfd" ...; "off" or NULL: memory cannot be read */
};

/* The latest threshold below this harakiri: harakiri - max(1 s, a tenth), and at least half of it. */
uint64_t sw_config_below_harakiri(uint64_t harakiri_ns);

/* Moves thresholds that harakiri would come before, turns off what cannot work, and calls `say` once per conflict with
 * one line each (what, why, what to do). Lines that begin with "note: " inform and do not count. Returns the number
 * of conflicts. Call it when privileges are dropped: it looks whether files can be read. */
unsigned sw_config_resolve(struct sw_config *c, const struct sw_host_facts *host,
                           void (*say)(const char *line));

/* The shortest threshold that the options set, SW_NS_NEVER = none. */
uint64_t sw_config_least_threshold_ns(const struct sw_config *c);

/* One line: what is on. */
void sw_config_summary(const struct sw_config *c, const struct sw_host_facts *host, struct sw_text *out);

/* ---- while serving ---- */

/* The threshold of a request: that of its variable SLOWWATCH_THRESHOLD when it parses (variable may be NULL), else the
 * first regex that matches its path, else the general one; below harakiri in any case. 0 = not watched. */
uint64_t sw_config_threshold(const struct sw_config *c, const char *path, size_t path_bytes,
                             const char *variable, size_t variable_bytes);

/* ---- the table ---- */
enum sw_option_type {
    SW_OPT_SECONDS,  /* uint64_t ns */
    SW_OPT_MS,       /* uint64_t ns */
    SW_OPT_COUNT,    /* unsigned */
    SW_OPT_BOOL,     /* bool */
    SW_OPT_CHOICE,   /* an enum, whose values are the positions in `argument` */
    SW_OPT_ADDRESS,  /* const char *, or added to mail.to when repeatable */
    SW_OPT_TEXT,     /* const char * */
    SW_OPT_REGEX,    /* added to redact */
    SW_OPT_FILE,     /* const char *; whether it can be read is checked by _resolve */
    SW_OPT_FOLDER,   /* the same */
    SW_OPT_SERVER,   /* HOST:PORT into smtp_server */
    SW_OPT_THRESHOLD /* added to thresholds */
};

struct sw_option {
    const char *name;     /* "slowwatch-threshold" */
    const char *argument; /* "SECONDS [REGEX]"; of a choice its words: "text|json|off" */
    enum sw_option_type type;
    bool repeatable;
    const char *fallback; /* the default as text, "" = none */
    const char *help;     /* one sentence, with the unit and the meaning of 0 */
    size_t offset;        /* of the value in struct sw_config */
    uint64_t min, max;    /* of numbers, in the unit of the field */
};

extern const struct sw_option sw_options[];
extern const unsigned sw_option_count;

#endif
