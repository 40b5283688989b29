"""Somebody sets the clock, by an hour, forth and back: no report of a fast request, none lost or twice of a slow one.
The server sees the clock through clockshift.c; the machine's own stays as it is."""

import mmap
import struct
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from harness import THRESHOLD

HOUR = 3600.0
SHIM = Path(__file__).with_name("clockshift.c")
NEAR_SECONDS = 60.0  # "the same time" beside steps of an hour
# Of the tests in which a look has to fall into a request: long enough for a busy machine.
WIDE = 1.2
STEPS, STEP_NAMES = [HOUR, -HOUR], ["forth", "back"]


class Clock:
    """What the server takes for the time of day."""

    def __init__(self, folder):
        library, offset = folder / "clockshift.so", folder / "offset"
        subprocess.run(["gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-o", library, SHIM], check=True)
        offset.write_bytes(bytes(8))
        with offset.open("r+b") as file:
            self._word = mmap.mmap(file.fileno(), 8)
        self.env = {"LD_PRELOAD": str(library), "CLOCKSHIFT": str(offset)}
        self.seconds = 0.0

    def step(self, seconds):
        self.seconds += seconds
        self._word[:] = struct.pack("q", int(self.seconds * 1e9))

    def shows(self, stamp):
        """Is this time of an event what the shifted clock shows about now."""
        ahead = (datetime.fromisoformat(stamp.replace("Z", "+00:00")) - datetime.now(timezone.utc)).total_seconds()
        return abs(ahead - self.seconds) < NEAR_SECONDS


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def assert_reported_once(request, first, last):
    """From the first report to the end, in real time. first, last: the real ages at which they had to come."""
    kinds = [event["event"] for event in request.events()]
    assert kinds[0] == "slow_request"
    assert kinds[-1] == "request_finished"
    assert set(kinds[1:-1]) <= {"slow_request_update"}
    assert kinds.count("slow_request") == kinds.count("request_finished") == 1
    ages = [event["elapsed_ms"] / 1000 for event in request.events()]
    assert ages == sorted(ages)
    assert first <= ages[0]
    assert ages[-1] <= last


def test_clock_set_while_idle(uwsgi, clock):
    server = uwsgi(env=clock.env)
    reported = []
    for step in (HOUR, -HOUR, -HOUR, HOUR):
        clock.step(step)
        for _ in range(2):
            assert server.get(f"/sleep?seconds={THRESHOLD / 2}").status == 200
        began = time.monotonic()
        with server.stuck("/hold") as request:
            event = request.event("slow_request")
            assert clock.shows(event["time"]), "the shim does not work"
            assert clock.shows(event["request"]["started"])
            request.finish()
        request.event("request_finished")
        assert_reported_once(request, THRESHOLD, time.monotonic() - began)
        reported.append(request.uri)
    assert {event["request"]["uri"] for event in server.events()} == set(reported)


@pytest.mark.parametrize("step", STEPS, ids=STEP_NAMES)
def test_clock_set_during_a_slow_request(uwsgi, clock, step):
    server = uwsgi(env=clock.env, threads=2)
    began = time.monotonic()
    with server.stuck("/hold") as request:
        request.event("slow_request")
        clock.step(step)
        event = request.event("slow_request_update")
        assert clock.shows(event["time"]), "the shim does not work"
        clock.step(-step)
        request.event("slow_request_update", count=2)
        clock.step(-step)
        assert request.finish().status == 200
    request.event("request_finished")
    assert_reported_once(request, THRESHOLD, time.monotonic() - began)
    assert len(request.events("slow_request_update")) == 2
    assert {event["request"]["uri"] for event in server.events()} == {request.uri}


def until(instant):
    time.sleep(max(0.0, instant - time.monotonic()))


def looked_at(server):
    """Makes the watchdog look, and tells when: at the end of a slow request. Nothing else runs, so it looks again
    one threshold later."""
    with server.stuck("/hold") as request:
        request.event("slow_request")
        request.finish()
    request.event("request_finished")
    return time.monotonic()


@pytest.mark.parametrize("step", STEPS, ids=STEP_NAMES)
def test_clock_set_before_the_first_look_at_a_request(uwsgi, clock, step):
    """The wall clock alone knows how old a request is that was not there at the last look. Ages are in thresholds:
    both begin 0.3 after that look and are 0.7 old at the next one; then the fast one ends at 0.85, the slow at 1.5."""
    server = uwsgi(env=clock.env, threshold=WIDE, threads=2)
    look = looked_at(server)
    until(look + 0.3 * WIDE)
    began = time.monotonic()
    with server.stuck("/hold") as fast, server.stuck("/hold") as slow:
        clock.step(step)
        until(look + 1.15 * WIDE)
        fast.finish()
        fast_took = time.monotonic() - began
        until(look + 1.8 * WIDE)
        slow.finish()
        slow_took = time.monotonic() - began
    slow.event("request_finished", timeout=10)
    if fast_took >= WIDE:
        pytest.skip("the machine is too busy: the fast request was slow")
    assert [event["event"] for event in fast.events()] == []
    assert_reported_once(slow, WIDE, slow_took)
    assert len(slow.events()) == 2


def test_harakiri_by_the_clock_is_reported_in_real_time(uwsgi, clock):
    """uWSGI itself kills by the wall clock: setting it forth is a kill, and the report is as always."""
    server = uwsgi(env=clock.env, harakiri=60)
    began = time.monotonic()
    with server.stuck("/hold") as request:
        request.event("slow_request")
        clock.step(HOUR)
        killed = request.event("request_killed")
    assert killed["elapsed_ms"] / 1000 <= time.monotonic() - began
    assert killed["timeline"][0]["function"] == "hold"
    assert server.get("/ping").status == 200
    assert [event["event"] for event in request.events()].count("request_killed") == 1
    assert not request.events("worker_died")
