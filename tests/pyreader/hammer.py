"""Captures of a thread that runs a program flat out whose possible chains of (file, function, line) are all known."""
# ruff: noqa: UP031

import ctypes
import dis
import sys
import threading
import time

from constructs import DEADLINE_S, compiled, name_of

HAMMER_FILE = "<hammer>"
HAMMER = """
def leaf(n):
    if n == 1:
        x = len("1")
    elif n == 2:
        x = len("22")
    else:
        x = len("333")
    return x

def middle(n):
    if n == 1:
        return leaf(1)
    if n == 2:
        return leaf(2)
    return leaf(3)

def flip():
    middle(1)
    middle(2)
    middle(3)

def direct():
    leaf(2)
    leaf(1)

def gen(n):
    if n == 1:
        yield leaf(1)
        yield leaf(2)
    else:
        yield leaf(3)

def drive():
    for _ in gen(1):
        leaf(3)
    for _ in gen(2):
        leaf(2)

def keyed():
    sorted((1, 2),
           key=lambda n: leaf(n))
    max([3],
        key=leaf)

def listed():
    return [middle(n)
            for n in (1, 3)]

def down(n):
    if n == 0:
        return leaf(1)
    if n % 2:
        return down(n - 1)
    return down(
        n - 1)

def bodies():
    class Body:
        x = leaf(1)
        y = middle(2)
    return Body

def recursing():
    down(3)
    down(8)

def churn():
    for i in range(4):
        space = {"leaf": leaf}
        exec(compile(CHURN[i], "<hammer-%d>" % i, "exec"), space)
        space["made_%d" % i]()

CHURN = ["\\n" * i + "def made_%d():\\n    leaf(%d)\\n    return leaf(%d)\\n" % (i, i % 3 + 1, (i + 1) % 3 + 1)
         for i in range(4)]
"""
PROGRAMS = ["flip", "direct", "drive", "keyed", "listed", "bodies", "recursing", "churn"]


def line_of(frame):
    """The line of the instruction itself: a traced frame's f_lineno is the line of the last trace event."""
    code, lasti = frame.f_code, frame.f_lasti
    if lasti < 0:
        return code.co_firstlineno
    if hasattr(code, "co_lines"):
        for start, end, line in code.co_lines():
            if start <= lasti < end:
                return line or 0
        return 0
    line = code.co_firstlineno
    for start, number in dis.findlinestarts(code):
        if start <= lasti:
            line = number
    return line


def has_lineless(code):
    return hasattr(code, "co_lines") and any(line is None for _, _, line in code.co_lines())


def possible_chains(functions):
    """Every chain of the program's frames, by tracing each instruction of one pass through `functions`."""
    chains = set()

    def text(frames):
        return "".join("%s|%s:%d>" % f for f in frames)

    def note(frame, event, arg):
        frame.f_trace_opcodes = True
        frames, f = [], frame
        while f is not None:
            if f.f_code.co_filename.startswith(HAMMER_FILE[:-1]):
                frames.append((f.f_code.co_filename, name_of(f.f_code), line_of(f)))
            f = f.f_back
        frames.reverse()
        if frames:
            chains.add(text(frames))
            if frame.f_code.co_filename == frames[-1][0]:
                # untraced are a frame just made, at its first line, and instructions without a line
                for line in (frame.f_code.co_firstlineno, 0)[: 1 + has_lineless(frame.f_code)]:
                    chains.add(text([*frames[:-1], (*frames[-1][:2], line)]))
        return note

    sys.settrace(note)
    try:
        for function in functions:
            function()
    finally:
        sys.settrace(None)
    chains.add("")
    return sorted(chains)


COUNTS = ("clean", "partial", "error", "torn", "torn_partial", "still")


def hammer(probe, functions, captures):
    chains = [HAMMER_FILE[:-1]] + possible_chains(functions)
    allowed = (ctypes.c_char_p * len(chains))(*[c.encode() for c in chains])
    counts = (ctypes.c_long * len(COUNTS))()
    stop = []

    def run():
        while not stop:
            for function in functions:
                function()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        probe.lib.probe_hammer(thread.ident, 128, captures, DEADLINE_S, allowed, len(chains), counts)
    finally:
        stop.append(1)
        thread.join()
    return dict(zip(COUNTS, counts)), probe.why


def check_torn(probe, report, captures):
    space = compiled(HAMMER, HAMMER_FILE)
    programs = [[p] for p in PROGRAMS] + [PROGRAMS]
    total = dict.fromkeys(COUNTS, 0)
    share = max(1, captures // len(programs))
    for program in programs:
        start = time.perf_counter()
        counts, example = hammer(probe, [space[p] for p in program], share)
        took = time.perf_counter() - start
        name = program[0] if len(program) == 1 else "all"
        made = counts["clean"] + counts["partial"] + counts["still"]
        print(
            "torn: %-9s %s, %.1f us each"
            % (name, " ".join("%s %d" % i for i in counts.items()), took / max(made, 1) * 1e6)
        )
        report.check(counts["torn"] == 0, f"{name}: a clean capture that cannot be: {example}")
        if counts["torn_partial"]:
            print("      ", example)
        report.check(counts["error"] == 0, f"{name}: captures failed")
        for k, v in counts.items():
            total[k] += v
    print("torn: total    ", " ".join("%s %d" % i for i in total.items()))
