"""Time limits that fail in a controlled way, in every thread. See docs/timeouts.md."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, final

__all__ = ["Quota", "StateException", "set_signal", "shield", "timeout"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Exception = type[BaseException] | BaseException

class StateException(Exception):
    """Never raised; here so that code written for interruptingcow imports."""

@final
class Quota:
    """A budget of seconds shared by several blocks, one after another, nested or in several threads. It is used up
    while at least one block with it is open, and counts that time once."""

    def __new__(cls, seconds: float) -> Quota: ...
    def running(self) -> bool:
        """Is a block with this quota open?"""

    def remaining(self) -> float:
        """Seconds left, never below 0."""

@final
class timeout:
    """Limits the time of a block: `with timeout(20.0, RuntimeError): ...`; of a function, generator or coroutine
    function: `@timeout(0.5)`; in coroutines also `async with`."""

    def __new__(cls, seconds: float | Quota, exception: _Exception = RuntimeError) -> timeout: ...
    def __enter__(self) -> timeout: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
    async def __aenter__(self) -> timeout: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
    def __call__(self, function: _F) -> _F: ...
    @property
    def expired(self) -> bool:
        """Did the time of the block that is open, or of the last one, run out?"""

    def remaining(self) -> float:
        """Seconds left of the innermost open block of this thread, else what a block would get; never below 0."""

@final
class shield:
    """Holds back the deadlines of the blocks around it: one that passes in here is raised at the end of the
    outermost shield. Blocks opened inside it are not held back. Also `async with`, and as decorator."""

    def __enter__(self) -> shield: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
    async def __aenter__(self) -> shield: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
    def __call__(self, function: _F) -> _F: ...

def set_signal(signum: int) -> None:
    """Choose the signal that interrupts the main thread. By default a real-time signal without a handler is taken
    at the first block in the main thread. Main thread only; ValueError when the signal is in use."""
