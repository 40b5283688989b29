"""Cases that run in an interpreter of their own: python cases.py RESULTS FILE NAME...

A signal that interrupts the main thread, a crash or a hang would take pytest with it, so a test file holds cases, which
conftest.py runs here: all of a file in one process, for each CPython, and those that are `alone` in children of it. No
pytest in here, and nothing newer than Python 3.8: the oldest interpreter has neither.

A case fails by an exception; by one that nobody catches in another thread or in a destructor; by not ending: then its
process gets SIGABRT and shows where it stands. What a case leaves behind, an exception that comes after its block above
all, fails it too or ends the process."""

import collections
import contextlib
import faulthandler
import functools
import gc
import importlib.util
import itertools
import json
import operator
import os
import signal
import sys
import tempfile
import threading
import time
import traceback

PATIENCE = 20.0  # seconds until a case gives up waiting for something that must happen
ALONE_SECONDS = 60.0  # until a case in a child of its own is ended that hangs
SOON = 0.02  # seconds: the usual limit of a block that is to time out
BRIEF = 0.1  # seconds: that of a block in which something must be done before
LONG = 0.25  # seconds: one that is not reached by a few lines of code, even on a busy machine
FAR = 600.0  # seconds: one that is never reached


class Skip(Exception):
    """Raised by a case that cannot run here; says why."""


class Case:
    def __init__(self, function, alone, both):
        self.function, self.alone = function, alone
        name = function.__name__
        self.runs = {name: function}  # {name: what to call}
        if both:
            self.runs[name + "_in_thread"] = functools.partial(in_thread, function)


def case(function=None, *, alone=False, both=False):
    """Decorator. alone: in a child of a process that has run no such case, which must then end with 0 and say nothing.
    both: once more in another thread than the main one."""
    if function is None:
        return functools.partial(case, alone=alone, both=both)
    return Case(function, alone, both)


# ---- what cases are made of ----


class Thread(threading.Thread):
    """result() waits for its end and returns or raises what its function did."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.function, self.args, self.value, self.error = function, args, None, None

    def run(self):
        try:
            self.value = self.function(*self.args)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "a thread did not end"
        if self.error is not None:
            raise self.error
        return self.value


def start(function, *args):
    thread = Thread(function, *args)
    thread.start()
    return thread


def in_thread(function, *args):
    return start(function, *args).result()


class raises:
    """Context manager: what is in it must raise this exception (or one of these), which is then `.value`, its frames
    `.traceback`; with a text that contains `says`."""

    def __init__(self, kind, says=""):
        self.kind, self.says = kind, says

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        assert kind is not None, "nothing was raised"
        if not isinstance(value, self.kind):
            return False
        assert self.says in str(value), repr(value)
        self.value, self.traceback = value, traceback.extract_tb(trace)
        value.__traceback__ = None
        return True


@contextlib.contextmanager
def takes(least, most=PATIENCE):
    """What is in it takes so many seconds; anything over the least passes on a busy machine."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert least <= took <= most, f"took {took:.4f} s"


def wait(seconds=PATIENCE):
    """Python code that runs so long, unless it is interrupted."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.0005)
    assert seconds < PATIENCE, f"waited {seconds} s and was not interrupted"


def until(condition, what="a condition"):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.001)


def spin(seconds):
    """Python code that never lets the GIL go by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _consume(turns):
    """C code that neither lets the GIL go nor looks at signals, a function without a frame."""
    return functools.partial(collections.deque, itertools.repeat(None, turns), 0)


def _turns_per_second(sample=200_000):
    def took():
        began = time.perf_counter()
        _consume(sample)()
        return time.perf_counter() - began

    return sample / min(took() for _ in range(5))


def holding(seconds):
    """A callable that holds the GIL in one C call for at least so long, once."""
    if not _speed:
        _speed.append(_turns_per_second())
    return _consume(int(_speed[0] * seconds * 1.5))


_speed = []


def hold_gil(seconds):
    holding(seconds)()


