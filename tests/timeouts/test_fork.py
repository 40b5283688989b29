"""A child starts clean, whichever way it was forked, and can use timeouts at once."""

import contextlib
import ctypes
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback

from cases import (
    FAR,
    LONG,
    PATIENCE,
    SOON,
    case,
    exit_code,
    forked,
    in_child,
    in_thread,
    raises,
    spin,
    start,
    takes,
    until,
    wait,
)
from slowwatch import Quota, shield, timeout

native = ctypes.PyDLL(None)  # keeps the GIL: a child that lost it could not go on


class Late(Exception):
    pass


def limited(work=wait):
    with raises(Late), takes(SOON), timeout(SOON, Late):
        work()


def uses_timeouts():
    """What a child can do, all of it at once."""
    limited(lambda: time.sleep(FAR))
    in_thread(limited)
    quota = Quota(SOON)
    with raises(Late), timeout(FAR), timeout(quota, Late):
        wait()
    with raises(Late), timeout(SOON, Late):
        with shield():
            wait(2 * SOON)
        raise AssertionError


FORKS = [os.fork, native.fork]  # the second one tells the interpreter nothing


@case(alone=True)
def before_the_first_block():
    for fork in FORKS:
        in_child(uses_timeouts, fork)
    limited()


@case(alone=True)
def after_some_blocks():
    uses_timeouts()
    for fork in FORKS:
        in_child(uses_timeouts, fork)
    uses_timeouts()


@case(alone=True)
def in_an_open_block():
    """It stays the parent's: it fires there, and in the child it does nothing."""
    for fork in FORKS:

        def child(block):
            wait(1.2 * LONG)
            uses_timeouts()
            block.__exit__(None, None, None)
            wait(SOON)
            uses_timeouts()

        with raises(Late), takes(LONG), timeout(LONG, Late) as t:
            pid = forked(lambda: child(t), fork)  # noqa: B023
            wait()
        assert t.expired
        assert exit_code(pid) == 0


@case(alone=True)
def leaves_the_block_as_usual():
    """A child that goes on in its parent's code leaves the parent's blocks one after the other."""
    for fork in FORKS:
        quota, pid = Quota(FAR), None
        try:
            with timeout(LONG, Late), timeout(quota), shield(), timeout(LONG, Late) as inner:
                pid = fork()
                if pid == 0:
                    wait(1.2 * LONG)
            if pid == 0:
                assert not inner.expired
                assert not quota.running()
                uses_timeouts()
                with inner:
                    pass
                os._exit(0)
        except BaseException as error:
            if pid == 0:
                print("in the child:", repr(error), flush=True)
                os._exit(1)
            raise
        assert exit_code(pid) == 0


@case(alone=True)
def objects_of_the_parent_are_as_good_as_new():
    for fork in FORKS:
        block, quota = timeout(LONG, Late), Quota(LONG)
        limit = timeout(quota, Late)

        def child(block=block, quota=quota, limit=limit):
            with raises(Late), takes(LONG), block:
                wait()
            with raises(Late), takes(SOON / 2), limit:
                wait()
            assert quota.remaining() == 0

        with block, limit:
            pid = forked(child, fork)
        assert exit_code(pid) == 0


@case(alone=True)
def in_a_shield():
    """The parent's shield does not hold back what the child opens."""
    for fork in FORKS:
        with shield():
            in_child(uses_timeouts, fork)


@case(alone=True)
def with_blocks_open_in_other_threads():
    done = []

    def user(work):
        while not done:
            with timeout(FAR), contextlib.suppress(Late), timeout(SOON / 10, Late):
                work()

    threads = [start(user, lambda: spin(SOON)) for _ in range(2)]
    with timeout(FAR):
        in_child(uses_timeouts)
    done.append(1)
    for thread in threads:
        thread.result()


@case(alone=True)
def with_blocks_open_in_other_threads_that_wait():
    """Nobody may wait for the GIL when a child is forked behind the interpreter's back: it would lose its way."""
    go, blocks = threading.Event(), []

    def user():
        with timeout(FAR) as t:
            blocks.append(t)
            go.wait()

    threads = [start(user) for _ in range(4)]
    until(lambda: len(blocks) == 4)
    time.sleep(SOON)
    with timeout(FAR):
        for fork in FORKS:
            in_child(uses_timeouts, fork)
    go.set()
    for thread in threads:
        thread.result()


