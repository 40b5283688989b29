"""A greenlet that waits is timed out by its hub, one that keeps the main thread busy by the signal. No other is hit."""

import asyncio
import contextlib
import functools
import gc
import random
import socket
import sys
import threading
import time
import weakref

import gevent
import gevent.event
import gevent.lock
import gevent.os
import gevent.pool
import gevent.queue
import gevent.socket
import gevent.subprocess
import greenlet
from cases import FAR, PATIENCE, SOON, case, exit_code, forked, hold_gil, raises, spin, start, takes
from slowwatch import _coop, shield, timeout

OWN_ONLY = True  # read by conftest.py: gevent is there for one Python only


BRIEF = 0.5  # seconds: a block that is left in time, but whose time passes within the case


class Outer(Exception):
    pass


class Inner(Exception):
    pass


def in_greenlet(function):
    """The case runs in a greenlet, and must come to its end."""

    @functools.wraps(function)
    def call():
        end = Waiting(lambda waits: waits() or function()).end()
        if end is not None:
            raise end

    return call


def hog():
    """Keeps the CPU until it is interrupted."""
    spin(PATIENCE)
    raise AssertionError("was not interrupted")


def forever():
    gevent.event.Event().wait()


def turns(n=3):
    """Whoever could go on has gone on."""
    for _ in range(n):
        gevent.sleep(0)


class Waiting:
    """A greenlet whose function calls waits(). end() gives its exception or result."""

    def __init__(self, function, *args):
        self.waits = gevent.event.Event()
        self.greenlet = gevent.spawn(self.run, function, *args)
        assert self.waits.wait(PATIENCE)

    def run(self, function, *args):
        try:
            return function(self.waits.set, *args)
        except BaseException as error:
            return error

    def end(self):
        return self.greenlet.get(timeout=PATIENCE)


def limited(waits, seconds=SOON):
    with timeout(seconds, Inner):
        waits()
        forever()


# ---- one block ----


@case(both=True)
@in_greenlet
def waiting():
    with takes(SOON), raises(Outer, f"timed out after {SOON} s"), timeout(SOON, Outer) as t:
        assert t.remaining() > 0
        forever()
    assert t.expired
    gevent.sleep(SOON)


@case(both=True)
def main_greenlet():
    gevent.get_hub()
    with takes(SOON), raises(Outer), timeout(SOON, Outer) as t:
        gevent.sleep(PATIENCE)
    assert t.expired
    with takes(SOON), raises(Outer), timeout(SOON, Outer) as t:
        gevent.spawn(forever).join()
    gevent.sleep(SOON)


@case(alone=True)
def before_there_is_a_hub():
    assert gevent._hub_local.get_hub_if_exists() is None
    with timeout(FAR) as left:
        pass
    assert sys.getrefcount(left) == 2
    with takes(BRIEF), raises(Outer), timeout(BRIEF, Outer):
        with takes(SOON), raises(Inner), timeout(SOON, Inner):
            assert gevent._hub_local.get_hub_if_exists() is None
            gevent.sleep(PATIENCE)
        gevent.sleep(PATIENCE)
    with takes(SOON), raises(Inner), timeout(SOON, Inner):
        forever()


@case(alone=True)
def before_there_is_gevent_in_a_thread():
    """A hub for each thread that asks for one; the others are plain threads."""

    def plain():
        with takes(SOON), raises(Outer), timeout(SOON, Outer):
            hog()
        assert gevent._hub_local.get_hub_if_exists() is None

    start(plain).result()
    start(waiting.function).result()


@case(both=True)
@in_greenlet
def what_it_waits_for():
    """Nothing of gevent is left half done: what came later is there for the next one."""
    queue, lock, event = gevent.queue.Queue(), gevent.lock.RLock(), gevent.event.AsyncResult()
    with raises(Outer), timeout(SOON, Outer):
        queue.get()
    queue.put("later")
    assert queue.get(timeout=PATIENCE) == "later"
    holder = Waiting(lambda waits: (lock.acquire(), waits(), event.get(), lock.release()))
    with raises(Outer), timeout(SOON, Outer):
        lock.acquire()
    event.set(1)
    holder.end()
    with lock:
        pass
    one, other = socket.socketpair()
    with one, other, gevent.socket.socket(fileno=one.detach()) as mine:
        with raises(Outer), timeout(SOON, Outer):
            mine.recv(1)
        other.send(b"x")
        assert mine.recv(1) == b"x"
    if threading.current_thread() is threading.main_thread():
        child = gevent.subprocess.Popen(["sleep", str(PATIENCE)])
        with takes(SOON), raises(Outer), timeout(SOON, Outer):
            child.wait()
        child.kill()
        assert child.wait() != 0


