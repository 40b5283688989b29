/* filelock.h - which process holds the file lock that a thread of ours waits for.
 * Owns:    nothing. Callers: any thread; reads /proc/locks up to a budget, no allocation.
 * Fork:    nothing to do. */
#ifndef SW_FILELOCK_H
#define SW_FILELOCK_H

#include "base.h"
#include <sys/types.h>

enum sw_filelock_kind { SW_FILELOCK_FLOCK, SW_FILELOCK_POSIX };

/* 0 = cannot be known: not blocked (any more), several candidates, a holder outside of our pid namespace */
pid_t sw_filelock_holder(int fd, enum sw_filelock_kind kind);

#endif
