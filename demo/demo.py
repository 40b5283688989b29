"""Shows slowwatch at work: an application that gets stuck, and what its log and its mailbox say about it.

`make demo` runs it. KEEP=1 make demo leaves everything running, to try with your own browser.
It ends with 0 only if every piece of evidence that it promises was there.
"""

import contextlib
import email
import email.policy
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from aiosmtpd.controller import Controller

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("SLOWWATCH_BUILD", HERE.parent / "build"))
UWSGI = shutil.which(os.environ.get("UWSGI", "uwsgi")) or sys.exit("demo: no uwsgi found; UWSGI= names it")
PYTHON_PLUGIN = os.environ.get("UWSGI_PYTHON_PLUGIN", "python3")

THRESHOLD, HARAKIRI = 1, 4  # seconds
PATIENCE = 30  # seconds until a promise counts as broken
# The lines that an entry of the log consists of after its first one
ENTRY = re.compile(r"waiting|running|stopped|GIL |Traceback|  |\d+ of \d+ looks|request: |Thread 0x|no Python|\(")


class Broken(Exception):
    """A promise was not kept."""


# ---- the world around the application ----


class Database(socketserver.ThreadingTCPServer):
    """Answers each query after the number of seconds that it asks for."""

    daemon_threads = allow_reuse_address = True
    block_on_close = False

    class RequestHandlerClass(socketserver.StreamRequestHandler):
        def handle(self):
            seconds, _, statement = self.rfile.readline().decode().strip().partition(" ")
            self.server.closing.wait(float(seconds))
            with contextlib.suppress(OSError):
                self.wfile.write(f"1 row ({statement})".encode())

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        self.port, self.closing = self.server_address[1], threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.closing.set()
        self.shutdown()
        self.server_close()


class Mailbox:
    """A mail server that keeps what it is given."""

    def __init__(self):
        self.mails, self.port = [], free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(email.message_from_bytes(envelope.original_content, policy=email.policy.default))
        return "250 kept"

    def close(self):
        self.controller.stop()


