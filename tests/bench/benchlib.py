"""What the benchmarks share: servers with and without the plugin, statistics, and results that report.py can render.

A result is build/bench/<name>.json: a title, paragraphs, tables and checks against a target, and the machine it ran on.
"""

import contextlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "e2e"))

from harness import APPS, BUILD, UWSGI, Uwsgi  # noqa: E402

RESULTS = BUILD / "bench"
QUICK = os.environ.get("BENCH_QUICK") == "1"  # a tenth of the work, to see whether a script runs at all


def scaled(count):
    return max(2, count // 10) if QUICK else count


# ---- servers ----

python = {}  # of the servers, not the one that runs the benchmark


def make_server(folder, app, plugin=True, **options):
    """A server of the end-to-end tests, or the same one without slowwatch."""
    if not plugin:
        for name in ("threshold", "sample_interval", "log"):
            options[name] = None
    server = Uwsgi(folder, app=app, plugins=None if plugin else Uwsgi.plugin_list(), disable_logging=True, **options)
    server.options["plugins"] = server.options["plugins"] or None  # a uWSGI that has Python inside needs none
    server.options["pythonpath"] = [str(BENCH), str(APPS)]
    server.env["PYTHONHASHSEED"] = "0"  # the same dictionaries in each process that is compared
    return server


@contextlib.contextmanager
def servers(**makers):
    """Several servers at once, by name; each maker is the arguments of make_server."""
    with tempfile.TemporaryDirectory(prefix="slowwatch-bench-") as folder, contextlib.ExitStack() as stack:
        made = {name: make_server(Path(folder) / name, **arguments) for name, arguments in makers.items()}
        for server in made.values():
            stack.enter_context(started(server))
        yield made


@contextlib.contextmanager
def started(server):
    server.start(probe="/")
    python["version"] = re.search(r"^Python version: (\S+)", server.log(), re.MULTILINE)[1]
    try:
        yield server
    finally:
        server.kill_all()  # a benchmark measures nothing after its last number


def tasks(pid):
    """The threads of a process: {tid: name}."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[int(task.name)] = (task / "comm").read_text().strip()
    return found


def proc_number(pid, file, field):
    """A number from a file of /proc/<pid>/ that has "field: number" lines."""
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)[1])


# ---- statistics ----


def percentile(values, percent):
    """The smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median_interval(values):
    """The median and its 95 % confidence interval, from order statistics: no assumption about the distribution."""
    ordered, n = sorted(values), len(values)
    reach = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach) - 1)
    return statistics.median(ordered), ordered[low], ordered[high]


# ---- the machine ----


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def cpu_model():
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def distribution():
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else "an unnamed system"


def machine():
    """What a reader needs to compare with his own; no names of hosts."""
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024**2
    return {
        "processor": f"{cpu_model()}, {os.cpu_count()} logical CPUs",
        "memory": f"{memory:.0f} GiB",
        "system": f"{distribution()}, Linux {platform.release().split('-')[0]}, {platform.machine()}",
        "uWSGI": first_line(UWSGI, "--version"),
    }


# ---- results ----


class Result:
    """Collects what a benchmark finds, prints it as it comes, and saves it."""

    def __init__(self, name, title):
        self.file = RESULTS / f"{name}.json"
        self.began = time.monotonic()
        self.data = {
            "title": title,
            "machine": machine(),
            "load_before": os.getloadavg()[0],
            "quick": QUICK,
            "parts": [],  # paragraphs and tables, in the order of the page
            "checks": [],
            "raw": {},
        }
        print(f"== {title}", flush=True)

    def say(self, text):
        """A paragraph of the page: what was done, what the numbers mean."""
        self.data["parts"].append(" ".join(text.split()))

    def table(self, columns, rows):
        rows = [[str(cell) for cell in row] for row in rows]
        self.data["parts"].append({"columns": columns, "rows": rows})
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        for row in [columns, *rows]:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)

    def check(self, what, value, limit, unit, digits=2, below=False, interval=None):
        """A value that should be at most the limit, or below it. With an interval that holds the limit the measurement
        cannot tell."""
        low, high = interval or (value, value)
        if high < limit or (high == limit and not below):
            verdict = "met"
        elif interval and low <= limit:
            verdict = "cannot tell"
        else:
            verdict = "missed"
        text = f"{value:.{digits}f} {unit}".strip()
        if interval:
            text += f" ({low:.{digits}f} to {high:.{digits}f})"
        target = f"{'<' if below else '≤'} {limit} {unit}".strip()
        self.data["checks"].append({"what": what, "value": text, "target": target, "verdict": verdict})
        print(f"  {what}: {text}, target {target}: {verdict}", flush=True)

    def save(self, **raw):
        """raw: the single measurements, for whoever wants to look closer."""
        self.data["raw"] = raw
        self.data["machine"]["Python"] = python["version"]
        self.data["seconds"] = round(time.monotonic() - self.began)
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.data, indent=1, ensure_ascii=False) + "\n")
        print(f"  {self.data['seconds']} s, saved as {self.file.name}", flush=True)
