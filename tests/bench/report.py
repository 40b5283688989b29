"""Writes docs/benchmarks.md from what the benchmarks left in build/bench/: `python tests/bench/report.py`."""

import json
import sys

from benchlib import BENCH, RESULTS

PAGE = BENCH.parents[1] / "docs" / "benchmarks.md"
ORDER = ("throughput", "latency", "stalls", "pause", "memory", "reader", "timeouts")

HEAD = """# Benchmarks

What slowwatch costs and how well it does, measured. The page is written by a script from the results of a run; the
numbers are of one machine and one day, the ratios should hold elsewhere.

"""
REPEAT = """## How to repeat it

```sh
make bench                                      # some ten minutes on a machine that does nothing else
build/venv/bin/python tests/bench/report.py     # writes this page from build/bench/*.json
```

Each script under `tests/bench/` can be run alone with `build/venv/bin/python`, when `make all venv` has been run.
`BENCH_QUICK=1` does a tenth of the work, to see whether it runs. The JSON files hold every single measurement. `wrk`,
`valgrind` and `strace` are needed (Debian has all three).
"""


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines) + "\n"


def summary(results):
    rows = [
        [f"[{of['title']}](#{anchor(of['title'])})", check["what"], check["value"], check["target"],
         check["verdict"] if check["verdict"] == "met" else f"**{check['verdict']}**"]
        for of in results
        for check in of["checks"]
    ]  # fmt: skip
    return table(["", "measured", "value", "target", ""], rows)


def anchor(title):
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


def machine(results):
    """One description, or as many as there were machines."""
    text, seen = "", []
    for of in results:
        if of["machine"] not in seen:
            seen.append(of["machine"])
            text += ", ".join(f"{name}: {value}" for name, value in of["machine"].items()) + ".\n"
    busy = [of["title"] for of in results if of["load_before"] > 0.5]
    if busy:
        text += f"The machine had other work to do when these began: {'; '.join(busy)}.\n"
    quick = [of["title"] for of in results if of["quick"]]
    if quick:
        text += f"Only a tenth of the work was done for: {'; '.join(quick)}.\n"
    return text + "\n"


def section(of):
    text = f"## {of['title']}\n\n"
    for part in of["parts"]:
        text += f"{part}\n\n" if isinstance(part, str) else table(part["columns"], part["rows"])
    return text


def main():
    found = {file.stem: json.loads(file.read_text()) for file in RESULTS.glob("*.json")}
    known = {name: of for name, of in found.items() if isinstance(of, dict) and "parts" in of}
    for name in sorted(found.keys() - known.keys()):
        print(f"{name}.json is no result that this script knows", file=sys.stderr)
    names = [name for name in ORDER if name in known] + sorted(known.keys() - set(ORDER))
    results = [known[name] for name in names]
    if not results:
        sys.exit("no results: run `make bench` first")
    PAGE.write_text(HEAD + machine(results) + summary(results) + "".join(map(section, results)) + REPEAT)
    print(f"{PAGE.name}: {', '.join(names)}")


if __name__ == "__main__":
    main()
