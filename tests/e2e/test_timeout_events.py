"""What the plugin makes of the timeouts that are reported to it: events in both logs, numbers in uWSGI's metrics. The
reports come from tests/apps/timeouts_by_hand.py, so nothing here depends on how the Python package finds a timeout."""

import json
import re
import socket

import pytest
from clients import Gate, free_port, read_all, wait_for
from harness import APPS, REPO, THRESHOLD, frames, innermost, is_event, line_of
from reports import ends_of

APP = "timeouts_by_hand:application"
HERE = [("/srv/app/views.py", 41, "order"), ("/srv/app/db.py", 88, "fetch")]
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/srv/app/views.py", line 41, in order',
    '  File "/srv/app/db.py", line 88, in fetch',
]
NEVER = 3600  # seconds, as a threshold: nothing is slow
ID = "[0-9a-f]{32}"
NOTES = int(re.search(r"SW_MAILBOX_NOTES +(\d+)", (REPO / "plugin" / "timeouts.h").read_text())[1])
LOST = r"slowwatch: (\d+) events were lost"


def told(server, exception, count=1):
    """The timeout events with this exception, once there are so many."""

    def found():
        events = [event for event in server.events("timeout") if event["timeout"]["exception"] == exception]
        return events if len(events) >= count else None

    return wait_for(found, f"{count} timeouts with {exception}\n{server.tail()}")


def lost(server):
    return sum(int(count) for count in re.findall(LOST, server.log()))


def entry(server, pattern):
    """The lines from the first that matches on, without what may still be written."""
    server.wait_log(pattern)
    lines = server.lines()
    return lines[next(number for number, line in enumerate(lines) if re.search(pattern, line)) :]


@pytest.fixture(scope="module")
def server(module_servers):
    """For tests that only add to its log. What they cause is told apart by its exception or its URI."""
    return module_servers(app=APP, threshold=NEVER, threads=4, harakiri=600, disable_logging=True)


@pytest.fixture(scope="module")
def text_server(module_servers):
    return module_servers(app=APP, threshold=NEVER, log="text", disable_logging=True)


# ---- one timeout ----


def test_a_raised_timeout_is_an_event(server):
    assert server.get("/once?limit=0.25&password=hunter2&t=raised").text == "told"
    event = server.wait_event_of("raised", "timeout")
    assert event["timeout"] == {"outcome": "raised", "exception": "RuntimeError", "limit_ms": 250, "late_ms": 1}
    assert frames(event["stack"]) == HERE
    assert event["request"]["method"] == "GET"
    assert event["request"]["uri"] == "/once?limit=0.25&password=[redacted]&t=raised"
    assert re.fullmatch(ID, event["id"])
    assert re.fullmatch("[0-9a-f]{16}", event["fingerprint"])
    assert (event["worker"], event["pid"]) == (1, server.workers()[1])
    assert 0 <= event["core"] < 4
    assert event.get("elapsed_ms", 0) < 60_000  # it may have been over within the first millisecond


def test_a_request_that_goes_on_is_described_in_full(server):
    with Gate() as go:
        request = server.stuck("/held", go=go.port, outcome="swallowed").begin(0, headers={"User-Agent": "x/1"})
        with request:
            go.wait_arrived()
            go.release()
            event = request.event("timeout")
            assert request.finish().status == 200
    told_of = event["request"]
    assert (told_of["host"], told_of["remote_addr"], told_of["user_agent"]) == ("test.example", "127.0.0.1", "x/1")
    assert told_of["phase"] == "application"
    assert told_of["started"] < event["time"]
    assert 0 < event["harakiri_in_ms"] <= 600_000
    assert event["timeout"]["outcome"] == "swallowed"
    assert len(request.events()) == 1  # it opened no report, so there is nothing to end


def test_each_thread_has_its_own_request(server):
    with Gate() as go:
        requests = [server.stuck("/held", go=go.port).begin(0) for _ in range(4)]
        go.wait_arrived(4)
        go.release()
        events = [request.event("timeout") for request in requests]
        for request in requests:
            assert request.finish().status == 200
            request.gate.close()
    assert {event["core"] for event in events} == {0, 1, 2, 3}
    assert len({event["id"] for event in events}) == 4


