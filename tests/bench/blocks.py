"""Measures blocks with a time limit in this interpreter: python blocks.py WHAT COUNT [KIND], with slowwatch importable.

WHAT is `cost` (nanoseconds of one block, for each kind of manager), `threads` (the same while many threads have a block
open), `enter` (COUNT blocks of that kind and nothing else, for whoever counts their system calls) or `late` (how long
after its deadline an exception comes). Prints JSON. Python 3.8 can read this file."""

import contextlib
import ctypes
import itertools
import json
import re
import signal
import socket
import statistics
import sys
import threading
import time

from slowwatch import timeout

FAR = 20.0  # seconds: a limit that is not reached
THREADS = 1000
HOUR = 3600.0
ROUND_BLOCKS, ROUND_BLOCKS_SLOW = 20_000, 500  # of one round: some milliseconds
LIMITS = [0.005 + 0.001 * step for step in range(11)]  # seconds, of the blocks that are to fire
MESSAGES = 0.0005  # seconds: what a thread that serves small things sleeps at a time
CONTROL = "no block: time.sleep() for as long"
CATASTROPHE = "a" * 40 + "b"  # for CATASTROPHIC: a match is over when the sun is out
CATASTROPHIC = re.compile("(a+)+$")


# ---- what a block is compared with ----


@contextlib.contextmanager
def empty():
    yield


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        return False


class Alarm:
    """As it is mostly written by hand: SIGALRM, its handler and the timer restored at the end."""

    def __init__(self, seconds, exception):
        self.seconds, self.exception = seconds, exception

    def fire(self, signum, frame):
        raise self.exception

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.fire)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(self, kind, value, traceback):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)
        return False


@contextlib.contextmanager
def generator_alarm(seconds, exception):
    """As interruptingcow works: a generator, and a stack of deadlines on one SIGALRM timer."""
    now = time.time()
    due = now + seconds

    def fire(signum, frame):
        raise exception

    outer = alarms[-1] if alarms else None
    if outer is None or due < outer[0]:
        signal.signal(signal.SIGALRM, fire)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    alarms.append((due, fire))
    try:
        yield
    finally:
        alarms.pop()
        if outer is None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        else:
            signal.signal(signal.SIGALRM, outer[1])
            signal.setitimer(signal.ITIMER_REAL, max(outer[0] - time.time(), 1e-6))


alarms = []


class TimerThread:
    """As stopit and its kind do it in other threads: a threading.Timer sets the exception."""

    def __init__(self, seconds, exception):
        self.seconds, self.exception = seconds, exception

    def fire(self):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(self.exception))

    def __enter__(self):
        self.ident = threading.get_ident()
        self.timer = threading.Timer(self.seconds, self.fire)
        self.timer.start()
        return self

    def __exit__(self, kind, value, traceback):
        self.timer.cancel()
        return False


# ---- the cost of a block ----
# Each kind has a loop of its own, since an interpreter that specializes its instructions does so for each place.


def nothing_at_all(turns):
    for _ in turns:
        pass


def slowwatch_block(turns):
    for _ in turns:
        with timeout(FAR, RuntimeError):
            pass


def slowwatch_reused(turns):
    block = timeout(FAR, RuntimeError)
    for _ in turns:
        with block:
            pass


def slowwatch_nested(turns):
    with timeout(HOUR, RuntimeError):
        for _ in turns:
            with timeout(FAR, RuntimeError):
                pass


def contextlib_block(turns):
    for _ in turns:
        with empty():
            pass


def class_block(turns):
    for _ in turns:
        with Nothing():
            pass


def lock_block(turns):
    lock = threading.Lock()
    for _ in turns:
        with lock:
            pass


def alarm_block(turns):
    for _ in turns:
        with Alarm(FAR, RuntimeError):
            pass


def generator_alarm_block(turns):
    for _ in turns:
        with generator_alarm(FAR, RuntimeError):
            pass


def timer_thread_block(turns):
    for _ in turns:
        with TimerThread(FAR, RuntimeError):
            pass


KINDS = {
    "slowwatch": (slowwatch_block, ROUND_BLOCKS),
    "slowwatch, one object used again": (slowwatch_reused, ROUND_BLOCKS),
    "slowwatch, inside another": (slowwatch_nested, ROUND_BLOCKS),
    "C lock": (lock_block, ROUND_BLOCKS),
    "Python class": (class_block, ROUND_BLOCKS),
    "contextlib": (contextlib_block, ROUND_BLOCKS),
    "SIGALRM, class": (alarm_block, ROUND_BLOCKS_SLOW),
    "SIGALRM, generator": (generator_alarm_block, ROUND_BLOCKS_SLOW),
    "timer thread": (timer_thread_block, ROUND_BLOCKS_SLOW),
}


