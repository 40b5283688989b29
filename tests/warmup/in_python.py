"""Runs in the interpreter under test: in_python.py PROBE. Prints "ok", or raises."""

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

probe = ctypes.PyDLL(sys.argv[1])  # keeps the GIL, as uWSGI's Python plugin does when it is called
probe.probe_read.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_char_p, ctypes.c_size_t]
SOON = 10  # seconds, where each of the calls below would take an hour
HOUR = 3600


def loop():
    while True:
        pass


def lock():
    mine = threading.Lock()
    mine.acquire()
    mine.acquire()


def receive():
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


def child():
    process = subprocess.Popen(["sleep", str(HOUR)])
    try:
        process.wait()
    finally:
        process.kill()
        process.wait()


def swallow():
    """What catches ordinary exceptions does not catch this one."""
    while True:
        with contextlib.suppress(Exception):
            time.sleep(HOUR)


WAYS = [loop, lock, receive, child, swallow, lambda: time.sleep(HOUR), lambda: select.select([], [], [], HOUR)]


def interrupted(way):
    began = time.monotonic()
    timer = threading.Timer(0.2, probe.probe_fire)
    timer.start()
    raised = None
    try:
        way()
    except KeyboardInterrupt as error:
        raised = error
    timer.join()
    assert type(raised).__module__ == "slowwatch", (raised, way.__name__)
    assert str(raised) == "the warm-up took too long"
    assert time.monotonic() - began < SOON, way.__name__


def check_interrupting():
    number = probe.probe_arm()
    assert signal.SIGRTMIN <= number <= signal.SIGRTMAX, number
    for way in WAYS:
        interrupted(way)
    for _ in range(100):
        probe.probe_fire_and_settle()
        sum(range(1000))  # bytecode, in which it would be raised
    probe.probe_disarm()
    assert signal.getsignal(number) == signal.SIG_DFL
    assert probe.probe_arm() == number
    probe.probe_disarm()


def check_choice_of_signal():
    """One that somebody uses is left alone, also when that happens while it is ours."""
    highest = probe.probe_arm()
    probe.probe_disarm()

    def theirs(number, frame):
        pass

    signal.signal(highest, theirs)
    number = probe.probe_arm()
    assert number == highest - 1, number
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    probe.probe_disarm()
    assert probe.probe_arm() == highest - 2
    signal.signal(highest - 2, theirs)
    probe.probe_disarm()
    assert signal.getsignal(highest - 2) is theirs
    assert signal.getsignal(highest) is theirs


class Strange(Exception):
    def __str__(self):
        return "caf\u00e9 \udc80 and more"


class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Outer:
    class Inner(Exception):
        pass


def fail(depth, error):
    if depth:
        fail(depth - 1, error)
    raise error


def read(depth, error):
    try:
        fail(depth, error)
    except Exception:
        out = ctypes.create_string_buffer(1 << 20)
        assert probe.probe_read(*sys.exc_info(), out, len(out)) == 1
        return out.value.decode().split("\n")


def check_reading():
    words, truncated, *frames = read(2, ValueError("no such table"))
    assert (words, truncated) == ("ValueError: no such table", "0")
    names = [frame.rpartition(" ")[2] for frame in frames]
    assert names == ["read", "fail", "fail", "fail"], frames
    line = fail.__code__.co_firstlineno + 3
    assert frames[-1].startswith(f"{__file__}:{line} "), frames
    assert read(0, Strange())[0] == "__main__.Strange: caf\u00e9 \\udc80 and more"
    assert read(0, Broken())[0] == "__main__.Broken"
    assert read(0, Outer.Inner())[0] == "__main__.Outer.Inner"
    assert read(0, KeyError("x" * 5000))[0].startswith("KeyError: 'xxx")
    words, truncated, *frames = read(200, ValueError("deep"))
    assert len(frames) == 128, len(frames)
    assert truncated == str(202 - 128)
    assert frames[-1].startswith(f"{__file__}:{line} ")


check_reading()
check_interrupting()
check_choice_of_signal()
os.write(1, b"ok\n")
