"""What slowwatch takes of memory in each worker, and its reporter."""

import statistics

from benchlib import Result, proc_number, scaled, servers
from harness import Stuck

WORKERS = 4
STARTS = 5
DEPTH = 100  # Python frames of the slow request
THRESHOLD = 0.3  # seconds
TARGET_MIB = 1.0

KINDS = ("Private_Dirty", "Pss", "Rss")
OPTIONS = {"app": "stuck:application", "processes": WORKERS}


def memory_kib(pid):
    return {kind: proc_number(pid, "smaps_rollup", kind) for kind in KINDS}


def of_workers(server):
    """The mean of all workers."""
    found = [memory_kib(pid) for pid in server.workers().values()]
    assert len(found) == WORKERS
    return {kind: statistics.mean(one[kind] for one in found) for kind in KINDS}


def one_each(server, depth, watched):
    """A request in every worker at once: none of them can take a second one before the gate opens."""
    requests = [Stuck(server, "/depth", {"depth": depth}).begin() for _ in range(WORKERS)]
    if watched:
        for request in requests:
            request.event("slow_request_update")  # at twice the threshold: it was looked at several times
    for request in requests:
        assert request.finish().status == 200
        request.gate.close()
    if watched:
        for request in requests:
            request.event("request_finished")


def measure():
    """Idle and after a slow request, with the plugin and without; and the reporter."""
    with servers(bare={**OPTIONS, "plugin": False}, slowwatch={**OPTIONS, "threshold": THRESHOLD}) as running:
        found = {}
        for name, server in running.items():
            one_each(server, 1, watched=False)
            found[name, "idle"] = of_workers(server)
            one_each(server, DEPTH, watched=name == "slowwatch")
            found[name, "after a slow request"] = of_workers(server)
        found["reporter", "after a slow request"] = memory_kib(running["slowwatch"].reporter())
    return found


def main():
    result = Result("memory", "What it takes of memory")
    starts = [measure() for _ in range(scaled(STARTS))]
    result.say(f"""Servers with {WORKERS} workers, with slowwatch and without, each worker with the same requests behind
        it: first a fast one, then one that is stuck {DEPTH} Python frames deep for twice the threshold. Means of the
        workers, medians of {len(starts)} starts, from `/proc/<pid>/smaps_rollup`. Private dirty memory is what a worker
        has for itself, and what the target is for. Rss also counts in full what all processes share, like the code of
        the plugin and the reports in shared memory. Pss divides that by those who share it; the reporter is one more of
        them, which flatters slowwatch a little.""")

    def middle(key, kind):
        return statistics.median(start[key][kind] for start in starts)

    rows, more = [], {}
    for state in ("idle", "after a slow request"):
        for name in ("bare", "slowwatch"):
            rows.append([f"worker, {name}, {state}", *(f"{middle((name, state), kind):.0f} KiB" for kind in KINDS)])
        more[state] = [middle(("slowwatch", state), kind) - middle(("bare", state), kind) for kind in KINDS]
        rows.append([f"difference, {state}", *(f"{kib:+.0f} KiB" for kib in more[state])])
    rows.append(["reporter", *(f"{middle(('reporter', 'after a slow request'), kind):.0f} KiB" for kind in KINDS)])
    result.table(["process", "private dirty", "Pss", "Rss"], rows)
    for state, (private, *_) in more.items():
        result.check(f"private memory of a worker, {state}", private / 1024, TARGET_MIB, "MiB")
    result.save(starts_kib=[{f"{name}, {state}": kib for (name, state), kib in start.items()} for start in starts])


if __name__ == "__main__":
    main()
