"""The watchdog works in every shape a uWSGI server can take, and runs in workers only."""

import os
import re
import signal
from pathlib import Path

import pytest
from clients import wait_for
from harness import APPS, PYTHON_PLUGIN, Uwsgi, for_everybody, has_watchdog, innermost, line_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
HOLD = ("gate.py", line_of("gate.py", "hold"), "hold")


def report_of(server, path="/hold"):
    """One slow request from its first report to its end."""
    with server.stuck(path) as request:
        event = request.event("slow_request")
        assert request.finish().status == 200
    request.event("request_finished")
    assert innermost(event) == HOLD
    assert "partial" not in event["stack"]
    return event


def test_several_processes(uwsgi):
    server = uwsgi(processes=3)
    requests = [server.stuck("/hold").begin() for _ in range(3)]
    workers = {request.event("slow_request")["worker"] for request in requests}
    for request in requests:
        assert request.finish().status == 200
        request.gate.close()
    assert workers == {1, 2, 3}


def test_hung_thread_among_busy_ones(uwsgi):
    """Each request that ends resets uWSGI's own deadline of the worker; ours is kept for each core."""
    server = uwsgi(threads=4)
    with server.stuck("/hold") as request:
        while not request.events("slow_request_update"):
            assert server.get("/ping").status == 200
        event = request.event("slow_request")
        request.finish()
    end = request.event("request_finished")
    assert innermost(event) == HOLD
    assert {event["request"]["uri"] for event in server.events()} == {request.uri}
    assert end["request"]["status"] == 200


def test_every_thread_at_once(uwsgi):
    server = uwsgi(threads=6)
    requests = [server.stuck("/hold").begin() for _ in range(6)]
    events = [request.event("slow_request") for request in requests]
    for request in requests:
        request.finish()
        request.gate.close()
    assert len({event["core"] for event in events}) == 6
    assert len({event["tid"] for event in events}) == 6
    for request, event in zip(requests, events):
        assert str(request.gate.port) in event["thread"]["wait"]


def test_other_threads_of_the_application_are_shown(uwsgi):
    server = uwsgi()
    with server.stuck("/burst").begin(arrived=2) as request:
        event = request.event("slow_request")
        request.finish()
    stacks = [[frame["function"] for frame in thread["stack"]["frames"]] for thread in event["threads"]]
    assert any(functions[-1] == "hold" for functions in stacks)
    assert all(thread["ident"] for thread in event["threads"])


def test_lazy_apps(uwsgi):
    report_of(uwsgi(lazy_apps=True, processes=2))


def test_lazy_apps_with_threads(uwsgi):
    report_of(uwsgi(lazy_apps=True, threads=3))


def test_without_enable_threads(uwsgi):
    report_of(uwsgi(enable_threads=None))


def test_thunder_lock(uwsgi):
    report_of(uwsgi(thunder_lock=True, processes=2, threads=2))


@pytest.fixture
def mounted(uwsgi):
    """uWSGI makes the thread states of further applications in the thread that loads them: they bear its ident."""
    return uwsgi(
        app=None, pythonpath=str(APPS), mount=[f"/one={APPS}/stuck.py", f"/two={APPS}/second.py"],
        manage_script_name=True, threads=4, probe="/one/ping",
    )  # fmt: skip


@pytest.mark.parametrize("mount", ["/one", "/two"])
def test_mounted_applications(mounted, mount):
    for _ in range(4):
        report_of(mounted, mount + "/hold")


def test_mounted_applications_on_every_thread_at_once(mounted):
    """Each report shows the stack of its own request, not that of another one."""
    shapes = {"/one": ["plain", "generator"], "/two": ["method", "comprehension"]}
    requests = {
        name: mounted.stuck(mount + "/shape", name=name).begin() for mount, names in shapes.items() for name in names
    }
    seen = {}
    for name, request in requests.items():
        event = request.event("slow_request")
        seen[name] = [frame["function"] for frame in event.get("stack", {"frames": []})["frames"]]
    for request in requests.values():
        request.finish()
        request.gate.close()
    for name, functions in seen.items():
        assert name in functions, seen


def test_cheaper_workers_are_watched(uwsgi):
    server = uwsgi.make(processes=3, cheaper=1, cheaper_initial=1, cheaper_step=1).launch()
    server.wait_started(workers=1)
    requests = []
    for count in (1, 2, 3):
        requests.append(server.stuck("/hold").begin(arrived=0))
        requests[-1].event("slow_request")
        assert len(requests) == count
    for request in requests:
        assert request.finish().status == 200
        request.gate.close()


