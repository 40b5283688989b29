"""What is decorated stays what it was: a function, method, generator or coroutine; each call has a time limit."""

import asyncio
import contextlib
import functools
import gc
import inspect
import weakref

from cases import FAR, PATIENCE, SOON, case, hold_gil, in_thread, raises, spin, start, takes, wait
from slowwatch import Quota, shield, timeout


class Outer(Exception):
    pass


class Inner(Exception):
    pass


def hog():
    """Keeps the CPU until it is interrupted."""
    spin(PATIENCE)
    raise AssertionError("was not interrupted")


def run(coroutine):
    return asyncio.run(coroutine, debug=False)


# ---- functions ----


@case(both=True)
def function():
    @timeout(SOON, Inner)
    def work(seconds, *more, key=None):
        wait(seconds)
        return seconds, more, key

    for _ in range(2):
        with takes(SOON), raises(Inner, f"timed out after {SOON} s"):
            work(PATIENCE)
    assert timeout(FAR)(lambda *args, **kwargs: (args, kwargs))(1, 2, key=3) == ((1, 2), {"key": 3})


@case
def stays_what_it_was():
    def work(a, b: int = 2) -> str:
        "what it does"

    async def coroutine():
        pass

    def generator():
        yield

    async def async_generator():
        yield

    work.mark = 1
    for block in (timeout(1), timeout(Quota(1), Inner), shield()):
        limited = block(work)
        assert limited.__wrapped__ is work
        assert (limited.__name__, limited.__doc__, limited.mark) == ("work", "what it does", 1)
        assert limited.__module__ == __name__
        assert inspect.signature(limited) == inspect.signature(work)
        for one in (work, coroutine, generator, async_generator):
            for is_kind in (
                inspect.iscoroutinefunction,
                inspect.isgeneratorfunction,
                inspect.isasyncgenfunction,
                asyncio.iscoroutinefunction,
            ):
                assert is_kind(block(one)) == is_kind(one)
                assert is_kind(block(functools.partial(one))) == is_kind(one)


@case(both=True)
def methods():
    class Worker:
        @timeout(SOON, Inner)
        def plain(self):
            wait()

        @classmethod
        @timeout(SOON, Inner)
        def inside_class(cls):
            wait()

        @timeout(SOON, Inner)
        @classmethod
        def outside_class(cls):
            assert cls is Worker
            wait()

        @timeout(SOON, Inner)
        @staticmethod
        def outside_static(one):
            assert one == 1
            wait()

        @property
        @timeout(SOON, Inner)
        def value(self):
            wait()

        @timeout(SOON, Inner)
        def __call__(self):
            wait()

    worker = Worker()
    for call in (
        worker.plain,
        worker.inside_class,
        Worker.outside_class,
        worker.outside_class,
        functools.partial(Worker.outside_static, 1),
        functools.partial(worker.outside_static, one=1),
        lambda: worker.value,
        worker,
    ):
        with takes(SOON), raises(Inner):
            call()


@case
def callable_objects():
    class Coroutine:
        async def __call__(self, value):
            await asyncio.sleep(value)

    class Generator:
        def __call__(self):
            yield from range(3)

    with raises(Inner):
        run(timeout(SOON, Inner)(Coroutine())(PATIENCE))
    assert list(timeout(FAR)(Generator())()) == [0, 1, 2]
    assert timeout(FAR)(max)(1, 2) == 2
    assert timeout(FAR)(functools.partial(max, 1))(2) == 2


@case
def not_for_decorating():
    for wrong in (None, 3, "work", property(len), [len]):
        for block in (timeout(1), shield()):
            with raises(TypeError, "decorates functions"):
                block(wrong)
    with raises(TypeError):
        timeout(1)()


@case(both=True)
def recursion():
    """Each call has its own limit; the outermost is the first to pass."""
    depths = []

    @timeout(SOON, Inner)
    def down(depth):
        depths.append(depth)
        return down(depth + 1) if depth < 5 else wait()

    with takes(SOON), raises(Inner):
        down(0)
    assert depths == list(range(6))


@case
def shared_by_threads():
    @timeout(SOON, Inner)
    def work(seconds):
        wait(seconds)
        return seconds

    @timeout(FAR)
    def in_time(n):
        return n

    def one():
        for n in range(200):
            assert in_time(n) == n
        with takes(SOON), raises(Inner):
            work(PATIENCE)

    for thread in [start(one) for _ in range(8)]:
        thread.result()


@case(both=True)
def quota_for_all_calls():
    quota = Quota(10 * SOON)

    @timeout(quota, Inner)
    def work(seconds):
        wait(seconds)

    work(SOON)
    with raises(Inner):
        work(PATIENCE)
    assert quota.remaining() == 0
    with raises(Inner):
        work(0)
    assert not quota.running()


