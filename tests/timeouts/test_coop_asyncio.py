"""A task that waits is timed out by its loop, one that keeps the main thread busy by the signal. No other is hit."""

import asyncio
import contextlib
import functools
import gc
import random
import signal
import sys
import time
import weakref

from cases import FAR, PATIENCE, SOON, Skip, case, hold_gil, raises, spin, start, takes
from slowwatch import _coop, shield, timeout

TELLS = sys.version_info >= (3, 9)  # a task shows that it was cancelled once more
COUNTS = sys.version_info >= (3, 11)  # asyncio counts the cancels of a task; it has timeout() and TaskGroup too


BRIEF = 0.5  # seconds: a block that is left in time, but whose time passes within the case


class Outer(Exception):
    pass


class Inner(Exception):
    pass


def run(coroutine):
    asyncio.run(coroutine, debug=False)  # which would speak of every slow step


def in_loop(function):
    """Makes a case of a coroutine function: it runs as a task, and must come to its end."""

    async def main():
        await asyncio.wait_for(function(), PATIENCE)

    @functools.wraps(function)
    def call():
        run(main())

    return call


def counted():
    if not COUNTS:
        raise Skip("asyncio does not count cancels before 3.11")


def no_cancel_left():
    if COUNTS:
        assert asyncio.current_task().cancelling() == 0


def hog():
    """Keeps the CPU until it is interrupted."""
    spin(PATIENCE)
    raise AssertionError("was not interrupted")


async def forever():
    await asyncio.get_running_loop().create_future()


async def turns(n=3):
    """Whoever could go on has gone on."""
    for _ in range(n):
        await asyncio.sleep(0)


class Task:
    """Runs the function, a coroutine, as task until it says that it waits. `end()` gives its exception or result."""

    def __init__(self, function, *args):
        self.waits = asyncio.Event()
        self.task = asyncio.ensure_future(function(self.waits.set, *args))

    async def started(self):
        await self.waits.wait()
        return self

    async def end(self):
        return (await asyncio.gather(self.task, return_exceptions=True))[0]


async def limited_task(waits, seconds=SOON):
    async with timeout(seconds, Inner):
        waits()
        await forever()


def hold_loop():
    """Right after this step of the task: when the loop gets to its timers, those of 2 * SOON and less are all due."""
    asyncio.get_running_loop().call_soon(spin, 2 * SOON)


# ---- one block ----


@case(both=True)
@in_loop
async def waiting():
    with takes(SOON), raises(Outer, f"timed out after {SOON} s") as caught:
        async with timeout(SOON, Outer) as t:
            assert t.remaining() > 0
            await forever()
    assert t.expired
    assert isinstance(caught.value.__context__, asyncio.CancelledError)
    no_cancel_left()


@case(both=True)
@in_loop
async def plain_with():
    with takes(SOON), raises(Outer), timeout(SOON, Outer) as t:
        await forever()
    assert t.expired
    no_cancel_left()


@case(both=True)
@in_loop
async def instance():
    error = Outer("mine")
    with raises(Outer) as caught:
        async with timeout(SOON, error):
            await forever()
    assert caught.value is error


@case(both=True)
@in_loop
async def constructor_that_fails():
    class Needs(Exception):
        def __init__(self, argument):
            raise AssertionError("not reached")

    with raises(TypeError, "argument"):
        async with timeout(SOON, Needs):
            await forever()
    no_cancel_left()


@case(both=True)
@in_loop
async def left_in_time():
    for _ in range(100):
        async with timeout(BRIEF):
            pass
        with timeout(BRIEF) as t:
            await asyncio.sleep(0)
    assert sys.getrefcount(t) == 2  # its timer is gone
    await asyncio.sleep(1.2 * BRIEF)
    assert not t.expired


@case(both=True)
@in_loop
async def same_object_again_and_nested():
    t = timeout(SOON)
    for _ in range(2):
        with raises(RuntimeError):
            async with t as same:
                assert same is t
                async with t:
                    await forever()
    no_cancel_left()