def test_it_bears_the_id_of_the_open_report(uwsgi):
    server = uwsgi(app=APP)
    with Gate() as go, server.stuck("/held", go=go.port).begin(0) as request:
        slow = request.event("slow_request")
        go.release()
        timeout = request.event("timeout")
        assert request.finish().status == 200
    end = request.event("request_finished")
    assert timeout["id"] == slow["id"] == end["id"]
    assert timeout["threshold_ms"] == THRESHOLD * 1000
    assert timeout["elapsed_ms"] >= slow["elapsed_ms"]
    assert ends_of(request) == ["request_finished"]
    assert end["fingerprint"] == slow["fingerprint"] != timeout["fingerprint"]


def test_it_comes_before_the_end_that_it_brings_about(uwsgi):
    """The usual course: the exception ends the request at once."""
    server = uwsgi(app=APP)
    for _ in range(10):
        with Gate() as go, server.stuck("/once", go=go.port).begin(0) as request:
            slow = request.event("slow_request")
            go.release()
            assert request.call.result().status == 200
        request.event("request_finished")
        assert [event["event"] for event in request.events()[-2:]] == ["timeout", "request_finished"]
        assert {event["id"] for event in request.events()} == {slow["id"]}


def test_no_frames_and_too_many(server):
    assert server.get("/no_frames").text == "told"
    bare, deep = told(server, "Bare")[0], told(server, "Deep")[0]
    assert "stack" not in bare
    assert bare["no_stack"] == "none came with the report of the timeout"
    assert "fingerprint" not in bare
    assert bare["timeout"]["limit_ms"] == 1
    assert frames(deep["stack"]) == [("/srv/app/deep.py", n, "down") for n in range(1000 - 128 + 1, 1001)]
    assert deep["stack"]["truncated"] == 1000 - 128 + 7


def test_the_depth_of_stacks_is_an_option(uwsgi):
    server = uwsgi(app=APP, threshold=NEVER, stack_depth=1)
    server.get("/once")
    assert frames(told(server, "RuntimeError")[0]["stack"]) == HERE[-1:]


def test_another_version_of_the_contract_is_ignored(server):
    assert server.get("/wrong").text == "told"
    told(server, "Taken")
    assert not [event for event in server.events("timeout") if event["timeout"]["exception"] == "Ignored"]


# ---- nothing could be raised ----


def test_stuck_in_a_call_on_a_socket(text_server):
    with text_server.stuck("/stuck_recv") as request:
        lines = entry(text_server, rf"slowwatch: timeout {ID}: GET /stuck_recv\S+ on worker 1 core 0 \(pid \d+\): ")
        text_server.wait_log("# line: stuck_recv$")
        request.finish()
    lines = entry(text_server, r"GET /stuck_recv")
    assert lines[0].endswith(
        ": the limit of 0.5 s passed 1.0 s ago, and TooSlow could not be raised: the thread is in a call that does not "
        "return"
    )
    assert re.match(rf"waiting in recvfrom\(fd \d+ → 127\.0\.0\.1:{request.gate.port}\), GIL released", lines[1])
    assert lines[2] == TRACEBACK[0]
    innermost_frame = lines.index("    connection.recv(1)  # line: stuck_recv")
    file, line = APPS / "timeouts_by_hand.py", line_of("timeouts_by_hand.py", "stuck_recv")
    assert lines[innermost_frame - 1] == f'  File "{file}", line {line}, in stuck_recv'


def test_stuck_in_a_lock(server):
    with server.stuck("/stuck_lock") as request:
        event = request.event("timeout")
        request.finish()
    assert event["timeout"] == {"outcome": "stuck", "exception": "TooSlow", "limit_ms": 500, "late_ms": 1000}
    assert innermost(event) == ("timeouts_by_hand.py", line_of("timeouts_by_hand.py", "stuck_lock"), "stuck_lock")
    assert (event["thread"]["state"], event["thread"]["syscall"]) == ("waiting", "futex")
    assert event["thread"]["gil"] == "released"


