"""For async loops: requests that leave their thread to others while they wait."""

import socket
import time
from urllib.parse import parse_qs

import uwsgi

WAIT_SECONDS = 60


def wait(gate):
    with socket.create_connection(("127.0.0.1", gate)) as connection:
        uwsgi.wait_fd_read(connection.fileno(), WAIT_SECONDS)
        uwsgi.suspend()
        connection.recv(1)


def spin(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def application(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/wait":
        wait(int(query["gate"][0]))
    elif environ["PATH_INFO"] == "/spin":
        spin(float(query["seconds"][0]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done\n"]
