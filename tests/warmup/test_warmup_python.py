"""Interrupting a request that hangs, and reading the exception of one that failed, in every CPython that is here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path.append(str(REPO / "tests" / "pyreader"))

from interpreters import interpreters, known  # noqa: E402

FOUND = {version: path for version, path in interpreters().items() if known(version)}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    assert compiler, "no C compiler"
    made = tmp_path_factory.mktemp("probe") / "probe.so"
    sources = [HERE / "probe.c", *(REPO / "plugin" / name for name in ("warmup_python.c", "text.c"))]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden"]
    subprocess.run([compiler, *flags, "-iquote", REPO / "plugin", "-o", made, *sources], check=True)
    return made


@pytest.mark.parametrize("version", FOUND)
def test_python(probe, version):
    done = subprocess.run(
        [FOUND[version], HERE / "in_python.py", probe],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=100,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0
    assert done.stdout.endswith("ok\n")
