"""A real uWSGI with the plugin, as a context manager: it starts, is watched through its log, and leaves no process."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psutil
from clients import PATIENCE, Background, Gate, free_port, http, uwsgi_call, wait_for

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SLOWWATCH_BUILD", REPO / "build"))
APPS = REPO / "tests" / "apps"
UWSGI = shutil.which(os.environ.get("UWSGI", "/usr/bin/uwsgi")) or "/usr/bin/uwsgi"
# Debian keeps Python in a plugin of its own; a uWSGI built by pip has it inside: then this is empty.
PYTHON_PLUGIN = os.environ.get("UWSGI_PYTHON_PLUGIN", "python3")

REPORTER_NAME = "uwsgi slowwatch reporter"
WATCHDOG_THREAD = "slowwatch"
THRESHOLD = 0.4  # seconds, of most tests
LEAVE_SECONDS = 20.0  # a server that needs longer to leave has a bug

_tokens = itertools.count(1)


class NotStarted(AssertionError):
    pass


def line_of(file, marker):
    """The number of the line of tests/apps/<file> that ends in '# line: <marker>'."""
    for number, line in enumerate((APPS / file).read_text().splitlines(), 1):
        if line.endswith(f"line: {marker}"):
            return number
    raise LookupError(marker)


def frames(stack):
    """The frames of an event as (file, line, function), outermost first."""
    return [(frame["file"], frame["line"], frame["function"]) for frame in stack["frames"]]


def innermost(event):
    frame = event["stack"]["frames"][-1]
    return (Path(frame["file"]).name, frame["line"], frame["function"])


def is_event(line):
    return line.find('{"') >= 0 and '"schema"' in line


class Uwsgi:
    """Options are those of uWSGI with "_" for "-": a value, a list for repeated ones, None to leave one out. Those of
    the plugin may leave out "slowwatch-": see PLUGIN_OPTIONS."""

    PLUGIN_OPTIONS = re.compile(
        r"(threshold|sample-interval|stack-depth|redact|log|mail-(to|from|interval|max)|smtp(-.*)?|spool"
        r"|alarm|strict)$"
    )

    def __init__(self, folder, *, app="stuck:application", plugins=None, args=(), env=None, **options):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_file = self.folder / "uwsgi.log"
        self.ini = self.folder / "uwsgi.ini"
        self.port, self.uwsgi_port = free_port(), free_port()
        self.args, self.env = list(args), {**os.environ, **(env or {})}
        self.app = app
        self.options = {
            "plugin-dir": str(BUILD),
            "plugins": plugins if plugins is not None else self.plugin_list("slowwatch"),
            "http-socket": f"127.0.0.1:{self.port}",
            "socket": f"127.0.0.1:{self.uwsgi_port}",
            "buffer-size": 65535,
            "pythonpath": str(APPS) if app else None,
            "module": app,
            "need-app": bool(app) or None,
            "master": True,
            "processes": 1,
            "enable-threads": True,
            "worker-reload-mercy": 5,
            "slowwatch-threshold": THRESHOLD,
            "slowwatch-sample-interval": 50,
            "slowwatch-log": "json",
        }
        for name, value in options.items():
            name = name.replace("_", "-")
            self.options["slowwatch-" + name if self.PLUGIN_OPTIONS.match(name) else name] = value
        self.process = None
        self._read_to, self._lines, self._rest = 0, [], b""

    @staticmethod
    def plugin_list(*names, python_first=False):
        python = [PYTHON_PLUGIN] if PYTHON_PLUGIN else []
        return ",".join([*python, *names] if python_first else [*names, *python])

    # ---- start and stop ----

    def write_ini(self):
        lines = ["[uwsgi]"]
        for name, value in self.options.items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if one is not None:
                    lines.append(f"{name} = {str(one).lower() if isinstance(one, bool) else one}")
        self.ini.write_text("\n".join(lines) + "\n")

    def launch(self, command=None):
        """Starts the process and does not wait for it."""
        self.write_ini()
        # Appending: the log keeps whole lines although several processes write to it.
        log = os.open(self.log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        try:
            self.process = subprocess.Popen(
                command or [UWSGI, "--ini", str(self.ini), *self.args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=self.folder,
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(log)
        return self

    def start(self, probe="/ping"):
        self.launch()
        try:
            self.wait_started()
            if probe:
                assert self.get(probe).status == 200
        except BaseException:
            self.kill_all()
            raise
        return self

    def wait_started(self, workers=None, since=0):
        """Until every worker has been spawned; NotStarted when the server ends instead."""
        wanted = workers if workers is not None else int(self.options.get("processes") or 1)

        def spawned():
            if "slowwatch_plugin.so" in self.log(since) and "unable to load plugin" in self.log(since):
                raise NotStarted("the plugin could not be loaded:\n" + self.tail())
            if len(re.findall(r"spawned uWSGI worker \d+", self.log(since))) >= wanted:
                return True
            if self.process.poll() is not None:
                raise NotStarted(f"uwsgi ended with {self.process.returncode}:\n{self.tail()}")
            return False

        wait_for(spawned, f"{wanted} workers\n{self.tail()}")

    def run_to_exit(self, timeout=PATIENCE):
        """For configurations that must not start: the exit code and the log."""
        self.launch()
        try:
            code = self.process.wait(timeout)
        finally:
            self.kill_all()
        return code, self.log()

    def pids(self):
        """Every process of this server: the session is its own, so parents may have died without losing them."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(pid) == self.process.pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
        return found

    def kill_all(self):
        """Kills what is left and returns what that was."""
        left = {}
        for pid in self.pids() if self.process else []:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                left[pid] = " ".join(psutil.Process(pid).cmdline())
                os.kill(pid, signal.SIGKILL)
        if self.process:
            self.process.wait()
        return left

    def wait_gone(self, timeout=LEAVE_SECONDS):
        self.process.wait(timeout)
        wait_for(lambda: not self.pids(), f"the end of {self.pids()}", timeout)

    def stop(self, signum=signal.SIGINT):
        """Ends the server as an administrator would, and insists that nothing of it stays."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            self.wait_gone()
        except (subprocess.TimeoutExpired, AssertionError):
            left = self.kill_all()
            raise AssertionError(
                f"still there {LEAVE_SECONDS} s after signal {signum}: {left}\n{self.tail()}"
            ) from None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *exc):
        if kind is None:
            self.stop()
        else:
            self.kill_all()

    # ---- the log ----

    def lines(self):
        """Whole lines written so far."""
        if self.log_file.exists():
            with self.log_file.open("rb") as file:
                file.seek(self._read_to)
                new = file.read()
            self._read_to += len(new)
            *whole, self._rest = (self._rest + new).split(b"\n")
            self._lines += [line.decode("utf-8", "backslashreplace") for line in whole]
        return self._lines

    def mark(self):
        """A place in the log, for the `since` of other calls."""
        return len(self.lines())

    def log(self, since=0):
        return "\n".join(self.lines()[since:])

    def tail(self, count=60):
        return "\n".join(line[:2000] for line in self.lines()[-count:])

    def wait_log(self, pattern, timeout=PATIENCE, since=0):
        regex = re.compile(pattern, re.MULTILINE)
        found = wait_for(lambda: regex.search(self.log(since)), f"/{pattern}/ in the log", timeout)
        return found

    def said(self, since=0):
        """What the plugin itself wrote as text."""
        return [line for line in self.lines()[since:] if "slowwatch: " in line and not is_event(line)]

    # ---- events ----

    def events(self, kind=None, since=0, **match):
        """The events in the JSON log, in order; a line that looks like one and is not valid is an error."""
        found = []
        for line in self.lines()[since:]:
            if not is_event(line):
                continue
            event = json.loads(line[line.find('{"') :])
            assert event["schema"] == 1
            if kind in (None, event["event"]) and all(event.get(name) == value for name, value in match.items()):
                found.append(event)
        return found

    def events_of(self, token, kind=None):
        return [event for event in self.events(kind) if has_token(event, token)]

    def wait_event(self, kind, timeout=PATIENCE, since=0, count=1, **match):
        """The first event (or a list of `count`) of this kind."""
        found = wait_for(
            lambda: len(self.events(kind, since, **match)) >= count and self.events(kind, since, **match),
            f"{count} {kind} event(s) {match}\n{self.tail()}", timeout,
        )  # fmt: skip
        return found[0] if count == 1 else found

    def wait_event_of(self, token, kind, timeout=PATIENCE, count=1):
        wait_for(lambda: len(self.events_of(token, kind)) >= count, f"{kind} of {token}", timeout)
        return self.events_of(token, kind)[count - 1]

    # ---- processes ----

    @property
    def master(self):
        return self.process.pid

    def workers(self):
        """Pids of the workers alive now, by worker number."""
        found = {}
        pattern = r"spawned uWSGI worker (\d+) (?:\(and the only\) )?\((?:new )?pid: (\d+)"
        for number, pid in re.findall(pattern, self.log(), re.IGNORECASE):
            found[int(number)] = int(pid)
        return {number: pid for number, pid in found.items() if psutil.pid_exists(pid)}

    def reporters(self):
        """Processes that bear the reporter's name and belong to this server."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                if " ".join(psutil.Process(pid).cmdline()).strip() == REPORTER_NAME:
                    found.append(pid)
        return found

    def reporter(self, timeout=PATIENCE):
        return wait_for(self.reporters, "a reporter process", timeout)[0]

    def wait_idle_look(self, worker=1):
        """Until this worker's watchdog has seen that nothing runs: of the next request it knows all CPU time."""
        status = wait_for(lambda: watchdog_of(self.workers()[worker]), "a watchdog") / "status"

        def sleeps():
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[1])

        before = sleeps()
        wait_for(lambda: sleeps() >= before + 2, "a whole look")

    # ---- requests ----

    def get(self, path, **kwargs):
        return http(self.port, path, **kwargs)

    def background(self, path, **kwargs):
        return Background(http, self.port, path, **kwargs)

    def uwsgi_call(self, variables):
        return uwsgi_call(self.uwsgi_port, variables)

    def stuck(self, path="/hold", **query):
        return Stuck(self, path, query)


