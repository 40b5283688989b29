"""What one look at a stack costs, by backend and depth, and how many stacks of a busy thread were torn."""

import json
import re
import subprocess
import sys

import benchlib
from benchlib import BENCH, BUILD, QUICK, Result, scaled

PYREADER = BENCH.parent / "pyreader"
sys.path.insert(0, str(PYREADER))

from interpreters import interpreters, known  # noqa: E402

PROBE = BUILD / "plain" / "pyreader_probe.so"
ROUNDS, CAPTURES = 2000, 100_000
DEPTHS = (16, 106, 506)  # 10, 100 and 500, and those of the thread itself
TARGET_US = 60  # of the middle depth, by the first backend
TARGET_SINCE = (3, 11)  # older interpreters keep each frame on its own


def run(python, script, *arguments):
    done = subprocess.run([python, PYREADER / script, PROBE, *map(str, arguments)], capture_output=True, text=True)
    print(done.stderr, end="", file=sys.stderr)
    return done.stdout


def torn(python):
    """{what: how many} of all captures of a thread that runs flat out."""
    total = re.search(r"^torn: total +(.*)$", run(python, "check_reader.py", "--only", "torn", "--captures",
                                                 scaled(CAPTURES)), re.MULTILINE)  # fmt: skip
    words = total[1].split()
    return {what: int(count) for what, count in zip(words[::2], words[1::2])}


def main():
    result = Result("reader", "What a look at a stack costs, and whether it is true")
    pythons = {version: path for version, path in interpreters().items() if known(version)}
    costs = [row for path in pythons.values() for row in json.loads(run(path, "time_reader.py", "--rounds",
                                                                        scaled(ROUNDS)))]  # fmt: skip
    result.say("""A look reads the whole stack of a blocked thread, names and lines included, and then reads everything
        once more to compare. Medians in microseconds. Each frame has a function of its own, ten to a file; in
        "recursion" all have the same.""")

    def cost(python, backend, kind, frames):
        (us,) = (row["us"] for row in costs if (row["python"], row["backend"], row["kind"]) == (python, backend, kind)
                 and abs(row["frames"] - frames) < 5)  # fmt: skip
        return us

    backends = list(dict.fromkeys(row["backend"] for row in costs))
    kinds = list(dict.fromkeys(row["kind"] for row in costs))
    result.table(
        ["CPython", "backend", "stack", *(f"{frames} frames" for frames in DEPTHS)],
        [
            [version, backend, kind, *(f"{cost(version, backend, kind, frames):.0f}" for frames in DEPTHS)]
            for version in pythons for backend in backends for kind in kinds
        ],
    )  # fmt: skip
    for version in pythons:
        if tuple(map(int, version.split(".")[:2])) >= TARGET_SINCE:
            us = cost(version, backends[0], kinds[0], DEPTHS[1])
            result.check(f"{DEPTHS[1]} frames, {backends[0]}, CPython {version}", us, TARGET_US, "µs", digits=1)

    counts = {version: torn(path) for version, path in pythons.items()}
    result.say(f"""A thread runs small functions flat out, of which every stack that can be is known, while
        it is looked at {scaled(CAPTURES)} times without a pause; looks during which it did not run do not count.
        "Clean" stacks were verified; in "partial" ones the innermost frames changed faster than they could be read, and
        the report says so. "Torn" ones were called clean and cannot be.""")
    result.table(
        ["CPython", "clean", "partial", "torn"],
        [[version, *(count[what] for what in ("clean", "partial", "torn"))] for version, count in counts.items()],
    )
    result.check("torn stacks called clean, all interpreters", sum(c["torn"] for c in counts.values()), 0, "", digits=0)
    benchlib.python["version"] = ", ".join(pythons)
    result.save(costs=costs, torn=counts, quick=QUICK)


if __name__ == "__main__":
    main()
