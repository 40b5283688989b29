"""The block is the border: blocks that end within microseconds of their deadline, and traps for an exception that comes
after its block, twice, or instead of another one's. Nothing may be left over either, in memory or in references."""

import functools
import gc
import random
import sys
import threading
import time
import tracemalloc

from cases import FAR, Tuner, case, in_c, in_thread, rss_bytes, spin, start
from slowwatch import Quota, timeout

BLOCKS = 100_000 if sys.version_info[:2] == (3, 11) else 5_000  # in all
LIMIT = 0.0001  # seconds, of those that are alone
SWITCH = 1e-5  # seconds: the interpreter's switch interval, so that the deadlines of others are looked after soon
RSS_GROWTH = 6 << 20  # bytes


class Late(Exception):
    pass


# Different ones in turn, so that one that comes too late is not taken for that of the next block.
KINDS = [type(f"Late{number}", (Late,), {}) for number in range(16)]


def quick(function):
    """Decorator: with a short switch interval. Where exceptions come at any moment, some come in a destructor or in the
    callback of a weak reference, which lets none through: these are lost, and only these."""

    def unraisable(lost):
        if not issubclass(lost.exc_type, Late):
            hook(lost)

    @functools.wraps(function)
    def call():
        nonlocal hook
        before, hook = sys.getswitchinterval(), sys.unraisablehook
        sys.setswitchinterval(SWITCH)
        sys.unraisablehook = unraisable
        try:
            function()
        finally:
            sys.setswitchinterval(before)
            sys.unraisablehook = hook

    hook = None
    return call


def outside(number):
    """Code of the kinds where an exception would come. Whoever called this is not in a block."""
    values = []
    for value in range(5):
        values.append(value)
    if number % 64 == 0:
        gc.collect(0)
    try:
        raise ValueError(number)
    except ValueError as error:
        values.append(error)
    return len(values)


def wanted(number):
    """A class in two of three cases, else an instance."""
    kind = KINDS[number % len(KINDS)]
    return kind(number) if number % 3 == 0 else kind


def check(error, exception):
    right = error is exception if isinstance(exception, Late) else type(error) is exception
    assert right, f"{error!r} came instead of {exception!r}"


def with_statements(count, tuner, limit=LIMIT):
    for number in range(count):
        exception, left, fired = wanted(number), False, False
        block = timeout(limit, exception)
        try:
            with block:
                spin(tuner.seconds + random.uniform(-1e-5, 1e-5))
            left = True
            outside(number)
        except Late as error:
            assert not left, "after the block"
            check(error, exception)
            fired = True
        outside(number)
        assert fired <= block.expired
        tuner.count(fired)


def exact_exits(count, tuner, limit=LIMIT):
    """The end of the block and a mark right after it, with nothing in between where an exception could come."""
    for number in range(count):
        exception, marks, fired = wanted(number), [], False
        block = timeout(limit, exception)
        leave = functools.partial(block.__exit__, None, None, None)
        mark = functools.partial(marks.append, number)
        try:
            block.__enter__()
            spin(tuner.seconds + random.uniform(-1e-5, 1e-5))
            in_c(leave, mark)
            outside(number)
        except Late as error:
            assert not marks, "after the block"
            check(error, exception)
            fired = True
            block.__exit__(type(error), error, None)
        outside(number)
        tuner.count(fired)


def nested(count, tuner, limit=LIMIT):
    """Two that are due at nearly the same moment: one of them comes, and only inside its block."""
    for number in range(count):
        outer, inner, inside, fired = KINDS[number % 8], KINDS[8 + number % 8], True, False
        try:
            with timeout(limit + random.uniform(-1e-5, 1e-5), outer):
                try:
                    with timeout(limit, inner):
                        spin(tuner.seconds + random.uniform(-1e-5, 1e-5))
                    inside = False
                except inner:
                    assert inside, "after the inner block"
                    fired = True
                outside(number)
        except outer:
            fired = True
        outside(number)
        tuner.count(fired)


def other_exceptions(count, tuner, limit=LIMIT):
    """Blocks that are left by something else at the time of their deadline."""
    for number in range(count):
        exception, left, fired = wanted(number), False, False
        try:
            try:
                with timeout(limit, exception):
                    spin(tuner.seconds + random.uniform(-1e-5, 1e-5))
                    raise KeyError(number)
            except KeyError:
                left = True
            outside(number)
        except Late as error:
            assert not left, "after the block"
            check(error, exception)
            fired = True
        outside(number)
        tuner.count(fired)


def swallowing(count, tuner, limit=LIMIT):
    """The exception is caught within the block, which it must not leave a second time."""
    for number in range(count):
        exception, raised = wanted(number), 0
        try:
            block = timeout(limit, exception)  # known also when the exception comes before `as` would bind it
            with block:
                try:
                    spin(tuner.seconds + random.uniform(-1e-5, 1e-5))
                except Late as error:
                    check(error, exception)
                    raised += 1
        except Late as error:
            check(error, exception)
            raised += 1
        outside(number)
        assert raised <= 1, "twice"
        assert raised <= block.expired
        tuner.count(raised == 1)


