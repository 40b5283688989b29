"""Threads parked in every kind of construct, and what the interpreter says of their stacks."""
# ruff: noqa: UP031

import asyncio
import contextlib
import re
import sys
import threading
import time

DEADLINE_S = 30
WIDE = "d\U00010400"  # an identifier that needs four bytes a character


def name_of(code):
    return getattr(code, "co_qualname", code.co_name)


def as_text(name):
    """A name the way it comes out of the reader: other lone surrogates than escaped bytes as \\uXXXX."""
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", lambda m: f"\\u{ord(m.group()):04x}", name)


def real_stack(frame):
    frames = []
    while frame is not None:
        frames.append((as_text(frame.f_code.co_filename), frame.f_lineno or 0, as_text(name_of(frame.f_code))))
        frame = frame.f_back
    return frames[::-1]


# ---- constructs in which a thread is parked: each calls park() at its innermost place ----


def compiled(source, filename="<parked>", **names):
    space = dict(names)
    exec(compile(source, filename, "exec"), space)
    return space


def recursion(depth):
    def run(park):
        def down(n):
            if n > 0:
                return down(n - 1)
            return park()

        down(depth)

    return run


def generators(park):
    def inner():
        yield 1
        park()
        yield 2

    def outer():
        yield 0
        yield from inner()

    for _ in outer():
        pass


def comprehensions(park):
    return [{k: sum(park() or 0 for _ in (1,)) for k in (1,)} for _ in (1,)]


def lambdas(park):
    def with_key(values):
        return sorted(values, key=lambda value: (park(), value)[1])

    return (lambda call: call([1]))(with_key)


def class_bodies(park):
    class Outer:
        x = 1

        class Inner:
            y = park()

            def method(self):
                pass

    return Outer


def methods(park):
    class Thing:
        def __getattr__(self, name):
            park()
            return name

        def __enter__(self):
            return self.missing

        def __exit__(self, *exc):
            return None

        @property
        def value(self):
            with self:
                return 1

        @staticmethod
        def static(thing):
            return thing.value

    return Thing.static(Thing())


def specialised(park):
    # called so often that the interpreter has replaced its instructions by special ones
    class Thing:
        def __init__(self, call):
            self.made = call()

        def __getitem__(self, call):
            return call()

        @property
        def call_made(self):
            return self.made()

        def __call__(self, call):
            return self[call]

    def warm(call, times):
        for _ in range(times):
            thing = Thing(call)
        return thing

    def wait():
        return [park()]

    def items(call, times):
        thing = Thing(int)
        for _ in range(times):
            thing(call)

    def attributes(call, times):
        thing = Thing(int)
        thing.made = call
        for _ in range(times):
            thing.call_made  # noqa: B018 - the property calls

    def yields(call, times):
        def values():
            for _ in range(times):
                yield call()

        for _ in values():
            pass

    def nested(call, times):
        warm(lambda: items(lambda: attributes(lambda: yields(call, times), times), times), times)

    for run in (warm, items, attributes, yields):
        run(int, 200)
    nested(int, 3)
    nested(wait, 1)


def executed(park):
    exec("\n\n\ndef made():\n    return eval('park()')\n\nmade()\n", {"park": park})


def coroutines(park):
    async def leaf():
        await asyncio.sleep(0)
        park()

    async def agen():
        yield 1
        await leaf()
        yield 2

    async def root():
        async for _ in agen():
            pass

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(root())
    finally:
        loop.close()


def handlers(park):
    try:
        try:
            raise ValueError
        except ValueError:
            with contextlib.suppress(KeyError):
                raise KeyError  # noqa: B904 - the chain of exceptions is the point
        finally:
            park()
    finally:
        pass


def long_function(park):
    lines = ["def long(park, x):"] + ["    x = x + %d; x = [x][0]" % i for i in range(3000)]
    lines += ["    park()", "    return x"]
    compiled("\n".join(lines))["long"](park, 1)


def far_lines(park):
    compiled("\n" * 70000 + "def far():\n" + "\n" * 300 + "    return park()\n", park=park)["far"]()


def backward_lines(park):
    compiled(
        "def back():\n    return [\n        1,\n        (\n            park\n        )(\n        ), 2\n    ]\n",
        park=park,
    )["back"]()


def many_columns(park):
    compiled("def wide():\n    return (" + "1 + " * 400 + "len([\n" + " " * 300 + "park()]))\n", park=park)["wide"]()


def named(name, filename):
    def run(park):
        source = f"def {name}():\n    class {name}:\n        x = park()\n    return {name}\n"
        compiled(source, filename, park=park)[name]()

    return run


def renamed(park):
    def victim():
        park()

    victim.__code__ = victim.__code__.replace(co_name="a" * 3000, co_filename="/x/" + "y" * 2000 + ".py")
    victim()


CONSTRUCTS = {
    "recursion 0": recursion(0),
    "recursion 30": recursion(30),
    "recursion 900": recursion(900),
    "generators": generators,
    "comprehensions": comprehensions,
    "lambdas": lambdas,
    "class bodies": class_bodies,
    "methods": methods,
    "specialised": specialised,
    "exec": executed,
    "coroutines": coroutines,
    "handlers": handlers,
    "long function": long_function,
    "far lines": far_lines,
    "backward lines": backward_lines,
    "many columns": many_columns,
    "ASCII": named("plain", "/srv/app/plain.py"),
    "Latin-1": named("d\u00e9j\u00e0", "/srv/\u00e9t\u00e9.py"),
    "UCS-2": named("\u6f22\u5b57", "/srv/\u6f22\u5b57.py"),
    "UCS-4": named(WIDE, f"/srv/\U0001f600/{WIDE}.py"),
    "bytes in a path": named("plain", "/srv/\udcff\udc80x.py"),
    "surrogate in a path": named("plain", "/srv/\ud83d.py"),
    "empty path": named("plain", ""),
    "long names": renamed,
}


class Parked:
    """A thread that runs `construct` up to its innermost call and stays there."""

    def __init__(self, construct):
        self.there, self.go, self.failed = threading.Event(), threading.Lock(), None
        self.go.acquire()
        self.thread = threading.Thread(target=self.run, args=(construct,), daemon=True)

    def run(self, construct):
        try:
            construct(self.park)
        except BaseException as e:  # noqa: BLE001 - told by the main thread
            self.failed = e
        finally:
            self.there.set()

    def park(self):
        if not self.there.is_set():
            self.there.set()
            self.go.acquire()

    def __enter__(self):
        self.thread.start()
        if not self.there.wait(DEADLINE_S):
            raise SystemExit("a thread did not park")
        if self.failed:
            raise self.failed
        # parked once it waits for the lock: its line does not move any more
        deadline = time.monotonic() + DEADLINE_S
        while not self.waits():
            if time.monotonic() > deadline:
                raise SystemExit("a thread did not park")
            time.sleep(0.001)
        return self

    def waits(self):
        frame = sys._current_frames().get(self.thread.ident)
        if frame is None or frame.f_code is not Parked.park.__code__:
            return False
        with open("/proc/self/task/%d/stat" % self.thread.native_id) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "S"

    def __exit__(self, *exc):
        self.go.release()
        self.thread.join(DEADLINE_S)
