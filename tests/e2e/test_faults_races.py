"""Requests that end while they are looked at, code that is freed while it is read, stacks of every kind of frame: what
is reported belongs together, or is marked."""

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clients import wait_for
from harness import APPS, frames, line_of

SHORT = 0.05  # the threshold
THREADS = 12
LATE = 0.15  # a watchdog on a busy machine comes this late at most
CLOSING = 0.03  # uWSGI closes the connection, and a moment later the request is over
HAMMER_SECONDS = 4
ENDS = ("request_finished", "request_killed", "worker_died")


@pytest.fixture(scope="module")
def server(module_servers):
    return module_servers(
        app="faults:application", threads=THREADS, threshold=SHORT, sample_interval=5, disable_logging=True, listen=100
    )


def hammer(server, clients, path, seconds):
    """Calls path(token) from this many clients for some seconds; token → (response, seconds the client waited)."""
    until, answers = time.monotonic() + seconds, {}

    def client(number):
        count = 0
        while time.monotonic() < until:
            token = f"h{number}n{count}"
            count += 1
            began = time.monotonic()
            response = server.get(path(token))
            answers[token] = (response, time.monotonic() - began)

    with ThreadPoolExecutor(clients) as pool:
        for call in [pool.submit(client, number) for number in range(clients)]:
            call.result()
    return answers


def settled(server, mark):
    """The events since then by id, once all that began have ended."""

    def complete():
        reports = {}
        for event in server.events(since=mark):
            reports.setdefault(event["id"], []).append(event)
        return reports if all(any(e["event"] in ENDS for e in events) for events in reports.values()) else None

    with server.stuck("/hold") as last:  # what was sent before its report is read before it
        last.event("slow_request")
    last.event("request_finished")
    return wait_for(complete, "an end of every report")


def token_of(event):
    return re.search(r"[?&]t=([^&]+)", event["request"]["uri"])[1]


def tokens_in(frames_):
    """Tokens in the names of functions and files that were made for one request."""
    return {
        found
        for frame in frames_
        for name, pattern in ((frame["function"], r"[cfg]_([a-z0-9]+)"), (frame["file"], r"/made/([a-z0-9]+)"))
        for found in re.findall("^" + pattern, name)
    }


def assert_one_life(events):
    kinds = [event["event"] for event in events]
    assert kinds[0] == "slow_request"
    assert kinds[-1] == "request_finished"
    assert set(kinds[1:-1]) <= {"slow_request_update"}
    assert len({event["request"]["uri"] for event in events}) == 1


def test_requests_that_end_while_they_are_looked_at(server):
    """Most take about as long as the threshold. What the application measured surely passed, or what the client
    measured surely did not, decides which must have been reported."""
    chance, mark = random.Random(4711), server.mark()

    def path(token):
        seconds = chance.choice((0.01, 0.1, 0.25)) if chance.random() < 0.3 else SHORT + chance.uniform(-0.01, 0.01)
        return f"/scatter?t={token}&seconds={seconds}"

    answers = hammer(server, THREADS, path, HAMMER_SECONDS)
    assert {response.status for response, _ in answers.values()} == {200}
    reports = settled(server, mark)
    assert "lost" not in "\n".join(server.said(mark))
    reported = {}
    for events in reports.values():
        assert_one_life(events)
        token = token_of(events[0])
        assert token not in reported, "one request, two reports"
        reported[token] = events
        waited = answers[token][1] if token in answers else None
        for event in events:
            assert tokens_in(event.get("stack", {}).get("frames", [])) <= {token}
            assert tokens_in(event.get("timeline", [])) <= {token}
            assert all(token not in tokens_in(thread["stack"]["frames"]) for thread in event.get("threads", []))
            assert event["elapsed_ms"] >= SHORT * 1000
            assert waited is None or event["elapsed_ms"] <= (waited + CLOSING) * 1000
    surely_slow = {token for token, (response, _) in answers.items() if float(response.text) > SHORT + LATE}
    surely_fast = {token for token, (_, waited) in answers.items() if waited < SHORT - CLOSING}
    assert len(surely_slow) > 20
    assert len(surely_fast) > 20
    assert surely_slow <= set(reported)
    assert not surely_fast & set(reported)
    # The race was there: some ended around the threshold, reported and not, and stacks were of the made functions.
    around = {token for token, (_, waited) in answers.items() if abs(waited - SHORT) < 0.03}
    assert len(around) > 100
    assert around & set(reported)
    assert any(tokens_in(events[0]["stack"]["frames"]) for events in reported.values())


