"""Greenlets and tasks: which one runs, and how the exception of its block gets to it.

Each has a strand of its own, with the stack of its open blocks. One that waits gets the exception from a timer of its
event loop: gevent throws it into the greenlet; asyncio cancels the task, and the block turns that CancelledError into
the exception. One that keeps the main thread busy gets it from the signal, as the plain main thread does.

The extension calls current() when a block or shield is entered or left, and in its signal handler: at any bytecode of
the main thread, in here too. Nothing here imports greenlet, gevent or asyncio; they may be half imported just now.
"""

import sys
from functools import partial
from time import monotonic
from weakref import ref

from ._deadline import Strand

# A loop on libuv counts whole milliseconds, so its timer may come too early: then it is set again.
EARLY_S = 0.001
EARLY_TIMES = 3
RUNNING_S = 0.05  # until a task is looked at again that cannot be cancelled now

CANCEL_MESSAGE = "the time limit of a block has passed"

COUNTED = sys.version_info >= (3, 11)
HAS_MESSAGES = sys.version_info >= (3, 9)

_strands = {}  # id of a greenlet or task -> its strand


def current():
    """The strand of the greenlet or task that runs in this thread; None: the thread itself."""
    getcurrent = _loaded("greenlet", "getcurrent")
    greenlet = getcurrent() if getcurrent else None
    get_hub = _loaded("gevent._hub_local", "get_hub_if_exists")
    hub = get_hub() if get_hub else None
    task = _running_task(greenlet, hub)
    if task is not None:
        return _strand_of(task, _Task if COUNTED else _UncountedTask)
    if greenlet is None:
        return None
    if hub is None:
        # The main greenlet may start its hub within the block. Other threads are reached without.
        is_thread = _is_trunk(greenlet) and not (get_hub and _is_main_thread())
        return None if is_thread else _strand_of(greenlet, _Greenlet)
    if greenlet is not hub:
        return _strand_of(greenlet, _Greenlet)
    _set_timers_late(hub)
    return _strand_of(hub, _Strand)


def _loaded(module, name):
    return getattr(sys.modules.get(module), name, None)


def _strand_of(owner, kind):
    strand = _strands.get(id(owner))
    return strand if strand is not None else _strands.setdefault(id(owner), kind(owner))


class _Strand(Strand):
    """Of a greenlet that no loop knows, or of the hub: it gets the exception only while it runs."""

    __slots__ = ("owner",)

    def __init__(self, owner):
        super().__init__(native=True)
        # The callback is C code only: no signal can interrupt it.
        self.owner = ref(owner, partial(_strands.pop, id(owner)))


class _Timer:
    """What one block has in its event loop, from enter to leave."""

    __slots__ = ("block", "fired", "handle", "serial", "strand", "tries")

    def __init__(self, strand, block, serial):
        self.strand, self.block, self.serial = strand, block, serial
        self.handle = None
        self.fired = False
        self.tries = EARLY_TIMES

    def fire(self):
        """The loop calls it when the time is up."""
        owner = self.strand.owner()
        if owner is None or self.strand.ended(owner):
            return
        if self.strand.on_stack(owner):
            self.set(RUNNING_S)
            return
        raised = self.block._fire(self.serial, self.strand.frame(owner))
        if raised is not None:
            self.fired = True
            self.strand.interrupt(owner, raised)
        elif self.tries:  # if it was not early there is a shield, which raises it itself
            self.tries -= 1
            self.set(EARLY_S)


# ---- gevent ----


def _is_trunk(greenlet):
    """Is it what its thread runs, and not one of several? gevent's own worker threads run in a greenlet, too."""
    return greenlet.parent is None or getattr(greenlet, "greenlet_tree_is_root", False)


def _is_main_thread():
    threading = sys.modules.get("threading")
    return threading is None or threading.get_ident() == threading.main_thread().ident


def _set_timers_late(hub):
    """For the blocks that the main greenlet entered before there was a hub."""
    trunk = hub.parent
    while trunk.parent is not None:
        trunk = trunk.parent
    strand = _strands.get(id(trunk))
    if strand and strand.waiting:
        timers, strand.waiting = strand.waiting, []
        for timer in timers:
            timer.set(max(0.0, timer.at - monotonic()))


