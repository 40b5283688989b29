"""A scripted SMTP server: takes every mail and keeps it, unless the script says otherwise at some state.

    with SmtpServer() as server:
        server.on("RCPT", "550 5.1.1 no such user", match="gone@")    # always, for this address
        server.on("MAIL", "451 4.3.0 come back later", times=1)       # once
        server.on("EHLO", HANG_UP)
        server.on("MESSAGE", STALL)
        ...
        mail = server.wait_mails(1)[0]

States, in the order of a session: CONNECT (before the banner), BANNER, EHLO, HELO, STARTTLS, TLS (the handshake),
AUTH, MAIL, RCPT, DATA, MESSAGE (after the final dot), QUIT.
"""

import base64
import contextlib
import email
import email.policy
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

STALL = object()  # never answer, keep the connection
HANG_UP = object()  # close the connection instead of an answer
RESET = object()  # the same with a TCP reset
PATIENCE = 20.0
LINE_MAX = 1 << 20


class End(Exception):
    """This connection is over."""


@dataclass
class Rule:
    state: str
    action: object
    match: str
    left: float


@dataclass
class Mail:
    sender: str
    recipients: list
    raw: bytes
    tls: bool
    login: object  # (name, password) or None
    message: email.message.EmailMessage = field(init=False)

    def __post_init__(self):
        self.message = email.message_from_bytes(self.raw, policy=email.policy.default)

    @property
    def text(self):
        return self.message.get_content().replace("\r\n", "\n")