def has_token(event, token):
    return re.search(rf"[?&]t={token}(&|$)", event.get("request", {}).get("uri", "")) is not None


class Stuck:
    """A request that waits at a gate of its own: `with server.stuck("/lock") as request: ...` lets it go at the end."""

    def __init__(self, server, path, query):
        self.server, self.path, self.query = server, path, query
        self.token = f"x{next(_tokens)}"
        self.gate = Gate()
        words = {"t": self.token, "gate": self.gate.port, **query}
        self.uri = path + "?" + "&".join(f"{name}={quote(str(value))}" for name, value in words.items())
        self.call = None

    def begin(self, arrived=1, **kwargs):
        self.call = self.server.background(self.uri, **kwargs)
        if arrived:
            self.gate.wait_arrived(arrived)
        return self

    def __enter__(self):
        return self if self.call else self.begin()

    def __exit__(self, *exc):
        self.gate.close()

    def event(self, kind, timeout=PATIENCE, count=1):
        """Waits for the event of this kind of this very request (the count-th one)."""
        return self.server.wait_event_of(self.token, kind, timeout, count)

    def events(self, kind=None):
        return self.server.events_of(self.token, kind)

    def finish(self, timeout=PATIENCE):
        """Lets the request go and returns its response."""
        self.gate.release()
        return self.call.result(timeout)


def watchdog_of(pid):
    """The folder in /proc of the plugin's thread in this process, or None."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() == WATCHDOG_THREAD:
                return task
    return None


def has_watchdog(pid):
    return watchdog_of(pid) is not None


def for_everybody(folder):
    """A copy of the applications that any user may read: for servers that give up root."""
    apps = folder / "apps"
    shutil.copytree(APPS, apps, ignore=shutil.ignore_patterns("__pycache__"))
    temporary = Path(tempfile.gettempdir()).resolve()
    ours = [path for path in folder.parents if temporary in path.parents]
    for path in (apps, *apps.rglob("*"), folder, *ours):
        path.chmod(0o755)
    return apps