class _Greenlet(_Strand):
    __slots__ = ("waiting",)

    def __init__(self, owner):
        super().__init__(owner)
        self.waiting = []  # timers, for a hub that does not exist yet

    def enter(self, seconds, block, serial):
        timer = _GreenletTimer(self, block, serial)
        timer.set(seconds)
        return timer

    def leave(self, timer, kind):
        timer.stop()
        return False

    def ended(self, greenlet):
        return greenlet.dead

    def on_stack(self, greenlet):
        return False  # the hub calls, so it is the one that runs

    def frame(self, greenlet):
        return greenlet.gr_frame

    def interrupt(self, greenlet, raised):
        greenlet.throw(raised)


class _GreenletTimer(_Timer):
    __slots__ = ("at",)

    def set(self, seconds):
        get_hub = _loaded("gevent._hub_local", "get_hub_if_exists")
        hub = get_hub() if get_hub else None
        if hub is None:
            self.at = monotonic() + seconds
            self.strand.waiting.append(self)
            return
        self.stop()
        self.handle = hub.loop.timer(seconds, priority=-1)  # gevent's own Timeout has it: who can go on goes first
        self.handle.start(self.fire, update=True)

    def stop(self):
        if self.handle is not None:
            self.handle.stop()
            self.handle.close()
        elif self in self.strand.waiting:
            self.strand.waiting.remove(self)


# ---- asyncio ----


def _running_task(greenlet, hub):
    get_loop = _loaded("asyncio.events", "_get_running_loop")
    current_task = _loaded("asyncio.tasks", "current_task")
    loop = get_loop() if get_loop and current_task else None
    task = current_task(loop) if loop is not None else None
    # With gevent a task may be in the middle of a step while other greenlets of its thread run.
    return task if hub is None or task is None or _runs_in(loop, greenlet, hub) else None


def _runs_in(loop, greenlet, hub):
    """Does this loop run in this greenlet, or in one that waits for it (as SQLAlchemy's do)?"""
    runner = getattr(loop, "_thread_id", None)
    if runner is None or runner == _loaded("threading", "get_ident")():
        return True
    while greenlet is not None and greenlet is not hub:
        if runner == id(greenlet):  # what gevent makes of get_ident()
            return True
        greenlet = greenlet.parent
    return False


class _Task(_Strand):
    """Python counts how often a task was cancelled, so a cancel of somebody else is told from ours."""

    __slots__ = ()

    def enter(self, seconds, block, serial):
        timer = _TaskTimer(self, block, serial)
        timer.before = self.cancels(self.owner())
        timer.set(seconds)
        return timer

    def leave(self, timer, kind):
        timer.handle.cancel()
        task = self.owner()
        if not timer.fired or task is None:
            return False
        only_ours = self.uncancel(task) <= timer.before
        return only_ours and kind is not None and issubclass(kind, _loaded("asyncio.exceptions", "CancelledError"))

    def ended(self, task):
        return task.done()

    def on_stack(self, task):
        """It runs a loop within the loop, so that a cancel would come after that, and perhaps after the block."""
        return getattr(task.get_coro(), "cr_running", False)

    def frame(self, task):
        """That of the innermost coroutine."""
        frame, inner = None, task.get_coro()
        while inner is not None:
            frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None) or frame
            inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
        return frame

    def interrupt(self, task, raised):
        task.cancel()

    def cancels(self, task):
        return task.cancelling()

    def uncancel(self, task):
        return task.uncancel()


class _UncountedTask(_Task):
    """Before 3.11. Ours are counted here. What others do shows in private fields of the task, but not when it waits for
    something that has a cancellation of its own to finish, and in 3.8 only if they came first."""

    __slots__ = ("ours",)

    def __init__(self, owner):
        super().__init__(owner)
        self.ours = 0

    def ended(self, task):
        at = task
        while at is not None:
            if at.done() or getattr(at, "_must_cancel", False):
                return True
            at = getattr(at, "_fut_waiter", None)
        return False

    def interrupt(self, task, raised):
        self.ours += 1
        if HAS_MESSAGES:
            task.cancel(CANCEL_MESSAGE)
            task._cancel_message = CANCEL_MESSAGE  # the next cancel puts its own there
        else:
            task.cancel()

    def cancels(self, task):
        return self.ours

    def uncancel(self, task):
        self.ours -= 1
        return self.ours + (HAS_MESSAGES and task._cancel_message is not CANCEL_MESSAGE)


class _TaskTimer(_Timer):
    __slots__ = ("before",)

    def set(self, seconds):
        self.handle = self.strand.owner().get_loop().call_later(seconds, self.fire)
