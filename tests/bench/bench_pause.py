"""Is the watched thread ever paused? A request looks at the clock without a break and notes each gap."""

import json
import os
import signal
import statistics
import threading
from pathlib import Path

from benchlib import Result, median_interval, proc_number, scaled, servers, tasks
from harness import WATCHDOG_THREAD
from stalls import GAP_NS

ROUNDS = 8
SECONDS = 2.0
DEPTH = 30  # frames below which it spins
OFTEN_MS, DEFAULT_MS = 1, 100  # between looks
PAUSES_PER_SECOND = 100
TARGET = 0.05  # gaps and preemptions per look: one in twenty is below what the rounds differ by
UNSEEN = 0.5
CPUS = sorted(os.sched_getaffinity(0))

SPIN = {"app": "stalls:application"}
SERVERS = {
    "bare": {**SPIN, "plugin": False},
    "often": {**SPIN, "threshold": 0.2, "sample_interval": OFTEN_MS},
    "default": {**SPIN, "threshold": 0.2, "sample_interval": DEFAULT_MS},
}
ROWS = {  # the server, whether the watchdog shares the CPU of the request, whether the control pauses the worker
    "nobody": ("bare", False, False),
    f"slowwatch every {OFTEN_MS} ms, on another CPU": ("often", False, False),
    f"slowwatch every {OFTEN_MS} ms, on the same CPU": ("often", True, False),
    f"slowwatch every {DEFAULT_MS} ms, on the same CPU": ("default", True, False),
    f"SIGSTOP and SIGCONT, {PAUSES_PER_SECOND} times a second": ("bare", False, True),
}
NOBODY, ELSEWHERE, *_, CONTROL = ROWS


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Pauser(threading.Thread):
    """What a sampler does that stops its target: the control that shows that a pause would be seen."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.leave, self.pauses = pid, threading.Event(), 0

    def run(self):
        while not self.leave.wait(1 / PAUSES_PER_SECOND):
            os.kill(self.pid, signal.SIGSTOP)
            while not is_stopped(self.pid):  # else SIGCONT takes the other one back
                pass
            os.kill(self.pid, signal.SIGCONT)
            self.pauses += 1


def place(server, same_cpu):
    """The request's thread on one CPU, all other threads on the other one, or the watchdog beside the request."""
    worker = server.workers()[1]
    for pid in server.pids():
        for tid, name in tasks(pid).items():
            beside = tid == worker or (same_cpu and name == WATCHDOG_THREAD)
            os.sched_setaffinity(tid, {CPUS[0] if beside else CPUS[-1]})
    return worker


def spin(server, same_cpu, paused):
    """One request that spins: what it noticed, all per second."""
    worker = place(server, same_cpu)
    since = server.mark()
    pauser = Pauser(worker)
    switched = proc_number(worker, f"task/{worker}/status", "nonvoluntary_ctxt_switches")
    if paused:
        pauser.start()
    seen = json.loads(server.get(f"/spin?seconds={SECONDS}&depth={DEPTH}").body)
    if paused:
        pauser.leave.set()
        pauser.join()
    switched = proc_number(worker, f"task/{worker}/status", "nonvoluntary_ctxt_switches") - switched
    watched = server.options["slowwatch-threshold"] is not None
    looks = server.wait_event("request_finished", since=since)["looks"] if watched else pauser.pauses
    seconds = seen["took_ns"] / 1e9
    return {
        "looks": looks / seconds,
        "speed": seen["looks"] / seconds,
        "gaps": len(seen["gaps_ns"]) / seconds,
        "gone_us": sum(seen["gaps_ns"]) / 1000 / seconds,
        "longest_us": max(seen["gaps_ns"], default=0) / 1000,
        "preemptions": switched / seconds,
        "tracer": proc_number(worker, "status", "TracerPid"),
    }


def main():
    result = Result("pause", "Is the request ever paused")
    with servers(**SERVERS) as running:
        os.sched_setaffinity(0, {CPUS[-1]})  # away from the request
        rounds = [{row: spin(running[name], *how) for row, (name, *how) in ROWS.items()} for _ in range(scaled(ROUNDS))]
    result.say(f"""A request spins for {SECONDS:.0f} s, {DEPTH} frames deep, reads the clock as fast as Python can and
        notes each gap of more than {GAP_NS // 1000} µs between two readings: then its thread did not run. A Python loop
        is the hardest to read, as it changes all the time. The last row is a control: it stops and continues the worker
        as samplers do that stop their target, which is what a pause looks like here. Medians of {len(rounds)}
        interleaved rounds; ticks of the kernel and other load make gaps as well, in all rows alike. A watchdog that has
        to share its CPU with the request preempts it for the time of a look, like any other thread of the machine; it
        never stops the request to look.""")

    def middle(row, field):
        return statistics.median(one[row][field] for one in rounds)

    def more_per_look(row, field):
        return median_interval([(one[row][field] - one[NOBODY][field]) / one[row]["looks"] for one in rounds])

    def cells(row):
        speed = statistics.median(one[row]["speed"] / one[NOBODY]["speed"] for one in rounds)
        return [row, f"{middle(row, 'looks'):.0f}", f"{middle(row, 'gaps'):.0f}",
                f"{middle(row, 'gone_us') / 10_000:.2f} %", f"{middle(row, 'longest_us'):.0f} µs",
                f"{middle(row, 'preemptions'):.1f}", f"{speed:.3f}"]  # fmt: skip

    result.table(["looked at by", "looks/s", "gaps/s", "time in gaps", "longest gap", "preemptions/s",
                  "speed of the loop"], [cells(row) for row in ROWS])  # fmt: skip
    result.check("tracers attached to the worker", max(one[ELSEWHERE]["tracer"] for one in rounds), 0, "", digits=0)
    for field in ("gaps", "preemptions"):
        value, low, high = more_per_look(ELSEWHERE, field)
        result.check(f"{field} per look, watchdog on another CPU", value, TARGET, "", digits=3, interval=(low, high))
    # A machine too busy to show the control's pauses would not show others either.
    unseen, low, high = (1 - seen for seen in more_per_look(CONTROL, "gaps"))
    result.check("part of the control's pauses that made no gap", unseen, UNSEEN, "", interval=(high, low))
    result.save(rounds=rounds)


if __name__ == "__main__":
    main()