def test_stuck_says_a_report_of_a_thread_that_is_gone(server):
    assert server.get("/gone_thread").text == "told"
    event = told(server, "Gone")[0]
    assert "stack" not in event
    assert event["no_stack"] == "no Python code runs on this thread"
    assert (event["core"], event["reason"]) == (-1, "outside of a request")


# ---- the text log ----


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("raised", "RuntimeError raised after 0.5 s"),
        ("swallowed", "RuntimeError was raised after 0.5 s and swallowed: the block went on"),
    ],
)
def test_the_entry_is_as_documented(text_server, outcome, words):
    text_server.get(f"/once?outcome={outcome}")
    text_server.wait_log(rf"GET /once\?outcome={outcome} .*\n.*\n.*\n.*in fetch")
    lines = entry(text_server, rf"GET /once\?outcome={outcome} ")
    pid = text_server.workers()[1]
    assert re.fullmatch(
        rf"slowwatch: timeout {ID}: GET /once\?outcome={outcome} on worker 1 core 0 \(pid {pid}\): {words}", lines[0]
    )
    assert lines[1:4] == TRACEBACK


@pytest.mark.parametrize("kind", ["lines", "bytes", "separators", "long", "long+characters", "empty", "null"])
@pytest.mark.parametrize("log", ["text", "json"])
def test_hostile_text_stays_on_its_line(request, log, kind):
    server = request.getfixturevalue("text_server" if log == "text" else "server")
    since = server.mark()
    assert server.get(f"/hostile?kind={kind}").text == "told"
    server.wait_log(rf"/hostile\?kind={re.escape(kind)}", since=since)
    server.get("/once?after")
    server.wait_log(r"/once\?after", since=since)  # so what came before it is whole
    for line in server.lines()[since:]:
        assert not line.startswith("slowwatch: forged")
        assert len(line) < 10_000
        assert line.isprintable()
        assert "\\udc" not in line
    if log == "json":
        event = next(event for event in server.events("timeout", since) if event["request"]["uri"].endswith(kind))
        assert [frame["line"] for frame in event["stack"]["frames"]] == [7] * 3


# ---- many ----


@pytest.mark.parametrize("log", ["text", "json"])
@pytest.mark.parametrize("master", [True, None])
def test_what_does_not_fit_is_counted(uwsgi, master, log):
    """From eight threads at once, without the GIL: what was not told is said to be lost, nothing is twice."""
    server = uwsgi(app=APP, threshold=NEVER, log=log, master=master, disable_logging=True)
    assert server.get("/burst?count=500&threads=8").text == "told"

    def told_and_lost():
        whole = [line for line in server.lines() if "Burst" in line and (log == "text" or is_event(line))]
        return len(whole) + lost(server) >= 8 * 500 and len(whole)

    count = wait_for(told_and_lost, f"the rest\n{server.tail()}")
    assert count >= NOTES
    assert count + lost(server) == 8 * 500
    assert server.get("/once?after").text == "told"
    server.wait_log(r"/once\?after")


# ---- where there is no request, and where nobody listens ----


def test_outside_of_a_request(server, text_server):
    assert server.get("/outside").text == "told"
    event = told(server, "Outside")[0]
    assert (event["core"], event["reason"], event["worker"]) == (-1, "outside of a request", 1)
    assert "request" not in event
    assert frames(event["stack"]) == HERE
    text_server.get("/outside")
    assert entry(text_server, "Outside")[0].endswith(
        f": outside of a request on worker 1 (pid {text_server.workers()[1]}): Outside raised after 0.5 s"
    )


def test_in_an_event_loop_the_request_is_not_known(uwsgi):
    server = uwsgi(app=APP, threshold=NEVER, **{"async": 4})
    assert server.get("/once").text == "told"
    event = told(server, "RuntimeError")[0]
    assert (event["core"], event["reason"]) == (-1, "one of the requests of an event loop")
    assert frames(event["stack"]) == HERE


