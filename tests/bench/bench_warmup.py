"""How many requests meet a cold worker, and how long all of them take, while workers are recycled all the time."""

import contextlib
import threading
import time

import psutil
from benchlib import QUICK, Result, percentile, scaled, servers
from clients import http, wait_for
from warmups import Stats

COLD, SERVICE = 1.5, 0.02  # seconds of the first request of a process, and of each other
WORKERS, CLIENTS, MAX_REQUESTS = 4, 8, 50
LIFETIMES = {0: 0, 10: 6 if QUICK else 60}  # min-worker-lifetime, and for how many seconds that is measured at least
REQUESTS = 3000
TARGET_P99_MS, TARGET_PART = 150, 0.1
LOOK = 0.02  # seconds between two looks at which workers accept

COMMON = {
    "app": "cold:application", "processes": WORKERS, "lazy_apps": True, "max_requests": MAX_REQUESTS, "threshold": 10,
}  # fmt: skip
WAYS = {
    "no warm-up": {"plugin": False},
    "warmed up at the end of the module": {"plugin": False, "env": {"WARM_AT_IMPORT": "1"}},
    "slowwatch": {"slowwatch_warmup": "/"},
    "slowwatch, all at once": {"slowwatch_warmup": "/", "slowwatch_warmup_parallel": 0},
}


class Clients:
    """Each asks again as soon as it has its answer; collects (seconds, state) of all."""

    def __init__(self, server):
        self.server, self.found = server, []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]

    def ask(self):
        while not self.stop.is_set():
            began, state = time.monotonic(), "no answer"
            with contextlib.suppress(OSError):
                response = http(self.server.port, "/")
                if response.status == 200:
                    state = response.text.split()[0]
            self.found.append((time.monotonic() - began, state))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def accepting(stats):
    """How many workers accept now. uWSGI's own mark of a worker stays when its process ends, so that is looked at."""
    count, pids = 0, set()
    for worker in stats.workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            alive = worker["pid"] and psutil.Process(worker["pid"]).status() != psutil.STATUS_ZOMBIE
            if alive and worker["accepting"]:
                count += 1
                pids.add(worker["pid"])
    return count, pids


def all_accept(stats):
    with contextlib.suppress(OSError):
        return accepting(stats)[0] == WORKERS
    return False


def measure(lifetime, seconds, way):
    stats = Stats()
    arguments = {**COMMON, **WAYS[way], "stats": stats.option, "min_worker_lifetime": lifetime}
    environment = {"COLD_SECONDS": str(COLD), "SERVICE_SECONDS": str(SERVICE), **arguments.pop("env", {})}
    with servers(measured={**arguments, "env": environment}) as running:
        server = running["measured"]
        wait_for(lambda: all_accept(stats), "all workers", timeout=60)
        with Clients(server) as clients:
            began, looks, processes = time.monotonic(), [], set()
            while len(clients.found) < scaled(REQUESTS) or time.monotonic() < began + seconds:
                count, pids = accepting(stats)
                looks.append(count)
                processes |= pids
                time.sleep(LOOK)
            took = time.monotonic() - began
    return {
        "ms": [1000 * one for one, state in clients.found if state != "no answer"],
        "states": {state: sum(one == state for _, one in clients.found) for state in ("warm", "cold", "no answer")},
        "accepting": looks,
        "processes": len(processes),
        "seconds": took,
    }


def row(way, found):
    ms = found["ms"]
    times = [f"{value:,.0f} ms" for value in (*(percentile(ms, percent) for percent in (50, 95, 99)), max(ms))]
    looks = found["accepting"]
    return [
        way, len(ms), f"{len(ms) / found['seconds']:.0f}", *times, found["states"]["cold"],
        found["states"]["no answer"], found["processes"], min(looks),
        f"{100 * sum(count < WORKERS - 1 for count in looks) / len(looks):.1f} %",
    ]  # fmt: skip


def check(result, what, warm, cold):
    p99, cold_p99 = (percentile(found["ms"], 99) for found in (warm, cold))
    result.check(f"{what}: requests that met a cold worker", warm["states"]["cold"], 0, "", digits=0)
    result.check(f"{what}: p99", p99, TARGET_P99_MS, "ms", digits=0)
    result.check(f"{what}: p99, of that without a warm-up", p99 / cold_p99, TARGET_PART, "")
    result.check(f"{what}: the longest, of that without a warm-up", max(warm["ms"]) / max(cold["ms"]), TARGET_PART, "")
    result.check(f"{what}: workers away at the same time", WORKERS - min(warm["accepting"]), 1, "", digits=0)


def main():
    result = Result("warmup", "How many requests meet a cold worker")
    result.say(f"""An application whose first request in each process takes {COLD} s and each other one
        {1000 * SERVICE:.0f} ms, in {WORKERS} workers that uWSGI replaces after {MAX_REQUESTS} requests, under
        lazy-apps. {CLIENTS} clients each ask again as soon as they have an answer. They begin when all workers accept.
        A worker accepts when uWSGI has marked it so and its process is alive, looked at every {1000 * LOOK:.0f} ms.
        slowwatch has its default values and one line, slowwatch-warmup = /; "all at once" is that with
        slowwatch-warmup-parallel = 0.""")
    raw = {}
    for lifetime, seconds in LIFETIMES.items():
        if lifetime == 0:
            result.say(f"""min-worker-lifetime = 0: a worker that is busy lives for a second, and then is away for
                longer than that: for the {COLD} s, and until the master, which looks once a second, has replaced it. So
                there are never enough workers, whatever warms them up, and requests wait. At least {scaled(REQUESTS)}
                requests.""")
        else:
            result.say(f"""min-worker-lifetime = {lifetime}, as uWSGI has it by default: {seconds} s, and at least
                {scaled(REQUESTS)} requests.""")
        found = {way: measure(lifetime, seconds, way) for way in WAYS}
        result.table(
            ["", "requests", "a second", "p50", "p95", "p99", "longest", "cold", "no answer", "processes",
             "fewest accepting", f"fewer than {WORKERS - 1}"],
            [row(way, of) for way, of in found.items()],
        )  # fmt: skip
        check(result, f"min-worker-lifetime = {lifetime}", found["slowwatch"], found["no warm-up"])
        raw[str(lifetime)] = found
    result.save(**raw)


if __name__ == "__main__":
    main()
