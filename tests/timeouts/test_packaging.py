"""The package as pip builds and installs it: what is in it, what it says of itself, and that its types are true."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SLOWWATCH_BUILD", REPO / "build"))
SOURCES = REPO / "pyshim" / "slowwatch"
EXTENSION = "_deadline" + sysconfig.get_config_var("EXT_SUFFIX")
VERSION = re.search(r'^version = "(.*?)"', (REPO / "pyshim" / "pyproject.toml").read_text(), re.MULTILINE)[1]
TAG = "cp{}{}".format(*sys.version_info)


def output(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pip(*arguments):
    """Without a network: what builds the package is in tests/requirements.txt."""
    return output(sys.executable, "-m", "pip", *arguments, "--no-index", "--no-deps", "--quiet")


def names(*endings):
    return {path.name for path in SOURCES.iterdir() if path.suffix in endings}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def sdist(folder):
    """Made from a copy, since it leaves files beside the sources."""
    sources = folder / "pyshim"
    shutil.copytree(REPO / "pyshim", sources, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    output(sys.executable, "-c", build, cwd=sources)
    return folder / f"slowwatch-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def wheel(folder, sdist):
    """Made from the sdist: so nothing is missing in that."""
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, sdist)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(folder, wheel):
    """Of a fresh environment with nothing but the package in it."""
    output(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip("--python", python, "install", wheel)
    return python


def test_sdist_holds_the_sources(sdist):
    with tarfile.open(sdist) as tar:
        files = {member.name.split("/", 1)[1]: member for member in tar if not member.isdir()}
        licence = tar.extractfile(files["LICENSE"]).read()
    assert {name for name in files if name.startswith("slowwatch/")} == {
        f"slowwatch/{name}" for name in names(".c", ".h", ".py", ".pyi", ".typed")
    }
    assert {"pyproject.toml", "setup.py", "README.md", "PKG-INFO"} <= set(files)
    assert files["LICENSE"].isreg()
    assert licence == (REPO / "LICENSE").read_bytes()


def test_wheel_holds_the_package(wheel):
    assert wheel.name.startswith(f"slowwatch-{VERSION}-{TAG}-{TAG}-linux_")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    info = f"slowwatch-{VERSION}.dist-info"
    assert {name for name in files if not name.startswith(info)} == {
        f"slowwatch/{name}" for name in {EXTENSION, *names(".py", ".pyi", ".typed")}
    }
    assert f"{info}/licenses/LICENSE" in files


def test_it_says_what_it_is(python):
    code = "import importlib.metadata as m, json; print(json.dumps(m.metadata('slowwatch').json))"
    if sys.version_info < (3, 10):
        pytest.skip("this Python does not give metadata as JSON")
    said = json.loads(output(python, "-c", code))
    assert (said["name"], said["version"], said["license"]) == ("slowwatch", VERSION, "MIT")
    assert said["requires_python"] == ">=3.8"
    assert "requires_dist" not in said
    assert said["description_content_type"] == "text/markdown"
    assert said["description"].strip() == (REPO / "pyshim" / "README.md").read_text().strip()
    versions = {text.rpartition(" ")[2] for text in said["classifier"] if re.search(r"Python :: 3\.\d+$", text)}
    assert versions == {f"3.{minor}" for minor in range(8, 15)}
    assert "Typing :: Typed" in said["classifier"]


def test_it_works_where_it_is_installed(python):
    code = """
import slowwatch, time
assert set(slowwatch.__all__) <= set(dir(slowwatch))
try:
    with slowwatch.timeout(0.05, KeyError):
        time.sleep(60)
except KeyError:
    print(slowwatch.__file__)
"""
    file = Path(output(python, "-c", code).strip())
    assert python.parents[1] in file.parents


@pytest.mark.parametrize("by", ["make", "pip"])
def test_only_the_module_is_exported(request, by):
    if by == "make":
        (extension,) = (BUILD / "python" / "slowwatch").glob("_deadline.*")
    else:
        (extension,) = request.getfixturevalue("python").parents[1].rglob(EXTENSION)
    table = output("nm", "--dynamic", "--defined-only", extension)
    assert [line.split()[-1] for line in table.splitlines()] == ["PyInit__deadline"]


# ---- types ----


def mypy(python, folder, text):
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", folder / "cache",
         "program.py"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
    )  # fmt: skip
    return done.stdout


def test_stubs_are_what_runs(python, tmp_path):
    packages = output(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip()
    (tmp_path / "slowwatch").mkdir()
    shutil.copy(Path(packages, "slowwatch", "__init__.pyi"), tmp_path / "slowwatch")  # the private modules have none
    env = {**os.environ, "PYTHONPATH": packages, "MYPYPATH": str(tmp_path)}
    said = output(sys.executable, "-m", "mypy.stubtest", "slowwatch", env=env, cwd=tmp_path)
    assert "no issues found" in said


def test_types_of_what_is_allowed(python, tmp_path):
    program = """
import asyncio
from slowwatch import Quota, StateException, set_signal, shield, timeout

with timeout(20.0, RuntimeError("late")) as t, shield():
    left: float = t.remaining()
late: bool = t.expired

@timeout(0.5, KeyError)
def add(a: int, b: int) -> int:
    return a + b

@shield()
async def save() -> str:
    async with timeout(Quota(1)):
        return "saved"

reveal_type(add)
reveal_type(save)
"""
    said = mypy(python, tmp_path, program)
    assert "error:" not in said
    assert 'is "def (a: int, b: int) -> int"' in said.replace("builtins.", "")
    assert re.search(r'is "def \(\) -> .*Coroutine\[Any, Any, str\]"', said.replace("builtins.", ""))


def test_types_of_what_is_not(python, tmp_path):
    wrong = ["timeout('20')", "timeout(None)", "timeout(1.0, 'late')", "timeout()", "Quota('1')", "set_signal('USR1')"]
    said = mypy(python, tmp_path, "from slowwatch import Quota, set_signal, timeout\n" + "\n".join(wrong) + "\n")
    assert re.findall(r"program\.py:(\d+): error:", said) == [str(line) for line in range(2, 2 + len(wrong))], said


# ---- when the extension is missing ----


def imported(folder, deadline=None):
    shutil.copytree(SOURCES, folder / "slowwatch", ignore=shutil.ignore_patterns("__pycache__"))
    if deadline:
        (folder / "slowwatch" / "_deadline.py").write_text(deadline)
    code = "try:\n    import slowwatch\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    return output(sys.executable, "-c", code, cwd=folder).strip()


def test_without_its_extension(tmp_path):
    said = imported(tmp_path)
    assert said.startswith("ImportError ")
    assert "\n" not in said
    for word in (str(tmp_path), EXTENSION, platform.python_version(), "make PYTHON=", "pip"):
        assert word in said


def test_another_missing_module_is_not_taken_for_it(tmp_path):
    assert imported(tmp_path, "import missing_elsewhere").endswith("No module named 'missing_elsewhere'")
