"""Clients that keep nothing hidden: raw HTTP and raw uwsgi protocol over sockets, and the gate a request waits at."""

import collections
import contextlib
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

PATIENCE = 30.0  # seconds until a test gives up waiting for something that must happen
PORTS_HELD = 64  # more than the servers of one test need


def wait_for(condition, what, timeout=PATIENCE, interval=0.02):
    """Calls condition until it answers something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(interval)


_held_ports = collections.deque()


def free_port():
    """Nobody else is given this port while its server starts: it stays bound here for a while without being listened
    at, which does not hinder a server that sets SO_REUSEADDR, as all of ours do."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held_ports.append(holder)
    if len(_held_ports) > PORTS_HELD:
        _held_ports.popleft().close()
    return holder.getsockname()[1]


# ---- HTTP ----


@dataclass
class Response:
    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self):
        return self.body.decode()


def to_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def http_head(path, method="GET", headers=()):
    """A request up to its empty line; bytes go out as they are, so that a test can send what no library would."""
    lines = [to_bytes(method) + b" " + to_bytes(path) + b" HTTP/1.1", b"Connection: close"]
    pairs = dict(headers)
    if not any(name.lower() == "host" for name in pairs):
        lines.append(b"Host: test.example")
    lines += [to_bytes(name) + b": " + to_bytes(value) for name, value in pairs.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def parse_response(data):
    """What came until the end of the connection. An empty answer (the worker died) is status 0."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) < 2:
        return Response(0)
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    return Response(int(words[1]), headers, body)


def read_all(connection):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def http(port, path, method="GET", headers=(), body=b"", timeout=2 * PATIENCE):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        headers = dict(headers)
        if body:
            headers["Content-Length"] = str(len(body))
        connection.sendall(http_head(path, method, headers) + body)
        return parse_response(read_all(connection))


# ---- uwsgi protocol ----


def uwsgi_packet(variables):
    """Any bytes as any variable: what a hostile client behind a careless web server can bring about."""
    packed = b""
    for name, value in variables.items():
        name, value = to_bytes(name), to_bytes(value)
        packed += struct.pack("<H", len(name)) + name + struct.pack("<H", len(value)) + value
    return struct.pack("<BHB", 0, len(packed), 0) + packed


def uwsgi_variables(path, query="", uri=None, **more):
    path, query = to_bytes(path), to_bytes(query)
    return {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": uri if uri is not None else path + (b"?" + query if query else b""),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "test.example",
        "SERVER_PORT": "80",
        "HTTP_HOST": "test.example",
        "REMOTE_ADDR": "192.0.2.7",
        **more,
    }


def uwsgi_call(port, variables, timeout=2 * PATIENCE):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(uwsgi_packet(variables))
        return parse_response(read_all(connection))


# ---- in the background ----


class Background:
    """A call under way in a thread; result() returns what it returned or raises what it raised."""

    def __init__(self, function, *args, **kwargs):
        executor = ThreadPoolExecutor(max_workers=1)
        self._future = executor.submit(function, *args, **kwargs)
        executor.shutdown(wait=False)

    @property
    def done(self):
        return self._future.done()

    def result(self, timeout=PATIENCE):
        return self._future.result(timeout)


class Gate:
    """Where requests wait (gate.hold in the application connects here) until release()."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._listener.getsockname()[1]
        self._waiting = []
        self._arrived = 0
        self._open = False
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                if self._open:
                    self._let_go(connection)
                else:
                    self._waiting.append(connection)
                self._arrived += 1
                self._changed.notify_all()

    @staticmethod
    def _let_go(connection):
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"x")

    def wait_arrived(self, count=1, timeout=PATIENCE):
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, timeout):
                raise AssertionError(f"{self._arrived} of {count} requests came to the gate in {timeout} s")

    def release(self):
        with self._changed:
            self._open = True
            waiting, self._waiting = self._waiting, []
        for connection in waiting:
            self._let_go(connection)

    def close(self):
        self.release()
        # close() alone would leave the accept() of the other thread waiting, and with it the port open
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
