"""A WSGI application that misbehaves: its requests fork, die, use up the memory, or make and drop code while they run.
As in stuck.py most of them wait at a gate of the test (?gate=PORT)."""

import ctypes
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time

import stuck
from gate import hold

CHAIN = 50  # frames of freshly made code


# ---- requests about as long as the threshold ----


def scatter(request):
    """Sleeps ?seconds= in functions made for this request alone: each name on its stack bears its token."""
    token, seconds = request.query["t"], request.seconds(0)
    source = f"def f_{token}(g, n):\n    return g(n)\ndef g_{token}(n):\n    return [sleep(n / 5) for _ in range(5)]\n"
    scope = {"sleep": time.sleep}
    exec(compile(source, f"/made/{token}.py", "exec"), scope)
    began = time.monotonic()
    scope[f"f_{token}"](scope[f"g_{token}"], seconds)
    return str(time.monotonic() - began)


def chain_source(token, round_):
    """CHAIN functions that call each other; name, file and line of each say where it belongs."""
    lines = []
    for depth in range(CHAIN):
        last = depth == CHAIN - 1
        inner = "work()" if last else f"c_{token}_{round_}_{depth + 1}(work)"
        lines += [f"def c_{token}_{round_}_{depth}(work):", f"    return {inner}"]
    return "\n".join(lines) + "\n"


def churn(request):
    """Makes code, runs it and drops it, again and again for ?seconds=."""
    token, until, round_ = request.query["t"], time.monotonic() + request.seconds(1), 0
    while time.monotonic() < until:
        scope = {}
        exec(compile(chain_source(token, round_), f"/made/{token}_{round_}.py", "exec"), scope)
        entry = scope[f"c_{token}_{round_}_0"]
        for turn in range(20):
            entry((lambda: time.sleep(0.0002)) if turn % 2 else (lambda: sum(range(500))))
        round_ += 1
    return str(round_)


# ---- deep stacks of frames that are not all in one place ----


def mixed_generator(port, depth):
    yield mixed(port, depth - 1)


def mixed_delegating(port, depth):
    yield from mixed_generator(port, depth - 1)


async def mixed_coroutine(port, depth):
    return mixed(port, depth - 1)


async def mixed_awaiting(port, depth):
    return await mixed_coroutine(port, depth - 1)


async def mixed_async_generator(port, depth):
    yield mixed(port, depth - 1)


async def mixed_async_for(port, depth):
    async for value in mixed_async_generator(port, depth - 1):
        return value


def run(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value


def mixed(port, depth):
    if depth <= 0:
        return hold(port)
    kind = depth % 5
    if kind == 0:
        return next(mixed_delegating(port, depth))
    if kind == 1:
        return run(mixed_awaiting(port, depth))
    if kind == 2:
        return run(mixed_async_for(port, depth))
    if kind == 3:
        return [mixed(port, number) for number in (depth - 1,)][0]
    return next(mixed(port, depth - 1) for _ in (0,))


def deep(request):
    return json.dumps(mixed(request.gate, int(request.query["depth"])))


# ---- memory ----


def out_of_memory(request):
    """Uses up the address space that the server's limit leaves, waits like that, and then asks for more."""
    piece, hog, word = 1 << 20, [], bytearray(1)
    with socket.create_connection(("127.0.0.1", request.gate)) as gate:
        while piece >= 512:
            try:
                while True:
                    hog.append(bytes(piece))
            except MemoryError:
                piece //= 2
        gate.recv_into(word)  # line: out_of_memory
        try:
            return bytes(1 << 20)
        finally:  # or the traceback, which PyErr_Print keeps, would keep it all
            hog.clear()


# ---- children ----


def forked(request, then):
    """The child waits at a gate of its own, then leaves in some way; the parent waits at the request's gate. (A child
    that returned would end the request in memory that uWSGI shares: then the parent crashes in uWSGI itself.)"""
    gate = int(request.query["child"])
    pid = os.fork()
    if pid == 0:
        hold(gate)
        then()
    hold(request.gate)
    return str(pid)


def fork_and__exit(request):
    return forked(request, lambda: os._exit(3))


def fork_and_exit(request):
    """Handlers of exit() run, those of uWSGI among them."""
    return forked(request, lambda: ctypes.CDLL(None).exit(3))


def fork_and_stay(request):
    """The child becomes a daemon that outlives the server."""
    return forked(request, lambda: (os.setsid(), time.sleep(3600)))


def multiprocess(request):
    process = multiprocessing.get_context("fork").Process(target=hold, args=(int(request.query["child"]),))
    process.start()
    hold(request.gate)
    process.join()
    return str(process.exitcode)


def subprocess_(request):
    code = f"import socket; socket.create_connection(('127.0.0.1', {request.query['child']})).recv(1)"
    with subprocess.Popen([request.query["python"], "-S", "-c", code]):
        hold(request.gate)
    return "done"


# ---- the end ----

EXITS = {
    "os._exit": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(1),
    "exit": lambda: ctypes.CDLL(None).exit(0),
    "segmentation fault": lambda: ctypes.string_at(1),
    "abort": os.abort,
}


def leave(request):
    hold(request.gate)
    EXITS[request.query["how"]]()


def hung_threads(request):
    """Leaves two threads behind that hang after the request has ended."""
    for _ in range(2):
        threading.Thread(target=hold, args=(int(request.query["other"]),), name="hung", daemon=True).start()
    hold(request.gate)
    return "left"


PAGES = {
    "/subprocess": subprocess_,
    **{
        f"/{page.__name__}": page
        for page in (
            scatter, churn, deep, out_of_memory, fork_and__exit, fork_and_exit, fork_and_stay,
            multiprocess, leave, hung_threads,
        )
    },
}  # fmt: skip


def application(environ, start_response):
    page = PAGES.get(environ["PATH_INFO"])
    if page is None:
        return stuck.application(environ, start_response)
    answer = page(stuck.Request(environ))
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [answer if isinstance(answer, bytes) else answer.encode()]
