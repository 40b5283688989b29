"""What once went wrong with a report, its end or its cost: each test fails with the plugin as it was then."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from clients import Gate, wait_for
from harness import THRESHOLD, UWSGI, WATCHDOG_THREAD, Uwsgi, for_everybody, frames, innermost, line_of
from reports import ENDS, ends_of, one_end, report_of

HOLD = ("gate.py", line_of("gate.py", "hold"), "hold")
HARAKIRI = 2
DEEP = 120  # frames, so that a few dozen events fill the channel and the log's pipe

LOOK_SHARE = 1 / 20  # of one CPU: what looking may cost

# What uWSGI puts before each entry for a value of log-date (its ini files want "%" twice). Entries that only this made
# longer than its buffer were torn.
DATES = {"true": r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4}", "%%Y-%%m-%%d %%H:%%M:%%S": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"}
HOST_BUFFER = 4096
SWEEP_STEP = 8


def said_lost(server):
    """How many events or entries the plugin says it has lost."""
    return sum(int(n) for n in re.findall(r"slowwatch: (\d+) (?:events|writes to the log) were lost", server.log()))


def wait_accounted(server, made):
    """Until each event has arrived or is counted as lost."""
    try:
        wait_for(lambda: len(server.events()) + said_lost(server) >= made, "all events", timeout=10)
    except AssertionError:
        kinds = [event["event"] for event in server.events()]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        raise AssertionError(f"of {made} events arrived {counts}, said to be lost: {said_lost(server)}") from None


def ended(server):
    """The reports of which an end has arrived, once for each such event."""
    return sorted(event["id"] for event in server.events() if event["event"] in ENDS)


# ---- the log ----


@pytest.mark.parametrize("many", [64, 160])
def test_ends_at_harakiri_through_the_log_master(uwsgi, many):
    """The master waits for the last pictures, and it alone reads the pipe of the log. The worker is killed with what it
    could not send by then: no end is lost with it."""
    server = uwsgi(threads=many, harakiri=6, threshold=3.5, sample_interval=3000, log_master=True, disable_logging=True)
    requests = [server.stuck("/depth", depth=DEEP).begin() for _ in range(many)]
    server.wait_event("slow_request", count=many)
    for request in requests:
        assert request.call.result().status == 0
        request.gate.close()
    assert server.get("/ping").status == 200
    wait_accounted(server, 2 * many)
    assert ended(server) == sorted(event["id"] for event in server.events("slow_request"))
    assert len(server.events("request_killed")) == many


@pytest.mark.parametrize("log_master", [None, True], ids=["direct", "log-master"])
@pytest.mark.parametrize("date", DATES, ids=["default", "format"])
def test_entries_about_as_long_as_the_buffer_of_the_log(uwsgi, date, log_master):
    many = 12
    server = uwsgi(processes=many, disable_logging=True, log_master=log_master, log_date=date)

    def length(request):
        """Of its first entry, without the date."""
        (line,) = [one for one in server.lines() if '"slow_request"' in one and f"?t={request.token}&" in one]
        return len(line[line.index('{"') :].encode()) + 1

    padding = 2000
    with server.stuck("/hold/" + padding * "x") as request:
        request.event("slow_request")
        request.finish()
        one_end(server, request, "request_finished")
    padding += HOST_BUFFER - length(request)
    requests = [server.stuck("/hold/" + (padding - step * SWEEP_STEP) * "x").begin() for step in range(-4, many - 4)]
    for request in requests:
        request.event("slow_request")
        request.finish()
        request.gate.close()
        request.event("request_finished")
    report_of(server)
    lengths = [length(request) for request in requests]
    assert any(HOST_BUFFER - 20 <= one <= HOST_BUFFER for one in lengths), lengths
    assert min(lengths) < HOST_BUFFER - 30
    assert max(lengths) > HOST_BUFFER
    assert b"\0" not in server.log_file.read_bytes()
    for request in requests:
        assert ends_of(request) == ["request_finished"]
    for line in server.lines():
        assert '"schema"' not in line or re.match(DATES[date] + r' - \{"', line), line[:200]


# ---- one report for one request, with its end ----


def test_child_of_the_master_that_leaves_by_exit(uwsgi):
    """uWSGI runs the master's own clean-up in it: that must not end the reports, nor the reporter."""
    server = uwsgi(attach_daemon2="cmd=true,chdir=/nonexistent")
    reporter = server.reporter()
    with server.stuck("/hold") as request:
        request.event("slow_request")
        mark = server.mark()
        for _ in range(2):
            server.wait_log(r"uwsgi_spawn_daemon\(\)/chdir\(\)", since=mark)
            mark = server.mark()
        assert request.finish().status == 200
    one_end(server, request, "request_finished")
    assert server.reporters() == [reporter]
    assert "killed" not in "\n".join(server.said())