@case(both=True)
@in_greenlet
def constructor_that_fails():
    class Needs(Exception):
        def __init__(self, argument):
            raise AssertionError("not reached")

    with raises(TypeError, "argument"), timeout(SOON, Needs):
        forever()


@case(both=True)
@in_greenlet
def left_in_time():
    for _ in range(100):
        with timeout(BRIEF) as t:
            gevent.sleep(0)
    assert sys.getrefcount(t) == 2  # its timer is gone
    gevent.sleep(1.2 * BRIEF)
    assert not t.expired


@case(both=True)
@in_greenlet
def no_limit():
    with timeout(float("inf")), timeout(1e9):
        gevent.sleep(0)


@case(both=True)
@in_greenlet
def ended_late_but_normally():
    with raises(Outer), timeout(SOON, Outer):
        hold_gil(2 * SOON)
    turns()


# ---- busy greenlets ----


@case
@in_greenlet
def busy():
    """The hub cannot help, the signal can."""
    with takes(SOON), raises(Outer) as caught, timeout(SOON, Outer):
        hog()
    assert caught.traceback[-1].name == "spin"
    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        time.sleep(PATIENCE)
    turns()


@case
def busy_main_greenlet():
    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        hog()


@case
def busy_in_thread():
    """No signal comes here: at the next wait, or at the end of the block."""

    @in_greenlet
    def late():
        with takes(2 * SOON), raises(Outer), timeout(SOON, Outer):
            spin(2 * SOON)
            forever()
        with takes(2 * SOON), raises(Outer), timeout(SOON, Outer):
            spin(2 * SOON)

    start(late).result()


@case(both=True)
@in_greenlet
def busy_with_something_else():
    """A greenlet that is busy when the time of another one is up is not hit."""
    other = Waiting(limited)
    with timeout(FAR, Outer):
        spin(3 * SOON)
    assert isinstance(other.end(), Inner)


@case(both=True)
def busy_main_greenlet_with_something_else():
    other = Waiting(limited)
    spin(3 * SOON)
    assert isinstance(other.end(), Inner)


# ---- several greenlets ----


@case(both=True)
def each_its_own():
    def one(seconds, error):
        with takes(seconds), raises(Inner) as caught, timeout(seconds, error):
            forever()
        return caught.value is error

    pool = gevent.pool.Pool(40)
    greenlets = [pool.spawn(one, SOON * (1 + i % 7) / 4, Inner(i)) for i in range(40)]
    pool.join(PATIENCE)
    assert all(g.get(block=False) for g in greenlets)


@case(both=True)
@in_greenlet
def not_in_order():
    """The blocks of two greenlets overlap, the first entered is the first left."""
    go_on = gevent.event.Event()

    def left(waits):
        with timeout(BRIEF, Outer):
            waits()
            go_on.wait()
        gevent.sleep(1.2 * BRIEF)
        return "left"

    first = Waiting(left)
    second = Waiting(limited)
    go_on.set()
    assert first.end() == "left"
    assert isinstance(second.end(), Inner)


@case(both=True)
@in_greenlet
def ends_at_its_deadline():
    """Whichever comes first, by microseconds: it is raised in the block or not at all."""
    outcomes = {True: 0, False: 0}

    def one(waits):
        waits()
        for _ in range(20):
            seconds = random.uniform(0.001, 0.004)
            with contextlib.suppress(Inner), timeout(seconds, Inner) as t:
                gevent.sleep(max(0, seconds + random.uniform(-0.003, 0.0005)))
            outcomes[t.expired] += 1
            gevent.sleep(0)

    ends = [waiting.end() for waiting in [Waiting(one) for _ in range(100)]]
    assert ends == [None] * 100
    assert min(outcomes.values()) > 0
    gevent.sleep(SOON)


# ---- nesting ----


@case(both=True)
@in_greenlet
def outer_is_shorter():
    with takes(SOON), raises(Outer), timeout(SOON, Outer) as outer, timeout(FAR, Inner) as inner:
        forever()
    assert outer.expired
    assert not inner.expired


@case(both=True)
@in_greenlet
def inner_is_shorter():
    with timeout(FAR, Outer) as outer:
        with takes(SOON), raises(Inner), timeout(SOON, Inner) as inner:
            forever()
        assert inner.expired
        gevent.sleep(SOON)
    assert not outer.expired


@case(both=True)
@in_greenlet
def both_at_once():
    """The outer one is raised, whichever was due first."""

    def one(waits, outer, inner):
        gevent.get_hub().loop.run_callback(spin, 2 * SOON)  # before any timer
        waits()
        with timeout(outer, Outer), timeout(inner, Inner):
            forever()

    for seconds in [(SOON / 2, SOON), (SOON, SOON / 2), (SOON, SOON)]:
        assert isinstance(Waiting(one, *seconds).end(), Outer)