@case(both=True)
@in_loop
async def no_limit():
    async with timeout(float("inf")) as t:
        await asyncio.sleep(SOON / 10)
    assert not t.expired
    async with timeout(1e9):
        await asyncio.sleep(0)


@case(both=True)
@in_loop
async def other_error():
    with raises(KeyError):
        async with timeout(FAR):
            raise KeyError
    with raises(asyncio.CancelledError):  # of somebody's future, not of this task
        async with timeout(FAR):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future


@case(both=True)
@in_loop
async def ended_late_but_normally():
    """The loop had no chance to say it; at the latest the end of the block does."""
    with raises(RuntimeError):
        async with timeout(SOON / 10):
            hold_gil(SOON)
    no_cancel_left()
    await asyncio.sleep(0)


# ---- busy coroutines ----


@case
@in_loop
async def busy():
    """The loop cannot help, the signal can."""
    with takes(SOON), raises(Outer) as caught:
        async with timeout(SOON, Outer):
            hog()
    assert caught.traceback[-1].name == "spin"
    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        time.sleep(PATIENCE)
    await asyncio.sleep(0)


@case
def busy_in_thread():
    """No signal comes here: at the next wait, or at the end of the block."""

    @in_loop
    async def main():
        with takes(2 * SOON), raises(Outer):
            async with timeout(SOON, Outer):
                spin(2 * SOON)
                await forever()
        with takes(2 * SOON), raises(Outer):
            async with timeout(SOON, Outer):
                spin(2 * SOON)
        no_cancel_left()

    start(main).result()


@case(both=True)
@in_loop
async def busy_with_something_else():
    """A task that is busy when the time of another one is up is not hit."""

    other = await Task(limited_task).started()
    spin(3 * SOON)
    assert isinstance(await other.end(), Inner)


# ---- several tasks, several loops ----


@case(both=True)
@in_loop
async def each_its_own():
    async def limited(seconds, error):
        with takes(seconds), raises(Inner) as caught:
            async with timeout(seconds, error):
                await forever()
        return caught.value is error

    limits = [SOON * (1 + i % 7) / 4 for i in range(40)]
    ends = await asyncio.gather(*[limited(seconds, Inner(i)) for i, seconds in enumerate(limits)])
    assert all(ends)


@case(both=True)
@in_loop
async def not_in_order():
    """The blocks of two tasks overlap, the first entered is the first left."""

    async def left(waits, go_on):
        async with timeout(BRIEF, Outer):
            waits()
            await go_on.wait()
        await asyncio.sleep(1.2 * BRIEF)
        return "left"

    go_on = asyncio.Event()
    first = await Task(left, go_on).started()
    second = await Task(limited_task).started()
    go_on.set()
    assert await first.end() == "left"
    assert isinstance(await second.end(), Inner)


@case
def loops_in_threads():
    @in_loop
    async def main():
        for _ in range(5):
            with takes(SOON / 2), raises(Inner):
                async with timeout(SOON / 2, Inner):
                    await forever()

    for thread in [start(main) for _ in range(8)]:
        thread.result()


@case(both=True)
@in_loop
async def ends_at_its_deadline():
    """Whichever comes first, by microseconds: it is raised in the block or not at all."""
    outcomes = {True: 0, False: 0}

    async def limited():
        for _ in range(20):
            seconds = random.uniform(0.001, 0.004)
            with contextlib.suppress(Inner):
                async with timeout(seconds, Inner) as t:
                    await asyncio.sleep(max(0, seconds + random.uniform(-0.003, 0.0005)))
            outcomes[t.expired] += 1
            await asyncio.sleep(0)
            no_cancel_left()

    await asyncio.gather(*[limited() for _ in range(100)])
    assert min(outcomes.values()) > 0
    await asyncio.sleep(SOON)


# ---- nesting ----


@case(both=True)
@in_loop
async def outer_is_shorter():
    with takes(SOON), raises(Outer):
        async with timeout(SOON, Outer) as outer, timeout(FAR, Inner) as inner:
            await forever()
    assert outer.expired
    assert not inner.expired
    no_cancel_left()