@pytest.mark.parametrize("python_first", [True, False], ids=["python first", "slowwatch first"])
def test_plugin_order(uwsgi, python_first):
    report_of(uwsgi(plugins=Uwsgi.plugin_list("slowwatch", python_first=python_first)))


def test_without_master(uwsgi):
    """Nobody could supervise a reporter: the worker writes the log itself, and mail is off, as is said."""
    server = uwsgi(master=None, mail_to="ops@example.org", smtp="127.0.0.1:9")
    event = report_of(server)
    assert event["worker"] == 1
    assert event["stack"]["frames"][-1]["source"]
    assert any("mail" in line and "master" in line for line in server.said())
    assert server.reporters() == []


def test_without_master_in_text(uwsgi):
    server = uwsgi(master=None, log="text", threads=2)
    with server.stuck("/hold") as request:
        server.wait_log(r"slowwatch: slow request .* GET /hold")
        server.wait_log(rf'  File "{APPS}/gate.py", line {HOLD[1]}, in hold')
        request.finish()
    server.wait_log("finished")


def test_without_master_and_several_processes(uwsgi):
    server = uwsgi(master=None, processes=2)
    try:
        report_of(server)
    finally:
        # Plain uWSGI orphans worker 2 here at SIGINT: it is ended by the test, not held against the plugin.
        server.process.send_signal(signal.SIGINT)
        server.process.wait(20)
        server.kill_all()


def test_only_workers_have_a_watchdog(uwsgi, tmp_path):
    server = uwsgi(processes=2, mule=[str(APPS / "idle_mule.py"), True], spooler=str(tmp_path))
    mules = re.findall(r"spawned uWSGI mule \d+ \(pid: (\d+)\)", server.log())
    spoolers = re.findall(r"spawned the uWSGI spooler on dir .* with pid (\d+)", server.log())
    assert len(mules) == 2
    assert len(spoolers) == 1
    report_of(server)
    reporter = server.reporter()
    workers = server.workers().values()
    wait_for(lambda: all(has_watchdog(pid) for pid in workers), "a watchdog thread in each worker")
    for pid in (server.master, reporter, *map(int, mules + spoolers)):
        assert not has_watchdog(pid), Path(f"/proc/{pid}/cmdline").read_bytes()


def test_respawned_worker_is_watched(uwsgi):
    server = uwsgi(max_requests=3, min_worker_lifetime=0)
    first = server.workers()[1]
    wait_for(lambda: server.get("/ping").status == 200 and server.workers().get(1, first) != first, "a new worker")
    assert report_of(server)["pid"] == server.workers()[1]


@pytest.mark.skipif(PYTHON_PLUGIN == "", reason="this uWSGI has Python built in")
def test_without_python(uwsgi, tmp_path):
    """Some other plugin answers the requests; that there are no stacks is said."""
    (tmp_path / "hello.txt").write_text("hello\n")
    server = uwsgi(app=None, plugins="slowwatch,notfound", check_static=str(tmp_path), probe="/hello.txt")
    assert server.get("/hello.txt").text == "hello\n"
    assert server.get("/other").status == 404
    assert any("no Python stacks" in line for line in server.said())


@needs_root
def test_after_a_change_of_user(uwsgi, tmp_path):
    """The usual way in production: started by root, then somebody else. The kernel then hides the system call."""
    server = uwsgi(uid="nobody", gid="nogroup", pythonpath=for_everybody(tmp_path))
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
        request.finish()
    assert innermost(event) == HOLD
    assert event["thread"]["state"] == "waiting"


def test_reload_keeps_watching(uwsgi):
    server = uwsgi()
    mark = server.mark()
    server.process.send_signal(signal.SIGHUP)
    server.wait_started(since=mark)
    report_of(server)


def test_chain_reload(uwsgi, tmp_path):
    touch = tmp_path / "touch"
    touch.touch()
    server = uwsgi(lazy_apps=True, processes=2, touch_chain_reload=str(touch))
    before = set(server.workers().values())
    os.utime(touch, (2_000_000_000, 2_000_000_000))  # uWSGI compares whole seconds
    wait_for(lambda: len(server.workers()) == 2 and not before & set(server.workers().values()), "two new workers")
    report_of(server)
