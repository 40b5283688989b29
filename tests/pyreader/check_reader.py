"""Compares the GIL-free stack reader with what the interpreter it runs in says; needs nothing but ctypes.

usage: python check_reader.py PROBE.so [--captures N] [--backend memfd|process_vm_readv|pipe] [--only parked|torn]

Exit code 0 = all alike, 1 = a difference, 77 = the reader refuses this interpreter (the reason is printed).
"""
# ruff: noqa: UP031

import _thread
import argparse
import contextlib
import ctypes
import gc
import itertools
import os
import sys
import threading
import time

from constructs import CONSTRUCTS, DEADLINE_S, Parked, real_stack
from hammer import check_torn
from probe import BACKENDS, Probe

REFUSED = 77


class Report:
    def __init__(self):
        self.checks = self.failures = 0

    def check(self, ok, what):
        self.checks += 1
        if not ok:
            self.failures += 1
            print("DIFFERENT:", what)
        return ok


def cut(text, limit=1024):
    return text if len(text) <= limit else text[:limit] + "..."


def check_parked(probe, report):
    for name, construct in CONSTRUCTS.items():
        with Parked(construct) as parked:
            ident = parked.thread.ident
            want = [(cut(f), n, cut(q)) for f, n, q in real_stack(sys._current_frames()[ident])]
            reason, truncated, got = probe.capture(ident)
            if not report.check(reason == "clean" and truncated == 0, f"{name}: {reason}"):
                continue
            for a, b in itertools.zip_longest(got, want):
                if not report.check(a == b, f"{name}: read {a!r}, is {b!r}"):
                    break
            for depth in (1, 7, 128):
                reason, truncated, got = probe.capture(ident, depth)
                report.check(
                    (reason, truncated, got) == ("clean", max(0, len(want) - depth), want[-depth:]),
                    "%s: cut to %d frames" % (name, depth),
                )


def check_self(probe, report):
    for lib, how in ((probe.lib, "without"), (probe.with_gil, "with")):
        modules, handled = set(sys.modules), sys.exc_info()
        report.check(lib.probe_self_check() == 0, f"self-check {how} the GIL: {probe.why}")
        report.check(set(sys.modules) == modules and sys.exc_info() == handled, "self-check left a trace")
    in_thread = []
    thread = threading.Thread(target=lambda: in_thread.append(probe.lib.probe_self_check()))
    thread.start()
    thread.join()
    report.check(in_thread == [0], f"self-check in a thread: {probe.why}")

    gc.collect()
    gc.disable()
    try:
        probe.lib.probe_self_check()
        before = len(gc.get_objects())
        start = time.perf_counter()
        for _ in range(200):
            probe.lib.probe_self_check()
        took = (time.perf_counter() - start) / 200
        after = len(gc.get_objects())
    finally:
        gc.enable()
    report.check(after - before < 20, "self-check leaks: %d objects after 200 rounds" % (after - before))
    print("self-check: %.0f us" % (took * 1e6))


def check_threads(probe, report):
    with contextlib.ExitStack() as stack:
        parked = [stack.enter_context(Parked(CONSTRUCTS[n])) for n in ("recursion 30", "generators", "lambdas")]
        me = threading.get_ident()
        found = probe.threads(me, 4)
        report.check(me not in found, "the asking thread is among the others")
        for p in parked:
            tid, gil, (reason, truncated, got) = found.get(p.thread.ident, (0, None, ("missing", 0, [])))
            want = real_stack(sys._current_frames()[p.thread.ident])
            report.check((reason, truncated, got) == ("clean", len(want) - 4, want[-4:]), f"short stacks: {got!r}")
            report.check(gil is False, "a parked thread holds the GIL")
            report.check(tid == (p.thread.native_id if sys.version_info >= (3, 11) else 0), "native id %d" % tid)
        reason, _, got = probe.capture(12345)
        report.check(reason == "error: No such process", f"a thread that is none: {reason}")


