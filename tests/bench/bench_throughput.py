"""What a request pays for being watched: requests per second and CPU time, interleaved, and instructions, counted."""

import contextlib
import os
import re
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import callgrind
from benchlib import Result, median_interval, scaled, servers, tasks

STARTS, ROUNDS = 4, 6  # each start places code and data anew; a round is one short load on each server
LOAD_SECONDS = 1  # the least that wrk can
CONNECTIONS = 4  # more than the one worker serves at once, so it is never idle
COUNTED = 1000  # requests; 2 * COUNTED in the second run
TARGET_PERCENT = 0.5

COMMON = {"add_header": "Connection: close"}  # as uWSGI does, but wrk takes an unannounced end for an error
BARE = {"app": "hello:application", "plugin": False, **COMMON}
SLOWWATCH = {"app": "hello:application", "plugin": True, "threshold": 10, **COMMON}
TIMER = {"app": "hello:timed_application", "plugin": False, **COMMON}

# The second bare server shows what the measurement itself is worth: its true difference is zero.
TIMED_SERVERS = {"bare": BARE, "bare again": BARE, "slowwatch": SLOWWATCH, "timer middleware": TIMER}
COUNTED_SERVERS = {
    "bare": BARE,
    "slowwatch": SLOWWATCH,
    "timer middleware": TIMER,
    "bare, threads = 2": {**BARE, "threads": 2},
    "slowwatch, threads = 2": {**SLOWWATCH, "threads": 2},
}


# ---- requests per second ----


def pin(pids, cpu):
    """Everything a server runs on one CPU, the load on another: else the scheduler's moves drown small differences."""
    for pid in pids:
        for tid in tasks(pid):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(tid, {cpu})


def cpu_ns(pid):
    """CPU time of all threads of a process, the watchdog's included."""
    return sum(int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0]) for tid in tasks(pid))


def load(server, cpu):
    """One short load: requests per second and CPU microseconds per request of the worker."""
    worker = server.workers()[1]
    before = cpu_ns(worker)
    answer = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LOAD_SECONDS}s", f"http://127.0.0.1:{server.port}/"],
        capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    ).stdout  # fmt: skip
    used = cpu_ns(worker) - before
    if "Socket errors" in answer or "Non-2xx" in answer:
        raise RuntimeError(f"requests failed:\n{answer}")
    requests, seconds = re.search(r"(\d+) requests in ([\d.]+)(?=s)", answer).groups()
    return int(requests) / float(seconds), used / 1000 / int(requests)


def measure_rates():
    """For each configuration the ratio to the bare server of the same round, for both measures."""
    cpus = sorted(os.sched_getaffinity(0))
    rounds = []
    for _ in range(scaled(STARTS)):
        with servers(**TIMED_SERVERS) as running:
            for server in running.values():
                pin(server.pids(), cpus[0])
                load(server, cpus[-1])  # warms up
            for number in range(scaled(ROUNDS)):
                names = list(TIMED_SERVERS)
                shift = number % len(names)
                rounds.append({name: load(running[name], cpus[-1]) for name in names[shift:] + names[:shift]})
    return rounds


def ratios(rounds, name, measure):
    return [one[name][measure] / one["bare"][measure] for one in rounds]


# ---- instructions ----


def count_instructions():
    """Instructions per request, by server and group."""
    count = scaled(COUNTED)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(lambda name: callgrind.per_request(COUNTED_SERVERS[name], count), COUNTED_SERVERS)
        return dict(zip(COUNTED_SERVERS, found))


# ---- the page ----


def percent(ratio):
    return f"{(ratio - 1) * 100:+.2f} %"


def main():
    result = Result("throughput", "What a request pays for being watched")
    result.say(f"""One worker serves "hello world", kept busy by `wrk` with {CONNECTIONS} connections, worker and load
        on a CPU each. Servers take turns in rounds of {LOAD_SECONDS} s each, {scaled(ROUNDS)} rounds in each of
        {scaled(STARTS)} starts; a value is compared with that of the bare server in the same round. Given is the median
        of these ratios with its 95 % confidence interval. "bare again" is a second server without the plugin: what it
        differs by is what this measurement cannot tell apart. CPU time is that of all threads of the worker. The timer
        middleware is our own, in the way of dogslow: a thread that sleeps until the earliest deadline, armed and
        disarmed for each request.""")
    rates(result, rounds := measure_rates())
    result.say("""Instructions do not depend on what else the machine does: valgrind's callgrind counts those of a
        single process, all its threads, and the difference to a run with twice the requests is what a request costs.
        The allocator is also shown apart: its way depends on where earlier blocks happen to lie, which any change of
        the start-up moves, by about one percent either way. Nearly all the rest in a worker with one thread is the C
        library's: as soon as a process has a second thread, whatever that does, it takes more steps around system calls
        and locks. A worker that has threads anyway pays that already, as the last two rows show.""")
    instructions(result, counted := count_instructions())
    result.save(rounds=rounds, instructions=counted)


def rates(result, rounds):
    rows, middles = [], {}
    for name in TIMED_SERVERS:
        row = [name]
        for measure, form in ((0, "{:.0f}"), (1, "{:.1f} µs")):
            middle, low, high = median_interval(ratios(rounds, name, measure))
            middles[name, measure] = [(value - 1) * 100 for value in (middle, low, high)]
            row.append(form.format(statistics.median(one[name][measure] for one in rounds)))
            row.append("" if name == "bare" else f"{percent(middle)} ({percent(low)} to {percent(high)})")
        rows.append(row)
    result.table(["server", "requests/s", "against bare", "CPU a request", "against bare"], rows)
    middle, low, high = middles["slowwatch", 0]
    result.check("requests per second with slowwatch, fewer than without", -middle, TARGET_PERCENT, "%",
                 interval=(-high, -low))  # fmt: skip
    middle, low, high = middles["slowwatch", 1]
    result.check("CPU time a request with slowwatch, more than without", middle, TARGET_PERCENT, "%",
                 interval=(low, high))  # fmt: skip


def instructions(result, counted):
    def without_allocator(of):
        return of["all"] - of["allocator"]

    def against_bare(name, measure):
        bare = counted["bare, threads = 2" if "threads" in name else "bare"]
        return measure(counted[name]) / measure(bare)

    rows = [
        [name, f"{of['all']:.0f}", percent(against_bare(name, lambda of: of["all"])), f"{of['plugin']:.1f}",
         f"{of['allocator']:.0f}", percent(against_bare(name, without_allocator))]
        for name, of in counted.items()
    ]  # fmt: skip
    result.table(["server", "instructions a request", "against bare", "in slowwatch's code", "in the allocator",
                  "all but the allocator, against bare"], rows)  # fmt: skip
    # Not quite 0: the watchdog wakes up once per threshold, requests or not.
    result.check("instructions a request in slowwatch's own code", counted["slowwatch"]["plugin"], 1, "")
    for name in ("slowwatch", "slowwatch, threads = 2"):
        more = (against_bare(name, lambda of: of["all"]) - 1) * 100
        result.check(f"instructions a request, {name}, more than without", more, TARGET_PERCENT, "%")


if __name__ == "__main__":
    main()
