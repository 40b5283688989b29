"""The main thread is interrupted in whatever it does. (Its signal has a file of its own: test_signals.py.)"""

import collections
import contextlib
import fcntl
import multiprocessing
import os
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from cases import BRIEF, FAR, SOON, Skip, case, hold_gil, raises, spin, start, takes, wait
from slowwatch import Quota, timeout

INTERRUPTED_WITHIN = 10.0  # seconds, on the busiest machine; what is interrupted here would go on for far longer


class Late(Exception):
    pass


def interrupted(function, *args, **kwargs):
    """This call must be left by the exception; then everything works on."""
    for exception in (Late, Late("instance")):
        with raises(Late), takes(SOON, INTERRUPTED_WITHIN), timeout(SOON, exception):
            function(*args, **kwargs)
            raise AssertionError("the call returned")
    with timeout(FAR):
        time.sleep(0.001)


# ---- the GIL is released ----


@case
def sleep():
    interrupted(time.sleep, FAR)


@case
def selecting():
    a, b = socket.socketpair()
    with a, b:
        interrupted(select.select, [a], [], [], FAR)
        poll = select.poll()
        poll.register(a, select.POLLIN)
        interrupted(poll.poll, FAR * 1000)
        with select.epoll() as epoll:
            epoll.register(a, select.EPOLLIN)
            interrupted(epoll.poll, FAR)


@case
def sockets():
    a, b = socket.socketpair()
    with a, b, socket.create_server(("127.0.0.1", 0)) as server:
        interrupted(a.recv, 1)
        interrupted(a.recv_into, bytearray(1))
        interrupted(server.accept)
        for seconds in (None, FAR):
            a.settimeout(seconds)
            server.settimeout(seconds)
            interrupted(a.recv, 1)
            interrupted(server.accept)
            interrupted(a.sendall, b"x" * 10_000_000)
        with a.makefile("rb") as file:
            a.settimeout(None)
            interrupted(file.readline)


