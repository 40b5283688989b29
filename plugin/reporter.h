/* reporter.h - the process that owns everything slow or fragile: source lines, grouping, the log, mail, alarms.
 * Owns:    its process, from the fork in the master to _exit.
 * Callers: the child that master.c forks; one thread. It is the only process that opens files or speaks SMTP.
 * Fork:    deliveries of mail are its children.
 * Ends:    on the END datagram (reload, shutdown), on end of file (master and workers are gone), or when its
 *          parent is no longer the master; in each case after it has read what was queued. */
#ifndef SW_REPORTER_H
#define SW_REPORTER_H

#include "channel.h"
#include "shared.h"
#include "sink_alarm.h"
#include "sink_log.h"
#include "sink_mail.h"

struct sw_reporter_setup {
    struct sw_channel *channel;     /* the write end is closed here */
    const struct sw_shared *shared; /* the counters of lost events */
    pid_t master;
    enum sw_log_format log;
    const struct sw_mail_config *mail; /* to_count == 0: off */
    struct sw_sink_alarm alarm;
};

#define SW_REPORTER_DRAIN_NS (UINT64_C(1500) * SW_NS_PER_MS) /* for mail, once nothing more comes */

/* Returns when there is nothing left to do: 0, or -errno when it could not start. */
int sw_reporter_run(struct sw_reporter_setup *setup);

#endif
