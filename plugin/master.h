/* master.h - what the plugin does inside uWSGI's master: keeps the reporter alive, takes the last picture before a kill,
 * ends the reports of workers that died.
 * Owns:    the reporter's pid, an emitter.
 * Callers: the master's main thread, from its callbacks. Never blocks longer than the two limits below.
 * Fork:    the reporter is a child of the master; workers forked later inherit this state and must not use it. */
#ifndef SW_MASTER_H
#define SW_MASTER_H

#include "config.h"
#include "reporter.h"
#include "shared.h"

#define SW_LAST_PICTURE_NS (300 * SW_NS_PER_MS) /* harakiri waits this long for the worker */
#define SW_DRAIN_WAIT_NS   (2 * SW_NS_PER_SEC)  /* shutdown waits this long for the reporter */

struct sw_master_setup {
    struct sw_config *config;
    struct sw_shared *shared;
    struct sw_channel *channel;
    const char *host;
};

void sw_master_init(const struct sw_master_setup *setup);

/* master_cycle: at least once a second */
void sw_master_cycle(void);
/* harakiri(worker): the kill follows when this returns. worker from 1. */
void sw_master_harakiri(int worker);
/* master_cleanup: shutdown, or before the exec of a reload */
void sw_master_cleanup(void);

#endif
