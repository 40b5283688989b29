/* deadline.h - the open deadlines of this process: whose time is up, and whose exception may be raised where.
 * The native half of the package: no Python in here, so that it is tested alone and under ThreadSanitizer.
 *
 * A strand is one line of execution: an OS thread, or a greenlet or task that shares one. It carries a stack of open
 * blocks (deadlines, and shields between them). One lock guards every strand and every deadline; it is held for some
 * instructions, never across a call into Python and never while waiting for the GIL. So the order is GIL, then lock.
 *
 * A deadline goes OPEN -> DUE (its time is up; the timer thread says so) -> RAISED (its exception was handed out by
 * sw_strand_take, or delivered after a post), and from any state to CLOSED when its block is left. Only a DUE deadline
 * is handed out, only once, and only until its block is left: that is why an exception cannot come after the block.
 * Of several that are due the outermost is handed out, since the work it bounds is over whatever the inner ones say; the
 * inner ones become OVERTAKEN: expired, but never raised. A shield holds back every deadline entered before it: that
 * becomes DUE, but is neither handed out nor looked after until the shield ends; then the same rule holds again. So a
 * deadline inside a shield is raised although one around the shield is due, and the outer one follows at the shield's end.
 * Blocks are mostly left in the order of a stack, but a suspended generator may be finished inside a younger block, or
 * outlive the one it was begun in: leaving a block never touches another.
 *
 * Owns:    the heap, the timer thread, the list of strands. A struct sw_deadline lives in its timeout object; it must be
 *          left before it goes. A struct sw_strand belongs to whoever called _init, until _fini.
 * Callers: say the groups below. No function blocks, but for the lock, _await and _stop.
 * Clock:   CLOCK_MONOTONIC nanoseconds; callers pass `now`. The threads read it themselves, and so does what makes
 *          something due deliverable again (the end of a shield, a post that is withdrawn).
 * Fork:    sw_deadline_fork_child: a child starts with no open deadline and no thread. What was open in the parent
 *          stays open there; in the child it is CLOSED, and leaving it does nothing. */
#ifndef SLOWWATCH_DEADLINE_H
#define SLOWWATCH_DEADLINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SW_DEADLINE_NEVER UINT64_MAX

enum sw_deadline_state {
    SW_DEADLINE_CLOSED, /* not entered, or left; zeroed memory is valid */
    SW_DEADLINE_OPEN,
    SW_DEADLINE_DUE,
    SW_DEADLINE_POSTED, /* an asynchronous exception is set in its thread state, perhaps not delivered yet */
    SW_DEADLINE_RAISED,
    SW_DEADLINE_OVERTAKEN,
};

/* How a strand that does not look by itself is made to. */
enum sw_deadline_way {
    SW_WAY_SIGNAL, /* the main thread: `kick` interrupts it, and its handler calls sw_strand_take */
    SW_WAY_POST,   /* another thread: whoever waits in sw_deadline_await posts an exception */
    SW_WAY_NONE,   /* somebody else's timer (an event loop on another thread) */
};

struct sw_deadline {
    /* set by the caller before _enter, not changed while open */
    void *owner;      /* the object around it */
    void *context;    /* the Python thread state it was entered in */
    const char *what; /* name of the exception's class, for reports */
    /* guarded by the lock */
    enum sw_deadline_state state;
    bool stuck_said;
    uint32_t shields;                       /* open in its strand when it was entered, and still */
    uint32_t heap_pos;                      /* 1 + index; 0 = not in the heap */
    uint64_t at_ns, limit_ns, wake_ns, seq; /* wake_ns: heap key, at_ns or the lead before it */
    struct sw_strand *strand;
    struct sw_deadline *outer;
};

struct sw_strand {
    enum sw_deadline_way way; /* set before the first _enter */
    pthread_t thread;         /* of the OS thread it was made on; for reports */
    void *group;              /* strands that are posted to together: the Python interpreter */
    /* guarded by the lock */
    struct sw_deadline *innermost, *posted;
    uint32_t shields;
    uint32_t due;                     /* deadlines in state DUE or POSTED */
    uint64_t due_since_ns;            /* since then it has one that is not held back; NEVER = it has none */
    uint64_t kick_at_ns, kick_gap_ns; /* NEVER = not at all */
    uint64_t attend_at_ns;            /* wants somebody to post, or to look at the post; NEVER = does not */
    uint64_t errand_at_ns;            /* the same for sw_deadline_await, which then says it */
    bool kick_failed;                 /* at least once since due_since_ns */
    bool known, listed;               /* in the list of all strands; in that of those that want something */
    struct sw_strand *next, *previous, *next_listed, *previous_listed;
};

/* What the core asks of the world. All are called with the lock held: they must not block and not call back. */
struct sw_deadline_ops {
    /* Interrupts the main thread; false: not possible now, so the strand is posted to instead. */
    bool (*kick)(const struct sw_strand *s);
    /* d has been due for SW_STUCK_AFTER_NS and nobody raised it: its thread sits in a call that does not look. */
    void (*stuck)(const struct sw_deadline *d, uint64_t late_ns);
};

