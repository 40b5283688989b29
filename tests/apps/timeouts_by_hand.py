"""A WSGI application that reports timeouts to the plugin by hand, as the Python package does when one fired: by the
contract of pyshim/slowwatch/timeout_abi.h, spelled with ctypes. The query of a request says what is reported."""

import ctypes
import os
import signal
import socket
import threading
import time
from urllib.parse import parse_qs

from gate import hold

ABI = 1


class Frame(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("function", ctypes.c_char_p), ("line", ctypes.c_int)]


class Timeout(ctypes.Structure):
    _fields_ = [
        ("abi", ctypes.c_uint32),
        ("outcome", ctypes.c_char_p),
        ("exception", ctypes.c_char_p),
        ("limit_us", ctypes.c_uint64),
        ("late_us", ctypes.c_uint64),
        ("thread", ctypes.c_ulong),
        ("frames", ctypes.POINTER(Frame)),
        ("frame_count", ctypes.c_uint32),
        ("truncated", ctypes.c_uint32),
    ]


def function_of(library):
    function = library.slowwatch_timeout_report
    function.argtypes, function.restype = [ctypes.POINTER(Timeout)], None
    return function


# uWSGI opens its plugins with RTLD_GLOBAL, so that they are found in the program itself.
tell = function_of(ctypes.PyDLL(None))  # with the GIL held, as the package calls it for what was raised
tell_freely = function_of(ctypes.CDLL(None))  # without

HERE = [(b"/srv/app/views.py", b"order", 41), (b"/srv/app/db.py", b"fetch", 88)]


def made(outcome=b"raised", exception=b"RuntimeError", frames=HERE, abi=ABI, limit=0.5, late=0.001, thread=None, cut=0):
    array = (Frame * len(frames))(*(Frame(*frame) for frame in frames))
    thread = thread or threading.get_ident()
    limit_us, late_us = round(limit * 1e6), round(late * 1e6)
    return Timeout(abi, outcome, exception, limit_us, late_us, thread, array, len(frames), cut)


def report(*args, **kwargs):
    tell(made(*args, **kwargs))


def ping(query):
    return b"pong"


def once(query):
    """One report with what the query asks for, then at once the end of the request."""
    if "go" in query:
        hold(int(query["go"]))
    report(query.get("outcome", "raised").encode(), limit=float(query.get("limit", 0.5)))
    return b"told"


def held(query):
    """One report when the test says so, and the request goes on: it is still there when the watchdog comes."""
    hold(int(query["go"]))
    report(query.get("outcome", "raised").encode())
    hold(int(query["gate"]))
    return b"told"


HOSTILE = {
    "lines": b"a\nslowwatch: forged\r\nTraceback (most recent call last):\x1b[2J\x07",
    "bytes": b"\xff\xfe\xc3(\x80",
    "separators": "a\u2028slowwatch: forged\u2029\u0085\u202egnp.exe".encode(),
    "long": b"x" * 1_000_000,
    "long characters": "é".encode() * 500_000,
    "empty": b"",
    "null": None,
}


def hostile(query):
    """The bad text wherever a text is taken."""
    bad = HOSTILE[query["kind"]]
    report(bad, bad, [(bad, bad, 7)] * 3)
    return b"told"


def wrong(query):
    """What must be ignored, then one that must not."""
    tell(None)
    report(exception=b"Ignored", abi=0)
    report(exception=b"Ignored", abi=ABI + 1)
    report(exception=b"Taken")
    return b"told"


def no_frames(query):
    array = ctypes.POINTER(Frame)()
    tell(Timeout(ABI, b"raised", b"Bare", 1000, 0, threading.get_ident(), array, 12, 5))
    report(exception=b"Deep", frames=[(b"/srv/app/deep.py", b"down", n + 1) for n in range(1000)], cut=7)
    return b"told"


def burst(query):
    """More at once than there is room for, from many threads."""
    count, threads = int(query["count"]), int(query.get("threads", 1))

    def many():
        timeout = made(exception=b"Burst")
        for _ in range(count):
            tell_freely(timeout)

    helpers = [threading.Thread(target=many) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    many()
    for helper in helpers:
        helper.join()
    return b"told"


def sleeps(tid):
    """How often a thread went to sleep."""
    with open(f"/proc/self/task/{tid}/status") as file:
        return next(line for line in file if line.startswith("voluntary_ctxt_switches"))


def tell_stuck(thread, tid):
    """What a native thread of the package does when the thread of a block is in a call that does not return."""
    before = None
    while before != (before := sleeps(tid)):  # until it sleeps for good
        time.sleep(0.1)
    tell_freely(made(b"stuck", b"TooSlow", [], late=1.0, thread=thread))


def watch_me():
    threading.Thread(target=tell_stuck, args=(threading.get_ident(), threading.get_native_id())).start()


def stuck_recv(query):
    with socket.create_connection(("127.0.0.1", int(query["gate"]))) as connection:
        watch_me()
        connection.recv(1)  # line: stuck_recv
    return b"through"


def stuck_lock(query):
    lock, taken = threading.Lock(), threading.Event()

    def holder():
        with lock:
            taken.set()
            hold(int(query["gate"]))

    thread = threading.Thread(target=holder)
    thread.start()
    taken.wait()
    watch_me()
    with lock:  # line: stuck_lock
        pass
    thread.join()
    return b"through"


def outside(query):
    """A thread of the application that belongs to no request."""
    helper = threading.Thread(target=report, kwargs={"exception": b"Outside"})
    helper.start()
    helper.join()
    return b"told"


def gone_thread(query):
    """Stuck, says a report, of a thread that is no more."""
    helper = threading.Thread(target=lambda: None)
    helper.start()
    helper.join()
    report(b"stuck", b"Gone", [], thread=helper.ident)
    return b"told"


def in_child(query):
    """A child that the application forks calls it too; nobody listens, and nothing breaks."""
    pid = os.fork()
    if pid == 0:
        report(exception=b"Child")
        os._exit(0)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode()


def die(query):
    """Reports and is dead before its watchdog can have told all of it."""
    if "go" in query:
        hold(int(query["go"]))
    timeout = made(exception=b"LastWord")
    for _ in range(int(query.get("count", 1))):
        tell(timeout)
    os.kill(os.getpid(), signal.SIGKILL)


def metrics(query):
    import uwsgi

    names = ("slow_requests", "killed_requests", "timeouts", "lost_events")
    return " ".join(str(uwsgi.metric_get(f"slowwatch.{name}")) for name in names).encode()


PAGES = {
    f"/{page.__name__}": page
    for page in (
        ping, once, held, hostile, wrong, no_frames, burst, stuck_recv, stuck_lock, outside, gone_thread, in_child,
        die, metrics,
    )
}  # fmt: skip


def application(environ, start_response):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    answer = PAGES[environ["PATH_INFO"]](query)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]


if os.environ.get("REPORT_AT_IMPORT"):
    report(exception=b"AtImport")

if __name__ == "__main__":  # a mule
    import uwsgi

    report(exception=b"Mule")
    print("the mule has reported", flush=True)
    uwsgi.mule_get_msg()