@case(both=True)
def what_the_function_raises():
    @timeout(FAR, Inner)
    def fails():
        raise KeyError("its own")

    with raises(KeyError, "its own") as caught:
        fails()
    assert caught.value.__context__ is None
    error = Inner("this one")

    @timeout(SOON, error)
    def late():
        wait()

    for _ in range(2):
        with raises(Inner) as caught:
            late()
        assert caught.value is error


@case(both=True)
def shielded_function():
    done = []

    @shield()
    def commit():
        wait(2 * SOON)
        done.append("committed")
        return "result"

    with takes(2 * SOON), raises(Outer), timeout(SOON, Outer):
        commit()
    assert done == ["committed"]
    assert commit() == "result"


@case(both=True)
def arguments_are_freed():
    class Argument:
        pass

    @timeout(FAR)
    def work(argument):
        return weakref.ref(argument)

    @timeout(FAR)
    def items(argument):
        yield weakref.ref(argument)

    assert work(Argument())() is None
    gone = next(items(Argument()))
    gc.collect()
    assert gone() is None


# ---- generators ----


@case(both=True)
def generator_runs_too_long():
    """In total: no single item takes that long."""
    count = []

    @timeout(5 * SOON, Inner)
    def items():
        while True:
            wait(SOON)
            count.append(1)
            yield len(count)

    with takes(5 * SOON), raises(Inner):
        for item in items():
            assert item == len(count)
    assert 0 < len(count) < 6
    count.clear()
    with takes(5 * SOON), raises(Inner):  # each generator has its own time
        list(items())


@case(both=True)
def suspended_generator():
    """While it is suspended no time passes for it, and nothing is raised in who uses it."""

    @timeout(10 * SOON, Inner)
    def items():
        yield from range(3)
        wait()

    generator = items()
    for item in range(3):
        assert next(generator) == item
        wait(8 * SOON)
    with takes(5 * SOON), raises(Inner):
        next(generator)
    with raises(StopIteration):
        next(generator)


@case(both=True)
def generator_protocol():
    said = []

    @timeout(FAR)
    def talk(first):
        try:
            heard = yield first
            while heard != "end":
                said.append(heard)
                try:
                    heard = yield len(said)
                except KeyError as error:
                    said.append(error)
                    heard = yield "caught"
            return "result"
        finally:
            said.append("finally")

    def outer():
        return (yield from talk("first"))

    for start_talk in (lambda: talk("first"), outer):
        said.clear()
        generator = start_talk()
        assert inspect.isgenerator(generator)
        assert next(generator) == "first"
        assert generator.send("a") == 1
        error = KeyError("thrown")
        assert generator.throw(error) == "caught"
        assert generator.send("b") == 3
        with raises(StopIteration) as end:
            generator.send("end")
        assert end.value.value == "result"
        assert said == ["a", error, "b", "finally"]

    said.clear()
    generator = talk("first")
    next(generator)
    generator.close()
    assert said == ["finally"]
    with raises(StopIteration):
        next(generator)

    generator = talk("first")
    next(generator)
    with raises(ZeroDivisionError):
        generator.throw(ZeroDivisionError())
    with raises(TypeError):
        talk("first").send("too early")
    generator = talk("first")
    generator.close()  # it has not begun
    del generator
    said.clear()
    generator = talk("first")
    next(generator)
    del generator
    gc.collect()
    assert said == ["finally"]


@case(both=True)
def timeout_caught_in_generator():
    """It may go on, but has no time left: with the next item it ends, and can clean up."""
    said = []

    @timeout(SOON, Inner)
    def items():
        try:
            try:
                wait()
            except Inner:
                yield "late"
            yield "never"
        finally:
            said.append("finally")

    generator = items()
    assert next(generator) == "late"
    assert said == []
    with raises(Inner):
        next(generator)
    assert said == ["finally"]
    generator = items()
    assert next(generator) == "late"
    generator.close()
    assert said == ["finally"] * 2


@case(both=True)
def late_between_two_items():
    """The time is up, but nobody could say so while the item was made: the generator ends."""
    said = []

    @timeout(SOON, Inner)
    def items():
        try:
            hold_gil(2 * SOON)
            yield 1
        finally:
            said.append("finally")

    generator = items()
    seen = None
    try:
        next(generator)
    except Inner:  # whose traceback keeps the frames
        seen = list(said)
    assert seen == ["finally"]


@case
def generator_ends_late():
    """As with a function the end of the call says it at the latest. Nothing can be raised earlier here."""

    @timeout(SOON, Inner)
    def items():
        hold_gil(2 * SOON)
        return 1
        yield

    async def main():
        with raises(Inner):
            list(items())

    in_thread(run, main())


@case(both=True)
def generator_closed_late():
    """Cleaning up has the time that is left."""

    @timeout(10 * SOON, Inner)
    def items():
        try:
            yield 1
        finally:
            wait()

    generator = items()
    next(generator)
    with takes(SOON), raises(Inner):
        generator.close()