class Server:
    """uWSGI with the application and slowwatch."""

    def __init__(self, folder, database, mailbox):
        self.port, self.log_file = free_port(), folder / "uwsgi.log"
        plugins = ",".join(name for name in ("slowwatch", PYTHON_PLUGIN) if name)
        options = {
            "plugin-dir": BUILD, "plugins": plugins, "http-socket": f"127.0.0.1:{self.port}", "chdir": HERE,
            "module": "app:application", "need-app": "true", "master": "true", "processes": 4, "enable-threads": "true",
            "harakiri": HARAKIRI, "disable-logging": "true", "worker-reload-mercy": 2,
            "slowwatch-threshold": THRESHOLD, "slowwatch-mail-to": "you@example.org",
            "slowwatch-mail-from": "slowwatch@example.org", "slowwatch-smtp": f"127.0.0.1:{mailbox.port}",
        }  # fmt: skip
        ini = folder / "uwsgi.ini"
        ini.write_text("[uwsgi]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [UWSGI, "--ini", str(ini)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "DEMO_DATABASE": str(database.port)},
            )

    def log(self):
        return self.log_file.read_text("utf-8", "replace")

    def entry(self, pattern):
        """The log entry whose first line matches, or None."""
        lines = self.log().splitlines()
        for number, line in enumerate(lines):
            if re.search(pattern, line):
                end = number + 1
                while end < len(lines) and ENTRY.match(lines[end]):
                    end += 1
                return "\n".join(lines[number:end])
        return None

    def get(self, path):
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := client.recv(65536):
                    answer += piece
            return answer.decode()

    def in_background(self, path):
        threading.Thread(target=self.get, args=(path,), daemon=True).start()

    def close(self):
        """Asks all processes to leave, and makes sure that they did: they are a process group of their own."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(condition, promise):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise Broken(promise)


# ---- what is shown ----


def say(text):
    print("\n" + text)


def show(text):
    print("\n".join("    " + line for line in text.splitlines()))


def title(text):
    print(f"\n---- {text} " + "-" * max(4, 110 - len(text)))


def promise(kept, text):
    if not kept:
        raise Broken(text)
    print(f"    ok: {text}")


def start(server):
    def ready():
        if server.process.poll() is not None:
            raise Broken("uWSGI starts; its log says:\n" + server.log())
        return re.search(r"spawned uWSGI worker 4", server.log())

    wait_for(ready, "uWSGI starts")
    said = [line for line in server.log().splitlines() if line.startswith("slowwatch: ")]
    promise(said, "slowwatch says at the start what it watches")
    show("\n".join(said))


def slow_database(server):
    title("a request waits for a database")
    say(f"GET /orders/17?token=s3cr3t takes 2.5 seconds. After {THRESHOLD} second, while it still waits, the log says:")
    server.in_background("/orders/17?token=s3cr3t")
    entry = wait_for(lambda: server.entry("slow request [0-9a-f]+: GET /orders/17"), "a report while it still runs")
    show(entry)
    promise('app.py", line' in entry and "in query" in entry, "the traceback ends in the line that waits")
    promise("recv" in entry and f"127.0.0.1:{os.environ['DEMO_DATABASE']}" in entry, "the address it waits for")
    promise("GIL released" in entry, "other threads could run meanwhile")
    promise("s3cr3t" not in server.log(), "the secret in its query is not in the log")
    finished = wait_for(lambda: server.entry("slow request finished .*: GET /orders/17"), "its end is reported")
    say("When it is over, one more entry says how long it took, how it ended, and where the time went:")
    show(finished)
    promise("status 200" in finished, "it was served as if nobody had looked")


def regular_expression(server):
    title("C code that holds the GIL")
    say("GET /search runs a regular expression that backtracks. No Python code can look at it: it would need the GIL.")
    server.in_background("/search")
    entry = wait_for(lambda: server.entry("slow request [0-9a-f]+: GET /search"), "a report of the regex")
    show(entry)
    promise("GIL held" in entry, "it holds the GIL, and was seen nevertheless")
    promise("in search" in entry, "the line with the expression")


def lock(server):
    title("a lock that another thread holds")
    say("GET /inventory waits for a lock. The report shows the other threads too, so that one sees who has it:")
    server.in_background("/inventory")
    entry = wait_for(lambda: server.entry("slow request [0-9a-f]+: GET /inventory"), "a report of the lock")
    show(entry)
    promise("in inventory" in entry and "futex" in entry, "it waits for the lock (a futex)")
    promise("recount" in entry.partition("Thread 0x")[2], "the thread that holds it, in recount()")


def killed(server):
    title("a request that harakiri kills")
    say(f"GET /payment never returns; harakiri is {HARAKIRI} seconds. uWSGI alone would say only that a worker died.")
    server.in_background("/payment")
    entry = wait_for(lambda: server.entry("slow request [0-9a-f]+: GET /payment"), "a report before the kill")
    promise("harakiri in" in entry, "a report came before the kill, and says when that will be")
    entry = wait_for(lambda: server.entry("slow request killed .*: GET /payment"), "a report of the kill")
    say("The last picture, taken when the kill came:")
    show(entry)
    promise("in payment" in entry, "it shows where the request stood when it was killed")
    promise(server.get("/").startswith("HTTP/1.1 200"), "the server serves on")


def mail(server, mailbox):
    title("the mailbox")
    say("One mail per kind of slow request came as well; further ones of the same kind within 5 minutes are counted.")
    found = wait_for(
        lambda: next((mail for mail in mailbox.mails if "/orders/17" in str(mail["Subject"])), None), "a mail"
    )
    show("\n".join(f"{name}: {value}" for name, value in found.items()))
    print()
    body = found.get_content().replace("\r\n", "\n")
    show(body)
    promise("Traceback (most recent call last)" in body, "the mail holds the traceback")
    promise(str(found["X-Slowwatch-Id"]) in server.log(), "its id is that of the log entry")
    promise("s3cr3t" not in found.as_string() + body, "the secret is not in it")


def keep(server, mailbox):
    title("try it yourself")
    show(server.get("/").partition("\r\n\r\n")[2])
    say(f"The log is {server.log_file}. What is new in it comes here; Ctrl-C ends everything.")
    shown, mails = len(server.log()), len(mailbox.mails)
    while True:
        time.sleep(0.5)
        text = server.log()
        if new := text[shown : text.rfind("\n") + 1]:
            print(new, end="", flush=True)
            shown += len(new)
        for mail_ in mailbox.mails[mails:]:
            print(f"[a mail came] {mail_['Subject']}", flush=True)
        mails = len(mailbox.mails)


def main():
    # The demonstration can be ended in any way: its processes go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slowwatch-demo-")))
        database = stack.enter_context(contextlib.closing(Database()))
        os.environ["DEMO_DATABASE"] = str(database.port)
        mailbox = stack.enter_context(contextlib.closing(Mailbox()))
        title("an application that gets stuck, and uWSGI with slowwatch")
        server = stack.enter_context(contextlib.closing(Server(folder, database, mailbox)))
        try:
            start(server)
            slow_database(server)
            regular_expression(server)
            lock(server)
            killed(server)
            mail(server, mailbox)
        except Broken as broken:
            print(f"\nNOT SEEN: {broken}\n\nThe log of uWSGI:\n{server.log()}", file=sys.stderr)
            return 1
        say("All of it was there. In your own uwsgi.ini one line is enough: plugins = slowwatch,python3")
        if os.environ.get("KEEP", "") not in ("", "0"):
            with contextlib.suppress(KeyboardInterrupt):
                keep(server, mailbox)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
