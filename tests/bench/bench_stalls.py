"""What is known of a request that hangs, when harakiri kills it: by slowwatch, and by uWSGI's own py-tracebacker."""

import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import stalls
from benchlib import QUICK, Result, servers
from clients import Background, http, wait_for

THRESHOLD, HARAKIRI = 1, 3  # seconds
PATIENCE = 45  # seconds for a kill that comes late
COMMON = {"app": "stalls:application", "harakiri": HARAKIRI}
SERVERS = {
    "slowwatch": {**COMMON, "threshold": THRESHOLD},
    "py-tracebacker": {**COMMON, "plugin": False, "py_tracebacker": "tracebacker-"},
    "neither": {**COMMON, "plugin": False},
}
NAMES = {
    "sleep": "time.sleep()", "recv": "socket.recv()", "lock": "lock.acquire()", "child": "Popen.wait()",
    "loop": "Python loop", "regex": "re.match(), catastrophic", "summing": "sum(range())", "power": "pow(7, n)",
    "sorting": "sorted()", "dumps": "json.dumps()",
}  # fmt: skip


def of_slowwatch(server, name, since):
    """How late the first report came, and whether its frame is the right one. None: there was no report."""
    events = [event for event in server.events("slow_request", since) if event["request"]["uri"] == f"/{name}"]
    if not events:
        return {"captured": False}
    stack = events[0]["stack"]
    # What is innermost may lie in the standard library, below the line of ours that called it.
    ours = [(frame["line"], frame["function"]) for frame in stack["frames"] if frame["file"] == stalls.__file__]
    return {
        "captured": True,
        "right": bool(ours) and ours[-1] in [(line, name) for line in stalls.lines_of(name)] and "partial" not in stack,
        "late_ms": events[0]["elapsed_ms"] - events[0]["threshold_ms"],
        "killed": any(event["request"]["uri"] == f"/{name}" for event in server.events("request_killed", since)),
    }


def of_tracebacker(server, name, since):
    """The master logs what it got: "thread_id = … filename = … lineno = … function = …" for each frame."""
    lines = "|".join(str(line) for line in stalls.lines_of(name))
    place = rf"filename = \S*stalls\.py lineno = ({lines}) function = {name}\b"
    log = server.log(since)
    return {"captured": "filename = " in log, "right": re.search(place, log) is not None}


def stall(server, name, read):
    """Lets a worker hang until it is killed. Seconds from the request to the end of its connection, and what is known
    by then; the reports are read when the next worker serves."""
    since = server.mark()
    begin = time.monotonic()
    assert Background(http, server.port, f"/{name}", timeout=PATIENCE).result(PATIENCE).status == 0
    killed_after = time.monotonic() - begin
    wait_for(lambda: "Respawned uWSGI worker" in server.log(since), "a new worker")
    assert server.get("/").status == 200
    found = read(server, name, since) if read else {}
    return {"killed_after": killed_after, **found}


def run(server, read):
    names = list(stalls.STALLS)[:: 4 if QUICK else 1]
    return {name: stall(server, name, read) for name in names}


def measure():
    readers = {"slowwatch": of_slowwatch, "py-tracebacker": of_tracebacker, "neither": None}
    with servers(**SERVERS) as running, ThreadPoolExecutor(len(running)) as pool:
        jobs = {name: pool.submit(run, server, readers[name]) for name, server in running.items()}
        return {name: job.result() for name, job in jobs.items()}


def yes(value):
    return "yes" if value else "**no**"


def main():
    result = Result("stalls", "What is known when harakiri comes")
    found = measure()
    result.say(f"""Requests that hang in ten ways, threshold {THRESHOLD} s, harakiri {HARAKIRI} s. The lower five hold
        the GIL in one C call. "frame" is whether the innermost frame of the application is the line that hangs; "late"
        is how long after the threshold the report was taken; "killed" is when the connection ended, counted from the
        request: uWSGI's master looks once a second, so up to a second more than harakiri is its usual way. uWSGI's
        `py-tracebacker` asks the worker for its stack when harakiri comes, and the worker must take the GIL to
        answer.""")
    rows = []
    for name, ours in found["slowwatch"].items():
        theirs, neither = found["py-tracebacker"][name], found["neither"][name]
        rows.append([
            NAMES[name], yes(ours["captured"]), yes(ours.get("right")),
            f"{ours['late_ms']} ms" if ours["captured"] else "", f"{ours['killed_after']:.1f} s",
            yes(theirs["captured"]), yes(theirs["right"]), f"{theirs['killed_after']:.1f} s",
            f"{neither['killed_after']:.1f} s",
        ])  # fmt: skip
    result.table(["stall", "slowwatch: captured", "frame", "late", "killed", "py-tracebacker: captured", "frame",
                  "killed", "neither: killed"], rows)  # fmt: skip
    ours = found["slowwatch"].values()
    for field, what in (("right", "stalls of which slowwatch missed the frame"), ("killed", "kills it did not report")):
        result.check(what, sum(not one.get(field) for one in ours), 0, "", digits=0)
    kills = {name: statistics.median(one["killed_after"] for one in of.values()) for name, of in found.items()}
    result.table(["server", "killed after, median"], [[name, f"{after:.1f} s"] for name, after in kills.items()])
    result.save(found=found)


if __name__ == "__main__":
    main()
