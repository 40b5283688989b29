"""The cases of the test files (see cases.py), each a test per interpreter: `sleep[3.11.2]`.

The interpreters are those of PYTHONS, else the oldest and the newest in the usual places; this one is always used for
its version. The extension is compiled for each, once, into build/pythons/<version>; for this one it is what `make` has
built."""

import collections
import concurrent.futures
import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
BUILD = Path(os.environ.get("SLOWWATCH_BUILD", REPO / "build"))
SOURCES = REPO / "pyshim" / "slowwatch"
PROCESS_SECONDS = 110.0  # until one is ended that hangs
CHECKS = ["-X", "dev", "-W", "ignore::DeprecationWarning"]
AT_ONCE = 8  # processes with cases, which wait most of the time

sys.path.insert(0, str(REPO / "tests" / "pyreader"))

from cases import Case  # noqa: E402
from interpreters import interpreters, known  # noqa: E402

OWN = platform.python_version()
FOUND = {version: str(path) for version, path in interpreters().items() if known(version)}
if OWN in FOUND:
    FOUND[OWN] = sys.executable  # the same, with the packages of tests/requirements.txt
MINORS = {version.rpartition(".")[0]: version for version in [*FOUND, *(OWN,) * (OWN in FOUND)]}
if not os.environ.get("PYTHONS"):  # the oldest, this one and the newest, since all of them take minutes
    BY_AGE = sorted(MINORS, key=lambda minor: [int(part) for part in minor.split(".")])
    MINORS = {minor: MINORS[minor] for minor in BY_AGE if minor in (BY_AGE[0], BY_AGE[-1]) or MINORS[minor] == OWN}
PYTHONS = {version: FOUND[version] for version in MINORS.values()}  # one of each kind
ASK = "import json, sysconfig as s; print(json.dumps([s.get_path('include'), s.get_config_var('EXT_SUFFIX')]))"


# ---- the package for each interpreter ----


class NoHeaders(Exception):
    pass


def compile_package(python, folder):
    """The package in this folder, compiled again when a source has changed."""
    include, suffix = json.loads(subprocess.run([python, "-c", ASK], capture_output=True, check=True).stdout)
    if not Path(include, "Python.h").exists():
        raise NoHeaders(f"{python} has no Python.h")
    package = folder / "slowwatch"
    package.mkdir(parents=True, exist_ok=True)
    extension = package / f"_deadline{suffix}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several pytest processes may come at once
        newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
        if not extension.exists() or extension.stat().st_mtime != newest:
            for path in SOURCES.glob("*.py*"):
                shutil.copy(path, package)
            command = ["gcc", "-shared", "-fPIC", "-O2", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-isystem", include]
            new = extension.with_suffix(".new")
            subprocess.run([*command, "-o", new, *SOURCES.glob("*.c"), "-lpthread", "-ldl", "-lm"], check=True)
            os.utime(new, (newest, newest))  # which says what it was made from
            new.rename(extension)
    return folder


def package_for(version):
    """The folder to import slowwatch from."""
    built = BUILD / "python"
    if version == OWN and list((built / "slowwatch").glob("_deadline*.so")):
        return built
    return compile_package(PYTHONS.get(version, sys.executable), BUILD / "pythons" / version)


def environment(version):
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package_for(version)), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TEST_PACKAGES": str(Path(pytest.__file__).parents[1]),  # of tests/requirements.txt, for this interpreter
    }


sys.path.insert(0, str(package_for(OWN)))  # the test files are imported here too, only to find their cases


@pytest.fixture(params=PYTHONS)
def python(request):
    """python(*arguments): runs an interpreter that has the package, and returns what became of it."""
    version = request.param
    try:
        env = environment(version)
    except NoHeaders as why:
        pytest.skip(str(why))

    def run(*arguments, **options):
        options = {"capture_output": True, "text": True, "timeout": PROCESS_SECONDS, **options}
        return subprocess.run([PYTHONS[version], *arguments], env={**env, **options.pop("env", {})}, **options)

    run.version, run.path, run.env = version, PYTHONS[version], env
    return run


# ---- processes that run cases ----


def wait_for_end(process):
    """Its end, or the one that it is made to have; what it has started ends with it."""
    for seconds, then in ((PROCESS_SECONDS, signal.SIGABRT), (2, signal.SIGKILL)):  # faulthandler says where it hangs
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
        process.send_signal(then)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


class Process:
    """One that has run some cases of a file, as seen afterwards."""

    def __init__(self, version, file, names):
        self.results = {}
        with tempfile.TemporaryDirectory() as folder:
            results, said = Path(folder, "results"), Path(folder, "said")
            command = [PYTHONS[version], *CHECKS, HERE / "cases.py"]
            if version.startswith("3.8."):  # whose own debugging of memory aborts each forked child at its end
                command[1:3] = []
            with said.open("w") as out:
                process = subprocess.Popen(
                    [*command, results, file, *names], env=environment(version), stdin=subprocess.DEVNULL,
                    stdout=out, stderr=out, cwd=folder, start_new_session=True,
                )  # fmt: skip
                self.code = wait_for_end(process)
            self.said = said.read_text(errors="backslashreplace").strip()
            lines = results.read_text().splitlines() if results.exists() else []
        for line in lines:
            result = json.loads(line)
            self.results[result["name"]] = result  # the later of two: begun, ended

    def check(self, name):
        result = self.results.get(name, {"error": "this case was not reached"})
        if "skip" in result:
            pytest.skip(result["skip"])
        if "error" in result:
            pytest.fail(f"{result['error']}\n{self.said}", pytrace=False)
        if "begun" in result or (name == list(self.results)[-1] and (self.code or self.said)):
            last = f"{name} was the last case; the interpreter ended with {self.code} and said:"
            pytest.fail(f"{last}\n{self.said}", pytrace=False)


class Processes:
    """Starts all that the selected tests of a file need when the first of them runs."""

    def __init__(self, session):
        self.items = [item for item in session.items if isinstance(item, CaseItem)]
        self.pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        self.started = {}

    def of(self, item):
        if item.process not in self.started:
            cases = collections.defaultdict(list)
            for other in self.items:
                if other.path == item.path:
                    cases[other.version].append(other.case)
            for version, names in cases.items():
                self.started[version, item.path] = self.pool.submit(Process, version, item.path, names)
        return self.started[item.process].result()


class CaseItem(pytest.Item):
    """A case in one interpreter."""

    def __init__(self, *, case, version, **more):
        super().__init__(**more)
        self.case, self.version = case, version
        self.process = (version, self.path)  # which runs it

    def runtest(self):
        if not hasattr(self.session, "case_processes"):
            self.session.case_processes = Processes(self.session)
        try:
            process = self.session.case_processes.of(self)
        except NoHeaders as why:
            pytest.skip(str(why))
        process.check(self.case)

    def reportinfo(self):
        return self.path, None, self.name


def pytest_pycollect_makeitem(collector, name, obj):
    if not isinstance(obj, Case):
        return None
    own_only = getattr(collector.module, "OWN_ONLY", False)  # it needs a package of tests/requirements.txt
    return [
        CaseItem.from_parent(collector, name=f"{run}[{version}]", case=run, version=version)
        for run in obj.runs
        for version in PYTHONS
        if version == OWN or not own_only
    ]