def stands_in(event, hook):
    return any((Path(file).name, line, function) == hook for file, line, function in frames(event["stack"]))


@pytest.mark.parametrize("path", ["/hold", "/ping"])
def test_slow_hook_after_the_request(uwsgi, path):
    """uWSGI counts the request as done before its last hooks run: it is one request all the same."""
    server = uwsgi(app="late_hook:application")
    hook = ("late_hook.py", line_of("late_hook.py", "late"), "late")
    with Gate() as hooks, server.stuck(path, hook=hooks.port).begin(arrived=path == "/hold") as request:
        if path == "/hold":
            first = request.event("slow_request")
            assert innermost(first) == HOLD
            assert "status" not in first["request"]
            request.gate.release()
        hooks.wait_arrived()
        looks = wait_for(lambda: [event for event in request.events() if stands_in(event, hook)], "a look at the hook")
        assert looks[0]["request"]["status"] == 200
        hooks.release()
        assert request.call.result().status == 200
    request.event("request_finished")
    end = one_end(server, request, "request_finished")
    assert end["request"]["status"] == 200
    assert {event["id"] for event in request.events()} == {end["id"]}


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "harakiri"])
def test_worker_that_leaves_while_the_reporter_is_stopped(uwsgi, how):
    """More than the channel takes. What the worker had kept for later goes with it and is counted; no end is lost."""
    many, threshold = 62, 2.5
    options = {"harakiri": 4} if how == "harakiri" else {}
    server = uwsgi(threads=many + 1, threshold=threshold, sample_interval=1000, disable_logging=True, **options)
    reporter, worker = server.reporter(), server.workers()[1]
    os.kill(reporter, signal.SIGSTOP)
    try:
        requests = [server.stuck("/depth", depth=DEEP).begin() for _ in range(many)]
        if how != "harakiri":  # which another request that ends would put off
            for _ in range(2):  # until all are slow and no update is due yet
                assert server.get(f"/sleep?seconds={0.6 * threshold}").status == 200
            os.kill(worker, getattr(signal, how))
        wait_for(lambda: server.workers().get(1, worker) != worker, "a new worker")
    finally:
        os.kill(reporter, signal.SIGCONT)
    for request in requests:
        request.gate.close()
    wait_accounted(server, 2 * many)
    assert len(set(ended(server))) == len(ended(server)) == many


# ---- the last picture ----