def server_context(authority, name):
    """A server side of TLS with a certificate for `name` from this trustme.CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


class SmtpServer:
    def __init__(self, tls=None, login=None, mechanisms="PLAIN LOGIN", extensions=("8BITMIME",), port=0):
        """tls: an SSLContext, then STARTTLS is offered; login: (user, password), then AUTH is required."""
        self.tls, self.login, self.mechanisms, self.extensions = tls, login, mechanisms, list(extensions)
        self.mails, self.logins, self.commands, self.server_names = [], [], [], []
        self.connections = 0
        self._rules = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        if tls:
            tls.sni_callback = lambda _sock, name, _context: self.server_names.append(name)

    # ---- for the test ----

    def __enter__(self):
        self._listener.listen(64)
        self._spawn(self._accept)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()

    def on(self, state, action, match="", times=float("inf")):
        with self._changed:
            self._rules.append(Rule(state, action, match, times))

    def forget_rules(self):
        with self._changed:
            self._rules.clear()

    def wait(self, predicate, what, patience=PATIENCE):
        """Waits until predicate() holds; it is looked at whenever something has happened here."""
        with self._changed:
            if not self._changed.wait_for(predicate, patience):
                raise AssertionError(f"no {what} within {patience} s; commands: {self.commands}")

    def wait_mails(self, count, patience=PATIENCE):
        self.wait(lambda: len(self.mails) >= count, f"{count} mails", patience)
        return self.mails

    def wait_command(self, verb, count=1):
        self.wait(lambda: self.seen(verb) >= count, f"{count} times {verb}")

    def seen(self, verb):
        return sum(command.startswith(verb) for command in self.commands)

    # ---- threads ----

    def _spawn(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], 0.1)[0]:
                continue
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self._spawn(self._serve, connection)

    def _serve(self, connection):
        session = Session(self, connection)
        self._note(lambda: setattr(self, "connections", self.connections + 1))
        try:
            session.run()
        except (End, OSError):
            pass  # over: by the script, or because the client has had enough
        finally:
            session.connection.close()

    def _note(self, change):
        with self._changed:
            change()
            self._changed.notify_all()

    def _action(self, state, line):
        with self._changed:
            for rule in self._rules:
                if rule.state == state and rule.match in line and rule.left > 0:
                    rule.left -= 1
                    return rule.action
        return None


class Session:
    def __init__(self, server, connection):
        self.server, self.connection = server, connection
        self.buffer = b""
        self.encrypted, self.login = False, None
        self.sender, self.recipients = None, []

    def run(self):
        self._scripted("CONNECT")
        self._answer("BANNER", "", "220 scripted ESMTP")
        verbs = {
            "EHLO": self._ehlo, "HELO": self._helo, "STARTTLS": self._starttls, "AUTH": self._auth,
            "MAIL": self._mail, "RCPT": self._rcpt, "DATA": self._data, "RSET": self._rset, "QUIT": self._quit,
        }  # fmt: skip
        while True:
            line = self._line()
            verb = line.split(" ")[0].upper()
            self.server._note(lambda shown=verb if verb == "AUTH" else line: self.server.commands.append(shown))
            verbs.get(verb, self._unknown)(line)

    # ---- wire ----

    def _line(self):
        while b"\r\n" not in self.buffer:
            got = self._receive()
            if not got or len(self.buffer) > LINE_MAX:
                raise End
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("utf-8", "replace")

    def _receive(self):
        while not self.server._stop.is_set():
            if self.encrypted and self.connection.pending():
                return self.connection.recv(65536)
            if select.select([self.connection], [], [], 0.1)[0]:
                return self.connection.recv(65536)
        raise End

    def _send(self, text):
        self.connection.sendall(text.encode() + b"\r\n")

    def _scripted(self, state, line=""):
        """What the script wants here: text to send, or None."""
        action = self.server._action(state, line)
        if action is STALL:
            while self._receive():  # until the client has had enough
                pass
            raise End
        if action is HANG_UP:
            raise End
        if action is RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raise End
        return action

    def _answer(self, state, line, usual):
        """True when the usual answer was given."""
        action = self._scripted(state, line)
        self._send(action or usual)
        return action is None

    # ---- commands ----

    def _ehlo(self, line):
        offers = ["scripted", *self.server.extensions]
        if self.server.tls and not self.encrypted:
            offers.append("STARTTLS")
        if self.server.login:
            offers.append("AUTH " + self.server.mechanisms)
        text = "\r\n".join(["250-" + offer for offer in offers[:-1]] + ["250 " + offers[-1]])
        self._answer("EHLO", line, text)

    def _helo(self, line):
        self._answer("HELO", line, "250 scripted")

    def _starttls(self, line):
        if not self._answer("STARTTLS", line, "220 go on"):
            return
        if self._scripted("TLS"):
            self._receive()  # not in one packet with the 220
            self._send("this is no handshake")
            raise End
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.encrypted, self.buffer = True, b""

    def _auth(self, line):
        _, mechanism, *rest = line.split(" ")
        if mechanism == "PLAIN":
            name, word = self._decode(rest[0] if rest else self._ask("")).split("\0")[1:]
        elif mechanism == "LOGIN":
            name = self._decode(rest[0] if rest else self._ask("Username:"))
            word = self._decode(self._ask("Password:"))
        else:
            return self._send("504 5.5.4 not offered")
        self.server._note(lambda: self.server.logins.append((name, word, mechanism)))
        right = (name, word) == self.server.login
        if self._answer("AUTH", line, "235 2.7.0 welcome" if right else "535 5.7.8 wrong name or password") and right:
            self.login = (name, word)

    def _ask(self, prompt):
        self._send("334 " + base64.b64encode(prompt.encode()).decode())
        return self._line()

    @staticmethod
    def _decode(word):
        return base64.b64decode(word).decode()

    def _mail(self, line):
        if self.server.login and not self.login:
            return self._send("530 5.7.0 log in first")
        if self._answer("MAIL", line, "250 2.1.0 ok"):
            self.sender, self.recipients = line[line.index("<") + 1 : line.index(">")], []

    def _rcpt(self, line):
        if self._answer("RCPT", line, "250 2.1.5 ok"):
            self.recipients.append(line[line.index("<") + 1 : line.index(">")])

    def _data(self, line):
        if not self.recipients:
            return self._send("503 5.5.1 no valid recipients")
        if not self._answer("DATA", line, "354 go on"):
            return
        lines = []
        while (text := self._line_bytes()) != b".":
            lines.append(text[1:] if text.startswith(b".") else text)
        mail = Mail(self.sender, self.recipients, b"\r\n".join(lines) + b"\r\n", self.encrypted, self.login)
        self.recipients = []
        self.server._note(lambda: self.server.commands.append("MESSAGE"))
        action = self._scripted("MESSAGE")
        if action is None:
            self.server._note(lambda: self.server.mails.append(mail))
        self._send(action or "250 2.0.0 kept")

    def _line_bytes(self):
        return self._line().encode("utf-8", "surrogateescape")

    def _rset(self, _line):
        self.sender, self.recipients = None, []
        self._send("250 2.0.0 ok")

    def _quit(self, line):
        self._answer("QUIT", line, "221 2.0.0 bye")
        raise End

    def _unknown(self, _line):
        self._send("502 5.5.2 what")


class FullBacklog:
    """A port whose connections are never accepted and hang in SYN: the queue of the listener is full."""

    def __enter__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.fillers = []
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(filler)
            if not select.select([], [filler], [], 0.3)[1]:
                return self
        raise AssertionError("the backlog does not fill up")

    def __exit__(self, *_):
        for sock in (*self.fillers, self.listener):
            sock.close()


if __name__ == "__main__":
    import sys

    with SmtpServer(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as sink:
        print(f"127.0.0.1:{sink.port}", flush=True)
        shown = 0
        while True:
            sink.wait_mails(shown + 1, patience=10**9)
            print(sink.mails[shown].message, flush=True)
            shown += 1
