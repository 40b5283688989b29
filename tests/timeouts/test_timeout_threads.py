"""Threads other than the main one: the exception comes at the next bytecode."""

import _thread
import concurrent.futures
import contextlib
import ctypes
import gc
import queue
import random
import sys
import threading
import time

from cases import FAR, LONG, PATIENCE, SOON, case, hold_gil, in_thread, raises, spin, start, takes, until, wait
from slowwatch import Quota, timeout

MANY = 150


class Late(Exception):
    pass


def limited(seconds=SOON, work=wait, exception=Late):
    with raises(Late) as raised, takes(seconds), timeout(seconds, exception):
        work()
    return raised


def endless():
    while True:
        pass


def all_of(threads):
    return [thread.result() for thread in threads]


# ---- what is interrupted, and what is not ----


@case
def python_loop():
    in_thread(limited, SOON, endless)
    in_thread(limited, SOON, lambda: spin(FAR))


@case
def main_thread_does_whatever():
    for meanwhile in (threading.Thread.join, lambda _: time.sleep(4 * SOON), lambda _: spin(4 * SOON)):
        thread = start(limited)
        meanwhile(thread)
        thread.result()


@case
def call_that_does_not_look():
    """It goes on to its end, and the exception comes right after it."""
    lock, event = threading.Lock(), threading.Event()
    lock.acquire()

    def then(call):
        with takes(2 * SOON):
            call()
        endless()

    for call in (time.sleep, hold_gil, event.wait, lambda seconds: lock.acquire(timeout=seconds)):
        in_thread(limited, SOON, lambda call=call: then(lambda: call(3 * SOON)))


@case
def call_that_is_the_last_in_the_block():
    in_thread(limited, SOON, lambda: time.sleep(3 * SOON))


@case
def waiting_in_slices():
    """What the documentation advises: calls that wait for a short while, again and again."""

    def slices(call):
        while True:
            with contextlib.suppress(queue.Empty):
                call(timeout=0.01)

    for call in (queue.Queue().get, threading.Event().wait):
        in_thread(limited, SOON, lambda call=call: slices(call))


@case
def threads_of_any_origin():
    done = []

    def work():
        limited()
        done.append(threading.get_ident())

    _thread.start_new_thread(work, ())
    timer = threading.Timer(0, work)
    timer.start()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(3)]
        late = pool.submit(timeout(SOON, Late)(wait))
        assert isinstance(late.exception(PATIENCE), Late)
        for future in futures:
            future.result(PATIENCE)
    timer.join()
    until(lambda: len(done) == 5, "five threads")


@case
def many_at_once():
    """Each with a limit and an exception of its own."""

    class Mine(Late):
        def __init__(self, number):
            super().__init__(number)

    def work(number):
        seconds = random.uniform(0.02, 0.3)
        exception = Mine(number) if number % 2 else Late
        raised = limited(seconds, lambda: wait(), exception)
        assert type(raised.value) is (Mine if number % 2 else Late)
        assert number % 2 == 0 or raised.value is exception
        with timeout(FAR):
            pass

    all_of([start(work, number) for number in range(MANY)])


@case
def busy_ones():
    """All of them want the GIL all the time, and so does the main thread."""
    threads = [start(limited, 2 * SOON + number * 0.01, endless) for number in range(6)]
    limited(3 * SOON, endless)
    all_of(threads)


@case
def main_and_others_at_once():
    threads = [start(limited, seconds) for seconds in (SOON, 2 * SOON, 4 * SOON)]
    limited(SOON)
    limited(2 * SOON, lambda: time.sleep(FAR))
    all_of(threads)


@case
def again_and_again():
    def work():
        for number in range(100):
            limited(0.0005 + number * 0.00001, endless if number % 2 else wait)

    in_thread(work)


@case
def without_other_threads_in_python():
    """The first block of the process is in a thread, and nobody else ever takes the GIL."""
    sys.setswitchinterval(100)
    try:
        in_thread(limited, SOON, wait)
    finally:
        sys.setswitchinterval(0.005)


# ---- threads that end ----


@case
def ended_in_an_open_block():
    """Nothing of it is left for the threads that come after, which may bear the same id."""
    kept = []

    def leaves_it_open():
        kept.append(timeout(LONG, Late))
        kept[-1].__enter__()

    def innocent():
        wait(1.2 * LONG)

    for _ in range(3):
        all_of([start(leaves_it_open) for _ in range(10)])
        all_of([start(innocent) for _ in range(10)])
    for block in kept:  # they are as good as new
        assert block.remaining() in (LONG, 0)
    for block in kept[:4]:
        in_thread(uses, block)
        uses(block)
    for block in kept:
        with contextlib.suppress(RuntimeError):
            block.__exit__(None, None, None)
    del kept[:], block
    gc.collect()


def uses(block):
    with contextlib.suppress(RuntimeError):
        block.__exit__(None, None, None)
    with raises(Late), takes(LONG), block:
        wait()


@case
def ended_at_its_deadline():
    kept = []

    def work():
        block = timeout(random.uniform(1e-6, 2e-3), Late)
        kept.append(block)
        with contextlib.suppress(Late):
            block.__enter__()
            for _ in range(random.randrange(500)):
                pass

    def unraisable(lost):  # the block stays open while the thread leaves work()
        if lost.exc_type is not Late:
            hook(lost)

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    for number in range(300):
        _thread.start_new_thread(work, ())
        until(lambda number=number: len(kept) > number)
    wait(0.02)
    sys.unraisablehook = hook
    del kept[:]


