"""Blocks around functions, generators and coroutines. The extension calls what has no underscore."""

import contextlib
import functools
import inspect

from ._deadline import Quota, timeout

NOTHING = contextlib.nullcontext()


def nothing():
    """Takes an asynchronous exception that is no longer wanted."""


def decorate(block, function):
    """The function with each of its calls in such a block: @timeout(0.5), @shield().

    A call has a block of its own, since the calls of many threads share the decorator. For a generator the time counts
    in which it runs, in total: while it is suspended nothing counts, and nothing is raised in the code that uses it."""
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(decorate(block, function.__func__))
    if not callable(function):
        raise TypeError(f"{type(block).__name__} decorates functions, not {function!r}")
    wrap = _wrap_function
    for is_kind, wrap_kind in _KINDS:
        if is_kind(function) or is_kind(type(function).__call__):
            wrap = wrap_kind
    return functools.wraps(function)(wrap(block, function))


def _fresh(block):
    return timeout(block._limit, block._exception) if isinstance(block, timeout) else block


def _fresh_metered(block):
    """One that is entered again and again, and has in total the time of one block."""
    if not isinstance(block, timeout):
        return block
    limit = block._limit
    return timeout(limit if isinstance(limit, Quota) else Quota(limit), block._exception)


def _unless_used_up(block):
    """What a generator is closed in: it must be able to clean up also when it has no time left."""
    return block if not isinstance(block, timeout) or block.remaining() > 0 else NOTHING


def _wrap_function(block, function):
    def call(*args, **kwargs):
        with _fresh(block):
            return function(*args, **kwargs)

    return call


def _wrap_coroutine(block, function):
    async def call(*args, **kwargs):
        with _fresh(block):
            return await function(*args, **kwargs)

    return call


def _wrap_generator(block, function):
    def call(*args, **kwargs):
        return (yield from _Generator(function(*args, **kwargs), _fresh_metered(block)))

    return call


class _Generator:
    """A generator that is in the block whenever it runs."""

    __slots__ = ("block", "generator")

    def __init__(self, generator, block):
        self.generator, self.block = generator, block

    def __iter__(self):
        return self

    def __next__(self):
        return self._run(self.generator.__next__)

    def send(self, value):
        return self._run(self.generator.send, value)

    def throw(self, *error):
        return self._run(self.generator.throw, *error)

    def close(self):
        with _unless_used_up(self.block):
            self.generator.close()

    def _run(self, resume, *args):
        try:
            with self.block:
                try:
                    return resume(*args)
                except StopIteration as end:  # no error: the block ends normally
                    ended = end
        except BaseException:
            self.close()  # it may be suspended: the time was up between two of its items
            raise
        raise ended


def _wrap_async_generator(block, function):
    async def call(*args, **kwargs):
        generator, metered = function(*args, **kwargs), _fresh_metered(block)
        resume, value = generator.asend, None
        try:
            while True:
                with metered:
                    try:
                        item = await resume(value)
                    except StopAsyncIteration:
                        return
                try:
                    value = yield item
                    resume = generator.asend
                except GeneratorExit:
                    raise
                except BaseException as error:
                    resume, value = generator.athrow, error
        finally:
            with _unless_used_up(metered):
                await generator.aclose()

    return call


_KINDS = (
    (inspect.iscoroutinefunction, _wrap_coroutine),
    (inspect.isgeneratorfunction, _wrap_generator),
    (inspect.isasyncgenfunction, _wrap_async_generator),
)
