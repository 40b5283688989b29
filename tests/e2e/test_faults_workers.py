"""Workers that run out of memory, are stopped, fork, leave in the middle of a request or keep threads behind: each slow
request has exactly one end, and the service goes on."""

import os
import signal
import sys
import time

import psutil
import pytest
from clients import Gate, wait_for
from harness import THRESHOLD, has_watchdog, innermost, line_of
from reports import alive, ends_of, one_end, report_of

APP = "faults:application"
HOLD = ("gate.py", line_of("gate.py", "hold"), "hold")
LIMIT_MB = 512


@pytest.fixture(scope="module")
def server(module_servers):
    """For the tests that its worker survives."""
    return module_servers(app=APP)


# ---- memory ----


def test_worker_without_memory(uwsgi):
    """Nothing is left of its address space, and it is watched; its MemoryError ends the request and not the worker."""
    server = uwsgi(app=APP, limit_as=LIMIT_MB)
    pid = server.workers()[1]
    with server.stuck("/out_of_memory") as request:
        event = request.event("slow_request")
        request.event("slow_request_update")
        assert psutil.Process(pid).memory_info().vms > (LIMIT_MB - 4) * 1024 * 1024
        response = request.finish()
    assert response.status in (0, 500)
    assert innermost(event) == ("faults.py", line_of("faults.py", "out_of_memory"), "out_of_memory")
    assert "partial" not in event["stack"]
    server.wait_log("^MemoryError")
    one_end(server, request, "request_finished")
    assert server.workers()[1] == pid


def test_worker_killed_by_the_kernel_for_its_memory(uwsgi):
    """SIGKILL without a word, to a worker with several slow requests; the others serve on."""
    server = uwsgi(app=APP, processes=2, threads=3)
    requests = [server.stuck("/hold").begin() for _ in range(6)]
    victim = requests[0].event("slow_request")["pid"]
    mine = [request for request in requests if request.event("slow_request")["pid"] == victim]
    others = [request for request in requests if request not in mine]
    assert len(mine) == len(others) == 3
    os.kill(victim, signal.SIGKILL)
    for request in mine:
        assert request.call.result().status == 0
        died = request.event("worker_died")
        assert (died["pid"], died["id"]) == (victim, request.event("slow_request")["id"])
        assert died["timeline"][0]["function"] == "hold"
        request.gate.close()
    wait_for(lambda: victim not in server.workers().values() and len(server.workers()) == 2, "a new worker")
    assert server.get("/ping").status == 200
    for request in others:
        assert not ends_of(request)
        assert request.finish().status == 200
        request.gate.close()
        request.event("request_finished")
    report_of(server)
    assert [ends_of(request) for request in mine] == [["worker_died"]] * 3
    assert [ends_of(request) for request in others] == [["request_finished"]] * 3


# ---- stopped ----


