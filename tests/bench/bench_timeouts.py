"""What a block with a time limit costs next to other ways to have one, and how late its exception comes."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

import benchlib
from benchlib import BENCH, BUILD, QUICK, RESULTS, Result, median_interval, percentile, scaled

REPO = BENCH.parents[1]
sys.path.insert(0, str(BENCH.parent / "pyreader"))

from interpreters import interpreters, known  # noqa: E402

BLOCKS = BENCH / "blocks.py"
OWN = platform.python_version()
ROUNDS, ROUNDS_THREADS = 40, 15
TRACED = {"slowwatch": 100_000, "SIGALRM, class": 10_000, "SIGALRM, generator": 10_000}  # blocks under strace
FIRED, FIRED_OTHERS = 1000, 200  # blocks that time out, in this interpreter and in each other one

TARGET_US = 0.4
TARGET_CHEAPER = 20  # times
TARGET_THREADS = 20  # percent
TARGET_CALLS = 100  # of all blocks that are traced: the start of the timer thread is in it
TARGET_LATE_MS = 5
ALARMS = ("SIGALRM, class", "SIGALRM, generator")
NAMES = {
    "slowwatch": "`slowwatch.timeout(20.0, RuntimeError)`",
    "slowwatch, one object used again": "the same object entered again and again",
    "slowwatch, inside another": "inside another block, which has an hour",
    "C lock": "`threading.Lock`",
    "Python class": "a class whose `__enter__` and `__exit__` do nothing",
    "contextlib": "an empty `contextlib.contextmanager`",
    "SIGALRM, class": "SIGALRM and `setitimer` in a class",
    "SIGALRM, generator": "SIGALRM and `setitimer` in a generator, as interruptingcow",
    "timer thread": "`threading.Timer` and `PyThreadState_SetAsyncExc`, as stopit",
}


# ---- the package for each interpreter ----


class NotBuilt(Exception):
    pass


def package_for(version, python):
    """The folder to import slowwatch from, made as `make` makes it for its own Python."""
    folder = BUILD if version == OWN else RESULTS / version
    goal = folder / "python" / ".ready"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(["make", "-C", REPO, f"B={folder}", f"PYTHON={python}", goal],
                          env=env, capture_output=True, text=True)  # fmt: skip
    if made.returncode != 0:
        raise NotBuilt(f"no package for {python}:\n{made.stderr}")
    return goal.parent


class Interpreter:
    def __init__(self, version, python):
        self.version, self.python = version, python
        self.env = {**os.environ, "PYTHONPATH": str(package_for(version, python)), "PYTHONHASHSEED": "0",
                    "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip

    def run(self, *arguments, before=()):
        done = subprocess.run([*before, self.python, BLOCKS, *map(str, arguments)],
                              env=self.env, stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
        return json.loads(done.stdout)

    def system_calls(self, count, kind):
        with tempfile.NamedTemporaryFile("r") as summary:
            self.run("enter", count, kind, before=["strace", "-f", "-c", "-o", summary.name])
            return int(re.search(r"^\s*100\.00(?:\s+\S+){2}\s+(\d+).*total$", summary.read(), re.MULTILINE)[1])


def all_interpreters():
    found = []
    for version, path in {**interpreters(), OWN: sys.executable}.items():
        if not known(version):
            continue
        try:
            found.append(Interpreter(version, path))
        except NotBuilt as why:
            print(why, file=sys.stderr)
    return sorted(found, key=lambda one: [int(part) for part in one.version.split(".")])


# ---- the parts of the page ----


def say_cost(result, own, costs):
    result.say(f"""What it costs to enter and leave a block whose time does not run out, {own.version}, main thread:
        medians of {len(costs["slowwatch"])} rounds, with their 95 % confidence interval. The kinds take turns in one
        process, and the loop around the block is taken off. Each block makes its manager anew, unless it says
        otherwise.""")
    medians = {name: median_interval([ns / 1000 for ns in values]) for name, values in costs.items()}
    ours = medians["slowwatch"][0]
    result.table(
        ["block", "µs", "interval", "in blocks of slowwatch"],
        [
            [NAMES[name], f"{middle:.3f}", f"{low:.3f} to {high:.3f}",
             "" if name.startswith("slowwatch") else f"{middle / ours:.1f}"]
            for name, (middle, low, high) in medians.items()
        ],
    )  # fmt: skip
    result.check(f"a block that does not fire, CPython {own.version}", ours, TARGET_US, "µs", digits=3)
    for name in ALARMS:
        share = ours / medians[name][0] * 100
        result.check(f"a block, in percent of {NAMES[name]}", share, 100 / TARGET_CHEAPER, "%", digits=1)


def say_threads(result, found):
    result.say("""The same block, by turns alone and while 1,000 other threads wait inside blocks of their own, in the
        main thread and in another. The deadlines of the others are like its own, or all of them come later, so that it
        goes to the top of the heap and off again. Medians of the rounds; each round is compared with itself.""")
    result.table(
        ["thread", "alone", "1,000 deadlines like its own", "1,000 later ones"],
        [
            [name, *(f"{statistics.median(of[kind]) / 1000:.3f} µs" for kind in ("alone", "alike", "later"))]
            for name, of in found.items()
        ],
    )
    for name, of in found.items():
        for kind, words in (("alike", "deadlines like its own"), ("later", "later deadlines")):
            more, *interval = median_interval([(ns / alone - 1) * 100 for ns, alone in zip(of[kind], of["alone"])])
            result.check(f"dearer among 1,000 {words}, {name} thread", more, TARGET_THREADS, "%", digits=1,
                         interval=interval)  # fmt: skip


def say_system_calls(result, own):
    result.say("""System calls, counted by `strace -f -c` in all threads, those of an interpreter that enters no block
        taken off. What slowwatch has are those of the first block, which starts the timer thread; the clock is read
        without a system call.""")
    rows, ours = [], None
    for kind, blocks in TRACED.items():
        count = scaled(blocks)
        calls = own.system_calls(count, kind) - own.system_calls(0, kind)
        rows.append([NAMES[kind], f"{count:,}", f"{calls:,}", f"{calls / count:.4f}"])
        ours = calls if ours is None else ours
    result.table(["block", "blocks", "system calls", "each"], rows)
    result.check(f"system calls of {scaled(TRACED['slowwatch']):,} blocks", ours, TARGET_CALLS, "", digits=0)
    return rows


def say_late(result, own, late):
    result.say(f"""How late the exception is: from the deadline until it has left the block, {own.version}, with limits
        from 5 to 15 ms. Nothing else runs in the process. A C call of a thread that is not the main one is not
        interrupted; the sleeps of the last row take 0.5 ms each. The first row is a control: how late a mere sleep of
        the same length is on this machine.""")
    result.table(
        ["thread: what it does", "times", "p50", "p99", "latest"],
        [
            [name, len(values), *(f"{percentile(values, percent):.2f} ms" for percent in (50, 99, 100))]
            for name, values in late.items()
        ],
    )
    _, *cases = late  # the first one is the control
    for name in cases:
        result.check(f"p99 of the lateness, {name}", percentile(late[name], 99), TARGET_LATE_MS, "ms")


def say_all(result, costs, late):
    result.say("""The same for each CPython at hand: a block, what it is compared with, and the lateness.""")
    rows = []
    for version in costs:
        us = {name: statistics.median(values) / 1000 for name, values in costs[version].items()}
        waits = [percentile(late[version][name], 99) for name in late[version]]
        rows.append([version, *(f"{us[name]:.2f}" for name in ("slowwatch", "C lock", "contextlib", *ALARMS)),
                     *(f"{ms:.2f}" for ms in waits)])  # fmt: skip
        if version != OWN:
            result.check(f"a block that does not fire, CPython {version}", us["slowwatch"], TARGET_US, "µs", digits=3)
    control, *cases = late[OWN]
    result.table(
        ["CPython", "slowwatch, µs", "C lock", "contextlib", "SIGALRM class", "SIGALRM generator",
         *(f"{name}, p99 ms" for name in (control, *cases))],
        rows,
    )  # fmt: skip
    worst = max(percentile(of[name], 99) for of in late.values() for name in cases)
    result.check("p99 of the lateness, the worst of all interpreters", worst, TARGET_LATE_MS, "ms")


def main():
    result = Result("timeouts", "What a time limit costs, and how late it is")
    found = all_interpreters()
    own = next(one for one in found if one.version == OWN)
    costs = {one.version: one.run("cost", scaled(ROUNDS)) for one in found}
    say_cost(result, own, costs[OWN])
    threads = own.run("threads", scaled(ROUNDS_THREADS))
    say_threads(result, threads)
    calls = say_system_calls(result, own)
    late = {one.version: one.run("late", scaled(FIRED if one is own else FIRED_OTHERS)) for one in found}
    say_late(result, own, late[OWN])
    say_all(result, costs, late)
    benchlib.python["version"] = ", ".join(costs)
    result.save(costs_ns=costs, threads_ns=threads, system_calls=calls, late_ms=late, quick=QUICK)


if __name__ == "__main__":
    main()
