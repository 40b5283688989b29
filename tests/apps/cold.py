"""A WSGI application that is cold in each new process: its first request there costs COLD seconds. Each answer says
whether it met that, and from which process it is. Other paths show a warm-up what it may meet: errors, redirects, hangs
of all kinds, and the request as the application sees it."""

import json
import os
import resource
import signal
import sys
import threading
import time
from urllib.parse import parse_qs

COLD = float(os.environ.get("COLD_SECONDS", "0.3"))
SERVICE = float(os.environ.get("SERVICE_SECONDS", "0"))

_warm_in = None  # the process that had its first request
_seen = []  # what the application was asked for in this process


class AppError(Exception):
    pass


def page(query, environ):
    """The page that all clients want."""
    global _warm_in
    state = "warm" if _warm_in == os.getpid() else "cold"
    if state == "cold":
        time.sleep(COLD)
        _warm_in = os.getpid()
    elif SERVICE:
        time.sleep(SERVICE)
    return "200 OK", [], f"{state} {os.getpid()}\n".encode()


def keep(query, environ):
    """The request as the application sees it, into a file."""
    words = {name: value for name, value in environ.items() if isinstance(value, str)}
    words["body"] = environ["wsgi.input"].read().decode()
    with open(query["file"], "w") as file:
        json.dump(words, file)
    return "200 OK", [], b"kept\n"


def seen(query, environ):
    return "200 OK", [], json.dumps(_seen).encode()


def status(query, environ):
    return f"{query['of']} Because", [], b"x" * int(query.get("bytes", 0))


def redirect(query, environ):
    return "301 Moved Permanently", [("Location", "https://www.example.org/there?token=hidden")], b""


def when_there(query, environ):
    """Works as soon as the file is there."""
    return ("200 OK" if os.path.exists(query["file"]) else "503 Not Yet"), [], b"state\n"


def fail(query, environ):
    raise AppError("no such table: orders")  # line: fail


def fail_late(query, environ):
    def body():
        yield b"begun"
        raise AppError("in the middle of the body")

    return "200 OK", [], body()


def sleep(query, environ):
    if "file" in query:  # says that it has begun
        with open(query["file"], "a") as file:
            file.write(f"{os.getpid()}\n")
    time.sleep(float(query["seconds"]))  # line: sleep
    return "200 OK", [], b"slept\n"


def spin(query, environ):
    end = time.process_time() + float(query["seconds"])
    while time.process_time() < end:
        pass
    return "200 OK", [], b"spun\n"


def span(query, environ):
    """Leaves in the file when it began and ended."""
    begin = time.monotonic()
    time.sleep(float(query["seconds"]))
    with open(query["file"], "a") as file:
        file.write(f"{begin} {time.monotonic()}\n")
    return "200 OK", [], b""


def first_hangs(query, environ):
    """The process that makes the file never answers."""
    try:
        with open(query["file"], "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return "200 OK", [], b""
    time.sleep(3600)


def loop(query, environ):
    while True:  # line: loop
        pass


def stubborn(query, environ):
    """Whatever interrupts it, it goes on."""
    while True:
        try:
            while True:
                time.sleep(60)
        except BaseException:
            pass


def hold_gil(query, environ):
    """A C function that looks at no signal and holds the GIL."""
    sum(range(10**12))
    return "200 OK", [], b""


def leave(query, environ):
    os._exit(3)


def exit_(query, environ):
    """uWSGI prints an exception that leaves the application; of this one Python then ends the process."""
    raise SystemExit(3)


def own_harakiri(query, environ):
    import uwsgi

    uwsgi.set_user_harakiri(1)
    hold_gil(query, environ)


def crash(query, environ):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def once_a_while(query, environ):
    """Dies in the first processes that come here, as many as asked for; FILE counts them."""
    with open(query["file"], "a") as file:
        file.write(f"{os.getpid()}\n")
    with open(query["file"]) as file:
        if len(set(file.read().split())) <= int(query["deaths"]):
            os.kill(os.getpid(), signal.SIGKILL)
    return page(query, environ)


def big(query, environ):
    return "200 OK", [], [b"x" * 65536] * int(query["pieces"])


def thread(query, environ):
    return "200 OK", [], threading.current_thread().name.encode()


NAMED = [
    keep, seen, status, redirect, when_there, fail, fail_late, sleep, spin, span, first_hangs, loop, stubborn, hold_gil,
    leave, exit_, own_harakiri, crash, once_a_while, big, thread,
]  # fmt: skip
PATHS = {function.__name__.rstrip("_").replace("_", "-"): function for function in NAMED}


def application(environ, start_response):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    _seen.append(environ["REQUEST_METHOD"] + " " + environ["REQUEST_URI"])
    name = environ["PATH_INFO"].split("/")[1]
    code, headers, body = PATHS.get(name, page)(query, environ)
    start_response(code, headers)
    return [body] if isinstance(body, bytes) else body


if os.environ.get("WARM_AT_IMPORT"):
    # The usual way: the module calls its own application at its end.
    environ = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "PATH_INFO": "/", "QUERY_STRING": ""}
    print("warmed at import:", list(application(environ, lambda *args: None)), file=sys.stderr)