@case(alone=True)
def from_another_thread():
    """That thread is the main one of the child."""

    def forks(fork):
        with timeout(FAR), contextlib.suppress(Late), timeout(LONG, Late):
            in_child(uses_timeouts, fork)

    uses_timeouts()
    for fork in FORKS:
        with timeout(FAR):
            in_thread(forks, fork)
    uses_timeouts()


@case(alone=True)
def grandchildren():
    def child():
        with timeout(FAR):
            in_child(uses_timeouts)
        uses_timeouts()
        in_child(lambda: in_child(uses_timeouts))

    in_child(child)
    uses_timeouts()


@case(alone=True)
def at_any_moment():
    """While other threads enter and leave, and time runs out everywhere: no child ever hangs."""
    done, children = [], 0

    def user():
        while not done:
            with contextlib.suppress(Late), timeout(random.uniform(1e-5, 1e-3), Late):
                spin(random.uniform(0, 1e-3))

    def child():
        with raises(Late), timeout(0.005, Late):
            wait()

    threads = [start(user) for _ in range(3)]
    began = time.monotonic()
    while time.monotonic() - began < 1 or children < 10:
        pids = []
        with contextlib.suppress(Late), timeout(random.uniform(1e-4, 5e-3), Late):
            for _ in range(2):
                pids.append(forked(child))
        for pid in pids:
            assert exit_code(pid) == 0
            children += 1
    done.append(1)
    for thread in threads:
        thread.result()


def work(seconds):
    """Of a worker process: what it saw of its own timeout."""
    try:
        with timeout(seconds, Late):
            time.sleep(FAR)
    except Late as error:
        return str(error)


@case(alone=True)
def multiprocessing_workers():
    with timeout(FAR):
        for method in ("fork", "spawn", "forkserver"):
            context = multiprocessing.get_context(method)
            with context.Pool(2) as pool:
                assert pool.map(work, [SOON] * 4) == ["timed out after 0.02 s"] * 4
                results = pool.map_async(time.sleep, [FAR])
                with raises(Late), timeout(SOON, Late):
                    results.get()
                pool.terminate()
            if method == "forkserver":
                break


@case(alone=True)
def process_that_ends_by_itself():
    """Its interpreter is closed in order, with the parent's blocks open."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(SOON,)) for _ in range(2)]
    with timeout(FAR):
        for process in processes:
            process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    pid = os.fork()
    if pid == 0:
        try:
            uses_timeouts()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.exit(3)
    assert exit_code(pid) == 3


@case(alone=True)
def programs_started_meanwhile():
    """subprocess forks in its own way, while deadlines pass in other threads."""
    done = []

    def user():
        while not done:
            with contextlib.suppress(Late), timeout(random.uniform(1e-5, 1e-3), Late):
                spin(random.uniform(0, 1e-3))

    threads = [start(user) for _ in range(2)]
    for _ in range(20):
        with timeout(FAR):
            assert subprocess.run(["true"]).returncode == 0
            assert subprocess.run(["true"], preexec_fn=lambda: None).returncode == 0
    done.append(1)
    for thread in threads:
        thread.result()
    quiet = "import signal; print([s for s in range(1, 65) if s not in (32, 33) and signal.getsignal(s) is None])"
    assert subprocess.run([sys.executable, "-c", quiet], capture_output=True, text=True).stdout == "[]\n"


@case(alone=True)
def signal_of_the_parent_is_kept():
    """A child handles the same signal; the parent goes on with its own."""
    uses_timeouts()
    handlers = [signal.getsignal(number) for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]

    def child():
        uses_timeouts()
        assert handlers == [signal.getsignal(number) for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]

    for fork in FORKS:
        in_child(child, fork)
    uses_timeouts()


@case(alone=True)
def hooks_around_the_fork():
    """Python's own fork hooks may use blocks, before, after and in the child."""
    seen = []
    os.register_at_fork(
        before=lambda: (limited(), seen.append("before")),
        after_in_parent=lambda: (limited(), seen.append("parent")),
        after_in_child=lambda: (limited(), seen.append("child")),
    )

    def child():
        assert seen == ["before", "child"]
        uses_timeouts()

    in_child(child)
    assert seen == ["before", "parent"]
    assert threading.active_count() == 1
