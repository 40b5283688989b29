"""Before the kill there is evidence, and whatever kills a worker is said."""

import os
import signal
import time
from datetime import datetime

import pytest
from clients import wait_for
from harness import innermost, line_of

HOLD = ("gate.py", line_of("gate.py", "hold"), "hold")
HARAKIRI = 2
KILL_LATE_SECONDS = 3.5  # the master looks once a second, in whole seconds


def seconds_between(first, second):
    return (datetime.fromisoformat(second["time"]) - datetime.fromisoformat(first["time"])).total_seconds()


def test_evidence_before_the_kill_and_a_last_picture_with_it(uwsgi):
    server = uwsgi(harakiri=HARAKIRI)
    killed_pid = server.workers()[1]
    with server.stuck("/hold") as request:
        first = request.event("slow_request")
        assert 0 < first["harakiri_in_ms"] <= HARAKIRI * 1000
        killed = request.event("request_killed")
        assert request.call.result().status == 0
    assert killed["id"] == first["id"]
    assert killed["pid"] == killed_pid
    assert innermost(first) == innermost(killed) == HOLD
    assert "harakiri" in killed["reason"]
    assert killed["timeline"][0]["function"] == "hold"
    assert killed["timeline"][0]["looks"] > 5
    assert killed["elapsed_ms"] >= HARAKIRI * 1000 - 1000
    wait_for(lambda: server.workers().get(1, killed_pid) != killed_pid, "a new worker")
    assert server.get("/ping").status == 200
    assert not request.events("request_finished")
    assert len(request.events("request_killed")) == 1
    assert not request.events("worker_died")


def test_gil_holder_is_seen_at_the_kill(uwsgi):
    server = uwsgi(harakiri=HARAKIRI)
    with server.stuck("/summing", seconds=12).begin(arrived=0) as request:
        first = request.event("slow_request")
        killed = request.event("request_killed")
    assert innermost(first) == innermost(killed) == ("stuck.py", line_of("stuck.py", "summing"), "summing")
    assert killed["thread"]["gil"] == "held"


def test_threshold_that_harakiri_would_forestall_is_moved(uwsgi):
    server = uwsgi(harakiri=3, threshold=10)
    assert any("harakiri" in line and "threshold" in line for line in server.said())
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
        request.event("request_killed")
    assert event["elapsed_ms"] < 3000
    assert event["threshold_ms"] == 2000


def test_threshold_above_harakiri_ends_a_strict_start(uwsgi):
    code, log = uwsgi.make(harakiri=3, threshold=10, strict=True).run_to_exit()
    assert code == 1
    assert "harakiri" in log


def test_hung_threads_are_each_reported_at_the_kill(uwsgi):
    server = uwsgi(harakiri=HARAKIRI, threads=3)
    requests = [server.stuck("/hold").begin() for _ in range(2)]
    killed = [request.event("request_killed") for request in requests]
    for request in requests:
        request.gate.close()
    assert {event["core"] for event in killed} == {request.event("slow_request")["core"] for request in requests}


def test_without_master_harakiri_ends_the_server(uwsgi):
    server = uwsgi(master=None, harakiri=HARAKIRI)
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
        server.wait_gone()
    assert innermost(event) == HOLD


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_worker_that_dies_is_reported_with_its_request(uwsgi, name):
    server = uwsgi()
    died_pid = server.workers()[1]
    with server.stuck("/die", signal=name) as request:
        first = request.event("slow_request")
        assert request.finish().status == 0
        died = server.wait_event("worker_died")
    assert died["pid"] == died_pid
    assert died["id"] == first["id"]
    assert died["reason"]
    wait_for(lambda: server.workers().get(1, died_pid) != died_pid, "a new worker")
    with server.stuck("/hold") as request:
        request.event("slow_request")
    request.event("request_finished")
    assert len(server.events("worker_died")) == 1


def test_killed_from_outside(uwsgi):
    server = uwsgi(processes=2)
    with server.stuck("/hold") as request:
        first = request.event("slow_request")
        os.kill(first["pid"], signal.SIGKILL)
        died = server.wait_event("worker_died")
    assert died["worker"] == first["worker"]
    assert died["request"]["uri"] == request.uri


def test_stopped_worker_does_not_hold_up_the_master(uwsgi):
    """A worker that cannot answer: the last picture is missing, the kill is not late and is reported."""
    server = uwsgi(harakiri=HARAKIRI, processes=2)
    began = time.monotonic()
    with server.stuck("/hold") as request:
        first = request.event("slow_request")
        os.kill(first["pid"], signal.SIGSTOP)
        killed = request.event("request_killed")
        took = time.monotonic() - began
        assert server.get("/ping").status == 200
    assert killed["id"] == first["id"]
    assert took < HARAKIRI + KILL_LATE_SECONDS
    assert seconds_between(first, killed) < HARAKIRI + KILL_LATE_SECONDS


def test_healthy_exit_is_no_death(uwsgi):
    """max-requests, reload and shutdown end workers too; none of that is reported."""
    server = uwsgi(max_requests=2, min_worker_lifetime=0)
    first = server.workers()[1]
    wait_for(lambda: server.get("/ping").status == 200 and server.workers().get(1, first) != first, "a new worker")
    mark = server.mark()
    server.process.send_signal(signal.SIGHUP)
    server.wait_started(since=mark)
    server.stop()
    assert server.events() == []
