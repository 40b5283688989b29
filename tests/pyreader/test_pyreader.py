"""The stack reader in every CPython that is here; PYTHONS=/path/python3:/other/python3 names others."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from interpreters import KNOWN, interpreters, known

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("SLOWWATCH_BUILD", HERE.parents[1] / "build"))
PROBE = BUILD / "plain" / "pyreader_probe.so"
CAPTURES = os.environ.get("PYREADER_CAPTURES", "9000")
BACKENDS = ["memfd", "process_vm_readv", "pipe"]
REFUSED = 77

FOUND = {version: path for version, path in interpreters().items() if known(version)}
MISSING = [minor for minor in KNOWN if not any(version.startswith(minor + ".") for version in FOUND)]


def run(version, *arguments):
    assert PROBE.exists(), f"{PROBE} was not built: run make test"
    done = subprocess.run(
        [FOUND[version], HERE / "check_reader.py", PROBE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    print(done.stdout)
    return done


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version", FOUND)
def test_same_as_the_interpreter(version, backend):
    done = run(version, "--only", "parked", "--backend", backend)
    assert done.returncode == 0
    assert f"CPython {version} via {backend}" in done.stdout
    assert " 0 different" in done.stdout


@pytest.mark.parametrize("version", FOUND)
def test_no_torn_stack_is_called_clean(version):
    done = run(version, "--only", "torn", "--captures", CAPTURES)
    assert done.returncode == 0
    assert " torn 0 " in done.stdout


LOAD_ANOTHER = """
import ctypes, sys
ctypes.CDLL(sys.argv[2])
probe = ctypes.CDLL(sys.argv[1])
probe.probe_why.restype = ctypes.c_char_p
print(probe.probe_open(0), probe.probe_why().decode())
"""


def shared_libraries():
    """{version: its libpython}, of those that have one."""
    ask = "import sysconfig; print(*map(sysconfig.get_config_var, ('LIBDIR', 'MULTIARCH', 'INSTSONAME')), sep='/')"
    found = {}
    for version, path in FOUND.items():
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=True)
        folder, arch, name = done.stdout.strip().rsplit("/", 2)
        for file in (Path(folder, name), Path(folder, arch, name)):
            if ".so" in name and file.exists():
                found[version] = file
    return found


def test_two_pythons_are_refused():
    libraries = shared_libraries()
    if len(libraries) < 2:
        pytest.skip("no two interpreters with a shared library are here")
    (version, _), (_, other) = list(libraries.items())[:2]
    done = subprocess.run([FOUND[version], "-c", LOAD_ANOTHER, PROBE, other], capture_output=True, text=True)
    assert done.stdout.split(" ", 1)[0] == str(-errno.ENOTSUP)
    assert "two Pythons" in done.stdout
    assert str(other) in done.stdout


@pytest.mark.parametrize("minor", KNOWN)
def test_is_here(minor):
    if minor in MISSING:
        pytest.skip(f"CPython {minor} is not here; PYTHONS= names one")
