"""A WSGI application with every way to get stuck. The test decides how long: most endpoints wait at a gate
(?gate=PORT, see gate.py), for a lock or a FIFO that the test holds (?file=PATH); those that hold the GIL are bounded
(?seconds=)."""

import fcntl
import json
import math
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs

import shapes
from gate import hold

CHUNK = 65536


class Request:
    def __init__(self, environ):
        self.environ = environ
        self.query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}

    @property
    def gate(self):
        return int(self.query["gate"])

    def seconds(self, default):
        return float(self.query.get("seconds", default))


# ---- waiting with the GIL released ----


def ping(request):
    return b"pong"


def hold_(request):
    return json.dumps(hold(request.gate))  # line: hold_


def shape(request):
    return json.dumps(shapes.ALL[request.query["name"]](request.gate))


def depth(request):
    return json.dumps(shapes.recursion(request.gate, int(request.query["depth"])))


def sleep(request):
    time.sleep(request.seconds(1.5))  # line: sleep
    return b"slept"


def lock(request):
    """Waits for a lock that another thread holds while it waits at the gate."""
    mine, taken = threading.Lock(), threading.Event()

    def holder():
        with mine:
            taken.set()
            hold(request.gate)

    thread = threading.Thread(target=holder)
    thread.start()
    taken.wait()
    with mine:  # line: lock
        pass
    thread.join()
    return b"locked"


def child(request):
    process = subprocess.Popen(["/bin/sh", "-c", 'read line < "$0"', request.query["file"]])
    process.wait()  # line: child
    return b"reaped"


def flock(request):
    with open(request.query["file"], "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # line: flock
    return b"locked"


def fifo(request):
    with open(request.query["file"], "rb") as file:  # line: fifo
        return file.read()


def two_places(request):
    """Most of the time in one place, some in another: for the timeline."""
    time.sleep(0.7)  # line: shorter
    hold(request.gate)
    return b"done"


def burst(request):
    """A thread of the application that is stuck as well, beside the request's own."""
    helper = threading.Thread(target=hold, args=(request.gate,), name="helper")
    helper.start()
    hold(request.gate)
    helper.join()
    return b"both"


# ---- Python and C code on the CPU ----


def loop(request):
    """A pure Python loop until the gate opens."""
    opened = threading.Event()
    threading.Thread(target=lambda: (hold(request.gate), opened.set())).start()
    turns = 0
    while not opened.is_set():
        turns += 1
    return str(turns)


def calibrated(seconds, function, size, growth=1.0):
    """The argument with which function takes about `seconds`; its cost grows as size**growth."""
    while True:
        began = time.perf_counter()
        function(size)
        took = time.perf_counter() - began
        if took > 0.04:
            return int(size * (seconds / took) ** (1 / growth))
        size *= 2


def summing(request):
    size = calibrated(request.seconds(1.2), lambda n: sum(range(n)), 100_000)
    return str(sum(range(size)))  # line: summing


def regex(request):
    """Catastrophic, but bounded: each further "a" doubles the time, so n repetitions cost 2**a."""
    pattern = re.compile(r"(a+)+$")
    cost = calibrated(request.seconds(1.2), lambda n: pattern.match("a" * int(math.log2(n)) + "b"), 2**12)
    subject = "a" * round(math.log2(cost)) + "b"
    return str(pattern.match(subject))  # line: regex


def power(request):
    size = calibrated(request.seconds(1.2), lambda n: 7**n, 50_000, growth=1.585)
    return str((7**size).bit_length())  # line: power


def dumps(request):
    text = ["x" * 50]
    data = text * calibrated(request.seconds(1.2), lambda n: json.dumps(text * n), 10_000)
    return str(len(json.dumps(data)))  # line: dumps


def sorting(request):
    def numbers(size):
        return [random.random() for _ in range(size)]

    data = numbers(calibrated(request.seconds(1.2), lambda n: sorted(numbers(n)), 10_000))
    return str(len(sorted(data)))  # line: sorting


# ---- talking to the client ----


def error(request):
    hold(request.gate)
    raise RuntimeError("on purpose")


def upload(request):
    total, stream = 0, request.environ["wsgi.input"]
    while chunk := stream.read(CHUNK):
        total += len(chunk)
    return str(total)


def stream_large(request):
    """A body larger than every buffer on the way: a client that does not read holds it up."""
    return (b"x" * CHUNK for _ in range(int(request.query.get("chunks", 200))))


def stream_slow(request):
    """The application itself is slow between two pieces of the answer."""
    yield b"first\n"
    hold(request.gate)
    yield b"last\n"


def websocket(request):
    import uwsgi

    uwsgi.websocket_handshake()
    message = uwsgi.websocket_recv()
    uwsgi.websocket_send(message)
    return b""


# ---- dying ----


def die(request):
    """Kills its own worker when the gate opens."""
    hold(request.gate)
    os.kill(os.getpid(), getattr(signal, request.query["signal"]))
    time.sleep(30)


def memory(request):
    """Runs into its address space limit, then goes on with it lifted."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 1024 * 1024, limits[1]))
    hog = []
    try:
        while True:
            hog.append(bytearray(1024 * 1024))
    except MemoryError:
        hold(request.gate)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return str(len(hog))


def info(request):
    return json.dumps({"python": sys.version, "pid": os.getpid(), "thread": threading.get_ident()})


PAGES = {
    "/": ping,
    "/hold": hold_,
    "/child": child,
    **{
        f"/{page.__name__}": page
        for page in (
            ping, shape, depth, sleep, lock, flock, fifo, two_places, burst, loop, summing, regex, power, dumps,
            sorting, error, upload, stream_large, stream_slow, websocket, die, memory, info,
        )
    },
}  # fmt: skip


def application(environ, start_response):
    page = PAGES.get("/" + environ["PATH_INFO"].split("/")[1])
    if page is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page\n"]
    if page is websocket:
        return [page(Request(environ))]
    if page in (stream_large, stream_slow):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return page(Request(environ))
    answer = page(Request(environ))  # line: application
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [answer if isinstance(answer, bytes) else answer.encode()]