def check_outermost_generator(probe, report):
    """What a server does that iterates over a response: a generator is the outermost frame."""
    idents, go, done = [], threading.Lock(), threading.Lock()
    go.acquire()
    done.acquire()

    def deeper():
        idents.append(threading.get_ident())
        go.acquire()

    def response():
        deeper()
        done.release()
        yield 1

    _thread.start_new_thread(next, (response(),))
    deadline = time.monotonic() + DEADLINE_S
    want = got = None
    while time.monotonic() < deadline:  # until it waits
        time.sleep(0.001)
        if idents:
            want = ("clean", 0, real_stack(sys._current_frames()[idents[0]]))
            got = probe.capture(idents[0])
            if got == want:
                break
    report.check(got == want and len(want[2]) == 2, "a generator as the outermost frame: %r" % (got,))
    go.release()
    done.acquire()


SUB = """
import os
def within():
    os.write({told}, b"x")
    os.read({go}, 1)
within()
"""


def sub_interpreters():
    for name in ("_interpreters", "_xxsubinterpreters"):
        with contextlib.suppress(ImportError):
            return __import__(name)
    return None


def check_sub_interpreter(probe, report):
    """A thread with two thread states: that of the sub-interpreter it is in, and the one it came from."""
    module = sub_interpreters()
    if not module:
        print("not here: sub-interpreters")
        return
    (told, tell), (wait, go) = os.pipe(), os.pipe()

    def run():
        sub = module.create()
        module.run_string(sub, SUB.format(told=tell, go=wait))
        module.destroy(sub)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    os.read(told, 1)
    deadline = time.monotonic() + DEADLINE_S
    got = []
    while [f[1:] for f in got][-2:] != [(6, "<module>"), (5, "within")] and time.monotonic() < deadline:
        reason, truncated, got = probe.capture(thread.ident)  # until it waits
    report.check("several Python stacks" in reason and truncated == 0, "in a sub-interpreter: %s" % reason)
    report.check([f[1:] for f in got][-2:] == [(6, "<module>"), (5, "within")], "in a sub-interpreter: %r" % got)
    os.write(go, b"x")
    thread.join()
    for fd in (told, tell, wait, go):
        os.close(fd)


def flat_out(stop):
    n = 0
    while not stop:
        n += 1


def check_gil(probe, report):
    looks = 20000

    def counts_of(lib, thread, other):
        counts = (ctypes.c_long * 5)()
        lib.probe_gil_counts(thread.ident, thread.native_id, other.ident, looks, counts)
        return dict(zip(("unknown", "held", "wanted", "released", "stranger"), counts))

    me = threading.current_thread()
    with Parked(CONSTRUCTS["recursion 0"]) as parked:
        counts = counts_of(probe.lib, parked.thread, me)
        report.check(counts["released"] == looks, f"GIL of a parked thread: {counts!r}")
    # A thread that waits for the GIL wakes up each switch interval to ask again, and on a busy machine it is a while
    # until it sleeps again. With a long interval it sleeps nearly all the time.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.5)
    stop = []
    busy = threading.Thread(target=flat_out, args=(stop,), daemon=True)
    busy.start()
    try:
        # a call through PyDLL holds the GIL all the time
        counts = counts_of(probe.with_gil, me, busy)
        report.check(counts["held"] == looks and not counts["stranger"], f"GIL of its holder: {counts!r}")
        counts = counts_of(probe.with_gil, busy, me)
        report.check(
            counts["wanted"] > looks * 0.9 and not counts["held"] and not counts["stranger"],
            f"GIL of a waiting thread: {counts!r}",
        )
        print("GIL, a thread that waits for it, %d looks:" % looks, counts)
        sys.setswitchinterval(usual)
        counts = counts_of(probe.lib, busy, me)
        report.check(counts["held"] > looks * 0.9, f"GIL of a busy thread: {counts!r}")
    finally:
        sys.setswitchinterval(usual)
        stop.append(1)
        busy.join()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("--captures", type=int, default=20000)
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument("--only", choices=("parked", "torn"))
    args = parser.parse_args()
    sys.setrecursionlimit(3000)
    probe = Probe(os.path.abspath(args.probe), args.backend)
    if probe.error:
        print("refused:", probe.why)
        return REFUSED
    print(probe.version, "via", probe.backend)
    report = Report()
    if args.only != "torn":
        check_parked(probe, report)
        check_threads(probe, report)
        check_gil(probe, report)
        check_outermost_generator(probe, report)
        check_sub_interpreter(probe, report)
        check_self(probe, report)
    if args.only != "parked":
        check_torn(probe, report, args.captures)
    probe.lib.probe_close()
    print("%d checks, %d different" % (report.checks, report.failures))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
