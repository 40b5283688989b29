"""The doctor: findings of a real uWSGI, with their names; unknown options of every source; slowwatch-check."""

import json
import os
import re
import signal
import subprocess

import pytest
from clients import PATIENCE
from harness import PYTHON_PLUGIN, REPO, THRESHOLD, UWSGI, Uwsgi, for_everybody

NAME = re.compile(r" \[([a-z-]+)\]$")
MAIL = {"mail_to": "ops@example.org"}
WARMUP = {"slowwatch-warmup": "/ping", "lazy_apps": True}
# Debian keeps the redirects of routes in a plugin, a uWSGI built by pip has them inside.
REDIRECTS = Uwsgi.plugin_list(*["router_redirect"] if PYTHON_PLUGIN else [], "slowwatch")
TO_HTTPS = "equal:${HTTP_X_FORWARDED_PROTO};https redirect-permanent:https://${HTTP_HOST}/"
VERSION = subprocess.run([UWSGI, "--version"], check=True, capture_output=True, encoding="utf-8").stdout
NUMBERS = [int(number) for number in re.findall(r"\d+", VERSION)[:3]]
ALWAYS_THREADS, REQUESTS_DELTA = NUMBERS >= [2, 0, 27], NUMBERS >= [2, 0, 29]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
# Which finding (or none) each of these has; all else of the server is in order. {folder} is the test's own.
FINDINGS = {
    "nothing": ({}, []),
    "threshold": ({"threshold": 20, "harakiri": 10}, ["threshold-over-harakiri"]),
    "misspelt": ({"slowwatch-treshold": 3}, ["unknown-option"]),
    "mercy": (MAIL, ["mail-over-mercy"]),
    "long mercy": ({**MAIL, "worker-reload-mercy": 30}, []),
    "spool instead of mercy": ({**MAIL, "spool": "{folder}"}, []),
    "spool in an open folder": ({**MAIL, "spool": "{folder}/open/mine"}, ["spool-exposed", "mail-over-mercy"]),
    "alarm": ({"alarm": "cry"}, ["alarm-unknown"]),
    "alarm of a longer name": ({"alarm": ["crying log:"], "slowwatch-alarm": "cry"}, ["alarm-unknown"]),
    "alarm of uWSGI": ({"alarm": ["cry log:"], "slowwatch-alarm": "cry"}, []),
    "no Python": ({"plugins": "slowwatch", "app": None}, ["no-python"]),
    "application not needed": ({"need_app": None}, ["no-need-app"]),
    "no threads": ({"enable_threads": None}, [] if ALWAYS_THREADS else ["no-enable-threads"]),
    "threads": ({"threads": 2, "enable_threads": None}, []),
    "no master": ({"master": None}, ["no-master"]),
    "threads with harakiri": ({"threads": 2, "harakiri": 30}, ["harakiri-with-threads"]),
    "py-tracebacker": ({"py-tracebacker": "{folder}/tb", "harakiri": 30}, ["py-tracebacker"]),
    "warm-up": (WARMUP, []),
    "warm-up without lazy-apps": ({**WARMUP, "lazy_apps": None}, ["warmup-without-lazy-apps"]),
    "warm-up option alone": ({"slowwatch-warmup-timeout": 5}, ["warmup-without-path"]),
    "route to elsewhere": ({**WARMUP, "route": "^/old redirect:/new", "plugins": REDIRECTS}, []),
    "route to https": ({**WARMUP, "route-if-not": TO_HTTPS, "plugins": REDIRECTS}, ["warmup-answered-by-route"]),
    "warm-up by https": (
        {
            **WARMUP,
            "route-if-not": TO_HTTPS,
            "plugins": REDIRECTS,
            "slowwatch-warmup-header": "X-Forwarded-Proto: https",
        },
        [],
    ),
    "route that answers": ({**WARMUP, "route": "^/ping$ break:204"}, ["warmup-answered-by-route"]),
    "route that may answer": (
        {**WARMUP, "route-if": "exists:{folder}/down break:503"},
        ["warmup-perhaps-answered"],
    ),
    "spread of nothing": ({"slowwatch-recycle-spread": 30}, ["spread-without-limit"]),
    "spread of uWSGI": ({"max-worker-lifetime": 900, "max-worker-lifetime-delta": 9}, ["spread-left-to-uwsgi"]),
    "requests spread by uWSGI": (
        {"max-requests": 900, "max-requests-delta": 9},
        ["spread-left-to-uwsgi"] if REQUESTS_DELTA else [],
    ),
    "lifetime too short": ({"processes": 2, "max-worker-lifetime": 4, "min-worker-lifetime": 0}, ["spread-too-fine"]),
}