STYLES = [with_statements, exact_exits, nested, other_exceptions, swallowing]


def one_after_the_other(count):
    for style in STYLES:
        tuner = Tuner(LIMIT)
        style(count // len(STYLES), tuner)
        tuner.check()


@case(both=True)
@quick
def alone():
    one_after_the_other(BLOCKS * 3 // 10)


@case
@quick
def in_several_threads_at_once():
    """Also in the main one. They get in each other's way, so the limits are longer and the aim is worse."""
    tuners = []

    def work(style, count):
        tuner = Tuner(8 * LIMIT, 2e-5)
        tuners.append(tuner)
        style(count, tuner, 8 * LIMIT)

    threads = [start(work, style, BLOCKS // 16) for style in STYLES[:3]]
    for style in STYLES:
        work(style, BLOCKS // 80)
    for thread in threads:
        thread.result()
    together = Tuner(0)
    together.fired = sum(tuner.fired for tuner in tuners)
    together.left = sum(tuner.left for tuner in tuners)
    together.check()


@case
@quick
def many_threads_that_sleep():
    """The exception comes when the call returns, which is when the block ends."""
    counts = []

    def work(seconds):
        fired = 0
        for number in range(BLOCKS // 400):
            exception, left = wanted(number), False
            try:
                with timeout(seconds, exception):
                    time.sleep(seconds + random.uniform(-5e-4, 1e-4))
                left = True
                outside(number)
            except Late as error:
                assert not left, "after the block"
                check(error, exception)
                fired += 1
            outside(number)
        counts.append(fired)

    for thread in [start(work, 0.002 + number * 1e-5) for number in range(40)]:
        thread.result()
    total = 40 * (BLOCKS // 400)
    assert total / 10 <= sum(counts), (sum(counts), total)


@case
@quick
def one_object_for_all():
    """Shared by threads that enter and leave it all the time."""
    block = timeout(0.0005, Late)

    def work():
        tuner = Tuner(0.0004, 1e-5)
        for number in range(BLOCKS // 100):
            left, fired = False, False
            try:
                with block:
                    spin(tuner.seconds)
                left = True
                outside(number)
            except Late:
                assert not left, "after the block"
                fired = True
            tuner.count(fired)

    for thread in [start(work) for _ in range(4)]:
        thread.result()
    assert block.remaining() == 0.0005


# ---- nothing is left ----


def growth(function, *args):
    """Of the process's memory, while this runs for the second time."""
    function(*args)
    gc.collect()
    before = rss_bytes()
    function(*args)
    gc.collect()
    return rss_bytes() - before


def unlimited(count):
    block = timeout(FAR)
    for _ in range(count):
        with block:
            pass
        with timeout(FAR, KINDS[0]):
            pass


def firing(count):
    for number in range(count):
        try:
            with timeout(1e-6, wanted(number)):
                spin(0.1)
        except Late:
            pass


def threads_with_blocks(count):
    for _ in range(count):
        thread = threading.Thread(target=firing, args=(1,))
        thread.start()
        thread.join()


@case(both=True)
def memory_of_blocks():
    assert growth(unlimited, BLOCKS) < RSS_GROWTH
    assert growth(quick(lambda: firing(BLOCKS // 20))) < RSS_GROWTH


@case
@quick
def memory_of_threads():
    assert growth(threads_with_blocks, 300) < RSS_GROWTH


@case(both=True)
@quick
def references_and_objects():
    """Of everything that a block touches, a thousand times and not once more in the end."""

    class Marked(Late):
        pass

    quota, instance = Quota(FAR), Marked()
    firing(10)

    def uses():
        for _ in range(300):
            for exception in (Marked, instance):
                try:
                    with timeout(quota), timeout(1e-6, exception):
                        spin(0.1)
                except Marked:
                    pass
                with timeout(quota, exception), timeout(FAR, exception) as block:
                    block.remaining()
        instance.__traceback__ = instance.__context__ = None
        gc.collect()

    watched = [Marked, instance, quota, timeout]
    uses()
    tracemalloc.start()
    uses()
    before = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
    references = [sys.getrefcount(one) for one in watched]
    uses()
    after = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
    grown = [sys.getrefcount(one) - then for one, then in zip(watched, references)]
    tracemalloc.stop()
    assert max(map(abs, grown)) < 100, grown
    assert after[0] - before[0] < 100, (before, after)
    assert after[1] - before[1] < 20_000, (before, after)
    assert Marked.__subclasses__() == []


@case
def blocks_of_ended_threads():
    """What a thread leaves open is given back with the object."""

    def leave_open():
        block = timeout(FAR, Late)
        block.__enter__()
        return block

    def many():
        for _ in range(300):
            in_thread(leave_open)

    assert growth(many) < RSS_GROWTH
