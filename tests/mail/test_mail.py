"""Mail against a scripted server: real libESMTP, real sockets, every state of the protocol failing in every way."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import trustme
from smtp_server import HANG_UP, PATIENCE, RESET, STALL, FullBacklog, SmtpServer, server_context

ROOT = Path(__file__).resolve().parents[2]
DRIVER = os.environ.get("MAIL_DRIVER", str(ROOT / "build/plain/mail_driver"))
OPS, DEV = "ops@example.org", "dev@example.org"
PASSWORD = "correct horse 4711"


def event(kind="slow_request", number=1, uri="/orders/17?x=1", function="fetch", **more):
    return {
        "schema": 1, "event": kind, "id": f"{number:032x}", "time": "2024-05-06T07:08:09.123Z", "host": "web3",
        "worker": 2, "core": 0, "pid": 4711, "tid": 4711, "app": "shop",
        "request": {"method": "GET", "uri": uri, "started": "2024-05-06T07:07:59.123Z"},
        "elapsed_ms": 10000, "threshold_ms": 10000,
        "thread": {"state": "waiting", "syscall": "recvfrom", "cpu_ms": 12, "cpu_window_ms": 10000},
        "stack": {"frames": [
            {"file": "/srv/app/views.py", "line": 41, "function": "order", "source": "rows = db.fetch(q)"},
            {"file": "/srv/app/db.py", "line": 88, "function": function, "source": "return self.conn.recv(65536)"},
        ]},
        **more,
    }  # fmt: skip


class Driver:
    """The sink in its own process; its log is read as it comes."""

    def __init__(self, where, **options):
        port = getattr(where, "port", where)
        given = {"to": [OPS], "server": f"127.0.0.1:{port}", "retry_ms": 50, **options}
        arguments = []
        for key, value in given.items():
            arguments += [f"{key}={item}" for item in (value if isinstance(value, list) else [value])]
        self.process = subprocess.Popen(
            [DRIVER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.log = ""
        assert self.process.stdout.readline() == b"ready\n", self.process.stderr.read().decode()

    def send(self, *events):
        for given in events:
            self.process.stdin.write(json.dumps(given).encode() + b"\n")

    def wait_log(self, pattern, count=1):
        """The first match, once the log has `count` of them."""
        until = time.monotonic() + PATIENCE
        while len(found := list(re.finditer(pattern, self.log))) < count:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stderr], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} in the log:\n{self.log}")
            got = os.read(self.process.stderr.fileno(), 65536)
            if not got:
                raise AssertionError(f"the driver ended; its log:\n{self.log}")
            self.log += got.decode()
        return found[0]

    def drain(self, ms=2000):
        """Drains, leaves; the whole log."""
        self.process.stdin.write(f"drain {ms}\n".encode())
        assert self.process.wait(PATIENCE) == 0
        self.log += self.process.stderr.read().decode()
        return self.log

    def children(self):
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self):
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.fixture
def driver():
    drivers = []

    def make(where, **options):
        drivers.append(Driver(where, **options))
        return drivers[-1]

    yield make
    for one in drivers:
        one.close()
        print(f"---- log ----\n{one.log}")


@pytest.fixture
def smtp():
    with SmtpServer() as server:
        yield server


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


def spooled(folder):
    return sorted(file.name for file in folder.glob("*.mail"))


def until(predicate, what):
    end = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < end, f"no {what}"
        select.select([], [], [], 0.01)


# ---- what arrives ----


def test_a_mail_arrives_whole(smtp, driver):
    one = driver(smtp, to=[OPS, DEV])
    one.send(event(fingerprint="0123456789abcdef"))
    (mail,) = smtp.wait_mails(1)
    assert mail.sender == "slowwatch@web3.example"
    assert mail.recipients == [OPS, DEV]
    message = mail.message
    assert message["Subject"] == "[slowwatch] GET /orders/17 slower than 10 s on web3: db.py:88 fetch"
    assert message["From"] == "slowwatch@web3.example"
    assert message["To"] == f"{OPS}, {DEV}"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Slowwatch-Host"] == "web3"
    assert message["X-Slowwatch-Id"] == f"{1:032x}"
    assert message["X-Slowwatch-Fingerprint"] == "0123456789abcdef"
    assert message["References"] is None
    assert message.get_content_type() == "text/plain"
    assert re.fullmatch(r"<[0-9a-f-]+@web3>", message["Message-ID"])
    assert abs(message["Date"].datetime.timestamp() - time.time()) < 60
    assert '  File "/srv/app/db.py", line 88, in fetch\n    return self.conn.recv(65536)\n' in mail.text
    names = [name.lower() for name in message]
    assert len(names) == len(set(names)), names
    lines = mail.raw.split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    assert one.drain() == ""


def test_only_three_kinds_count(smtp, driver):
    one = driver(smtp)
    one.send(event("slow_request_update", 1), event("request_finished", 2), event(number=3))
    (mail,) = smtp.wait_mails(1)
    assert mail.message["X-Slowwatch-Id"] == f"{3:032x}"
    one.drain()
    assert len(smtp.mails) == 1


def test_a_client_cannot_write_headers(smtp, driver):
    one = driver(smtp)
    evil = "/a\r\nBcc: evil@example.org\r\n\r\nbody\r\n.\r\nMAIL FROM:<x@y>\n\x01"
    one.send(event(uri=evil, function="f\r\nX-Evil: 1 =?utf-8?q?B=63c?="))
    (mail,) = smtp.wait_mails(1)
    assert mail.message["Bcc"] is None
    assert mail.message["X-Evil"] is None
    assert mail.message["Subject"].startswith("[slowwatch] GET /a\\r\\nBcc: evil@example.org\\r\\n")
    assert "=?utf-8?q?B=63c?=" in mail.message["Subject"]
    one.drain()
    assert smtp.seen("MAIL") == 1
    assert len(smtp.mails) == 1


def test_text_of_the_world(smtp, driver):
    one = driver(smtp)
    one.send(event(uri="/größe/日本語", function="größe_日本語"))
    (mail,) = smtp.wait_mails(1)
    assert "/größe/日本語 slower" in mail.message["Subject"]
    assert "in größe_日本語\n" in mail.text
    assert mail.raw.isascii()


def test_follow_up_counts_and_refers_to_the_first(smtp, driver):
    one = driver(smtp, interval_ms=700)
    one.send(event(number=1), event(number=2), event("request_killed", 3, reason="harakiri"), event(number=4))
    first, second = smtp.wait_mails(2)
    assert second.message["Subject"] == first.message["Subject"]
    assert second.message["References"] == second.message["In-Reply-To"] == first.message["Message-ID"]
    assert second.message["Message-ID"] != first.message["Message-ID"]
    assert re.match(r"2 more slow requests and 1 kill of this group since the last mail at 20\S+Z\.\n", second.text)
    assert second.message["X-Slowwatch-Id"] == f"{3:032x}"
    assert "Traceback" in second.text
    one.drain()
    assert len(smtp.mails) == 2


def test_drain_sends_what_was_counted(smtp, driver):
    one = driver(smtp)
    one.send(event(number=1))
    smtp.wait_mails(1)
    one.send(event(number=2), event("request_killed", 3), event(number=4, uri="/other"))
    smtp.wait_mails(2)
    assert one.drain() == ""
    digest = smtp.mails[2]
    assert digest.message["Subject"] == "[slowwatch] digest: 2 slow requests in 1 group on web3"
    assert re.search(r"1 slow +1 killed  \[slowwatch\] GET /orders/17 ", digest.text)


def test_hourly_limit_becomes_a_digest(smtp, driver):
    one = driver(smtp, per_hour=1)
    one.send(event(number=1), event(number=2, uri="/a"), event(number=3, uri="/b"))
    smtp.wait_mails(1)
    one.drain()
    assert [mail.message["Subject"] for mail in smtp.mails][1:] == [
        "[slowwatch] digest: 2 slow requests in 2 groups on web3"
    ]


# ---- every state, every failure ----

STATES = ["CONNECT", "BANNER", "EHLO", "MAIL", "RCPT", "DATA", "MESSAGE"]
WORDS = {
    "CONNECT": "instead of a greeting", "BANNER": "instead of a greeting", "EHLO": "in answer to EHLO",
    "MAIL": "in answer to MAIL", "RCPT": "in answer to RCPT", "DATA": "in answer to DATA",
    "MESSAGE": "in answer to the message", "STARTTLS": "in answer to STARTTLS", "TLS": "in the TLS handshake",
    "AUTH": "in answer to AUTH",
}  # fmt: skip


def assert_sent_once_later(server, one):
    """After the failures of the script the mail came, once, and the log says that all is well."""
    server.wait_mails(1)
    one.wait_log("works again after 1 failed try")
    one.drain()
    assert len({mail.message["Message-ID"] for mail in server.mails}) == len(server.mails) == 1


@pytest.mark.parametrize("state", STATES)
def test_stall(smtp, driver, state):
    smtp.on(state, STALL, times=1)
    one = driver(smtp, timeout_ms=400)
    one.send(event())
    one.wait_log(rf"127\.0\.0\.1:\d+: {WORDS[state]}: still nothing after 0\.4\S* s; 1 mail waits, next try in 50 ms")
    assert_sent_once_later(smtp, one)


@pytest.mark.parametrize("how", [HANG_UP, RESET], ids=["hang up", "reset"])
@pytest.mark.parametrize("state", STATES)
def test_hang_up(smtp, driver, state, how):
    smtp.on(state, how, times=1)
    one = driver(smtp)
    one.send(event())
    one.wait_log(rf"{WORDS[state]}: connection closed; 1 mail waits")
    assert_sent_once_later(smtp, one)


@pytest.mark.parametrize("state", ["BANNER", "EHLO", "MAIL"])
def test_refusal_for_now_by_the_server(smtp, driver, state):
    smtp.on(state, "421 4.3.2 too busy", times=1)
    one = driver(smtp)
    one.send(event())
    one.wait_log(r"421 4\.3\.2 too busy; 1 mail waits, next try in 50 ms")
    assert_sent_once_later(smtp, one)


@pytest.mark.parametrize("state", ["RCPT", "DATA", "MESSAGE"])
def test_refusal_of_a_mail_for_now(smtp, driver, state):
    smtp.on(state, "451 4.7.1 greylisted", times=1)
    one = driver(smtp)
    one.send(event())
    one.wait_log(rf"not taken for now, to {OPS}: 451 4\.7\.1 greylisted; next try in 50 ms")
    smtp.wait_mails(1)
    one.drain()
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("state", ["MAIL", "RCPT", "DATA", "MESSAGE"])
def test_refusal_for_good(smtp, driver, spool, state):
    smtp.on(state, "550 5.7.1 we do not like you", times=1)
    one = driver(smtp, to=[OPS, DEV], spool=spool)
    if state == "RCPT":
        smtp.on(state, "550 5.7.1 we do not like you")
    one.send(event())
    one.wait_log(rf"refused for good, to {OPS}, {DEV}: 550 5\.7\.1 we do not like you \(\[slowwatch\] GET /orders/17")
    until(lambda: not spooled(spool), "empty spool")
    one.send(event(number=2, uri="/other"))
    if state != "RCPT":
        smtp.wait_mails(1)
    log = one.drain()
    assert log.count("refused for good") == (2 if state == "RCPT" else 1)
    assert all(mail.message["X-Slowwatch-Id"] == f"{2:032x}" for mail in smtp.mails)


def test_quit_that_hangs_delays_and_repeats_nothing(smtp, driver):
    smtp.on("QUIT", STALL)
    one = driver(smtp, timeout_ms=600)
    one.send(event(number=1), event(number=2, uri="/other"))
    smtp.wait_mails(2)
    until(lambda: not one.children(), "end of the children")
    assert one.drain() == ""
    assert len(smtp.mails) == 2


def test_nobody_listens(driver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        one = driver(port)
        one.send(event())
        one.wait_log(r"while connecting: Connection refused; 1 mail waits, next try in 50 ms")
        one.wait_log(r"while connecting: Connection refused; 1 mail waits, next try in 150 ms")
        one.wait_log(r"while connecting: Connection refused; 1 mail waits, next try in 450 ms")
    with SmtpServer(port=port) as server:
        server.wait_mails(1)
        one.wait_log("works again after [34] failed tries")


def test_unknown_host(driver):
    one = driver(0, server="no-such-host.invalid:25", timeout_ms=15000)
    one.send(event())
    one.wait_log(r"no-such-host\.invalid:25: while connecting: \S.*; 1 mail waits")


def test_connections_that_nobody_accepts(driver):
    with FullBacklog() as hole:
        one = driver(hole, timeout_ms=300)
        one.send(event())
        one.wait_log(r"while connecting: still nothing after 0\.3\S* s")


def test_a_black_hole_holds_up_nobody(smtp, driver):
    """Events are taken while a delivery hangs: 200 of them, far sooner than its deadline."""
    smtp.on("BANNER", STALL)
    one = driver(smtp, timeout_ms=60000, per_hour=1000)
    one.send(event(number=1))
    smtp.wait(lambda: smtp.connections == 1, "connection")
    began = time.monotonic()
    one.send(*(event(number=n, uri=f"/{chr(97 + n % 26)}{chr(97 + n // 26)}") for n in range(2, 202)))
    log = one.drain(300)
    assert time.monotonic() - began < 10
    assert "201 unsent mails lost" in log


def test_one_failure_is_one_line(driver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        one = driver(taken.getsockname()[1], retry_ms=400, per_hour=100)
        one.send(*(event(number=n, uri=f"/{chr(97 + n)}") for n in range(20)))
        one.wait_log("next try in 1.2 s")
    assert one.log.count("\n") == 2
    assert "20 mails wait" in one.log


def test_a_mail_that_is_not_taken_does_not_hold_up_others(smtp, driver):
    smtp.on("RCPT", "451 4.7.1 later", match=OPS, times=1)
    one = driver(smtp, retry_ms=60000)
    one.send(event(number=1))
    one.wait_log("not taken for now")
    one.send(event(number=2, uri="/other"))
    (mail,) = smtp.wait_mails(1)
    assert mail.message["X-Slowwatch-Id"] == f"{2:032x}"


# ---- recipients ----


def test_recipients_stand_for_themselves(smtp, driver):
    smtp.on("RCPT", "550 5.1.1 no such user", match="gone@")
    smtp.on("RCPT", "452 4.2.2 mailbox full", match="full@", times=1)
    one = driver(smtp, to=[OPS, "gone@example.org", "full@example.org", DEV])
    one.send(event())
    first, second = smtp.wait_mails(2)
    assert first.recipients == [OPS, DEV]
    assert second.recipients == ["full@example.org"]
    assert second.message["Message-ID"] == first.message["Message-ID"]
    log = one.drain()
    assert log.count("refused for good, to gone@example.org: 550 5.1.1 no such user") == 1
    assert log.count("not taken for now, to full@example.org: 452 4.2.2 mailbox full") == 1
    assert smtp.seen("RCPT TO:<gone@") == 1
    assert len(smtp.mails) == 2


def test_recipients_of_a_pipelining_server(driver):
    with SmtpServer(extensions=("PIPELINING", "ENHANCEDSTATUSCODES", "SIZE 1000000")) as smtp:
        smtp.on("RCPT", "550 5.1.1 no such user", match="gone@")
        one = driver(smtp, to=["gone@example.org", OPS])
        one.send(event())
        (mail,) = smtp.wait_mails(1)
        assert mail.recipients == [OPS]
        one.wait_log(r"refused for good, to gone@example\.org: 550 5\.1\.1 no such user")
        assert any(re.fullmatch(r"MAIL FROM:<\S+> SIZE=\d+", command) for command in smtp.commands)


def test_bad_addresses_are_left_out(smtp, driver):
    one = driver(smtp, to=["a b@example.org", "x@y>\r\nRCPT TO:<z@y", OPS], **{"from": "nobody"})
    one.send(event())
    (mail,) = smtp.wait_mails(1)
    assert (mail.sender, mail.recipients) == ("slowwatch@web3", [OPS])
    assert one.drain().count("no usable address") == 3


# ---- TLS ----


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    file.chmod(0o644)  # a CA file needs no special permissions
    return file


@contextlib.contextmanager
def secure(authority, name="localhost", **options):
    with SmtpServer(tls=server_context(authority, name), **options) as server:
        yield server


def named(server):
    return {"server": f"localhost:{server.port}"}


def test_required_tls_with_a_good_certificate(authority, ca_file, driver):
    with secure(authority) as server:
        one = driver(server, tls="required", ca=ca_file, **named(server))
        one.send(event())
        (mail,) = server.wait_mails(1)
        assert mail.tls
        assert server.server_names == ["localhost"]
        assert one.drain() == ""


def test_required_tls_to_an_address(authority, ca_file, driver):
    with secure(authority, "127.0.0.1") as server:
        one = driver(server, tls="required", ca=ca_file)
        one.send(event())
        (mail,) = server.wait_mails(1)
        assert mail.tls
        assert server.server_names == [None]


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ("other.example", True, "[Hh]ostname mismatch"),
        ("localhost", False, "unable to get local issuer certificate|self-signed"),
        ("localhost", None, "unable to get local issuer certificate|self-signed"),
    ],
    ids=["other name", "other authority", "authorities of the system"],
)
def test_required_tls_refuses(authority, ca_file, driver, certificate, trusted, words):
    if trusted is False:
        trustme.CA().cert_pem.write_to_path(ca_file)
    options = {} if trusted is None else {"ca": ca_file}
    with secure(authority, certificate) as server:
        one = driver(server, tls="required", **options, **named(server))
        one.send(event())
        one.wait_log(rf"in the TLS handshake: certificate refused: ({words}); 1 mail waits")
        one.wait_log("certificate refused", 2)
        assert server.mails == []
        assert server.seen("MAIL") == 0


def test_required_tls_where_there_is_none(smtp, driver):
    one = driver(smtp, tls="required")
    one.send(event())
    one.wait_log(r"the server offers no STARTTLS, and slowwatch-smtp-tls is required; 1 mail waits")
    assert smtp.mails == []
    assert smtp.seen("MAIL") == 0


def test_required_tls_where_only_helo_is_known(smtp, driver):
    smtp.on("EHLO", "502 5.5.1 what")
    one = driver(smtp, tls="required")
    one.send(event())
    one.wait_log(r"the server offers no STARTTLS, and slowwatch-smtp-tls is required; 1 mail waits")
    assert smtp.mails == []


def test_optional_tls_is_used_without_proof(authority, driver):
    with secure(authority, "other.example") as server:
        one = driver(server, tls="optional", **named(server))
        one.send(event())
        (mail,) = server.wait_mails(1)
        assert mail.tls
        assert one.drain() == ""


def test_optional_tls_where_there_is_none(smtp, driver):
    one = driver(smtp, tls="optional")
    one.send(event())
    (mail,) = smtp.wait_mails(1)
    assert not mail.tls


@pytest.mark.parametrize("tls", ["optional", "required"])
@pytest.mark.parametrize("state", ["STARTTLS", "TLS"])
@pytest.mark.parametrize(
    ("action", "words"),
    [(STALL, "still nothing"), (HANG_UP, r"\S"), (RESET, r"\S"), ("454 4.7.0 not now", r"\S")],
    ids=["stall", "hang up", "reset", "454"],
)
def test_tls_that_fails_never_becomes_clear_text(authority, ca_file, driver, tls, state, action, words):
    with secure(authority) as server:
        server.on(state, action, times=1)
        one = driver(server, tls=tls, ca=ca_file, timeout_ms=600, **named(server))
        one.send(event())
        one.wait_log(rf"{WORDS[state]}: {words}.*; 1 mail waits, next try in 50 ms")
        (mail,) = server.wait_mails(1)
        assert mail.tls


def test_answers_smuggled_in_before_tls(authority, ca_file, driver):
    with secure(authority) as server:
        server.on("STARTTLS", "220 go on\r\n250 smuggled", times=1)
        one = driver(server, tls="required", ca=ca_file, **named(server))
        one.send(event())
        one.wait_log("in answer to STARTTLS: more than an answer")
        server.wait_mails(1)


def test_authorities_that_cannot_be_read(authority, driver, tmp_path):
    with secure(authority) as server:
        one = driver(server, tls="optional", ca=tmp_path / "none.pem", **named(server))
        one.send(event())
        one.wait_log(rf"slowwatch-smtp-ca {tmp_path}/none\.pem: .*; 1 mail waits")
        assert server.connections == 0


# ---- AUTH ----


@pytest.fixture
def login(tmp_path):
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\r\nsecond line\n")
    file.chmod(0o600)
    return {"user": "ops", "password_file": file}


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "PLAIN LOGIN", "LOGIN PLAIN", "X-UNKNOWN LOGIN"])
def test_login(authority, ca_file, driver, login, mechanisms):
    with secure(authority, login=("ops", PASSWORD), mechanisms=mechanisms) as server:
        one = driver(server, tls="required", ca=ca_file, **login, **named(server))
        one.send(event())
        (mail,) = server.wait_mails(1)
        assert mail.login == ("ops", PASSWORD)
        assert mail.tls
        assert PASSWORD not in one.drain()


def test_login_in_clear_when_tls_is_off(driver, login):
    with SmtpServer(login=("ops", PASSWORD)) as server:
        one = driver(server, tls="off", **login)
        one.send(event())
        (mail,) = server.wait_mails(1)
        assert mail.login == ("ops", PASSWORD)


def test_no_password_without_tls(driver, login):
    with SmtpServer(login=("ops", PASSWORD)) as server:
        one = driver(server, tls="optional", **login)
        one.send(event())
        one.wait_log(r"the password was not sent: the server offers no STARTTLS; 1 mail waits")
        assert server.seen("AUTH") == 0
        assert server.logins == []


def test_no_password_to_a_server_without_proof(authority, driver, login):
    with secure(authority, login=("ops", PASSWORD)) as server:
        one = driver(server, tls="optional", **login, **named(server))
        one.send(event())
        one.wait_log(r"the password was not sent: the server has not proved who it is: \w.*; 1 mail waits")
        assert server.logins == []


def test_password_under_optional_tls_with_proof(authority, ca_file, driver, login):
    with secure(authority, login=("ops", PASSWORD)) as server:
        one = driver(server, tls="optional", ca=ca_file, **login, **named(server))
        one.send(event())
        assert server.wait_mails(1)[0].login


def test_login_refused_keeps_the_mail_and_does_not_ask_again(driver, login, spool):
    with SmtpServer(login=("ops", "another")) as server:
        one = driver(server, tls="off", spool=spool, **login)
        one.send(event())
        one.wait_log(r"in answer to AUTH: 535 5\.7\.8 wrong name or password; 1 mail waits, next try in 15 min")
        asked = len(server.logins)
        one.send(event(number=2, uri="/other"))
        until(lambda: len(spooled(spool)) == 2, "second mail in the spool")
        log = one.drain()
        assert "2 unsent mails kept in the spool" in log
        assert PASSWORD not in log
        assert len(server.logins) == asked
        assert server.seen("MAIL") == 0


def test_login_that_fails_for_now(driver, login):
    with SmtpServer(login=("ops", PASSWORD), mechanisms="PLAIN") as server:
        server.on("AUTH", "454 4.7.0 directory is down", times=1)
        one = driver(server, tls="off", **login)
        one.send(event())
        one.wait_log(r"in answer to AUTH: 454 4\.7\.0 directory is down; 1 mail waits, next try in 50 ms")
        assert_sent_once_later(server, one)


@pytest.mark.parametrize(("action", "words"), [(STALL, "still nothing"), (HANG_UP, "connection closed")])
def test_login_that_gets_no_answer(driver, login, action, words):
    with SmtpServer(login=("ops", PASSWORD)) as server:
        server.on("AUTH", action, times=1)
        one = driver(server, tls="off", timeout_ms=400, **login)
        one.send(event())
        one.wait_log(f"in answer to AUTH: {words}")
        assert_sent_once_later(server, one)


def test_login_where_none_is_offered(smtp, driver, login):
    one = driver(smtp, tls="off", **login)
    one.send(event())
    one.wait_log(r"the server offers no AUTH that can be used")
    assert smtp.mails == []


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), ("\n", "the first line is empty"), ("x" * 300, "the first line is too long")],
    ids=["missing", "empty", "long"],
)
def test_password_file_that_cannot_be_used(driver, login, content, words):
    if content is None:
        login["password_file"].unlink()
    else:
        login["password_file"].write_text(content)
    with SmtpServer(login=("ops", PASSWORD)) as server:
        one = driver(server, tls="off", **login)
        one.send(event())
        one.wait_log(rf"slowwatch-smtp-password-file {login['password_file']}: {words}.*; 1 mail waits")
        login["password_file"].write_text(PASSWORD)
        server.wait_mails(1)


# ---- spool ----


def test_spool_holds_a_mail_only_while_it_waits(smtp, driver, spool):
    smtp.on("MESSAGE", STALL, times=1)
    one = driver(smtp, spool=spool, timeout_ms=60000)
    one.send(event())
    smtp.wait_command("MESSAGE")
    (name,) = spooled(spool)
    record = json.loads((spool / name).read_text())
    assert record["to"] == [OPS]
    assert record["event"]["id"] == f"{1:032x}"
    assert (spool / name).stat().st_mode & 0o777 == 0o600
    os.kill(int(one.children()[0]), signal.SIGKILL)
    one.wait_log(r"in answer to the message: the delivery process died of signal 9; 1 mail waits")
    smtp.wait_mails(1)
    until(lambda: not spooled(spool), "empty spool")


def test_mail_survives_a_killed_reporter(smtp, driver, spool):
    smtp.on("MAIL", STALL, times=1)
    one = driver(smtp, to=[OPS, DEV], spool=spool, timeout_ms=60000)
    one.send(event(number=1), event(number=2, uri="/other"))
    smtp.wait_command("MAIL")
    until(lambda: len(spooled(spool)) == 2, "two mails in the spool")
    (child,) = one.children()
    one.kill()
    until(lambda: not Path(f"/proc/{child}").exists(), "end of the child")
    two = driver(smtp, spool=spool)
    smtp.wait_mails(2)
    assert [mail.message["X-Slowwatch-Id"] for mail in smtp.mails] == [f"{1:032x}", f"{2:032x}"]
    assert all(mail.recipients == [OPS, DEV] for mail in smtp.mails)
    assert "2 unsent mails found in the spool" in two.drain()
    assert spooled(spool) == []


def test_message_id_is_the_same_after_a_restart(smtp, driver, spool):
    smtp.on("RCPT", "452 4.2.2 full", match=DEV)
    one = driver(smtp, to=[OPS, DEV], spool=spool, retry_ms=60000)
    one.send(event())
    one.wait_log("not taken for now")
    log = one.drain()
    assert "1 unsent mail kept in the spool" in log
    smtp.forget_rules()
    two = driver(smtp, to=[OPS, DEV], spool=spool)
    first, second = smtp.wait_mails(2)
    assert (first.recipients, second.recipients) == ([OPS], [DEV])
    assert first.message["Message-ID"] == second.message["Message-ID"]
    two.drain()
    assert len(smtp.mails) == 2


def test_drain_keeps_what_cannot_be_sent(smtp, driver, spool):
    smtp.on("BANNER", STALL)
    one = driver(smtp, spool=spool, timeout_ms=60000)
    one.send(event(number=1), event(number=2))
    smtp.wait(lambda: smtp.connections == 1, "connection")
    log = one.drain(300)
    assert "2 unsent mails kept in the spool" in log  # the mail, and the digest of what was counted
    assert len(spooled(spool)) == 2
    smtp.forget_rules()
    driver(smtp, spool=spool)
    first, second = smtp.wait_mails(2)
    assert first.message["X-Slowwatch-Id"] == f"{1:032x}"
    assert "digest" in second.message["Subject"]


def test_drain_tries_once_more_in_spite_of_a_pause(driver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        one = driver(port, retry_ms=600000)
        one.send(event())
        one.wait_log("next try in 10 min")
    with SmtpServer(port=port) as server:
        log = one.drain()
        assert len(server.mails) == 1
        assert "works again" in log


def test_drain_without_a_spool_counts_the_lost(driver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        one = driver(taken.getsockname()[1], retry_ms=60000)
        one.send(event(number=1), event(number=2, uri="/other"))
        one.wait_log("1 mails? waits?|2 mails wait")
        assert "2 unsent mails lost" in one.drain(500)


def test_spool_that_is_not_there(smtp, driver, tmp_path):
    one = driver(smtp, spool=tmp_path / "none")
    one.wait_log(rf"spool {tmp_path}/none: No such file or directory; unsent mail is in memory only")
    one.send(event())
    smtp.wait_mails(1)
    assert one.drain().count("\n") == 1


def test_spool_held_by_an_older_reporter(smtp, driver, spool):
    smtp.on("BANNER", STALL, times=1)
    old = driver(smtp, spool=spool, timeout_ms=60000)
    old.send(event(number=1))
    until(lambda: spooled(spool), "mail in the spool")
    smtp.wait(lambda: smtp.connections == 1, "connection")
    new = driver(smtp, spool=spool)
    new.wait_log("in use by another process; unsent mail is in memory only")
    new.send(event(number=2, uri="/other"))
    assert smtp.wait_mails(1)[0].message["X-Slowwatch-Id"] == f"{2:032x}"
    old.drain(100)
    assert smtp.wait_mails(2)[1].message["X-Slowwatch-Id"] == f"{1:032x}"
    new.wait_log("can be used again")
    until(lambda: not spooled(spool), "empty spool")


def test_senseless_spool_files_are_set_aside(smtp, driver, spool):
    (spool / "0001-aa.mail").write_text("no json")
    (spool / "0002-bb.mail").write_text('{"record":1}')
    (spool / "notes.txt").write_text("not ours")
    one = driver(smtp, spool=spool)
    one.wait_log("2 files in the spool .* cannot be read, renamed to")
    assert sorted(file.name for file in spool.iterdir()) == ["0001-aa.bad", "0002-bb.bad", "notes.txt"]


# ---- the delivery process ----


def test_what_the_delivery_process_is(smtp, driver, spool):
    smtp.on("EHLO", STALL)
    one = driver(smtp, spool=spool, timeout_ms=60000)
    one.send(event())
    smtp.wait_command("EHLO")
    (child,) = one.children()
    proc = Path(f"/proc/{child}")
    assert (proc / "comm").read_text() == "slowwatch mail\n"
    descriptors = {int(entry.name): os.readlink(entry) for entry in (proc / "fd").iterdir()}
    assert [descriptors[fd] for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert descriptors[3].startswith("pipe:")
    assert sorted(link.split(":")[0] for fd, link in descriptors.items() if fd > 3) == ["socket"]
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    # Of the signals that have names: make leaves those of the C library ignored.
    assert int(status["SigCgt"], 16) & 0x7FFFFFFF == 0
    assert int(status["SigIgn"], 16) & 0x7FFFFFFF == 1 << (signal.SIGPIPE - 1)
    one.kill()
    until(lambda: not proc.exists(), "end of the child")