def is_connected(pid, port):
    return any(c.raddr and c.raddr.port == port for c in psutil.Process(pid).net_connections("tcp"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_worker_stopped_for_several_thresholds(uwsgi, when):
    """Stopped before or after its request is slow, then continued: one report, one end; the other worker is fine."""
    server = uwsgi(app=APP, processes=2)
    with server.stuck("/hold") as request:
        if when == "after":
            request.event("slow_request")
        for worker in server.workers().values():
            os.kill(worker, signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            pids = server.workers().values()
            (pid,) = (worker for worker in pids if is_connected(worker, request.gate.port))
            (free,) = set(pids) - {pid}
            os.kill(free, signal.SIGCONT)
            other = report_of(server, "/hold")
            assert server.get(f"/sleep?seconds={4 * THRESHOLD}").status == 200
            gone = time.monotonic() - stopped
            assert not request.events("slow_request_update")
            assert len(request.events("slow_request")) == (when == "after")
            assert not ends_of(request)
        finally:
            for worker in server.workers().values():
                os.kill(worker, signal.SIGCONT)
        if when == "after":  # one update stands for all that were missed; the next comes at its time
            first = request.event("slow_request_update")["elapsed_ms"]
            second = request.event("slow_request_update", count=2)["elapsed_ms"]
            assert first >= gone * 1000
            due = THRESHOLD * 1000
            while due <= first:
                due *= 2
            assert second >= due
        event = request.event("slow_request")
        assert request.finish().status == 200
    assert other["pid"] != event["pid"] == pid
    assert innermost(event) == HOLD
    end = one_end(server, request, "request_finished")
    assert end["elapsed_ms"] >= gone * 1000


# ---- children ----


def new_children(server, known):
    """Processes of this server that were not there before; a child may leave its session, so by descent."""
    children = {child.pid for child in psutil.Process(server.master).children(recursive=True)}
    return children - known


@pytest.mark.parametrize("how", ["fork_and__exit", "fork_and_exit", "multiprocess", "subprocess"])
def test_child_of_a_slow_request(server, how):
    """It has no watchdog, says nothing, and its end is not the end of the request."""
    pid, reporter = server.workers()[1], server.reporter()
    known = new_children(server, set())
    with Gate() as childs, server.stuck("/" + how, child=childs.port, python=sys.executable) as request:
        childs.wait_arrived()
        (child,) = new_children(server, known)
        try:
            first = request.event("slow_request")
            request.event("slow_request_update")
            assert not has_watchdog(child)
            assert has_watchdog(pid)
            childs.release()
            wait_for(lambda: not alive(child), "the end of the child")
            seen = len(request.events("slow_request_update"))
            request.event("slow_request_update", count=seen + 1)
            assert not ends_of(request)
            assert server.reporter() == reporter
            request.finish()
        finally:
            if alive(child):
                os.kill(child, signal.SIGKILL)
    assert first["pid"] == pid
    if how != "subprocess":
        assert innermost(first) == HOLD
    one_end(server, request, "request_finished")
    assert {event["pid"] for event in server.events()} == {pid}
    assert server.reporter() == reporter
    assert server.workers()[1] == pid


def test_exit_of_a_child_leaves_the_watchdog_to_the_worker(uwsgi):
    """The handlers of exit() that ran in the child were not those of the worker: at the kill it still gives its
    last picture."""
    server = uwsgi(app=APP, harakiri=3)
    known = new_children(server, set())
    with Gate() as childs, server.stuck("/fork_and_exit", child=childs.port) as request:
        childs.wait_arrived()
        (child,) = new_children(server, known)
        childs.release()
        wait_for(lambda: not alive(child), "the end of the child")
        killed = request.event("request_killed")
    assert killed["reason"] == "harakiri"
    assert innermost(killed) == HOLD
    one_end(server, request, "request_killed")


def test_child_that_outlives_the_server(uwsgi):
    """A daemon of the application's keeps all open that a worker has; server and reporter leave in spite of it."""
    server = uwsgi(app=APP)
    reporter = server.reporter()
    known = new_children(server, set())
    with Gate() as childs, server.stuck("/fork_and_stay", child=childs.port) as request:
        childs.wait_arrived()
        (child,) = new_children(server, known)
        try:
            childs.release()
            wait_for(lambda: os.getsid(child) == child, "a daemon")
            request.event("slow_request")
            request.gate.release()
            request.event("request_finished")
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 10
            assert alive(child)
            assert not psutil.pid_exists(reporter)
        finally:
            os.kill(child, signal.SIGKILL)
    assert ends_of(request) == ["request_finished"]


# ---- the end in the middle of a request ----


def test_workers_that_leave_in_the_middle_of_a_request(uwsgi):
    ways = ["os._exit", "sys.exit", "exit", "segmentation fault", "abort"]
    server = uwsgi(app=APP, processes=len(ways))
    before, reporter = server.workers(), server.reporter()
    requests = [server.stuck("/leave", how=how).begin() for how in ways]
    for request in requests:
        request.event("slow_request")
    for request in requests:
        assert request.finish().status == 0
        request.gate.close()
    for how, request in zip(ways, requests):
        died = request.event("worker_died")
        assert died["id"] == request.event("slow_request")["id"]
        assert died["pid"] == before[died["worker"]]
        assert died["reason"], how
        assert died["timeline"][0]["function"] == "hold"
    wait_for(
        lambda: len(server.workers()) == len(ways) and not set(server.workers().values()) & set(before.values()),
        "new workers",
    )
    report_of(server)
    assert [ends_of(request) for request in requests] == [["worker_died"]] * len(ways)
    assert server.reporter() == reporter


def test_threads_that_hang_after_their_request(server):
    """They are no request: nothing is said of them but beside another one's stack."""
    with Gate() as others:
        with server.stuck("/hung_threads", other=others.port).begin() as request:
            others.wait_arrived(2)
            request.event("slow_request")
            assert request.finish().status == 200
        one_end(server, request, "request_finished")
        mark = server.mark()
        assert server.get(f"/sleep?seconds={THRESHOLD / 2}").status == 200
        with server.stuck("/sleep", seconds=3 * THRESHOLD).begin(arrived=0) as later:
            event = later.event("slow_request")
            later.call.result()
        later.event("request_finished")
        assert {event["request"]["uri"] for event in server.events(since=mark)} == {later.uri}
        assert innermost(event) == ("stuck.py", line_of("stuck.py", "sleep"), "sleep")
        innermost_of_threads = [thread["stack"]["frames"][-1]["function"] for thread in event["threads"]]
        assert innermost_of_threads.count("hold") == 2