@case(both=True)
def quota_of_generators():
    quota = Quota(3 * SOON)

    @timeout(quota, Inner)
    def items():
        while True:
            yield wait(SOON / 4)

    with takes(3 * SOON), raises(Inner):
        for _ in zip(items(), items()):
            pass
    assert quota.remaining() == 0
    assert not quota.running()


@case(both=True)
def shielded_generator():
    """The work on an item is not interrupted, what is done with it is."""
    made = []

    @shield()
    def items():
        while True:
            wait(3 * SOON)
            made.append(1)
            yield

    with takes(3 * SOON), raises(Outer), timeout(SOON, Outer):
        for _ in items():
            pass
    assert made == [1]
    generator = items()
    next(generator)
    with takes(SOON), raises(Outer), timeout(SOON, Outer):
        wait()
    generator.close()


@case(both=True)
def context_manager_of_generator():
    """A generator function that contextlib makes a context manager of: the limit is for its own code only."""

    @contextlib.contextmanager
    @timeout(5 * SOON, Inner)
    def connection():
        yield "open"
        wait()

    with takes(6 * SOON), raises(Inner), connection() as value:
        assert value == "open"
        wait(2 * SOON)


# ---- coroutines ----


@case(both=True)
def coroutine():
    @timeout(SOON, Inner)
    async def work(seconds):
        await asyncio.sleep(seconds)
        return seconds

    @timeout(FAR)
    async def in_time(value):
        await asyncio.sleep(0)
        return value

    async def main():
        with takes(SOON), raises(Inner):
            await work(PATIENCE)
        assert await in_time("value") == "value"
        ends = await asyncio.gather(work(PATIENCE), in_time(1), work(PATIENCE), return_exceptions=True)
        assert [type(end) for end in ends] == [Inner, int, Inner]
        never = work(0)
        await asyncio.sleep(2 * SOON)  # the time begins with the first step
        assert await never == 0

    run(main())


@case(both=True)
def shielded_coroutine():
    done = []

    @shield()
    async def commit():
        await asyncio.sleep(2 * SOON)
        done.append("committed")

    async def main():
        with takes(2 * SOON), raises(Outer):
            async with timeout(SOON, Outer):
                await commit()

    run(main())
    assert done == ["committed"]


@case(both=True)
def async_generator():
    """Its waits count, what is done between its items does not."""

    @timeout(10 * SOON, Inner)
    async def items(pause):
        while True:
            await asyncio.sleep(pause)
            yield pause

    async def main():
        generator = items(0)
        for _ in range(3):
            assert await generator.__anext__() == 0
            await asyncio.sleep(6 * SOON)
        await generator.aclose()
        count = 0
        with takes(10 * SOON), raises(Inner):
            async for _ in items(SOON):
                count += 1
        assert 0 < count < 11

    run(main())


@case(both=True)
def async_generator_protocol():
    said = []

    @timeout(FAR)
    async def talk():
        try:
            heard = yield "first"
            while heard != "end":
                said.append(heard)
                await asyncio.sleep(0)
                try:
                    heard = yield len(said)
                except KeyError as error:
                    said.append(error)
                    heard = yield "caught"
        finally:
            await asyncio.sleep(0)
            said.append("finally")

    async def main():
        generator = talk()
        assert inspect.isasyncgen(generator)
        assert await generator.__anext__() == "first"
        assert await generator.asend("a") == 1
        error = KeyError("thrown")
        assert await generator.athrow(error) == "caught"
        assert await generator.asend("b") == 3
        with raises(StopAsyncIteration):
            await generator.asend("end")
        assert said == ["a", error, "b", "finally"]
        said.clear()
        generator = talk()
        await generator.__anext__()
        await generator.aclose()
        assert said == ["finally"]
        generator = talk()
        await generator.__anext__()
        with raises(ZeroDivisionError):
            await generator.athrow(ZeroDivisionError())
        assert said == ["finally"] * 2
        await talk().aclose()  # it has not begun

    run(main())


@case(both=True)
def async_generator_without_time():
    said = []

    @timeout(SOON, Inner)
    async def items():
        try:
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                yield "late"
            yield "never"
        finally:
            await asyncio.sleep(0)
            said.append("finally")

    async def main():
        generator = items()
        assert await generator.__anext__() == "late"
        with raises(Inner):
            await generator.__anext__()
        assert said == ["finally"]
        generator = items()
        assert await generator.__anext__() == "late"
        await generator.aclose()
        assert said == ["finally"] * 2

    run(main())


@case
def busy_coroutine():
    @timeout(SOON, Inner)
    async def work():
        hog()

    with takes(SOON), raises(Inner):
        run(work())


@case
def coroutine_without_loop():
    """Driven by hand it is plain code of the thread."""

    @timeout(SOON, Inner)
    async def work():
        wait()

    with takes(SOON), raises(Inner):
        work().send(None)