@case(both=True)
@in_greenlet
def shielded():
    done = []
    with takes(2 * SOON), raises(Outer), timeout(SOON, Outer) as t:
        with shield():
            gevent.sleep(2 * SOON)
            assert t.expired
            done.append("committed")
        done.append("after the shield")
    assert done == ["committed"]


@case(both=True)
@in_greenlet
def shield_of_one_greenlet():
    """It holds back nothing in another one."""
    with shield():
        assert isinstance(Waiting(limited).end(), Inner)


# ---- ended by somebody else ----


@case(both=True)
@in_greenlet
def killed():
    one = Waiting(limited, FAR)
    one.greenlet.kill()
    assert isinstance(one.end(), gevent.GreenletExit)


@case(both=True)
@in_greenlet
def killed_when_the_time_is_up():
    """Whichever comes first; nothing comes after the end."""
    one = Waiting(limited)
    spin(2 * SOON)
    one.greenlet.kill()
    assert isinstance(one.end(), (gevent.GreenletExit, Inner))
    gevent.sleep(SOON)


@case(both=True)
@in_greenlet
def pool_killed():
    pool = gevent.pool.Pool(10)
    for _ in range(10):
        pool.spawn(limited, int, BRIEF)
    turns()
    pool.kill(timeout=PATIENCE)
    assert not pool
    gevent.sleep(1.2 * BRIEF)


@case(both=True)
@in_greenlet
def gevent_timeout():
    with raises(gevent.Timeout), gevent.Timeout(SOON), timeout(FAR, Inner):
        forever()
    with raises(Outer), timeout(SOON, Outer), gevent.Timeout(FAR):
        forever()
    with timeout(FAR), gevent.Timeout(SOON / 2, False):
        forever()
    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        with gevent.Timeout(SOON / 2, False):
            forever()
        forever()


@case(both=True)
@in_greenlet
def never_left():
    """A greenlet ends with an open block, whose timer is still to come. What is thrown into it comes to the hub."""
    hub, blocks, errors = gevent.get_hub(), [], []

    def enter_only():
        blocks.append(timeout(SOON).__enter__())

    kept = [gevent.spawn(enter_only), greenlet.greenlet(enter_only)]
    kept[0].join()
    kept[1].switch()
    gevent.spawn(enter_only).join()
    hub.handle_error = lambda *error: errors.append(error)
    try:
        gevent.sleep(3 * SOON)
    finally:
        del hub.handle_error
    assert errors == []
    assert all(block.expired for block in blocks)


@case(both=True)
def strands_are_freed():
    before = len(_coop._strands)
    greenlets = [Waiting(limited, FAR).greenlet for _ in range(10)]
    assert len(_coop._strands) >= before + 10
    gone = [weakref.ref(g) for g in greenlets]
    gevent.killall(greenlets)
    greenlets.clear()
    turns()
    gc.collect()
    assert [g() for g in gone] == [None] * 10
    assert len(_coop._strands) <= before + 1  # the hub


@case(both=True)
@in_greenlet
def unusual_owners():
    """A greenlet that cannot be a key of a dictionary."""

    class Record(gevent.Greenlet):
        def __eq__(self, other):
            return True

        __hash__ = None

    def one():
        with takes(SOON), raises(Inner), timeout(SOON, Inner):
            forever()
        return "raised"

    greenlets = [Record.spawn(one) for _ in range(3)]
    assert [g.get(timeout=PATIENCE) for g in greenlets] == ["raised"] * 3


# ---- the hub and greenlets that gevent does not know ----


@case(both=True)
def in_the_hub():
    """What the hub calls itself may not wait, but it may be busy."""
    done = gevent.event.AsyncResult()

    def callback():
        try:
            with timeout(SOON, Outer):
                hog()
        except Outer:
            done.set("raised")

    with takes(SOON):
        gevent.get_hub().loop.run_callback(callback)
        assert done.get(timeout=PATIENCE) == "raised"


@case(both=True)
def nothing_in_the_hub():
    """Deadlines of all sorts pass while the hub runs; it gets none of them."""
    waiting = [Waiting(limited, SOON / 2) for _ in range(5)]
    with raises(Outer), timeout(SOON, Outer):
        forever()
    assert all(isinstance(one.end(), Inner) for one in waiting)


@case(alone=True)
def greenlets_without_a_hub():
    """Switched by hand; only the one that runs is hit."""
    assert gevent._hub_local.get_hub_if_exists() is None

    def one():
        with takes(SOON), raises(Inner), timeout(SOON, Inner):
            hog()
        with timeout(SOON, Inner) as t:
            main.switch("in the block")
        assert t.expired

    main = greenlet.getcurrent()
    other = greenlet.greenlet(one)
    assert other.switch() == "in the block"
    with timeout(FAR, Outer):
        spin(2 * SOON)
    with raises(Inner):
        other.switch()
    assert other.dead


