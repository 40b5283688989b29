"""What one verified capture of a blocked thread costs in the interpreter it runs in; needs nothing but ctypes.

usage: python time_reader.py PROBE.so [--rounds N]

Two kinds of stack: "distinct", where every frame has a function of its own (as real ones nearly do), and "recursion".
Prints a list of measurements as JSON; the time is the median.
"""
# ruff: noqa: UP031

import argparse
import json
import os
import sys

from constructs import Parked, recursion
from probe import BACKENDS, Probe

DEPTHS = (10, 100, 500)
FUNCTIONS_PER_FILE = 10
MAX_DEPTH = 1024


def distinct(depth):
    """`depth` functions calling one another, each of some length, ten to a file."""
    space = {}
    for first in range(0, depth, FUNCTIONS_PER_FILE):
        lines = []
        for i in range(first, min(first + FUNCTIONS_PER_FILE, depth)):
            lines += [
                "def step_%d(call, argument=None):" % i,
                "    values = [n * n for n in (1, 2, 3) if n != argument]",
                "    if not values:",
                "        raise ValueError(argument)",
                "    result = {",
                "        'value': step_%d(call, values[0]) if %d else call()," % (i + 1, i + 1 < depth),
                "    }",
                "    return result['value']",
                "",
            ]
        exec(compile("\n".join(lines), "/srv/app/package/module_%d.py" % first, "exec"), space)
    return lambda park: space["step_0"](park)


KINDS = {"distinct": distinct, "recursion": lambda depth: recursion(depth - 1)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("--rounds", type=int, default=2000)
    args = parser.parse_args()
    sys.setrecursionlimit(3000)
    rows = []
    for backend in BACKENDS:
        probe = Probe(os.path.abspath(args.probe), backend)
        if probe.error or probe.backend != backend:
            print(f"not here: {backend} ({probe.why})", file=sys.stderr)
            continue
        for kind, make in KINDS.items():
            for depth in DEPTHS:
                with Parked(make(depth)) as parked:
                    took = probe.lib.probe_time_ns(parked.thread.ident, MAX_DEPTH, args.rounds)
                    frames = len(probe.capture(parked.thread.ident)[2])
                rows.append(
                    {
                        "python": sys.version.split()[0],
                        "backend": backend,
                        "kind": kind,
                        "frames": frames,
                        "us": round(took / 1000, 1),
                    }
                )
        probe.lib.probe_close()
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