@case(both=True)
@in_loop
async def inner_is_shorter():
    async with timeout(FAR, Outer) as outer:
        with takes(SOON), raises(Inner):
            async with timeout(SOON, Inner) as inner:
                await forever()
        assert inner.expired
        await asyncio.sleep(SOON)
    assert not outer.expired
    no_cancel_left()


@case(both=True)
@in_loop
async def both_at_once():
    """The outer one is raised, whichever was due first."""
    for seconds in [(SOON / 2, SOON), (SOON, SOON / 2), (SOON, SOON)]:

        async def limited(waits, outer, inner):
            hold_loop()
            async with timeout(outer, Outer), timeout(inner, Inner):
                await forever()

        assert isinstance(await Task(limited, *seconds).end(), Outer)


@case(both=True)
@in_loop
async def one_after_the_other():
    """The outer time passes while the inner exception is handled."""
    with takes(2 * SOON), raises(Outer):
        async with timeout(2 * SOON, Outer):
            try:
                async with timeout(SOON, Inner):
                    await forever()
            except Inner:
                await forever()
    no_cancel_left()


# ---- cancelled by somebody else ----


@case(both=True)
@in_loop
async def cancelled():
    task = await Task(limited_task, FAR).started()
    task.task.cancel()
    assert isinstance(await task.end(), asyncio.CancelledError)
    assert task.task.cancelled()


@case(both=True)
@in_loop
async def cancelled_when_the_time_is_up():
    """Both before the task goes on: it is to end, so it stays a cancel."""

    async def limited(waits):
        hold_loop()
        asyncio.get_running_loop().call_later(SOON / 2, asyncio.current_task().cancel)  # the first of both
        async with timeout(SOON, Inner):
            await forever()

    task = Task(limited)
    assert isinstance(await task.end(), asyncio.CancelledError)
    assert task.task.cancelled()


@case(both=True)
@in_loop
async def cancelled_right_after_the_time_is_up():
    if not TELLS:
        raise Skip("3.8 does not tell that a task was cancelled twice")

    async def limited(waits):
        hold_loop()
        async with timeout(SOON, Outer), timeout(SOON / 2, Inner):
            asyncio.get_running_loop().call_later(1.5 * SOON, asyncio.current_task().cancel)  # the last of all
            await forever()

    task = Task(limited)
    assert isinstance(await task.end(), asyncio.CancelledError)
    assert task.task.cancelled()


@case(both=True)
@in_loop
async def cancelled_before_the_block():
    """A task that goes on after a cancel has limits as any other."""

    async def limited(waits):
        waits()
        try:
            await forever()
        except asyncio.CancelledError:
            with raises(Inner):
                async with timeout(SOON, Inner):
                    await forever()
            raise

    task = await Task(limited).started()
    task.task.cancel()
    assert isinstance(await task.end(), asyncio.CancelledError)


@case(both=True)
@in_loop
async def swallowed():
    async with timeout(SOON) as t:
        with raises(asyncio.CancelledError):
            await forever()
        await asyncio.sleep(SOON)
    assert t.expired
    no_cancel_left()
    await asyncio.sleep(SOON)


@case(both=True)
@in_loop
async def swallowed_by_what_it_waits_for():
    async def stubborn():
        with raises(asyncio.CancelledError):
            await forever()
        return "done"

    async with timeout(SOON) as t:
        assert await asyncio.ensure_future(stubborn()) == "done"
    assert t.expired
    no_cancel_left()
    await asyncio.sleep(0)


@case(both=True)
@in_loop
async def cleanup_waits():
    """What a task does when it is cancelled may take its time; the exception comes after that."""
    done = []
    with takes(2 * SOON), raises(Outer):
        async with timeout(SOON, Outer):
            try:
                await forever()
            finally:
                await asyncio.sleep(SOON)
                done.append("cleaned up")
    assert done


# ---- with what asyncio has itself ----


@case(both=True)
@in_loop
async def wait_for_inside():
    with raises(asyncio.TimeoutError):
        async with timeout(FAR):
            await asyncio.wait_for(forever(), SOON / 2)
    with takes(SOON), raises(Outer):
        async with timeout(SOON, Outer):
            await asyncio.wait_for(forever(), FAR)
    no_cancel_left()


