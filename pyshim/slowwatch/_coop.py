"""Greenlets and tasks: which one runs, and how the exception of its block gets to it.

Each has a strand of its own, with the stack of its open blocks. One that waits gets the exception from a timer of its
event loop: gevent throws it into the greenlet; asyncio cancels the task, and the block turns that CancelledError into
the exception. One that keeps the main thread busy gets it from the signal, as the plain main thread does.

The extension calls current() when a block or shield is entered or left, and in its signal handler: at any bytecode of
the main thread, in here too. Nothing here imports greenlet, gevent or asyncio; they may be half imported just now.
Strands are kept as long as the greenlet or task lives, which they do not keep alive.
"""

import sys
from functools import partial
from time import monotonic
from weakref import ref

from ._deadline import Strand

# A loop on libuv counts whole milliseconds, so its timer may come too early: then it is set again.
EARLY_S = 0.001
EARLY_TIMES = 3
BUSY_S = 0.05  # until a task is looked at again that could not be cancelled

CANCEL_MESSAGE = "the time limit of a block has passed"
TASKS_COUNT_CANCELS = sys.version_info >= (3, 11)
CANCELS_HAVE_MESSAGES = sys.version_info >= (3, 9)

_strands = {}  # id of a greenlet or task -> its strand


def current():
    """The strand of the greenlet or task that runs in this thread; None: the thread itself."""
    getcurrent = _loaded("greenlet", "getcurrent")
    greenlet = getcurrent() if getcurrent else None
    get_hub = _loaded("gevent._hub_local", "get_hub_if_exists")
    hub = get_hub() if get_hub else None
    task = _running_task(greenlet, hub)
    if task is not None:
        return _strand_of(task, _Task if TASKS_COUNT_CANCELS else _UncountedTask)
    if greenlet is None:
        return None
    if hub is None and _is_trunk(greenlet):
        # The main thread may start its hub within the block. No other thread has one for sure.
        return _strand_of(greenlet, _Greenlet) if get_hub and _is_main_thread() else None
    if greenlet is hub:
        _set_timers_late(hub)
        return None
    return _strand_of(greenlet, _Greenlet)


def _loaded(module, name):
    return getattr(sys.modules.get(module), name, None)


def _strand_of(owner, kind):
    strand = _strands.get(id(owner))
    return strand if strand is not None else _strands.setdefault(id(owner), kind(owner))


class _Strand(Strand):
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
        """The loop says that the time is up."""
        owner = self.strand.owner()
        if owner is None or self.strand.is_over(owner):
            return
        if self.strand.is_busy(owner):
            self.set(BUSY_S)
            return
        raised = self.block._fire(self.serial, self.strand.frame(owner))
        if raised is not None:
            self.fired = True
            self.strand.interrupt(owner, raised)
        elif self.tries:  # if it was not early there is a shield, whose end raises it
            self.tries -= 1
            self.set(EARLY_S)


# ---- greenlets ----


def _is_trunk(greenlet):
    """Is it what its thread runs, not one of several? gevent's own worker threads run in a greenlet, too."""
    return greenlet.parent is None or getattr(greenlet, "greenlet_tree_is_root", False)


def _is_main_thread():
    threading = sys.modules.get("threading")
    return threading is None or threading.get_ident() == threading.main_thread().ident


def _set_timers_late(hub):
    """For the blocks that the main greenlet had opened before there was a hub."""
    trunk = hub.parent
    while trunk.parent is not None:
        trunk = trunk.parent
    strand = _strands.get(id(trunk))
    if strand is not None and strand.waiting:
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

    def is_over(self, greenlet):
        return greenlet.dead

    def is_busy(self, greenlet):
        return False  # the hub asks, so it is the one that runs

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
        self.handle = hub.loop.timer(seconds, priority=-1)  # as gevent.Timeout: who can go on goes first
        self.handle.start(self.fire, update=True)

    def stop(self):
        if self.handle is not None:
            self.handle.stop()
            self.handle.close()
        elif self in self.strand.waiting:
            self.strand.waiting.remove(self)


# ---- tasks ----


def _running_task(greenlet, hub):
    get_loop = _loaded("asyncio.events", "_get_running_loop")
    current_task = _loaded("asyncio.tasks", "current_task")
    loop = get_loop() if get_loop and current_task else None
    task = current_task(loop) if loop is not None else None
    if task is None or not _is_on_stack(task, unknown=True):  # asyncio is at work before or after its coroutine
        return None
    # With gevent a task may be in the middle of a step while other greenlets of its thread run.
    return task if hub is None or _runs_in(loop, greenlet, hub) else None


def _is_on_stack(task, unknown):
    """Does its coroutine run, or something that it has called?"""
    coroutine = task.get_coro()
    return getattr(coroutine, "cr_running", getattr(coroutine, "gi_running", unknown))


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
    """Tasks count how often they were cancelled, so ours is told from those of somebody else, which win."""

    __slots__ = ()

    def enter(self, seconds, block, serial):
        timer = _TaskTimer(self, block, serial)
        timer.cancels_before = self.cancels(self.owner())
        timer.set(seconds)
        return timer

    def leave(self, timer, kind):
        timer.handle.cancel()
        task = self.owner()
        if task is None or not timer.fired:
            return False
        is_only_ours = self.uncancel(task) <= timer.cancels_before
        return is_only_ours and kind is not None and issubclass(kind, _loaded("asyncio.exceptions", "CancelledError"))

    def is_over(self, task):
        return task.done()

    def is_busy(self, task):
        """Does it run a loop within the loop? A cancel would come after that, and perhaps after the block."""
        return _is_on_stack(task, unknown=False)

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
    """Before 3.11. Ours are counted here. A cancel of somebody else shows in private fields of the task. One after ours
    does not when the task waits for another one, which is not through with ours yet, and never in 3.8: it is lost."""

    __slots__ = ("ours",)

    def __init__(self, owner):
        super().__init__(owner)
        self.ours = 0

    def is_busy(self, task):
        """Is it, or is somebody else's cancel on its way?"""
        at = task
        while at is not None:
            if at.cancelled() or getattr(at, "_must_cancel", False):
                return True
            at = getattr(at, "_fut_waiter", None)
        return super().is_busy(task)

    def interrupt(self, task, raised):
        self.ours += 1
        if CANCELS_HAVE_MESSAGES:
            task.cancel(CANCEL_MESSAGE)
            task._cancel_message = CANCEL_MESSAGE  # the next cancel puts its own there
        else:
            task.cancel()

    def cancels(self, task):
        return self.ours

    def uncancel(self, task):
        self.ours -= 1
        return self.ours + (CANCELS_HAVE_MESSAGES and task._cancel_message is not CANCEL_MESSAGE)


class _TaskTimer(_Timer):
    __slots__ = ("cancels_before",)

    def set(self, seconds):
        self.handle = self.strand.owner().get_loop().call_later(seconds, self.fire)