@contextlib.contextmanager
def in_private_proc(server):
    """Runs the server as the only one in its /proc, which shows nobody the processes of others."""
    private = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "/bin/sh", "-ec"]
    hide = "mount -o remount,hidepid=2 /proc"
    tried = subprocess.run([*private, hide], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no /proc of one's own here: {tried.stderr.strip()}")
    server.launch([*private, hide + ' && exec "$0" --ini "$1"', UWSGI, str(server.ini)])
    try:
        server.wait_started()
        yield server
        (master,) = psutil.Process(server.process.pid).children()
        master.send_signal(signal.SIGINT)  # unshare itself ignores it
        server.wait_gone()
    finally:
        server.kill_all()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide processes and become somebody else")
def test_last_picture_when_processes_are_hidden(uwsgi, tmp_path):
    """A worker that has changed its user is hidden from its own master: that does not mean that it cannot answer."""
    server = uwsgi.make(harakiri=HARAKIRI, uid="www-data", gid="www-data", pythonpath=for_everybody(tmp_path))
    with in_private_proc(server), server.stuck("/hold") as request:
        request.event("slow_request")
        killed = request.event("request_killed")
        assert request.call.result().status == 0
        wait_for(lambda: server.get("/ping").status == 200, "a new worker")
    assert killed["reason"] == "harakiri"
    assert innermost(killed) == HOLD
    assert ends_of(request) == ["request_killed"]


# ---- what it costs ----


def cpu_seconds(pid, name):
    """CPU time of the thread of this name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            words = (task / "stat").read_text().rpartition(")")[2].split()
            return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    raise LookupError(name)


@pytest.mark.parametrize(("many", "seconds"), [(64, 4), (256, 8)])
def test_cost_of_looking_at_many_stuck_requests(uwsgi, many, seconds):
    """They are looked at less often, rather than for more of the CPU; the limit leaves room for a noisy machine."""
    server = uwsgi(threads=many, sample_interval=20, disable_logging=True)
    worker = server.workers()[1]
    with Gate() as gate:
        calls = []
        for count in range(1, many + 1):  # one after the other, so that their looks could be due one by one
            calls.append(server.background(f"/hold?gate={gate.port}"))
            gate.wait_arrived(count)
        server.wait_event("slow_request", count=many)
        cpu, began = cpu_seconds(worker, WATCHDOG_THREAD), time.monotonic()
        time.sleep(seconds)  # several rounds of looks
        share = (cpu_seconds(worker, WATCHDOG_THREAD) - cpu) / (time.monotonic() - began)
        gate.release()
        assert {call.result().status for call in calls} == {200}
    ends = server.wait_event("request_finished", count=many)
    assert max(event["looks"] for event in ends) > 1
    assert share < 2 * LOOK_SHARE


def test_cpu_time_of_a_shared_thread_is_nobodys(uwsgi):
    """All requests of an async loop run on one thread: its CPU time is not that of the one that waits."""
    if not Path("/usr/lib/uwsgi/plugins/ugreen_plugin.so").exists():
        pytest.skip("uWSGI's ugreen plugin is not installed")
    options = {"ugreen": True, "async": 8, "enable_threads": None}  # ugreen does not go with threads
    server = uwsgi(plugins=Uwsgi.plugin_list("slowwatch", "ugreen"), app="coroutines:application", **options)
    with server.stuck("/wait") as request:
        assert server.get(f"/spin?seconds={2 * THRESHOLD}").status == 200
        request.event("slow_request_update")
        request.finish()
    request.event("request_finished")
    assert ends_of(request) == ["request_finished"]
    for event in server.events():
        assert "cpu_ms" not in event.get("thread", {}), event


# ---- the alarm ----


def test_alarm_is_raised_for_a_slow_request(uwsgi, tmp_path):
    raised = tmp_path / "raised"
    server = uwsgi.make(alarm="record")
    server.options["alarm"] = f"record cmd:cat >> {raised}; echo >> {raised}"
    server.start()
    assert not any("slowwatch-alarm" in line for line in server.said()), server.said()
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
        wait_for(lambda: raised.exists() and event["id"] in raised.read_text(), "the alarm")
        request.finish()
    one_end(server, request, "request_finished")
    (line,) = [one for one in raised.read_text().splitlines() if event["id"] in one]
    assert line.startswith("slowwatch: slow request")
    assert "gate.py" in line


def test_alarm_that_nobody_defined(uwsgi):
    code, log = uwsgi.make(alarm="record", strict=True).run_to_exit()
    assert code == 1
    assert re.search("^slowwatch: .*slowwatch-alarm record", log, re.MULTILINE)
    server = uwsgi(alarm="record")
    assert any("slowwatch-alarm record" in line for line in server.said()), server.said()
    report_of(server)