def in_c(*functions):
    """Calls them in C one after another: the interpreter looks at nothing in between. Returns what they returned."""
    return list(map(operator.methodcaller("__call__"), functions))


class Tuner:
    """How long work in a block has to take so that about half of the blocks time out: found by trying."""

    def __init__(self, seconds, step=2e-6):
        self.seconds, self.step, self.fired, self.left = seconds, step, 0, 0

    def count(self, fired):
        if fired:
            self.fired += 1
            self.seconds = max(0.0, self.seconds - self.step)
        else:
            self.left += 1
            self.seconds += self.step

    def check(self):
        """That neither is rare."""
        least = (self.fired + self.left) / 10
        assert min(self.fired, self.left) >= least, f"{self.fired} fired, {self.left} were left in time"


def rss_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def exit_code(pid, patience=PATIENCE):
    """Of a child: waits for its end."""
    end = time.monotonic() + patience
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGABRT)  # faulthandler shows where it hangs
            time.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("a child hangs")
        time.sleep(0.002)


def forked(function, fork=os.fork):
    """The pid of a child that runs the function and ends with 0 when it got through it."""
    pid = fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def in_child(function, fork=os.fork):
    code = exit_code(forked(function, fork))
    assert code == 0, f"the child ended with {code}"


# ---- running them ----

UNNOTICED = []  # exceptions that nobody could catch
USUAL_HOOKS = sys.unraisablehook, threading.excepthook


def listen():
    del UNNOTICED[:]
    sys.unraisablehook = lambda lost: UNNOTICED.append(f"{lost.exc_value!r} in {lost.object!r}")
    threading.excepthook = lambda lost: UNNOTICED.append(f"{lost.exc_value!r} in {lost.thread!r}")


def listen_no_more():
    """At the end they are to be seen on stderr."""
    sys.unraisablehook, threading.excepthook = USUAL_HOOKS


def run(function):
    """Empty, or why it failed or cannot run here."""
    listen()
    try:
        function()
        gc.collect()
        assert not UNNOTICED, "nobody caught: " + "\n".join(UNNOTICED)
    except Skip as skip:
        return {"skip": str(skip)}
    except SystemExit:  # of a child that ends as it would without us
        raise
    except BaseException:
        return {"error": traceback.format_exc()}
    finally:
        listen_no_more()
    return {}


def run_alone(function):
    """In a child, whose interpreter is then closed as any other."""
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+", errors="backslashreplace") as said:
        pid = os.fork()
        if pid == 0:
            for fd in (1, 2):
                os.dup2(said.fileno(), fd)
            json.dump(run(function), told)
            told.flush()
            sys.exit()
        try:
            code = exit_code(pid, ALONE_SECONDS)
        except AssertionError:
            code = "a signal, since it did not by itself"
        told.seek(0)
        said.seek(0)
        outcome, text = json.loads(told.read() or "{}"), said.read().strip()
        if "error" in outcome:
            return {"error": outcome["error"] + text}
        return {"error": f"the interpreter ended with {code} and said:\n{text}"} if code or text else outcome


def load(file):
    spec = importlib.util.spec_from_file_location(os.path.basename(file)[: -len(".py")], file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(results, file, *names):
    faulthandler.enable()
    found = [value for value in vars(load(file)).values() if isinstance(value, Case)]
    runs = {name: (one, function) for one in found for name, function in one.runs.items() if name in names}
    with open(results, "w") as out:
        for alone in (True, False):  # first those that need a process in which nothing has happened yet
            for name, (one, function) in runs.items():
                if one.alone == alone:
                    out.write(json.dumps({"name": name, "begun": True}) + "\n")
                    out.flush()
                    outcome = run_alone(function) if alone else run(function)
                    out.write(json.dumps({"name": name, **outcome}) + "\n")
                    out.flush()


if __name__ == "__main__":
    sys.modules["cases"] = sys.modules["__main__"]  # what the test files import is this very module
    main(*sys.argv[1:])
