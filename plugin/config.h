/* config.h - the options: one table, and their values. What contradicts what is in doctor.h.
 * Owns:    every value, from _init to _fini (the strings are the host's own and outlive us).
 * Callers: init, set, fini and the doctor: set-up process, before any fork. Afterwards the struct is read-only;
 *          _threshold runs in the watchdog thread: no lock, no allocation.
 * Fork:    children read their copy.
 * Lines made here carry neither the "slowwatch: " prefix nor a newline; sw_log adds both. */
#ifndef SW_CONFIG_H
#define SW_CONFIG_H

#include "redact.h"
#include "regex.h"
#include "sink_log.h"
#include "sink_mail.h"
#include "warmup_plan.h"

#define SW_OPTIONS_MAX         64
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
    uint64_t harakiri_ns;  /* set by the doctor: thresholds stay below it; 0 = none */
    uint64_t sample_interval_ns;
    unsigned stack_depth;
    struct sw_redact redact;
    enum sw_log_format log;
    struct sw_mail_config mail;           /* to_count == 0: off */
    char smtp_server[SW_SMTP_SERVER_MAX]; /* what mail.server points at: the port is always there */
    const char *alarm;                    /* NULL = none */
    unsigned recycle_spread_percent;      /* 0 = off */
    struct sw_warmup_plan warmup;
    bool strict;
    bool check;     /* print the configuration report and exit */
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

/* option `name` was set by the user */
bool sw_config_is_given(const struct sw_config *c, const char *name);

/* ---- for the start-up checks (doctor.h) ---- */

/* The latest threshold below this harakiri: harakiri - max(1 s, a tenth), and at least half of it. */
uint64_t sw_config_below_harakiri(uint64_t harakiri_ns);

/* The shortest threshold that the options set, SW_NS_NEVER = none. */
uint64_t sw_config_least_threshold_ns(const struct sw_config *c);

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
    SW_OPT_FILE,     /* const char *; whether it can be read is checked by the doctor */
    SW_OPT_FOLDER,   /* the same */
    SW_OPT_SERVER,   /* HOST:PORT into smtp_server */
    SW_OPT_HIT,      /* added to warmup.hits */
    SW_OPT_HEADER,   /* added to warmup.headers */
    SW_OPT_HOST,     /* warmup.host */
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
