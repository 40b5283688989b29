/* doctor.h - what in the configuration does not work together: facts to findings, one line each with the remedy.
 * Owns:    nothing. The facts are borrowed; doctor_facts.c gathers them from uWSGI, a test makes them up.
 * Callers: set-up process, before any fork.
 * Fork:    nothing to do.
 * Every finding has a name that stays, at the end of its line and in docs/doctor.md. Lines made here carry neither the
 * "slowwatch: " prefix nor a newline; those of information begin with "note: ". */
#ifndef SW_DOCTOR_H
#define SW_DOCTOR_H

#include "config.h"
#include "recycle.h"

enum sw_severity {
    SW_INFORMATION, /* worth knowing, does not count */
    SW_CONFLICT     /* something that was asked for does not work; ends a strict start */
};

enum sw_finding {
    SW_FOUND_THRESHOLD,
    SW_FOUND_INTERVAL,
    SW_FOUND_UNKNOWN_OPTION,
    SW_FOUND_NO_RECIPIENT,
    SW_FOUND_MAIL_NO_MASTER,
    SW_FOUND_LOGIN,
    SW_FOUND_PASSWORD_UNREADABLE,
    SW_FOUND_PASSWORD_EXPOSED,
    SW_FOUND_PASSWORD_PLAIN,
    SW_FOUND_PASSWORD_KEPT,
    SW_FOUND_CA_UNUSED,
    SW_FOUND_CA_UNREADABLE,
    SW_FOUND_SPOOL_UNUSABLE,
    SW_FOUND_SPOOL_EXPOSED,
    SW_FOUND_MERCY,
    SW_FOUND_ALARM_NO_MASTER,
    SW_FOUND_ALARM_UNKNOWN,
    SW_FOUND_LOG_PIPE,
    SW_FOUND_NO_OUTLET,
    SW_FOUND_NO_PYTHON,
    SW_FOUND_NO_STACKS,
    SW_FOUND_NEED_APP,
    SW_FOUND_NO_THREADS,
    SW_FOUND_NO_MASTER,
    SW_FOUND_HARAKIRI_THREADS,
    SW_FOUND_TRACEBACKER,
    SW_FOUND_WARMUP_ANSWERED,
    SW_FOUND_WARMUP_PERHAPS,
    SW_FOUND_WARMUP_UNUSED,
    SW_FOUND_WARMUP_AFTER_FORK,
    SW_FOUND_SPREAD_UNUSED,
    SW_FOUND_SPREAD_OWN,
    SW_FOUND_SPREAD_COARSE,
    SW_FINDINGS /* how many there are */
};

struct sw_finding_kind {
    const char *name;
    enum sw_severity severity;
};

extern const struct sw_finding_kind sw_findings[SW_FINDINGS];

/* ---- what the rest of the host says ---- */

struct sw_given_option {
    const char *name;
    const char *value; /* NULL: it stands alone */
    bool known;        /* to uWSGI or a plugin of it; else it is a placeholder of the user, or misspelt */
};

struct sw_host_facts {
    bool master, threads_enabled;
    bool need_app, lazy_apps;
    bool alarm_known; /* the alarm asked for is one of uWSGI's */
    size_t log_bytes; /* log-master-bufsize: the most that a line of the log may have; 0 = no limit */
    int workers, threads;
    uint64_t harakiri_ns;                /* 0 = none */
    uint64_t mercy_ns;                   /* what workers get at a reload or stop */
    bool python;                         /* a Python is in this process */
    const char *python_version;          /* "CPython 3.11.2", or NULL */
    const char *python_why;              /* why its stacks cannot be read, or NULL when they can */
    const char *mem_backend;             /* "memfd" ...; "off" or NULL: memory cannot be read */
    const struct sw_given_option *given; /* every option of uWSGI in the order given, borrowed */
    unsigned given_count;
    struct sw_recycle recycle;
};

/* The last value given for an option that is known; NULL = not given; "" = it stands alone. */
const char *sw_host_given(const struct sw_host_facts *host, const char *name);
bool sw_host_has_stacks(const struct sw_host_facts *host);

/* ---- examining ---- */

struct sw_diagnosis {
    unsigned conflicts, notes;
};

/* Repairs in `c` what can be repaired (each line says what was done) and calls `say` once per finding. Call it when
 * privileges are dropped: it looks whether files can be read. */
struct sw_diagnosis sw_doctor_examine(struct sw_config *c, const struct sw_host_facts *host,
                                      void (*say)(const char *line));

/* The known option that `name` (with or without dashes in front, up to a "=") was most likely meant to be; NULL = none
 * is near. */
const char *sw_doctor_meant(const char *name);

/* One line: what is on. (config_summary.c) */
void sw_config_summary(const struct sw_config *c, const struct sw_host_facts *host, struct sw_text *out);

/* ---- between the files of the doctor ---- */

struct sw_doctor {
    struct sw_config *config;
    const struct sw_host_facts *host;
    void (*say)(const char *line);
    struct sw_diagnosis sum;
};

void sw_doctor_found(struct sw_doctor *d, enum sw_finding finding, const char *fmt, ...) SW_PRINTF(3, 4);
void sw_doctor_examine_mail(struct sw_doctor *d);
void sw_doctor_examine_warmup(struct sw_doctor *d);

#endif