#define SW_MSEC           UINT64_C(1000000)
#define SW_STUCK_AFTER_NS (1000 * SW_MSEC)
/* A signal that came just before a blocking call is lost: kick again, with gaps that double up to a limit. */
#define SW_KICK_GAP_FIRST_NS (1 * SW_MSEC)
#define SW_KICK_GAP_MAX_NS   (250 * SW_MSEC)

/* ---- once per process, and after fork ---- */
void sw_deadline_setup(const struct sw_deadline_ops *ops);
/* SW_WAY_POST: attend this long before, since the GIL takes as long. For deadlines that are entered from now on. */
void sw_deadline_set_lead(uint64_t lead_ns);
void sw_deadline_fork_prepare(void); /* for pthread_atfork: takes the lock */
void sw_deadline_fork_parent(void);
void sw_deadline_fork_child(void);
/* Ends the timer thread and wakes sw_deadline_await; later deadlines are kept but never due, in this process and its
 * children, until _setup. With the GIL released. */
void sw_deadline_stop(void);

/* An interpreter closes: what is still open in strands of this group is closed. */
void sw_deadline_drop_group(void *group);

/* ---- the strand's own thread, GIL held ---- */
void sw_strand_init(struct sw_strand *s, enum sw_deadline_way way, void *group);
/* Closes what is still open. Also from a thread's destructor, without the GIL. */
void sw_strand_fini(struct sw_strand *s);

/* Opens a block. after_ns SW_DEADLINE_NEVER: no limit. Starts the timer thread when needed, wakes it only when this
 * deadline is earlier than what it sleeps for. 0, or with nothing opened -ENOMEM, -EAGAIN (no thread), -EBUSY (it is
 * open already). */
int sw_deadline_enter(struct sw_deadline *d, struct sw_strand *s, uint64_t now, uint64_t after_ns);
/* Leaves a block, and no other. Returns the state in which it was left: DUE means that its time was up and nobody has
 * raised it; CLOSED that it was left before, or closed with its strand. A POSTED one must be settled before. */
enum sw_deadline_state sw_deadline_leave(struct sw_deadline *d);

/* Shields nest; an end without a beginning (before a fork) does nothing. At the end of one the caller takes what is due:
 * when it does not, it is made to look after a short grace. */
void sw_strand_shield(struct sw_strand *s);
void sw_strand_unshield(struct sw_strand *s);

/* What has passed by now is DUE, also when the timer thread did not get to run. Before a shield ends. */
void sw_strand_expire(struct sw_strand *s, uint64_t now);

/* Hands out the deadline whose exception is to be raised here and now, which is then RAISED; NULL = none. */
struct sw_deadline *sw_strand_take(struct sw_strand *s);
/* The same for one deadline only, when some other timer says that its time is up: it and those around it that are OPEN
 * with `now` past them count as due. false: not due, shielded (then it is DUE and raised when the shield ends), one
 * around it is due as well (whose own timer takes that), raised before, or left. */
bool sw_deadline_take(struct sw_deadline *d, uint64_t now);

/* ---- posting: an exception set in another thread's state; GIL held but for _await ---- */

/* Waits until some strand of this group must be posted to, or a post must be looked at again; *at_ns: when its deadline
 * is due: the lead was taken off, so this may be still to come. An errand that nobody runs comes again after a second.
 * false: stop, or *closed was set before sw_deadline_drop_group. GIL released. */
bool sw_deadline_await(const void *group, const _Atomic bool *closed, uint64_t *at_ns);

/* A deadline of this group that wants attention now; NULL = none (any more). It is DUE: post it, or put it off; or
 * POSTED some time ago: settle it, or put it off. Each of these moves the time at which it wants attention again. */
struct sw_deadline *sw_deadline_pick(void *group, uint64_t now);
/* DUE -> POSTED, right before the exception is set; false: it is not due any more. Wants attention again after
 * SW_STUCK_AFTER_NS. */
bool sw_deadline_post(struct sw_deadline *d, uint64_t now);
/* POSTED -> RAISED when it was delivered, -> DUE when it was withdrawn before. */
void sw_deadline_settle(struct sw_deadline *d, bool delivered);
/* Nothing can be done now: attention again at until_ns. Says `stuck` once when it is late by SW_STUCK_AFTER_NS. */
void sw_deadline_put_off(struct sw_deadline *d, uint64_t now, uint64_t until_ns);

/* own thread: the posted deadline of this strand, to be settled before anything else; NULL = none */
struct sw_deadline *sw_strand_posted(struct sw_strand *s);
/* any thread: the posted deadline of the strand that d is open in, or NULL */
struct sw_deadline *sw_deadline_posted(const struct sw_deadline *d);

/* ---- tests ---- */
uint64_t sw_deadline_wakeups(void); /* of the timer thread, since the start or the fork */

#endif