def test_forks_mules_and_the_import_are_not_listened_to(uwsgi):
    server = uwsgi(app=APP, threshold=NEVER, mule=APPS / "timeouts_by_hand.py", env={"REPORT_AT_IMPORT": "1"})
    server.wait_log("the mule has reported")
    assert server.get("/in_child").text == "0"
    server.get("/once")
    told(server, "RuntimeError")
    assert {event["timeout"]["exception"] for event in server.events()} == {"RuntimeError"}
    assert lost(server) == 0


def test_without_a_master_the_watchdog_writes(uwsgi):
    server = uwsgi(app=APP, threshold=NEVER, master=None, log="text", disable_logging=True)
    server.get("/once")
    server.wait_log(r"RuntimeError raised after 0\.5 s\n.*\n.*\n.*in fetch")
    assert entry(server, "slowwatch: timeout")[1:4] == TRACEBACK


# ---- last words ----


def test_a_worker_that_dies_at_once_is_still_heard(uwsgi):
    """What the watchdog had no time to tell, the master tells; what it was just telling may come twice."""
    count = NOTES - 2
    server = uwsgi(app=APP, threshold=NEVER)
    assert server.get(f"/die?count={count}").status == 0
    events = told(server, "LastWord", count)
    assert server.get("/once").text == "told"  # in the next process of the worker
    told(server, "RuntimeError")
    assert count <= len(told(server, "LastWord")) <= count + 1
    assert len({event["pid"] for event in events}) == 1
    assert all(frames(event["stack"]) == HERE for event in events)
    assert all(event["request"]["uri"] == f"/die?count={count}" for event in events)
    assert lost(server) == 0


def test_last_words_of_a_slow_request_bear_its_id(uwsgi):
    count = NOTES - 2
    server = uwsgi(app=APP)
    with Gate() as go, server.stuck("/die", go=go.port, count=count).begin(0) as request:
        slow = request.event("slow_request")
        go.release()
        assert request.call.result().status == 0
    end = request.event("worker_died")
    events = request.events("timeout")
    assert count <= len(events) <= count + 1
    assert {event["id"] for event in events} == {slow["id"]} == {end["id"]}
    assert request.events()[-1]["event"] == "worker_died"


# ---- numbers ----


def stats_of(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        return json.loads(read_all(connection))


def metrics_of(server, port):
    """As the stats server says them, and the same as an application reads them."""
    shown = {name: metric["value"] for name, metric in stats_of(port)["metrics"].items() if "slowwatch" in name}
    names = ("slow_requests", "killed_requests", "timeouts", "lost_events")
    read = dict(zip([f"slowwatch.{name}" for name in names], map(int, server.get("/metrics").text.split())))
    return shown if shown == read else None


def test_uwsgi_shows_the_numbers(uwsgi):
    port = free_port()
    server = uwsgi(app=APP, enable_metrics=True, stats=f"127.0.0.1:{port}", harakiri=2, processes=2)

    def wait_for_metrics(**expected):
        expected = {f"slowwatch.{name}": value for name, value in expected.items()}
        wait_for(lambda: metrics_of(server, port) == expected, f"{expected}, not {metrics_of(server, port)}")

    wait_for_metrics(slow_requests=0, killed_requests=0, timeouts=0, lost_events=0)
    for _ in range(3):
        server.get("/once")
    with server.stuck("/stuck_recv") as request:  # slow, its limit passes, and then it is killed
        assert request.call.result().status == 0
    wait_for_metrics(slow_requests=1, killed_requests=1, timeouts=4, lost_events=0)
    server.get("/burst?count=1000")

    def all_are_counted():
        numbers = metrics_of(server, port) or {"slowwatch.lost_events": 0}
        if not numbers["slowwatch.lost_events"] == lost(server) > 0:
            return False
        return numbers["slowwatch.timeouts"] == len(server.events("timeout")) == 4 + 1000 - lost(server)

    wait_for(all_are_counted, f"all of 1000\n{server.tail()}")
