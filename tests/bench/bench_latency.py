"""How late a slow request is noticed, and how often the watchdog of a worker wakes up for nothing."""

import json
import subprocess
import threading
import time

from benchlib import QUICK, Result, percentile, proc_number, scaled, servers, tasks
from clients import wait_for
from harness import WATCHDOG_THREAD, is_event

SLOW_REQUESTS = 200
THRESHOLD = 0.1  # seconds
LONGER = 0.16  # how long a slow request takes
NEVER = float("inf")
TARGET_P50_MS, TARGET_P99_MS = 1, 5
ROWS = {  # the page and whether the requests stand apart
    "time.sleep()": ("sleep_for", True),
    "sum(range()), GIL held": ("hold_gil_for", True),
    "time.sleep(), each right after another": ("sleep_for", False),
}

WAKE_THRESHOLD, WAKE_THRESHOLDS = 0.5, 3 if QUICK else 20
TARGET_WAKES = 2


# ---- from threshold to log ----


class Reader:
    """Follows the log as `tail -f` does, and notes when a report's line arrived."""

    def __init__(self, server):
        self.arrived, self.ended = {}, set()
        self.tail = subprocess.Popen(["tail", "-n", "+1", "-f", str(server.log_file)], stdout=subprocess.PIPE)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.tail.stdout:
            now = time.monotonic()
            text = line.decode("utf-8", "replace")
            if is_event(text):
                event = json.loads(text[text.find('{"') :])
                if event["event"] == "slow_request":
                    self.arrived[event["request"]["uri"]] = now
                elif event["event"] == "request_finished":
                    self.ended.add(event["request"]["uri"])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.tail.terminate()
        self.thread.join()
        self.tail.wait()
        self.tail.stdout.close()


def lateness_ms(server, page, apart):
    """Of each slow request: arrival of its line, counted from before its client connected, minus the threshold. apart:
    each begins when the watchdog is at rest again; else at once when the one before has its answer."""
    found = []
    with Reader(server) as reader:
        for number in range(scaled(SLOW_REQUESTS)):
            uri = f"/{page}?seconds={LONGER}&apart={apart}&n={number}"
            begin = time.monotonic()
            assert server.get(uri).status == 200
            found.append((begin, uri))
            if apart:
                wait_for(lambda uri=uri: uri in reader.ended, f"the end of {uri}")
        server.get(f"/{page}?seconds={LONGER}&last")
        wait_for(lambda: f"/{page}?seconds={LONGER}&last" in reader.ended, "the last report")
    return [(reader.arrived.get(uri, NEVER) - begin - THRESHOLD) * 1000 for begin, uri in found]


def measure_lateness():
    # No updates in between: at 2 times the threshold the request is over.
    with servers(slow={"app": "stalls:application", "threshold": THRESHOLD, "sample_interval": 20}) as running:
        return {row: lateness_ms(running["slow"], *how) for row, how in ROWS.items()}


# ---- wake-ups ----


def wakes(server):
    worker = server.workers()[1]
    (watchdog,) = [tid for tid, name in tasks(worker).items() if name == WATCHDOG_THREAD]
    return proc_number(worker, f"task/{watchdog}/status", "voluntary_ctxt_switches")


def wakes_per_threshold(server, busy):
    """Times the watchdog went to sleep per threshold, in an idle worker or in one that serves fast requests."""
    before, begin, requests = wakes(server), time.monotonic(), 0
    while (took := time.monotonic() - begin) < WAKE_THRESHOLD * WAKE_THRESHOLDS:
        if busy:
            server.get("/")
            requests += 1
        else:
            time.sleep(0.05)
    return (wakes(server) - before) / (took / WAKE_THRESHOLD), requests / took


def main():
    result = Result("latency", "How soon a slow request is in the log")
    result.say(f"""{scaled(SLOW_REQUESTS)} requests of {LONGER} s each with a threshold of {THRESHOLD} s. The time runs
        from before the client connects to the arrival of the report's line at a reader of the log (`tail -f`), less the
        threshold: so it holds the connecting, the look itself with the stack, the way through the reporter, and the
        reader. When a request follows at once, the watchdog, still busy with the end of the one before, may see it
        before its application began; it looks again a little later and counts from there.""")
    found = measure_lateness()
    rows = [
        [
            row,
            *(f"{value:.2f} ms" for value in (percentile(late, 50), percentile(late, 99), max(late))),
            late.count(NEVER),
        ]
        for row, late in found.items()
    ]
    result.table(["request", "p50", "p99", "latest", "never reported"], rows)
    for row, (_, apart) in ROWS.items():
        if apart:
            result.check(f"{row}: from threshold to log, p50", percentile(found[row], 50), TARGET_P50_MS, "ms")
        result.check(f"{row}: from threshold to log, p99", percentile(found[row], 99), TARGET_P99_MS, "ms")

    result.say(f"""Wake-ups of the watchdog are its voluntary context switches, over {WAKE_THRESHOLDS} thresholds of
        {WAKE_THRESHOLD} s.""")
    with servers(watched={"app": "stalls:application", "threshold": WAKE_THRESHOLD}) as running:
        idle, _ = wakes_per_threshold(running["watched"], busy=False)
        busy, rate = wakes_per_threshold(running["watched"], busy=True)
    result.table(["worker", "wake-ups per threshold"],
                 [["idle", f"{idle:.2f}"], [f"{rate:.0f} fast requests a second", f"{busy:.2f}"]])  # fmt: skip
    result.check("wake-ups per threshold, idle", idle, TARGET_WAKES, "", below=True)
    result.save(lateness_ms=found, wakes={"idle": idle, "busy": busy})


if __name__ == "__main__":
    main()
