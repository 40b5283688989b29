"""The smallest application, bare and behind a timer that is armed for each request, for bench_throughput.py."""

import os
import sys
import threading
import time
import traceback

TIMEOUT = 10.0  # seconds, as slowwatch's default threshold
BODY = b"hello world\n"
LEAVE = "/leave"


def application(environ, start_response):
    if environ["PATH_INFO"] == LEAVE:
        os._exit(0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]


class Watcher(threading.Thread):
    """What a watching middleware does: one thread that sleeps until the earliest of the armed timers."""

    def __init__(self):
        super().__init__(daemon=True)
        self.changed, self.armed = threading.Condition(), {}

    def arm(self, thread):
        with self.changed:
            self.armed[thread] = time.monotonic() + TIMEOUT
            self.changed.notify()

    def disarm(self, thread):
        with self.changed:
            del self.armed[thread]

    def run(self):
        with self.changed:
            while True:
                now = time.monotonic()
                for thread in [thread for thread, due in self.armed.items() if due <= now]:
                    traceback.print_stack(sys._current_frames().get(thread))
                    self.armed[thread] = float("inf")
                due = min(self.armed.values(), default=float("inf"))
                self.changed.wait(due - now if due < float("inf") else None)


watcher = None


def timed_application(environ, start_response):
    global watcher
    if watcher is None:  # not at import: a thread of the master would not be in the worker
        watcher = Watcher()
        watcher.start()
    thread = threading.get_ident()
    watcher.arm(thread)
    try:
        return application(environ, start_response)
    finally:
        watcher.disarm(thread)