@case(both=True)
@in_loop
async def wait_for_around():
    async def limited(seconds):
        async with timeout(seconds, Inner):
            await forever()

    with raises(asyncio.TimeoutError):
        await asyncio.wait_for(limited(FAR), SOON)
    with raises(Inner):
        await asyncio.wait_for(limited(SOON), FAR)
    no_cancel_left()


@case(both=True)
@in_loop
async def asyncio_timeout():
    counted()
    with raises(TimeoutError):
        async with timeout(FAR, Inner), asyncio.timeout(SOON):
            await forever()
    with raises(Inner):
        async with asyncio.timeout(FAR), timeout(SOON, Inner):
            await forever()
    no_cancel_left()


@case(both=True)
@in_loop
async def asyncio_timeout_at_once():
    """Whichever is outside is raised."""
    counted()

    async def ours_outside(waits):
        hold_loop()
        async with timeout(SOON, Outer), asyncio.timeout(SOON):
            await forever()

    async def ours_inside(waits):
        hold_loop()
        async with asyncio.timeout(SOON), timeout(SOON, Inner):
            await forever()

    for function, expected in [(ours_outside, Outer), (ours_inside, TimeoutError)]:
        assert isinstance(await Task(function).end(), expected)


@case(both=True)
@in_loop
async def task_group_inside():
    counted()
    ends = []

    async def child():
        try:
            await forever()
        finally:
            ends.append(1)

    with raises(Outer):
        async with timeout(SOON, Outer), asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())
    assert ends == [1, 1]
    no_cancel_left()


@case(both=True)
@in_loop
async def task_group_around():
    """A child that fails cancels the task in its block: no timeout."""
    counted()

    async def child():
        await asyncio.sleep(0)
        raise KeyError

    with raises(BaseExceptionGroup) as caught:  # noqa: F821
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            async with timeout(FAR):
                await forever()
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    with raises(BaseExceptionGroup) as caught:  # noqa: F821
        async with asyncio.TaskGroup(), timeout(SOON, Inner):
            await forever()
    assert [type(error) for error in caught.value.exceptions] == [Inner]
    no_cancel_left()


@case(both=True)
@in_loop
async def gathered():
    with raises(Outer):
        async with timeout(SOON, Outer):
            await asyncio.gather(*[forever() for _ in range(10)])
    no_cancel_left()


@case(both=True)
@in_loop
async def eager_tasks():
    """The first step of a task runs in the middle of a step of another one."""
    if not hasattr(asyncio, "eager_task_factory"):
        raise Skip("no eager tasks before 3.12")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

    async def limited():
        async with timeout(SOON, Inner):
            await forever()

    async with timeout(FAR, Outer):
        task = asyncio.get_running_loop().create_task(limited())
        await asyncio.sleep(2 * SOON)
    with raises(Inner):
        await task


# ---- shields ----


@case(both=True)
@in_loop
async def shielded():
    done = []
    with takes(2 * SOON), raises(Outer):
        async with timeout(SOON, Outer) as t:
            async with shield():
                await asyncio.sleep(2 * SOON)
                assert t.expired
                done.append("committed")
            done.append("after the shield")
    assert done == ["committed"]
    no_cancel_left()


@case(both=True)
@in_loop
async def shielded_in_time():
    with takes(SOON), raises(Outer):
        async with timeout(SOON, Outer):
            with shield():
                await asyncio.sleep(SOON / 10)
            await forever()


@case(both=True)
@in_loop
async def block_in_shield():
    async with shield():
        with takes(SOON), raises(Inner):
            async with timeout(SOON, Inner):
                await forever()


@case(both=True)
@in_loop
async def shield_of_one_task():
    """It holds back nothing in another one."""

    async with shield():
        assert isinstance(await Task(limited_task).end(), Inner)


# ---- generators ----


