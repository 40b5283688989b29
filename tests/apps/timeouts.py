"""A WSGI application that limits its own time with the package slowwatch, and answers what became of it, as JSON.
With TIMEOUTS_AT_IMPORT it does so while it is loaded as well, which is before the workers are forked, or not."""

import contextlib
import json
import os
import re
import threading
import time
from urllib.parse import parse_qs

from gate import hold
from slowwatch import Quota, shield, timeout

FAR = 600.0  # seconds that are never over
SLICE = 0.001  # seconds; other threads than the main one are interrupted between two calls
SLOW_CALL = 0.4  # seconds of a call that ends by itself

kept = []  # blocks that are never left


class TooSlow(Exception):
    pass


# ---- work that is limited ----


def sleep():
    time.sleep(FAR)  # line: sleep


def loop():
    while True:
        pass


def slices():
    while True:
        time.sleep(SLICE)


def call():
    """One that does not look, but ends."""
    time.sleep(SLOW_CALL)
    loop()


def regex():
    re.match(r"(a+)+$", "a" * 200 + "b")


def lock():
    mine = threading.Lock()
    mine.acquire()
    mine.acquire()  # line: lock


WORK = {work.__name__: work for work in (sleep, loop, slices, call, regex, lock)}


def outcome(seconds, work, exception=TooSlow):
    """What became of a block: the exception's name, how long it took, what the block says."""
    began, raised, block = time.monotonic(), None, timeout(seconds, exception)
    try:
        with block:
            work()
    except Exception as error:
        raised = type(error).__name__
    return {"raised": raised, "took": time.monotonic() - began, "expired": block.expired}


# ---- pages ----


def ping(query):
    return "pong"


def limited(query):
    return outcome(float(query.get("seconds", 0.05)), WORK[query["work"]])


def gathered(query):
    """Waits at the gate first, so that a test can begin several on different cores."""
    hold(int(query["gate"]))
    return limited(query)


def waiting(query):
    """Waits at the gate within the block."""
    return outcome(float(query.get("seconds", 0.05)), lambda: hold(int(query["gate"])))


def everything(query):
    """Nested blocks, a quota, a shield: in a loop, which every thread can be interrupted in."""
    done, quota = [], Quota(0.05)
    with timeout(FAR):
        done.append(outcome(0.02, loop)["raised"])
        done.append(outcome(quota, slices)["raised"])
        done.append(outcome(quota, slices)["raised"])
        try:
            with timeout(0.02, TooSlow):
                with shield():
                    end = time.monotonic() + 0.1
                    while time.monotonic() < end:
                        pass
                    done.append("shielded")
                done.append("not reached")
        except TooSlow:
            done.append("TooSlow")
    return done


def border(query):
    """Many blocks that end at about their deadline. What comes outside of its block is an error of the request."""
    fired, left, work = 0, 0, 1e-4
    end = time.monotonic() + float(query["seconds"])
    while time.monotonic() < end:
        inside = True
        try:
            with timeout(1e-4, TooSlow):
                until = time.perf_counter() + work
                while True:
                    if time.perf_counter() >= until:
                        break
            inside = False
            sum(range(10))
        except TooSlow:
            assert inside
            fired += 1
            work -= 2e-6
        else:
            left += 1
            work += 2e-6
        sum(range(10))
    return {"fired": fired, "left": left}


def swallowing(query):
    with timeout(0.05, TooSlow) as block, contextlib.suppress(Exception):
        slices()
    return {"expired": block.expired}


def held(query):
    with timeout(FAR):
        hold(int(query["gate"]))
    return "let go"


def leaves_open(query):
    """A block whose time will run out while nobody knows it any more, and one that never does."""
    for seconds in (float(query.get("seconds", 0.2)), FAR):
        kept.append(timeout(seconds))
        kept[-1].__enter__()
    return len(kept)


def helper(query):
    """A thread of the application that belongs to no request, and one that never ends."""
    results = []
    thread = threading.Thread(target=lambda: results.append(outcome(0.05, loop)))
    thread.start()
    thread.join()
    threading.Thread(target=restless, daemon=True).start()
    return results[0]


def restless():
    while True:
        outcome(0.001, slices)


def child(query):
    """A child that the application forks in a block uses timeouts, and leaves its parent's alone."""
    with timeout(FAR):
        pid = os.fork()
        if pid == 0:
            result = outcome(0.05, sleep if threading.current_thread() is threading.main_thread() else slices)
            os._exit(0 if result["raised"] == "TooSlow" else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


PAGES = {
    "/" + page.__name__: page
    for page in (ping, limited, gathered, waiting, everything, border, swallowing, held, leaves_open, helper, child)
}

at_import = outcome(0.05, slices) if os.environ.get("TIMEOUTS_AT_IMPORT") else None
if at_import:
    thread = threading.Thread(target=outcome, args=(0.05, slices))
    thread.start()
    thread.join()


def application(environ, start_response):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    answer = PAGES[environ["PATH_INFO"]](query)
    where = {"core": environ.get("uwsgi.core", 0), "pid": os.getpid(), "at_import": at_import}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"answer": answer, **where}).encode()]


if __name__ == "__main__":  # a mule
    import uwsgi

    print("in the mule:", outcome(0.05, sleep)["raised"], outcome(0.05, loop)["raised"], flush=True)
    uwsgi.mule_get_msg()
