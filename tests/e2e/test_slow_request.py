"""A slow request leaves its evidence while it still runs: where it stands, what it waits for, and how it ended."""

import fcntl
import json
import os
import re
import sys
from pathlib import Path

import pytest
from harness import APPS, THRESHOLD, frames, innermost, line_of

sys.path.insert(0, str(APPS))
import shapes

STUCK, GATE = str(APPS / "stuck.py"), str(APPS / "gate.py")
THRESHOLD_MS = THRESHOLD * 1000
LATE_MS = 600  # a busy test machine; the promise itself is measured by the benchmarks


@pytest.fixture(scope="module")
def server(module_servers):
    return module_servers(threads=4, stack_depth=1024)


def as_seen_by_python(response):
    """The stack that the request found at the gate itself, with the line it then went on to wait in."""
    stack = [tuple(frame) for frame in json.loads(response.text)]
    return [*stack[:-1], (GATE, line_of("gate.py", "hold"), "hold")]


def test_report_has_every_field(server):
    server.wait_idle_look()
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
        assert not request.call.done
        response = request.finish()
    assert response.status == 200
    assert re.fullmatch(r"[0-9a-f]{32}", event["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert event["host"] == os.uname().nodename
    assert event["worker"] == 1
    assert event["core"] in range(4)
    assert event["pid"] == server.workers()[1]
    assert event["threshold_ms"] == THRESHOLD_MS
    assert THRESHOLD_MS <= event["elapsed_ms"] < THRESHOLD_MS + LATE_MS
    assert "harakiri_in_ms" not in event

    seen = event["request"]
    assert (seen["method"], seen["uri"], seen["host"]) == ("GET", request.uri, "test.example")
    assert seen["remote_addr"] == "127.0.0.1"
    assert seen["phase"] == "application"
    assert seen["started"] < event["time"]
    assert "status" not in seen

    thread = event["thread"]
    assert (thread["state"], thread["syscall"], thread["gil"]) == ("waiting", "recvfrom", "released")
    assert re.fullmatch(rf"recvfrom\(fd \d+ → 127\.0\.0\.1:{request.gate.port}\)", thread["wait"])
    assert 0 <= thread["cpu_ms"] <= thread["cpu_window_ms"] + LATE_MS

    assert frames(event["stack"]) == [
        (STUCK, line_of("stuck.py", "application"), "application"),
        (STUCK, line_of("stuck.py", "hold_"), "hold_"),
        (GATE, line_of("gate.py", "hold"), "hold"),
    ]
    assert "partial" not in event["stack"]
    assert "truncated" not in event["stack"]
    assert event["stack"]["frames"][0]["source"].startswith("answer = page(Request(environ))")
    assert re.fullmatch(r"[0-9a-f]{16}", event["fingerprint"])


def test_end_is_reported_once_with_status_and_timeline(server):
    with server.stuck("/two_places") as request:
        first = request.event("slow_request")
        request.event("slow_request_update", count=2)
        assert request.finish().status == 200
    end = request.event("request_finished")
    assert end["id"] == first["id"]
    assert end["request"]["status"] == 200
    assert end["elapsed_ms"] > first["elapsed_ms"]
    assert innermost(first) == ("stuck.py", line_of("stuck.py", "shorter"), "two_places")
    places = {(Path(place["file"]).name, place["line"], place["function"]): place["looks"] for place in end["timeline"]}
    assert places[("stuck.py", line_of("stuck.py", "shorter"), "two_places")] >= 1
    assert places[("gate.py", line_of("gate.py", "hold"), "hold")] >= 3
    assert sum(places.values()) <= end["looks"]
    assert [place["looks"] for place in end["timeline"]] == sorted(places.values(), reverse=True)
    # Another slow request passes through the whole machine behind it: had there been a second end, it would be here.
    with server.stuck("/hold") as later:
        later.event("slow_request")
    later.event("request_finished")
    assert len(request.events("request_finished")) == 1
    assert len(request.events("slow_request")) == 1


def test_updates_come_at_doubled_thresholds(server):
    with server.stuck("/hold") as request:
        request.event("slow_request_update", count=3)
    updates = request.events("slow_request_update")
    for update, factor in zip(updates, (2, 4, 8)):
        assert factor * THRESHOLD_MS <= update["elapsed_ms"] < factor * THRESHOLD_MS + LATE_MS
        assert innermost(update) == ("gate.py", line_of("gate.py", "hold"), "hold")
    assert {event["id"] for event in request.events()} == {updates[0]["id"]}


@pytest.mark.parametrize("name", shapes.ALL)
def test_stack_is_exactly_what_python_says(server, name):
    with server.stuck("/shape", name=name) as request:
        event = request.event("slow_request")
        response = request.finish()
    assert frames(event["stack"]) == as_seen_by_python(response)
    assert "partial" not in event["stack"]


def test_stack_too_large_for_one_event_is_cut_and_marked(server):
    """An event has at most 64 KiB: the innermost frames are kept, and the rest is counted."""
    with server.stuck("/depth", depth=900) as request:
        event = request.event("slow_request")
        response = request.finish()
    stack, kept = as_seen_by_python(response), frames(event["stack"])
    assert kept == stack[-len(kept) :]
    assert event["stack"].get("truncated", 0) == len(stack) - len(kept)
    assert len(kept) > 500


def test_deep_stack_keeps_the_innermost_frames(uwsgi):
    server = uwsgi(stack_depth=50)
    with server.stuck("/depth", depth=300) as request:
        event = request.event("slow_request")
        response = request.finish()
    stack = as_seen_by_python(response)
    assert frames(event["stack"]) == stack[-50:]
    assert event["stack"]["truncated"] == len(stack) - 50


def test_source_of_non_ascii_code(server):
    with server.stuck("/shape", name="größe_日本語") as request:
        frame = request.event("slow_request")["stack"]["frames"][-2]
    assert frame["function"] == "größe_日本語"
    assert frame["source"] == "rückgabe = hold(port)  # naïve Zeile: Ωμέγα"


@pytest.mark.parametrize("page", ["summing", "regex", "power", "dumps", "sorting"])
def test_c_code_that_holds_the_gil(server, page):
    with server.stuck("/" + page).begin(arrived=0) as request:
        event = request.event("slow_request")
        assert request.call.result().status == 200
    # The calibration before it may be what was met; the call itself is what most looks find.
    end = request.event("request_finished")
    assert (STUCK, line_of("stuck.py", page), page) in {(p["file"], p["line"], p["function"]) for p in end["timeline"]}
    assert event["thread"]["gil"] == "held"
    assert event["thread"]["state"] == "running"
    assert "partial" not in event["stack"]


def test_pure_python_loop(server):
    with server.stuck("/loop") as request:
        event = request.event("slow_request")
        request.event("slow_request_update")
    assert event["stack"]["frames"][-1]["function"] in ("loop", "is_set", "Event.is_set")
    assert event["thread"]["cpu_ms"] > 0


def test_lock_and_the_thread_that_holds_it(server):
    with server.stuck("/lock") as request:
        event = request.event("slow_request")
    assert innermost(event) == ("stuck.py", line_of("stuck.py", "lock"), "lock")
    assert event["thread"]["syscall"] == "futex"
    assert event["thread"]["gil"] == "released"
    stacks = [[frame["function"] for frame in thread["stack"]["frames"]] for thread in event["threads"]]
    assert any(functions[-1] == "hold" and functions[-2].endswith("holder") for functions in stacks)
    assert all(thread["gil"] in (True, False) for thread in event["threads"] if "gil" in thread)


def test_child_process(server, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    request = server.stuck("/child", file=pipe).begin(arrived=0)
    with request, pipe.open("w") as writer:
        event = request.event("slow_request")
        writer.write("go\n")
        writer.flush()
        assert request.call.result().status == 200
    assert event["thread"]["syscall"] in ("wait4", "waitid")
    assert re.match(r'wait4\(pid \d+ "sh"\)|waitid\(', event["thread"]["wait"])
    assert (STUCK, line_of("stuck.py", "child"), "child") in frames(event["stack"])


def test_file_lock(server, tmp_path):
    path = tmp_path / "locked"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        request = server.stuck("/flock", file=path).begin(arrived=0)
        with request:
            event = request.event("slow_request")
            fcntl.flock(file, fcntl.LOCK_UN)
            assert request.call.result().status == 200
    assert innermost(event) == ("stuck.py", line_of("stuck.py", "flock"), "flock")
    assert event["thread"]["syscall"] == "flock"
    assert str(path) in event["thread"]["wait"]


def test_sleep(server):
    with server.stuck("/sleep", seconds=1).begin(arrived=0) as request:
        event = request.event("slow_request")
    assert innermost(event) == ("stuck.py", line_of("stuck.py", "sleep"), "sleep")
    assert "sleep" in event["thread"]["syscall"]


def test_opening_a_fifo(server, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with server.stuck("/fifo", file=pipe).begin(arrived=0) as request:
        event = request.event("slow_request")
        pipe.write_bytes(b"go")
        assert request.call.result().body == b"go"
    assert innermost(event) == ("stuck.py", line_of("stuck.py", "fifo"), "fifo")
    assert event["thread"]["syscall"] == "openat"


def test_out_of_memory_in_the_application(server):
    with server.stuck("/memory") as request:
        event = request.event("slow_request")
        assert request.finish().status == 200
    assert innermost(event)[0] == "gate.py"


def test_exception_in_the_application(server):
    with server.stuck("/error") as request:
        request.event("slow_request")
        request.finish()
    end = request.event("request_finished")
    assert end["request"].get("status", 0) in (0, 500)


def test_fast_requests_leave_nothing(uwsgi):
    server = uwsgi()
    for number in range(200):
        assert server.get(f"/ping?n={number}").status == 200
    with server.stuck("/hold") as request:
        request.event("slow_request")
    request.event("request_finished")
    assert {event["request"]["uri"] for event in server.events()} == {request.uri}


def test_requests_on_one_connection_core_are_not_mixed(server):
    """Several slow requests one after the other on few cores: each has its own id and its own end."""
    ids = set()
    for _ in range(3):
        with server.stuck("/hold") as request:
            ids.add(request.event("slow_request")["id"])
        ids.add(request.event("request_finished")["id"])
    assert len(ids) == 3