@case(both=True)
@in_loop
async def closed_by_another_task():
    """An asynchronous generator with an open block belongs to the task that entered it, and ends in another one."""

    async def items():
        async with timeout(FAR, Inner):
            while True:
                yield 1

    generator = items()
    await asyncio.ensure_future(generator.__anext__())
    with raises(Outer):
        async with timeout(SOON, Outer):
            await generator.aclose()
            await forever()
    no_cancel_left()


@case(both=True)
@in_loop
async def time_passes_after_the_task():
    """It is over, so it cannot be cancelled; whoever ends the block gets the exception."""

    async def items():
        async with timeout(SOON, Inner):
            yield 1
            yield 2

    generator = items()
    task = asyncio.ensure_future(generator.__anext__())
    await task
    await asyncio.sleep(3 * SOON)
    assert await generator.__anext__() == 2
    with raises(Inner):
        await generator.__anext__()
    no_cancel_left()


@case(both=True)
def abandoned():
    """The loop ends with an open block in a generator, and one in a task that never goes on."""
    kept = []

    @in_loop
    async def main():
        async def items():
            async with timeout(SOON, Inner):
                yield 1

        async def limited():
            async with timeout(SOON, Inner):
                await forever()

        generator = items()
        await generator.__anext__()
        kept.append(generator)
        kept.append(asyncio.ensure_future(limited()))
        await turns()

    main()
    kept.clear()
    gc.collect()
    run(asyncio.sleep(2 * SOON))


@case(both=True)
@in_loop
async def strands_are_freed():
    async def limited():
        async with timeout(FAR):
            await asyncio.sleep(0)

    before = len(_coop._strands)
    tasks = [asyncio.ensure_future(limited()) for _ in range(10)]
    await turns()
    assert len(_coop._strands) == before + 10
    gone = [weakref.ref(task) for task in tasks]
    await asyncio.gather(*tasks)
    tasks.clear()
    await turns()
    gc.collect()
    assert [task() for task in gone] == [None] * 10
    assert len(_coop._strands) == before


# ---- loops in strange places ----


@case
def around_the_loop():
    """A block of the thread ends its whole loop."""

    async def main():
        async with timeout(FAR, Inner):
            await forever()

    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        run(main())


@case(both=True)
def callbacks_and_threads():
    """What runs in the loop but in no task is the thread's."""
    caught = []

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def callback():
            with raises(Outer), timeout(SOON, Outer):
                spin(3 * SOON)
            done.set_result(None)

        def other_thread():
            with raises(Outer) as outer, timeout(SOON, Outer):
                hog()
            caught.append(outer.value)

        loop.call_soon(callback)
        await asyncio.gather(done, loop.run_in_executor(None, other_thread))

    run(main())
    assert caught


@case(both=True)
@in_loop
async def loop_in_the_loop():
    """A step of the task runs the loop once more (nest_asyncio does that). It cannot be cancelled there: a cancel would
    wait for its next wait, perhaps after the block."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def nested(seconds):
        asyncio.tasks._leave_task(loop, task)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            loop.call_later(SOON / 10, int)
            loop._run_once()
        asyncio.tasks._enter_task(loop, task)

    with takes(3 * SOON), raises(Inner):
        async with timeout(SOON, Inner):
            nested(3 * SOON)
    await asyncio.sleep(0)
    no_cancel_left()
    with raises(Inner):
        async with timeout(SOON, Inner):
            nested(2 * SOON)
            await forever()
    await asyncio.sleep(0)
    no_cancel_left()


@case
@in_loop
async def asked_at_any_time():
    """As the handler of a signal does: whose strand it is can be asked at any bytecode, in the answer itself too."""
    task = asyncio.current_task()
    async with timeout(FAR):
        expected = _coop.current()
    asked = []

    def ask(signum, frame):
        now = _coop.current()
        if asyncio.current_task() is task:  # asyncio may be at work for it, outside of its coroutine
            assert now is (expected if task.get_coro().cr_running else None)
            asked.append(1)

    signal.signal(signal.SIGALRM, ask)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        with raises(Outer):
            async with timeout(1, Outer):
                while True:
                    async with timeout(FAR):
                        pass
                    await asyncio.sleep(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert len(asked) > 100
    no_cancel_left()
