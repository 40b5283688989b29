"""Requests that never end by themselves within the time of a benchmark, and one that notices when it is paused. Each
stall stands on one line that is marked with its name; those of GIL_HELD are a single C call."""

import json
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

LONG = 60.0  # seconds; a lower bound of what the calls below would take, so harakiri comes first


def sleep():
    time.sleep(LONG)  # stall: sleep


def recv():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)  # stall: recv


def lock():
    taken = threading.Lock()
    taken.acquire()
    taken.acquire(timeout=LONG)  # stall: lock


def child():
    process = subprocess.Popen(["/bin/sleep", str(LONG)])
    process.wait()  # stall: child


def loop():
    turns = 0
    while True:  # stall: loop
        turns += 1  # stall: loop


def regex():
    re.match(r"(a+)+$", "a" * 40 + "b")  # stall: regex


def summing():
    sum(range(10**11))  # stall: summing


def power():
    pow(7, 400_000_000)  # stall: power


def twice_as_deep(depth, last):
    """Comparing two of these costs 2**depth and their memory only depth: each level holds the one below it twice."""
    tree = [0]
    for _ in range(depth):
        tree = [tree, tree]
    return [tree, last]


def sorting():
    data = [twice_as_deep(30, number) for number in range(8, 0, -1)]
    sorted(data)  # stall: sorting


def dumps():
    # Floats with 17 digits are the slowest to print for the space they need.
    data = [[1.2345678901234567e300] * 1000] * 50_000
    json.dumps(data)  # stall: dumps


GIL_RELEASED = (sleep, recv, lock, child, loop)  # a loop lets go every 5 ms
GIL_HELD = (regex, summing, power, sorting, dumps)
STALLS = {function.__name__: function for function in (*GIL_RELEASED, *GIL_HELD)}


def lines_of(name):
    """The lines on which this stall stands: one, but for the loop."""
    lines = enumerate(Path(__file__).read_text().splitlines(), 1)
    return [number for number, line in lines if line.endswith(f"# stall: {name}")]


# ---- requests of a given length, for bench_latency.py ----


def sleep_for(seconds):
    time.sleep(seconds)


def hold_gil_for(seconds):
    """C calls that hold the GIL. Each takes longer than a threshold, and there may be several."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(20_000_000))


# ---- for bench_pause.py ----

GAP_NS = 10_000  # a gap between two looks at the clock that counts: some hundred times the usual one


def spin(seconds, depth):
    """Looks at the clock as fast as it can, `depth` frames down: where it was not running there is a gap."""
    if depth > 0:
        return spin(seconds, depth - 1)
    clock = time.perf_counter_ns
    gaps, looks = [], 0
    start = last = clock()
    until = start + int(seconds * 1e9)
    while last < until:
        now = clock()
        if now - last > GAP_NS:
            gaps.append(now - last)
        last = now
        looks += 1
    return {"looks": looks, "took_ns": last - start, "gaps_ns": gaps}


def application(environ, start_response):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    name = environ["PATH_INFO"].lstrip("/")
    answer = {}
    if name in STALLS:
        STALLS[name]()
    elif name == "sleep_for":
        sleep_for(float(query["seconds"]))
    elif name == "hold_gil_for":
        hold_gil_for(float(query["seconds"]))
    elif name == "spin":
        answer = spin(float(query["seconds"]), int(query["depth"]))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