@case
def foreign_threads():
    """Made in C: the interpreter meets them for the length of a call."""
    libc = ctypes.CDLL(None)
    routine = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    errors, kept = [], []

    def run(function):
        def body(_):
            try:
                function()
            except BaseException as error:
                errors.append(error)

        thread, entry = ctypes.c_ulong(), routine(body)
        assert libc.pthread_create(ctypes.byref(thread), None, entry, None) == 0
        assert libc.pthread_join(thread, None) == 0

    def leaves_it_open():
        kept.append(timeout(LONG, Late))
        kept[-1].__enter__()

    for _ in range(3):
        run(limited)
        run(leaves_it_open)
        run(lambda: wait(1.2 * LONG))
    assert errors == []


@case
def at_the_end_of_a_foreign_thread():
    """Python code in the destructor of a thread's own data runs when the thread has all but ended."""
    libc = ctypes.CDLL(None)
    routine = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    key, seen = ctypes.c_uint(), []

    @routine
    def destructor(_):
        try:
            limited()
            seen.append("destructor")
        except BaseException as error:
            seen.append(error)

    @routine
    def body(_):
        with timeout(FAR):
            libc.pthread_setspecific(key, ctypes.c_void_p(1))

    assert libc.pthread_key_create(ctypes.byref(key), destructor) == 0
    for _ in range(3):
        thread = ctypes.c_ulong()
        assert libc.pthread_create(ctypes.byref(thread), None, body, None) == 0
        assert libc.pthread_join(thread, None) == 0
    assert seen == ["destructor"] * 3, seen


# ---- asynchronous exceptions of others ----


def set_in(thread, kind):
    ident = ctypes.c_ulong(thread.ident)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(kind)) == 1


@case
def one_of_somebody_else():
    """It comes as it would without us."""
    began = threading.Event()

    def work():
        with raises(KeyError), timeout(FAR) as t:
            began.set()
            wait()
        assert not t.expired

    thread = start(work)
    began.wait()
    set_in(thread, KeyError)
    thread.result()


@case
def one_of_somebody_else_that_is_pending():
    """Ours does not take its place, but comes after it."""
    began = threading.Event()

    def work():
        with raises(Late), timeout(2 * LONG, Late):
            try:
                began.set()
                time.sleep(3 * LONG)
                wait()
            except KeyError:
                pass
            wait()

    thread = start(work)
    began.wait()
    set_in(thread, KeyError)
    thread.result()


@case
def one_of_somebody_else_over_ours():
    """The interpreter keeps one only: ours is lost, but not that the time was up."""
    began = threading.Event()

    def work():
        with raises((KeyError, Late)), timeout(SOON, Late) as t:
            began.set()
            time.sleep(2 * LONG)
            wait()
        assert t.expired

    thread = start(work)
    began.wait()
    time.sleep(LONG)
    set_in(thread, KeyError)
    thread.result()


# ---- generators ----


def open_block(seconds, then=lambda: None):
    with timeout(seconds, Late):
        yield 1
        then()
        yield 2


@case(both=True)
def generator_left_open():
    """Its block stays open while it is suspended: the time of its consumer counts, and the consumer is interrupted."""
    generator = open_block(SOON)
    with raises(Late), takes(SOON):
        next(generator)
        wait()
    generator.close()
    wait(0.01)


@case(both=True)
def generator_that_is_gone():
    for end in (lambda generator: generator.close(), lambda generator: None):
        generator = open_block(LONG)
        next(generator)
        end(generator)
        del generator
        wait(1.2 * LONG)


@case(both=True)
def generator_in_a_cycle():
    cycle = [open_block(2 * LONG)]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()
    wait(2.4 * LONG)


@case
def generator_that_changes_its_thread():
    """Entered in one thread, left in another one."""
    for first, second in ((in_thread, run_here), (run_here, in_thread), (in_thread, in_thread)):
        generator = open_block(FAR)
        first(next, generator)
        assert second(next, generator) == 2
        with raises(StopIteration):
            second(next, generator)
        generator = open_block(SOON)
        first(begin, generator)
        second(goes_on, generator)
        wait(0.01)
        with raises(Late):
            in_thread(waits_in_block)
        with raises(Late):
            waits_in_block()


def run_here(function, *args):
    return function(*args)


def begin(generator):
    next(generator)


def goes_on(generator):
    with contextlib.suppress(Late):
        generator.close()


def waits_in_block():
    with takes(SOON), timeout(SOON, Late):
        wait()


@case
def thread_ends_with_a_generator_open():
    def work():
        generator = open_block(LONG)
        next(generator)
        return generator

    generators = [in_thread(work) for _ in range(20)]
    wait(1.2 * LONG)
    for generator in generators:
        goes_on(generator)
    with raises(Late):
        waits_in_block()


@case
def quota_of_many_threads():
    quota = Quota(4 * SOON)

    def work():
        with raises(Late), timeout(quota, Late):
            endless()

    with takes(4 * SOON):
        all_of([start(work) for _ in range(8)])
    assert quota.remaining() == 0
