"""Time limits that fail in a controlled way, in every thread. See docs/timeouts.md.

with timeout(20.0, RuntimeError):
    ...
"""

try:
    from ._deadline import Quota, set_signal, shield, timeout
except ModuleNotFoundError as error:
    if error.name != __name__ + "._deadline":
        raise
    import platform
    from importlib.machinery import EXTENSION_SUFFIXES
    from pathlib import Path

    _built = ", ".join(sorted(path.name for path in Path(__file__).parent.glob("_deadline.*.so"))) or "nothing"
    raise ImportError(
        f"{__file__} was built for another Python: it has {_built} beside it, and {platform.python_implementation()} "
        f"{platform.python_version()} needs _deadline{EXTENSION_SUFFIXES[0]}; build slowwatch with make PYTHON=PATH "
        "for this Python, or install it there with pip"
    ) from None

__all__ = ["Quota", "StateException", "set_signal", "shield", "timeout"]


class StateException(Exception):
    """Never raised; here so that code written for interruptingcow imports."""