def lines_of(depth, innermost):
    """Where a function of the chain can stand: at its call, or, when it was only just entered, at its def."""
    return {2 * depth + 2, 2 * depth + 1} if innermost else {2 * depth + 2}


def assert_whole_chain(stack):
    """The made frames of a stack, which belong to one round: consecutive depths from the first on, each in its own
    file and on its own line."""
    made = [f for f in stack["frames"] if f["file"].startswith("/made/") and f["function"] != "<module>"]
    for depth, frame in enumerate(made):
        token, round_, number = re.fullmatch(r"c_(\w+)_(\d+)_(\d+)", frame["function"]).groups()
        assert int(number) == depth
        assert frame["file"] == f"/made/{token}_{round_}.py"
        assert frame["line"] in lines_of(depth, innermost=frame is stack["frames"][-1])
    assert len({frame["file"] for frame in made}) <= 1
    return len(made)


def test_code_that_is_freed_while_it_is_read(server):
    """Each round compiles fifty functions, runs them a few times and drops them."""
    mark = server.mark()
    answers = hammer(server, 4, lambda token: f"/churn?t={token}&seconds=0.25", HAMMER_SECONDS)
    assert {response.status for response, _ in answers.values()} == {200}
    reports = settled(server, mark)
    clean = partial = 0
    for events in reports.values():
        assert_one_life(events)
        own = {token_of(events[0])}
        for event in events:
            stacks = [(event["stack"], own)] if "stack" in event else []
            stacks += [(thread["stack"], None) for thread in event.get("threads", [])]
            for stack, allowed in stacks:
                if "partial" in stack:
                    partial += 1
                    continue
                if allowed is not None:
                    assert tokens_in(stack["frames"]) <= allowed
                    clean += assert_whole_chain(stack) == 50
            for place in event.get("timeline", []):
                if place["file"].startswith("/made/") and place["function"] != "<module>":
                    token, round_, depth = re.fullmatch(r"c_(\w+)_(\d+)_(\d+)", place["function"]).groups()
                    assert {token} == own
                    assert place["file"] == f"/made/{token}_{round_}.py"
                    assert place["line"] in lines_of(int(depth), innermost=True)
    assert clean > 20, f"{clean} whole stacks, {partial} partial ones: nothing was tested"
    assert "lost" not in "\n".join(server.said(mark))


def test_deep_stack_of_generators_and_coroutines(module_servers):
    """More than 300 frames, most of them not in one piece of memory; a look at them costs little."""
    threshold, interval_ms = 0.2, 10
    server = module_servers(
        app="faults:application", threshold=threshold, sample_interval=interval_ms, stack_depth=1024
    )
    with server.stuck("/deep", depth=400) as request:
        event = request.event("slow_request")
        request.event("slow_request_update", count=2)
        response = request.finish()
    end = request.event("request_finished")
    stack = [tuple(frame) for frame in json.loads(response.text)]
    stack[-1] = (str(APPS / "gate.py"), line_of("gate.py", "hold"), "hold")
    assert len(stack) > 300
    assert frames(event["stack"]) == stack
    assert "partial" not in event["stack"]
    assert {Path(file).name for file, _, _ in stack} == {"faults.py", "gate.py"}
    assert event["elapsed_ms"] < (threshold + LATE) * 1000
    # Looking may cost a twentieth of a CPU: were a look slower than half a millisecond, there would be fewer of them.
    assert end["looks"] > (end["elapsed_ms"] - threshold * 1000) / interval_ms / 2