def table():
    """Every finding of the program: its name, and whether it is a conflict."""
    source = (REPO / "plugin" / "doctor.c").read_text()
    found = re.findall(r'\[SW_FOUND_\w+\] = \{"([a-z-]+)",\s+SW_(CONFLICT|INFORMATION)\}', source)
    assert len(found) == len(re.findall(r"^    \[SW_FOUND_", source, re.MULTILINE))
    assert len(found) >= 30
    return {name: kind == "CONFLICT" for name, kind in found}


def conflicts_in(names):
    return sum(table()[name] for name in names)


@pytest.fixture
def server_of(uwsgi, tmp_path):
    (tmp_path / "open" / "mine").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)

    def make(options):
        if options.get("app", "some") is None and not PYTHON_PLUGIN:
            pytest.skip("this uWSGI has Python inside")
        options = {
            name: value.replace("{folder}", str(tmp_path)) if isinstance(value, str) else value
            for name, value in options.items()
        }
        alarms = options.pop("alarm", None) if isinstance(options.get("alarm"), list) else None
        server = uwsgi.make(**options)
        if alarms:
            server.options["alarm"] = alarms
        return server

    return make


def names_in(lines):
    return [found[1] for line in lines if (found := NAME.search(line))]


def check(server, *args, before=(), env=None):
    """The exit code and the lines of standard output of a slowwatch-check with the options of this server."""
    server.write_ini()
    process = subprocess.Popen(
        [UWSGI, *before, "--ini", str(server.ini), *args], cwd=server.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, **(env or {})},
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # it has started a server
        raise
    print(out, err)
    return process.returncode, out.splitlines()


# ---- each finding, at a start and in the check ----


@pytest.mark.parametrize("name", FINDINGS)
def test_findings(server_of, name):
    options, wanted = FINDINGS[name]
    server = server_of(options)
    conflicts = conflicts_in(wanted)
    code, lines = check(server, "--slowwatch-check")
    assert names_in(lines) == wanted
    assert code == (1 if conflicts else 0)
    notes = len(wanted) - conflicts
    assert lines[-1] == (
        f"{conflicts} conflict{'' if conflicts == 1 else 's'}, {notes} note{'' if notes == 1 else 's'}"
    )
    for line in lines[:-2]:
        assert line.startswith("conflict: " if table()[NAME.search(line)[1]] else "note: ")

    # and what a start says is the same, summary and all
    server.start(probe=None)
    server.get("/")  # whatever it answers: it can be stopped from then on
    said = [line.split("slowwatch: ", 1)[1] for line in server.said()]
    start = [line for line in said if NAME.search(line) or line.startswith("watching ")]
    assert start == [line.removeprefix("conflict: ") for line in lines[:-1]]


@pytest.mark.parametrize("name", [name for name, (_, wanted) in FINDINGS.items() if conflicts_in(wanted)])
def test_a_strict_start_ends_with_a_conflict(server_of, name):
    code, log = server_of({**FINDINGS[name][0], "strict": True}).run_to_exit()
    assert code == 1
    assert "and slowwatch-strict is on: not starting" in log
    assert "spawned uWSGI worker" not in log


def test_notes_do_not_end_a_strict_start(uwsgi):
    server = uwsgi(strict=True, need_app=None, threads=2, harakiri=30)
    assert set(names_in(server.said())) == {"no-need-app", "harakiri-with-threads"}
    assert server.get("/ping").status == 200


# ---- unknown options, wherever they come from ----


def write_config(folder, form, option):
    text = {
        "ini": f"[uwsgi]\n{option} = 3\n",
        "yml": f"uwsgi:\n    {option}: 3\n",
        "json": json.dumps({"uwsgi": {option: "3"}}),
        "xml": f"<uwsgi><{option}>3</{option}></uwsgi>",
    }[form]
    (folder / f"more.{form}").write_text(text)
    return [f"--{'yaml' if form == 'yml' else form}", str(folder / f"more.{form}")]


@pytest.mark.parametrize("form", ["ini", "yml", "json", "xml"])
def test_unknown_options_of_files(uwsgi, tmp_path, form):
    server = uwsgi.make()
    args = write_config(tmp_path, form, "slowwatch-treshold")
    for before, behind in ((args, []), ([], args)):
        code, lines = check(server, *behind, "--slowwatch-check", before=before)
        assert code == 1
        assert "did you mean slowwatch-threshold? [unknown-option]" in lines[0]
    known = write_config(tmp_path, form, "slowwatch-threshold")
    assert check(server, *known, "--slowwatch-check") == (0, [lines[1].replace("0.4 s", "3 s"), "0 conflicts, 0 notes"])


