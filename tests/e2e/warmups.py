"""What tests of the warm-up share: the application that is cold in each new process, and clients that notice it."""

import collections
import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest
from clients import free_port, http
from harness import PYTHON_PLUGIN

HOST_PLUGINS = Path("/usr/lib/uwsgi/plugins")
FAR = 30  # a threshold in seconds that nothing here reaches


def options(**more):
    """Of a server of the cold application, which warms up with one request."""
    return {"app": "cold:application", "threshold": FAR, "slowwatch_warmup": "/", "lazy_apps": True, **more}


def host_plugin(name):
    """The name, if this uWSGI has such a plugin; else the test is skipped."""
    if not (HOST_PLUGINS / f"{name}_plugin.so").exists():
        pytest.skip(f"uWSGI's {name} plugin is not installed")
    return name


def loop_plugin(name):
    """The same for a loop engine of Python, which may be there for several Pythons."""
    found = sorted(HOST_PLUGINS.glob(f"{name}_python3*_plugin.so"))
    return host_plugin(found[0].name[: -len("_plugin.so")] if found else name)


def plugins_with(*names):
    return ",".join(["slowwatch", *([PYTHON_PLUGIN] if PYTHON_PLUGIN else []), *names])


def warmups(server, count=1, since=0, **match):
    """Waits for so many, and returns what the events of warm-ups say, each with the worker and the process it is of."""
    server.wait_event("warmup", count=count, since=since)
    found = []
    for event in server.events("warmup", since):
        flat = {**event["warmup"], **{name: event.get(name) for name in ("worker", "pid", "reason", "stack")}}
        if all(flat.get(name) == value for name, value in match.items()):
            found.append(flat)
    return found


def noted(path):
    """The numbers that the application left in this file so far."""
    return [int(word) for word in path.read_text().split()] if path.exists() else []


class Stats:
    """uWSGI's own counts."""

    def __init__(self):
        self.port = free_port()
        self.option = f"127.0.0.1:{self.port}"

    def read(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            data = b""
            while piece := connection.recv(65536):
                data += piece
        return json.loads(data)

    def workers(self):
        return self.read()["workers"]


class Hammer:
    """Clients that ask for the page all the time, and count what they get: "warm", "cold", or nothing at all because
    the process was killed. `with` it, and look at the counts afterwards."""

    def __init__(self, server, clients=4, path="/"):
        self.server, self.path = server, path
        self.counts, self.pids = collections.Counter(), set()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def _ask(self):
        while not self._stop.is_set():
            words = ["refused"]
            with contextlib.suppress(OSError):
                response = http(self.server.port, self.path)
                words = response.text.split() if response.status == 200 else [f"status {response.status}"]
            with self._lock:
                self.counts[words[0]] += 1
                self.pids.update(words[1:])
            if words[0] == "refused":  # between the two lives of a server there is no socket
                self._stop.wait(0.02)

    def wait_requests(self, count):
        """Until so many more were answered."""
        wanted = self.total() + count
        while self.total() < wanted:
            self._stop.wait(0.01)

    def met(self, pids):
        """Has each of these processes answered?"""
        with self._lock:
            return {str(pid) for pid in pids} <= self.pids

    def total(self):
        with self._lock:
            return sum(self.counts[state] for state in ("warm", "cold"))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def start(uwsgi, **more):
    return uwsgi(**options(**more))


def start_gevent(uwsgi, **more):
    plugin = loop_plugin("gevent")
    return start(uwsgi, plugins=plugins_with(plugin), gevent=8, gevent_early_monkey_patch=True, **more)