def nanoseconds(loop, blocks):
    """Of one block, the loop around it taken off."""

    def took(function):
        turns = itertools.repeat(None, blocks)
        began = time.perf_counter_ns()
        function(turns)
        return time.perf_counter_ns() - began

    return max(0, took(loop) - took(nothing_at_all)) / blocks


def measure_cost(rounds):
    """{kind: [nanoseconds of each round]}; the kinds take turns, so that what disturbs one disturbs all."""
    found = {name: [] for name in KINDS}
    for _ in range(rounds + 1):
        for name, (loop, blocks) in KINDS.items():
            found[name].append(nanoseconds(loop, blocks))
    return {name: values[1:] for name, values in found.items()}  # the first one warms up


@contextlib.contextmanager
def open_deadlines(limits):
    """Threads, each within a block of its own."""
    inside, done = threading.Semaphore(0), threading.Event()

    def wait(seconds):
        with timeout(seconds, RuntimeError):
            inside.release()
            done.wait()

    threads = [threading.Thread(target=wait, args=(seconds,)) for seconds in limits]
    for thread in threads:
        thread.start()
    for _ in threads:
        inside.acquire()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def in_thread(function, *arguments):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)))
    thread.start()
    thread.join()
    return result[0]


def measure_threads(rounds):
    """{thread: {"alone": [...], "alike": [...], "later": [...]}}: nanoseconds in each round, by turns without other
    threads, among ones with deadlines like its own, and among ones with later deadlines: then it is always first."""
    kinds = {"alone": [], "alike": [FAR + number / THREADS - 0.5 for number in range(THREADS)],
             "later": [HOUR + number for number in range(THREADS)]}  # fmt: skip
    found = {"main": {kind: [] for kind in kinds}, "other": {kind: [] for kind in kinds}}
    for _ in range(rounds):
        for kind, limits in kinds.items():
            with open_deadlines(limits):
                found["main"][kind].append(warm_nanoseconds())
                found["other"][kind].append(in_thread(warm_nanoseconds))
    return found


def warm_nanoseconds():
    return statistics.median([nanoseconds(slowwatch_block, ROUND_BLOCKS) for _ in range(4)][1:])


# ---- how late the exception comes ----


class Late(Exception):
    pass


def sleep():
    time.sleep(HOUR)


def receive():
    a, b = socket.socketpair()
    with a, b:
        a.recv(1)


def acquire():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def spin():
    while True:
        pass


def match():
    CATASTROPHIC.match(CATASTROPHE)


def messages():
    while True:
        time.sleep(MESSAGES)


def lateness(function, count):
    """Milliseconds from each deadline to the exception in the hands of the block's caller."""
    found = []
    for limit in itertools.islice(itertools.cycle(LIMITS), count):
        began = time.monotonic()
        try:
            with timeout(limit, Late):
                function()
        except Late:
            found.append((time.monotonic() - began - limit) * 1000)
    return found


def oversleep(count):
    """What the machine is late by itself: milliseconds that a sleep of such a limit takes too long."""
    found = []
    for limit in itertools.islice(itertools.cycle(LIMITS), count):
        began = time.monotonic()
        time.sleep(limit)
        found.append((time.monotonic() - began - limit) * 1000)
    return found


def measure_late(count):
    """{"thread: what it does": [milliseconds]}, CONTROL first."""
    main = {"main: time.sleep()": sleep, "main: socket.recv()": receive, "main: lock.acquire()": acquire,
            "main: Python loop": spin, "main: re.match(), catastrophic": match}  # fmt: skip
    other = {"other: Python loop": spin, "other: many short sleeps": messages}
    found = {CONTROL: oversleep(count)}
    found.update((name, lateness(function, count)) for name, function in main.items())
    found.update((name, in_thread(lateness, function, count)) for name, function in other.items())
    return found


def only_enter(count, kind):
    KINDS[kind][0](itertools.repeat(None, count))


def main(what, count, *kind):
    measure = {"cost": measure_cost, "threads": measure_threads, "enter": only_enter, "late": measure_late}[what]
    print(json.dumps(measure(int(count), *kind)))


if __name__ == "__main__":
    main(*sys.argv[1:])