@case(alone=True)
def many_due_at_once():
    """A signal comes for each of them, also while another is being handled. The one that runs gets its own."""

    def suspended():
        with timeout(SOON / 4, Outer):
            main.switch()

    def one():
        with takes(SOON / 4), raises(Inner), timeout(SOON / 4, Inner):
            hog()

    main = greenlet.getcurrent()
    for _ in range(100):
        others = [greenlet.greenlet(suspended) for _ in range(20)]
        for other in others:
            other.switch()
        greenlet.greenlet(one).switch()
        for other in others:
            with raises(Outer):
                other.switch()


@case(both=True)
@in_greenlet
def greenlets_within_a_greenlet():
    """One that waits for its parent's hub gets it, and its parent after it."""

    def one():
        with timeout(SOON, Inner):
            forever()

    with takes(SOON), raises(Inner), timeout(FAR, Outer):
        greenlet.greenlet(one).switch()
    turns()


# ---- threads ----


@case
def threads_of_the_pool():
    """Real threads, in which gevent runs a greenlet."""

    def one():
        with takes(SOON), raises(Outer), timeout(SOON, Outer):
            hog()
        return "raised"

    assert gevent.get_hub().threadpool.apply(one) == "raised"


@case
def hubs_in_threads():
    @in_greenlet
    def one():
        for _ in range(3):
            with takes(SOON / 2), raises(Inner), timeout(SOON / 2, Inner):
                forever()

    for thread in [start(one) for _ in range(6)]:
        thread.result()


def patch():
    from gevent import monkey

    monkey.patch_all()


@case(alone=True)
def patched_threads():
    """All are greenlets of the main thread."""
    patch()
    ends = []

    def one(seconds):
        with takes(seconds), raises(Inner), timeout(seconds, Inner):
            time.sleep(PATIENCE)
        ends.append(seconds)

    limits = [SOON, SOON / 2, SOON * 2]
    threads = [threading.Thread(target=one, args=[seconds]) for seconds in limits]
    for thread in threads:
        thread.start()
    with takes(SOON / 4), raises(Outer), timeout(SOON / 4, Outer):
        threads[0].join()
    for thread in threads:
        thread.join(PATIENCE)
    assert ends == sorted(limits)
    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        hog()


@case(alone=True)
def fork_in_a_block():
    """In the child its deadline is over, and others can be used at once."""

    def child():
        with takes(SOON), raises(Inner), timeout(SOON, Inner):
            forever()
        with takes(SOON), raises(Inner), timeout(SOON, Inner):
            hog()
        gevent.sleep(1.2 * BRIEF)

    def parent():
        with timeout(BRIEF, Outer):
            pid = forked(child, fork=gevent.os.fork)
        assert exit_code(pid) == 0

    gevent.get_hub()
    parent()
    in_greenlet(parent)()


# ---- asyncio ----


@case(both=True)
def greenlet_in_a_task():
    """As SQLAlchemy does: plain code in a greenlet whose waits are awaits of the task around it."""

    async def bridge(function):
        task_greenlet = greenlet.getcurrent()
        other = greenlet.greenlet(function)
        waits = other.switch(task_greenlet.switch)
        while not other.dead:
            try:
                value = await waits
            except BaseException as error:
                waits = other.throw(error)
            else:
                waits = other.switch(value)
        return waits

    async def main():
        loop = asyncio.get_running_loop()

        def query(wait):
            with takes(SOON), raises(Inner), timeout(SOON, Inner):
                wait(loop.create_future())
            with timeout(FAR, Inner):
                wait(asyncio.sleep(0))
            return "done"

        def too_slow(wait):
            wait(loop.create_future())

        async with timeout(FAR, Outer):
            assert await bridge(query) == "done"
            await asyncio.sleep(SOON)
        with takes(SOON), raises(Outer):
            async with timeout(SOON, Outer):
                await bridge(too_slow)

    asyncio.run(main(), debug=False)


@case(alone=True)
def loop_in_a_greenlet():
    """Its tasks are timed out by their loop, other greenlets by the hub, also while a task waits for one of those."""
    patch()

    async def task(seconds):
        with takes(seconds), raises(Inner):
            async with timeout(seconds, Inner):
                await asyncio.get_running_loop().create_future()

    async def main():
        await asyncio.gather(*[task(SOON * i) for i in (1, 3, 2)])
        async with timeout(FAR, Inner):
            assert isinstance(Waiting(limited).end(), Inner)  # in the middle of a step
            await asyncio.sleep(0)

    loops = gevent.spawn(asyncio.run, main())
    while not loops.ready():
        with takes(SOON / 2), raises(Outer), timeout(SOON / 2, Outer):
            forever()
    loops.get()
