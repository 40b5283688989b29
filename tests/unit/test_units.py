"""Each C test program is one test in each flavour: plain, with ASan and UBSan, with TSan."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILD = Path(os.environ.get("SLOWWATCH_BUILD", HERE.parents[1] / "build"))
FLAVOURS = ["plain", "asan", "tsan"]
PROGRAMS = sorted(source.stem for source in HERE.glob("test_*.c"))

pytestmark = pytest.mark.timeout(300)  # the sanitizers take their time, the more so on a busy machine

SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


@functools.cache
def without_randomisation():
    """GCC's thread sanitizer cannot place its shadow where the kernel randomises too many address bits."""
    command = [shutil.which("setarch") or "setarch", "--addr-no-randomize"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []  # not permitted in some containers; there it has to work without
    return command


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_unit(flavour, program):
    path = BUILD / flavour / program
    assert path.exists(), f"{path} was not built: run make test"
    prefix = without_randomisation() if flavour == "tsan" else []
    done = subprocess.run(
        [*prefix, path],
        env={**os.environ, **SANITIZERS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    print(done.stdout)
    assert done.returncode == 0
    assert "test(s) run." in done.stdout
