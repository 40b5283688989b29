"""The text log: Python's own traceback format, and nothing a client sends can forge a line of it."""

import re

import pytest
from clients import Background, uwsgi_variables
from harness import APPS, THRESHOLD, line_of

HEADLINE = (
    r"slowwatch: slow request (?P<id>[0-9a-f]{32}): GET (?P<uri>\S+) on worker 1 core 0 \(pid (?P<pid>\d+)\): "
    r"(?P<elapsed>\d+ ms|\d+\.\d s) so far(?P<harakiri>, harakiri in \d+ s)?$"
)
FORGERY = "slowwatch: forged"


@pytest.fixture
def server(uwsgi):
    return uwsgi(log="text", harakiri=30)


def entry(server, since=0):
    """The lines of the first slow request entry after `since`, without the log's own date."""
    server.wait_log(HEADLINE, since=since)
    server.wait_log(r"in hold$", since=since)
    lines = server.lines()[since:]
    start = next(number for number, line in enumerate(lines) if re.search(HEADLINE, line))
    return lines[start:]


def test_entry_is_as_documented(server):
    server.wait_idle_look()
    with server.stuck("/hold") as request:
        server.wait_log(HEADLINE)
        server.wait_log(r"in hold$")
        lines = entry(server)
        request.finish()
    headline = re.search(HEADLINE, lines[0])
    assert headline["uri"] == request.uri
    assert int(headline["pid"]) == server.workers()[1]
    assert headline["harakiri"]
    assert re.match(
        rf"waiting in recvfrom\(fd \d+ → 127\.0\.0\.1:{request.gate.port}\), GIL released, \d+ ms of CPU used", lines[1]
    )
    assert lines[2:9] == [
        "Traceback (most recent call last):",
        f'  File "{APPS}/stuck.py", line {line_of("stuck.py", "application")}, in application',
        "    answer = page(Request(environ))  # line: application",
        f'  File "{APPS}/stuck.py", line {line_of("stuck.py", "hold_")}, in hold_',
        "    return json.dumps(hold(request.gate))  # line: hold_",
        f'  File "{APPS}/gate.py", line {line_of("gate.py", "hold")}, in hold',
        "    return (connection.recv(1), stack_of(frame))[1]  # line: hold",
    ]


def test_end_is_written_with_status_and_timeline(server):
    with server.stuck("/hold") as request:
        request_id = server.wait_log(HEADLINE)["id"]
        server.wait_log(rf"slowwatch: still running {request_id}: .* so far")
        request.finish()
    server.wait_log(rf"slowwatch: slow request finished {request_id}: GET \S+ on worker 1 .*: took .*, status 200$")
    server.wait_log(rf"^\d+ of \d+ looks in gate\.py:{line_of('gate.py', 'hold')} hold$")


HOSTILE = {
    "line feed": f"/hold?a\n{FORGERY}".encode(),
    "carriage return": f"/hold?a\r\n{FORGERY}\r\nTraceback (most recent call last):".encode(),
    "escape sequence": b"/hold?\x1b[2J\x1b]0;title\x07",
    "invalid UTF-8": b"/hold?\xff\xfe\xc3(\x80",
    "line separators": f"/hold?a\u2028{FORGERY}\u2029{FORGERY}\u0085{FORGERY}".encode(),
    "text reversed": "/hold?a\u202egnp.exe\u2066".encode(),
    "zero": b"/hold?a\x00b",
    "very long": b"/hold?" + b"A" * 60000,
}


@pytest.fixture(scope="module", params=["text", "json"])
def quiet_server(request, module_servers):
    # uWSGI's own request log prints the URI as it is: it is off, so that every line here is ours to answer for.
    return module_servers(log=request.param, disable_logging=True)


@pytest.mark.parametrize("uri", HOSTILE.values(), ids=HOSTILE)
def test_uri_cannot_forge_lines(quiet_server, uri):
    server = quiet_server
    mark = server.mark()
    request = server.stuck("/hold")
    query = request.uri.partition("?")[2]
    with request.gate:
        call = Background(
            server.uwsgi_call, uwsgi_variables("/hold", query, uri=uri, HTTP_USER_AGENT=uri[:2000], HTTP_HOST=uri[:500])
        )
        server.wait_log(r'slow request [0-9a-f]|"slow_request"', since=mark)
        request.gate.release()
        assert call.result().status == 200
        server.wait_log(r"finished", since=mark)
    for line in server.lines()[mark:]:
        assert not re.match(FORGERY, line)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u0085\u2028\u2029\u202e\u2066]", line), line[:200]
    server.log_file.read_bytes().decode("utf-8")
    for event in server.events("slow_request", since=mark):
        assert event["stack"]["frames"]
        assert event["request"]["uri"]


def test_requests_are_served_while_an_entry_is_written(server):
    with server.stuck("/hold") as request:
        server.wait_log(HEADLINE)
        request.finish()
    assert server.get("/ping").status == 200


def test_log_off_writes_no_entries(uwsgi):
    server = uwsgi(log="off", processes=2)
    with server.stuck("/hold") as request:
        # There is no event to wait for; three thresholds of another, watched for by the clock of the request itself.
        assert server.get(f"/sleep?seconds={3 * THRESHOLD}").status == 200
        request.finish()
    assert "slow request" not in server.log()
    assert "Traceback" not in server.log()
