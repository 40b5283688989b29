"""Which requests are watched, and which time counts as theirs."""

import base64
import os
import socket
import struct
import time

import pytest
from clients import http_head, read_all, uwsgi_variables
from harness import THRESHOLD, innermost

LONG = 60


@pytest.fixture(scope="module")
def plain(module_servers):
    return module_servers(threads=2)


def slept(server, path, seconds, **kwargs):
    """A request of known length; its token."""
    with server.stuck(path, seconds=seconds).begin(arrived=0, **kwargs) as request:
        assert request.call.result().status == 200
    return request


def assert_unwatched(server, request):
    """A watched request after it went through the whole machine: what is not in the log by then never comes."""
    with server.stuck("/hold", watched=1) as later:
        later.event("slow_request")
    later.event("request_finished")
    assert request.events() == []


def test_per_path(uwsgi):
    server = uwsgi(threshold=[LONG, f"{THRESHOLD} ^/hold", "0.2 ^/sleep/short", f"{LONG} ^/sleep"], threads=2)
    with server.stuck("/hold") as request:
        assert request.event("slow_request")["threshold_ms"] == THRESHOLD * 1000
    short = slept(server, "/sleep/short", 0.8)
    assert short.event("slow_request")["threshold_ms"] == 200
    assert_unwatched(server, slept(server, "/sleep/long", 0.8))


def test_zero_exempts(uwsgi):
    server = uwsgi(threshold=[THRESHOLD, "0 ^/sleep"])
    assert_unwatched(server, slept(server, "/sleep", 1.2))


def test_the_pattern_is_matched_against_the_path_only(uwsgi):
    server = uwsgi(threshold=[THRESHOLD, "0 sleep"])
    with server.stuck("/hold", why="sleep") as request:
        request.event("slow_request")


def test_zero_in_general_leaves_the_paths_watched(uwsgi):
    server = uwsgi(threshold=["0", f"{THRESHOLD} ^/hold"])
    assert_unwatched(server, slept(server, "/sleep", 1.2))


def test_route_sets_the_threshold(uwsgi):
    server = uwsgi(threshold=LONG, route=[f"^/hold addvar:SLOWWATCH_THRESHOLD={THRESHOLD}"])
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
    assert event["threshold_ms"] == THRESHOLD * 1000
    assert event["elapsed_ms"] < 4 * THRESHOLD * 1000


def test_route_exempts(uwsgi):
    server = uwsgi(route=["^/sleep addvar:SLOWWATCH_THRESHOLD=0"])
    assert_unwatched(server, slept(server, "/sleep", 1.2))


def test_variable_of_the_web_server(uwsgi):
    """uwsgi_param SLOWWATCH_THRESHOLD in nginx comes this way. It lifts the threshold of a request, or lowers it down
    to the least one that the configuration names, since that is how often an idle worker looks."""
    server = uwsgi(threshold=[LONG, "0.2 ^/other"])
    variables = uwsgi_variables("/sleep", "seconds=0.9", SLOWWATCH_THRESHOLD=str(THRESHOLD))
    assert server.uwsgi_call(variables).status == 200
    assert server.wait_event("slow_request")["threshold_ms"] == THRESHOLD * 1000


@pytest.mark.parametrize("value", ["0", "30"])
def test_variable_of_the_web_server_exempts(plain, value):
    request = plain.stuck("/sleep")
    with request.gate:
        query = request.uri.partition("?")[2] + "&seconds=1.2"
        assert plain.uwsgi_call(uwsgi_variables("/sleep", query, SLOWWATCH_THRESHOLD=value)).status == 200
    assert_unwatched(plain, request)


@pytest.mark.parametrize("value", ["", "abc", "-1", "nan", "1e9", "9" * 5000, "0.4s"])
def test_variable_that_is_no_number_changes_nothing(plain, value):
    request = plain.stuck("/sleep")
    with request.gate:
        query = request.uri.partition("?")[2] + "&seconds=0.9"
        assert plain.uwsgi_call(uwsgi_variables("/sleep", query, SLOWWATCH_THRESHOLD=value)).status == 200
    assert request.event("slow_request")["threshold_ms"] == THRESHOLD * 1000


def test_client_cannot_switch_the_watch_off(plain):
    with plain.stuck("/hold").begin(headers={"Slowwatch-Threshold": "0", "SLOWWATCH_THRESHOLD": "0"}) as request:
        assert request.event("slow_request")["threshold_ms"] == THRESHOLD * 1000


# ---- the client's time is not the application's ----


def paced_upload(server, request_head, size, seconds):
    """Sends a body in pieces over some seconds: a slow client is what is tested, so the pace is the test's own."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(request_head)
        pieces = 20
        for _ in range(pieces):
            client.sendall(b"x" * (size // pieces))
            time.sleep(seconds / pieces)
        return read_all(client)


@pytest.mark.parametrize("buffering", [None, 4096], ids=["unbuffered", "buffered"])
def test_slow_upload_is_not_a_slow_request(uwsgi, buffering):
    server = uwsgi(post_buffering=buffering)
    request = server.stuck("/upload")
    size = 100_000
    head = http_head(request.uri, "POST", {"Content-Length": str(size)})
    with request.gate:
        answer = paced_upload(server, head, size, 3 * THRESHOLD)
    assert answer.endswith(str(size).encode())
    assert_unwatched(server, request)


def test_client_that_does_not_read_is_not_a_slow_request(plain):
    server = plain
    request = server.stuck("/stream_large", chunks=200)
    with request.gate, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", server.port))
        client.sendall(http_head(request.uri))
        assert server.get(f"/sleep?seconds={3 * THRESHOLD}").status == 200
        body = read_all(client).partition(b"\r\n\r\n")[2]
    assert len(body) == 200 * 65536
    assert_unwatched(server, request)


def test_slow_application_between_two_pieces_of_the_answer_is_served(plain):
    """Streaming that is slow by itself looks like streaming: documented, and harmless."""
    server = plain
    with server.stuck("/stream_slow") as request:
        response = request.finish()
    assert response.body == b"first\nlast\n"


def test_websocket_is_not_a_slow_request(plain):
    server = plain
    request = server.stuck("/websocket")
    head = http_head(
        request.uri,
        headers={
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)),
        },
    ).replace(b"Connection: close\r\n", b"")  # fmt: skip
    with request.gate, socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head)
        assert b"101" in client.recv(4096).split(b"\r\n")[0]
        assert server.get(f"/sleep?seconds={3 * THRESHOLD}").status == 200
        mask, text = b"\x01\x02\x03\x04", b"hello"
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
        client.sendall(struct.pack("!BB", 0x81, 0x80 | len(text)) + mask + masked)
        assert text in client.recv(4096)
    assert_unwatched(server, request)


def test_slow_after_a_slow_upload_counts_from_the_end_of_the_upload(uwsgi):
    server = uwsgi(post_buffering=4096)
    request = server.stuck("/hold")
    size = 50_000
    head = http_head(request.uri, "POST", {"Content-Length": str(size)})
    with request.gate, socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head)
        for _ in range(10):
            client.sendall(b"x" * (size // 10))
            time.sleep(3 * THRESHOLD / 10)
        request.gate.wait_arrived()
        event = request.event("slow_request")
        request.gate.release()
        assert b"200 OK" in read_all(client)
    assert event["elapsed_ms"] < 3 * THRESHOLD * 1000
    assert event["request"]["body_bytes"] == size
    assert innermost(event)[2] == "hold"