@case
def connecting():
    """A listener whose queue is full does not answer."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):  # as many as the queue takes
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        for seconds in (None, FAR):

            def connect(seconds=seconds):
                with socket.socket() as client:
                    client.settimeout(seconds)
                    client.connect(server.getsockname())

            interrupted(connect)


@case
def locks():
    lock, rlock = threading.Lock(), threading.RLock()
    held = threading.Event()

    def hold():
        with lock, rlock:
            held.set()
            done.wait()

    done = threading.Event()
    holder = start(hold)
    held.wait()
    for one in (lock, rlock):
        interrupted(one.acquire)
        interrupted(one.acquire, timeout=FAR)
        interrupted(one.__enter__)
    done.set()
    holder.result()
    assert lock.acquire(timeout=FAR)


@case
def waiting_for_threads():
    condition, event = threading.Condition(), threading.Event()
    with condition:
        interrupted(condition.wait)
        interrupted(condition.wait, FAR)
        interrupted(condition.wait_for, lambda: False)
    interrupted(event.wait)
    interrupted(event.wait, FAR)
    semaphore = threading.Semaphore(0)
    interrupted(semaphore.acquire)
    interrupted(threading.Barrier(2).wait)
    # A new thread each time: CPython takes one for ended whose join() was interrupted by an exception.
    interrupted(lambda: start(event.wait).join())
    interrupted(lambda: start(event.wait).join(FAR))
    event.set()


@case
def queues():
    for one in (queue.Queue(1), queue.SimpleQueue()):
        interrupted(one.get)
        interrupted(one.get, timeout=FAR)
    full = queue.Queue(1)
    full.put(1)
    interrupted(full.put, 2)
    assert full.get(timeout=FAR) == 1
    interrupted(full.join)


@case
def files():
    with tempfile.TemporaryDirectory() as folder:
        fifo = os.path.join(folder, "fifo")
        os.mkfifo(fifo)
        interrupted(os.open, fifo, os.O_RDONLY)
        interrupted(open, fifo)
        with open(fifo, "r+b", buffering=0) as raw:
            interrupted(raw.read, 1)
            interrupted(os.read, raw.fileno(), 1)
        with open(fifo, "r+b", buffering=0) as raw, open(fifo, "rb") as file, open(fifo) as text:
            interrupted(file.read)
            interrupted(file.readline)
            interrupted(text.read)
            raw.write(b"whole line\n")
            assert text.readline() == "whole line\n"
    read, write = os.pipe()
    interrupted(os.write, write, b"x" * 10_000_000)
    os.close(read)
    os.close(write)


@case
def file_locks():
    with tempfile.NamedTemporaryFile() as one, open(one.name) as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        interrupted(fcntl.flock, other, fcntl.LOCK_EX)


@case
def children():
    with subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE) as child:
        interrupted(child.wait)
        interrupted(child.wait, FAR)
        interrupted(child.communicate)
        interrupted(child.stdout.read)
        interrupted(os.waitpid, child.pid, 0)
        interrupted(os.waitid, os.P_PID, child.pid, os.WEXITED)
        assert child.poll() is None
        child.kill()


@case
def subprocess_run():
    interrupted(subprocess.run, ["sleep", "600"])
    interrupted(subprocess.run, ["sleep", "600"], capture_output=True, check=True)
    interrupted(subprocess.run, ["sleep", "600"], timeout=FAR)
    assert subprocess.run(["true"]).returncode == 0


@case
def joining_a_process():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(FAR,), daemon=True)
    process.start()
    interrupted(process.join)
    process.kill()
    process.join()


@case
def waiting_for_signals():
    interrupted(signal.pause)
    interrupted(signal.sigtimedwait, [signal.SIGUSR1], FAR)


# ---- the GIL is held ----


@case
def python_loop():
    def loop():
        while True:
            pass

    interrupted(loop)
    interrupted(spin, FAR)


@case
def python_loop_beside_busy_threads():
    stop = []

    def busy():
        while not stop:
            pass

    threads = [start(busy) for _ in range(2)]
    interrupted(spin, FAR)
    stop.append(1)
    for thread in threads:
        thread.result()


@case
def regular_expression():
    """It would take as long as the universe lasts; its C code looks at signals."""
    interrupted(re.match, r"(a+)+$", "a" * 200 + "b")
    interrupted(re.sub, r"(x+x+)+y", "", "x" * 200)


@case
def long_arithmetic():
    interrupted(pow, 7, 10**9)


@case
def generators_and_builtins():
    def endless():
        while True:
            yield 1

    interrupted(lambda: sum(endless()))
    interrupted(lambda: max(endless()))
    interrupted(lambda: collections.deque(endless(), maxlen=0))


@case
def c_call_that_does_not_look():
    """The exception comes when it returns."""
    for _ in range(3):
        with raises(Late), takes(3 * SOON), timeout(SOON, Late):
            hold_gil(3 * SOON)
            wait()


# ---- what else the main thread does ----


@case
def import_under_way():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "slow_to_import.py"), "w") as file:
            file.write("import time\ntime.sleep(600)\n")
        sys.path.insert(0, folder)
        interrupted(__import__, "slow_to_import")
        interrupted(__import__, "slow_to_import")
        assert "slow_to_import" not in sys.modules
        sys.path.remove(folder)


@case
def renamed():
    """What counts is which thread it is, not what it is called."""
    main = threading.current_thread()
    name = main.name
    main.name = "uWSGIWorker1Core0"
    interrupted(time.sleep, FAR)
    main.name = name


@case
def quota():
    budget = Quota(SOON)
    with raises(Late), takes(SOON, INTERRUPTED_WITHIN), timeout(budget, Late):
        time.sleep(FAR)


@case
def interrupted_again_and_again():
    """Signals that come just before the call that blocks are lost, and sent again."""
    limits = [0.0002 + 0.000002 * number for number in range(150)]
    for limit in limits:
        with raises(Late), takes(0, INTERRUPTED_WITHIN), timeout(limit, Late):
            spin(0.00025)
            time.sleep(FAR)


@case
def handler_of_the_application_uses_blocks():
    """A signal's Python handler runs in the main thread, on top of whatever stands there."""
    seen = []

    def handler(signum, frame):
        with raises(Late), timeout(SOON, Late):
            time.sleep(FAR)
        seen.append(signum)

    before = signal.signal(signal.SIGUSR1, handler)
    with timeout(FAR) as outer:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            wait(0.005)
    assert seen == [signal.SIGUSR1] * 3
    assert not outer.expired
    with raises(RuntimeError), timeout(SOON):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(FAR)
    signal.signal(signal.SIGUSR1, before)


@case
def keyboard_interrupt_still_comes():
    with raises(KeyboardInterrupt), timeout(FAR):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(FAR)
    with raises(KeyboardInterrupt), timeout(SOON, KeyboardInterrupt):
        time.sleep(FAR)


@case
def signals_of_others_beside():
    """A thousand a second: none of them is lost, and none hinders."""
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    interrupted(time.sleep, FAR)
    interrupted(spin, FAR)
    interrupted(threading.Event().wait)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert len(seen) > 20


@case
def traced_and_profiled():
    """A debugger's or coverage's hooks run Python code everywhere."""
    calls = []
    sys.settrace(lambda *_: calls.append(1))
    try:
        interrupted(spin, FAR)
        interrupted(time.sleep, FAR)
    finally:
        sys.settrace(None)
    sys.setprofile(lambda *_: calls.append(1))
    try:
        interrupted(time.sleep, FAR)
    finally:
        sys.setprofile(None)
    assert calls


@case
def in_a_destructor():
    """An exception cannot leave it: the interpreter writes it to where such go, and the block shows it."""
    lost = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: lost.append(type(args.exc_value))

    class Slow:
        def __del__(self):
            time.sleep(FAR)

    with timeout(BRIEF, Late) as t:
        Slow()
    sys.unraisablehook = hook
    assert t.expired
    assert lost == [Late]


@case
def numpy_and_friends():
    try:
        import numpy
    except ImportError:
        raise Skip("numpy is not installed here") from None
    with raises(Late), timeout(SOON, Late):
        while True:
            numpy.ones(1000).sum()
