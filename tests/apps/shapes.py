"""The ways Python code can stand on a stack, each ending in hold()."""

import functools
import types

from gate import hold


def plain(port):
    return hold(port)  # line: plain


def recursion(port, depth=500):
    return hold(port) if depth == 0 else recursion(port, depth - 1)


def generator(port):
    def numbers():
        yield 1
        yield hold(port)

    return list(numbers())[1]


def delegated_generator(port):
    def inner():
        yield hold(port)

    def outer():
        yield from inner()

    return next(outer())


def comprehension(port):
    stacks = [hold(number) for number in (port,)]
    return stacks[0]


def dict_comprehension(port):
    return {number: hold(number) for number in (port,)}[port]


def generator_expression(port):
    return next(hold(number) for number in (port,))


def call(function, port):
    return function(port)


def lambda_(port):
    return call(lambda number: hold(number + 0), port)


def coroutine(port):
    async def inner():
        return hold(port)

    async def outer():
        return await inner()

    try:
        outer().send(None)
    except StopIteration as done:
        return done.value


def async_generator(port):
    async def values():
        yield hold(port)

    async def first():
        async for value in values():
            return value

    try:
        first().send(None)
    except StopIteration as done:
        return done.value


def größe_日本語(port):
    rückgabe = hold(port)  # naïve Zeile: Ωμέγα
    return rückgabe


def astral_𠀀(port):
    return {"🐍": hold(port)}["🐍"]


class Thing:
    def method(self, port):
        return hold(port)

    @property
    def attribute(self):
        return hold(self.port)

    def __getitem__(self, port):
        return hold(port)

    def __init__(self, port=0):
        self.port = port

    def __lt__(self, other):
        self.seen = hold(self.port)
        return True


def method(port):
    return Thing().method(port)


def property_(port):
    return Thing(port).attribute


def subscript(port):
    return Thing()[port]


def through_c(port):
    """C code (sort) between two Python frames."""
    things = [Thing(port), Thing(port)]
    things.sort()
    return next(thing.seen for thing in things if hasattr(thing, "seen"))


def through_partial_and_map(port):
    stacks = list(map(functools.partial(hold), [port]))
    return stacks[0]


def except_block(port):
    try:
        raise ValueError("on purpose")
    except ValueError:
        return hold(port)
    finally:
        port += 1


def with_block(port):
    class Manager:
        def __enter__(self):
            return hold(port)

        def __exit__(self, *exc):
            return False

    with Manager() as stack:
        return stack


def many_lines(port):
    return call(
        hold,
        max(
            port,
            0,
        ),
    )


def long_line_table(port):
    """The call lies after a thousand statements: line numbers and offsets that need several bytes."""
    lines = ["def built(port):"] + [f"    x{i} = {i}" for i in range(1000)] + ["    return hold(port)"]
    scope = {"hold": hold}
    types.FunctionType(compile("\n".join(lines), "<built>", "exec"), scope)()
    return scope["built"](port)


def freed_code(port):
    """The running code object has no other owner: its frame keeps it alive, nothing else does."""
    scope = {"hold": hold, "port": port}
    types.FunctionType(compile("stack = hold(port)\n", "<freed>", "exec"), scope)()
    return scope["stack"]


ALL = {
    name: function
    for name, function in list(globals().items())
    if callable(function) and getattr(function, "__module__", None) == __name__ and name not in ("Thing", "call")
}