def test_unknown_options_of_the_environment(uwsgi):
    code, lines = check(uwsgi.make(), "--slowwatch-check", env={"UWSGI_SLOWWATCH_TRESHOLD": "3"})
    assert code == 1
    assert "slowwatch-treshold" in lines[0]
    assert "did you mean slowwatch-threshold?" in lines[0]


def test_unknown_options_of_the_command_line(uwsgi):
    """uWSGI ends at once; what was meant is said before."""
    code, log = uwsgi.make(args=["--slowwatch-treshold=3"]).run_to_exit()
    assert code == 1
    hint = "slowwatch: --slowwatch-treshold is not an option of this version: did you mean --slowwatch-threshold?"
    assert hint in log
    assert log.index(hint) < log.index("unrecognized option '--slowwatch-treshold=3'")


def test_beginnings_of_options_on_the_command_line_are_no_slips(uwsgi):
    server = uwsgi(args=["--slowwatch-threshol=3"])
    assert not any("did you mean" in line for line in server.said())
    assert any("watching requests over 3 s" in line for line in server.said())


# ---- the check leaves everything alone ----


@pytest.mark.parametrize("order", [("slowwatch", PYTHON_PLUGIN), (PYTHON_PLUGIN, "slowwatch")])
def test_check_in_any_order(uwsgi, order):
    server = uwsgi.make(plugins=",".join(filter(None, order)))
    in_order = check(server, "--slowwatch-check")
    assert in_order[0] == 0
    assert in_order[1][0].startswith(f"watching requests over {THRESHOLD} s, ")
    assert "stacks of CPython " in in_order[1][0]
    # before the plugin that knows it; in the file; in the environment; switched off again
    assert check(server, before=["--set", "slowwatch-check=true"]) == in_order
    assert check(server, env={"UWSGI_SLOWWATCH_CHECK": "true"}) == in_order
    server.options = {"slowwatch-check": True, **server.options}
    assert check(server) == in_order
    server.options["strict"] = None
    server.args = ["--slowwatch-check=false"]
    server.start()


def test_check_disturbs_no_running_server(uwsgi, tmp_path):
    traces = {name: tmp_path / name for name in ("pid", "pid2", "log", "hook", "exec", "socket", "stats", "imported")}
    (tmp_path / "marks.py").write_text(
        f"import pathlib\npathlib.Path({str(traces['imported'])!r}).touch()\n"
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"
    )
    server = uwsgi.make(
        app="marks:application", pythonpath=tmp_path, socket=traces["socket"], stats=traces["stats"],
        safe_pidfile=traces["pid"], pidfile2=traces["pid2"], vacuum=True,
    )  # fmt: skip
    server.start("/")
    wanted = {name: traces[name].stat().st_ino for name in ("pid", "pid2", "socket", "stats")}
    contents = traces["pid"].read_text()
    traces["imported"].unlink()

    server.options.update({
        "daemonize": traces["log"], "hook-asap": f"exec:touch {traces['hook']}", "exec-asap": f"touch {traces['exec']}",
    })  # fmt: skip
    assert check(server, "--slowwatch-check", "--slowwatch-threshold=2")[0] == 0
    assert check(server, "--slowwatch-check", "--slowwatch-alarm=none")[0] == 1
    assert {name: traces[name].stat().st_ino for name in wanted} == wanted
    assert traces["pid"].read_text() == contents
    for name in ("log", "hook", "exec", "imported"):
        assert not traces[name].exists(), name
    assert server.get("/").body == b"here"


@needs_root
def test_check_sees_files_as_a_worker_does(uwsgi, tmp_path):
    for_everybody(tmp_path)
    (tmp_path / "spool").mkdir(mode=0o700)
    options = {**MAIL, "spool": "spool", "chdir": tmp_path}
    assert check(uwsgi.make(**options), "--slowwatch-check")[0] == 0
    code, lines = check(uwsgi.make(**options, uid="nobody", gid="nogroup"), "--slowwatch-check")
    assert code == 1
    assert "Permission denied" in lines[0]
    assert names_in(lines)[0] == "spool-unusable"


def test_check_fails_when_its_report_is_lost(uwsgi):
    server = uwsgi.make()
    server.write_ini()
    with open("/dev/full", "w") as full:
        assert subprocess.run([UWSGI, "--ini", server.ini, "--slowwatch-check"], stdout=full).returncode == 1


# ---- the page ----


def test_the_page_has_every_finding():
    page = (REPO / "docs" / "doctor.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (conflict|note) \| \S", page, re.MULTILINE)
    assert rows == [(name, "conflict" if conflict else "note") for name, conflict in table().items()]
