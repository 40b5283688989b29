"""A small web shop that gets stuck in the ways real ones do. It talks to a "database" on a socket (DEMO_DATABASE)."""

import os
import re
import socket
import threading
from urllib.parse import parse_qs

stock_lock = threading.Lock()


def query(statement, seconds):
    """Asks the database, which takes its time."""
    with socket.create_connection(("127.0.0.1", int(os.environ["DEMO_DATABASE"]))) as connection:
        connection.sendall(f"{seconds} {statement}\n".encode())
        return connection.recv(65536).decode()


def index(path, arguments):
    return "".join(f"http://{{host}}{url:<32} {text}\n" for url, text in PAGES_TO_TRY)


def order(path, arguments):
    number = int(path.split("/")[2])
    rows = query(f"SELECT * FROM orders WHERE id = {number}", seconds=2.5)
    return f"order {number}: {rows}\n"


def search(path, arguments):
    """An innocent pattern, and a word that it takes ages to refuse: the regex engine holds the GIL all the time."""
    words = arguments.get("q", ["a" * 26 + "!"])[0]
    return "found\n" if re.match(r"(\w+\s?)+$", words) else "nothing found\n"


def prices(path, arguments):
    total = 0
    for article in range(30_000_000):
        total += article % 7
    return f"total: {total}\n"


def inventory(path, arguments):
    """Waits for a lock that a background job holds while it waits for the database."""
    taken = threading.Event()

    def recount():
        with stock_lock:
            taken.set()
            query("UPDATE stock SET counted = now()", seconds=2.5)

    threading.Thread(target=recount, name="recount").start()
    taken.wait()
    with stock_lock:
        return "counted\n"


def payment(path, arguments):
    """The payment provider never answers: harakiri ends this one."""
    return query("PAY", seconds=3600)


PAGES = {
    "": index, "orders": order, "search": search, "prices": prices, "inventory": inventory, "payment": payment,
}  # fmt: skip
PAGES_TO_TRY = [
    ("/", "this list"),
    ("/orders/17?token=s3cr3t", "waits for a slow database"),
    ("/search", "a regular expression that holds the GIL"),
    ("/prices", "a Python loop"),
    ("/inventory", "a lock that another thread holds"),
    ("/payment", "never answers: killed by harakiri"),
]


def application(environ, start_response):
    path = environ["PATH_INFO"]
    page = PAGES.get(path.split("/")[1])
    if page is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page\n"]
    text = page(path, parse_qs(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [text.replace("{host}", environ.get("HTTP_HOST", "")).encode()]
