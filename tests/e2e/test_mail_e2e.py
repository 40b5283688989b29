"""A mail arrives: with the traceback, in good form, once per group, after every obstacle, and without secrets."""

import os
import re
import smtplib
import stat

import pytest
import trustme
from clients import Background, free_port, uwsgi_variables, wait_for
from harness import APPS, line_of
from smtp_sink import SmtpSink, server_context, text_of

PASSWORD = "correct-horse-4711"


def mailing(smtp, **more):
    return {"mail_to": ["ops@example.org", "dev@example.org"], "smtp": f"127.0.0.1:{smtp.port}", **more}


def slow_request(server, path="/hold"):
    with server.stuck(path) as request:
        request.event("slow_request")
        request.finish()
    assert server.get("/ping").status == 200  # so the only worker is done with it
    return request


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


def spooled(folder):
    """Whole mails: one that is being written has another name."""
    return [file.name for file in folder.glob("*.mail")]


def test_mail_with_traceback(uwsgi, smtp):
    server = uwsgi(**mailing(smtp, mail_from="slowwatch@example.org"))
    with server.stuck("/hold") as request:
        event = request.event("slow_request")
        (mail,) = smtp.wait_mails(1)
        request.finish()
    host = os.uname().nodename
    line = line_of("gate.py", "hold")
    assert mail["Subject"] == f"[slowwatch] GET /hold slower than 400 ms on {host}: gate.py:{line} hold"
    assert mail["From"] == "slowwatch@example.org"
    assert mail["To"] == "ops@example.org, dev@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Slowwatch-Id"] == event["id"]
    assert mail["X-Slowwatch-Host"] == host
    assert mail["X-Slowwatch-Fingerprint"] == event["fingerprint"]
    assert re.fullmatch(r"<[^<>@\s]+@[^<>@\s]+>", mail["Message-ID"])
    assert mail["Date"]
    assert mail["References"] is None
    body = text_of(mail)
    assert "Traceback (most recent call last):\n" in body
    assert f'  File "{APPS}/gate.py", line {line}, in hold\n    return (connection.recv(1)' in body
    assert f"127.0.0.1:{request.gate.port}" in body
    (envelope,) = smtp.envelopes
    assert sorted(envelope.rcpt_tos) == ["dev@example.org", "ops@example.org"]
    assert envelope.mail_from == "slowwatch@example.org"
    assert max(len(part) for part in envelope.original_content.split(b"\r\n")) <= 998
    assert b"\n" not in envelope.original_content.replace(b"\r\n", b"")


def test_non_ascii_frames_in_a_mail(uwsgi, smtp):
    server = uwsgi(**mailing(smtp))
    with server.stuck("/shape", name="größe_日本語") as request:
        request.event("slow_request")
        (mail,) = smtp.wait_mails(1)
    assert "in größe_日本語\n    rückgabe = hold(port)  # naïve Zeile: Ωμέγα\n" in text_of(mail)


def test_a_storm_is_one_mail_and_a_count(uwsgi, smtp):
    server = uwsgi(**mailing(smtp, threads=50, mail_interval=4))
    requests = [server.stuck("/hold").begin() for _ in range(50)]
    for request in requests:
        request.event("slow_request")
    first = smtp.wait_mails(1)[0]
    for request in requests:
        assert request.finish().status == 200
        request.gate.close()
    second = smtp.wait_mails(2)[1]
    assert second["Subject"] == first["Subject"]
    assert first["Message-ID"] in second["References"]
    assert re.search(r"\b49\b", text_of(second))
    for request in requests:
        request.event("request_finished")
    assert len(smtp.mails) == 2


def test_other_places_are_other_groups(uwsgi, smtp):
    server = uwsgi(**mailing(smtp))
    slow_request(server, "/hold")
    with server.stuck("/sleep", seconds=0.8).begin(arrived=0) as request:
        request.event("slow_request")
    subjects = {mail["Subject"] for mail in smtp.wait_mails(2)}
    assert len(subjects) == 2


def test_killed_request_is_in_a_mail(uwsgi, smtp):
    server = uwsgi(**mailing(smtp, harakiri=2, mail_interval=1))
    with server.stuck("/hold") as request:
        request.event("request_killed")
        wait_for(lambda: any("harakiri" in text_of(mail) for mail in smtp.mails), "a mail on the kill")


# ---- logins, certificates ----


@pytest.fixture
def secured(tmp_path):
    context, authority = server_context(trustme.CA(), "localhost", tmp_path)
    with SmtpSink(tls=context, login=("ops", PASSWORD), host="localhost") as sink:
        yield sink, authority


def login_options(tmp_path, sink, authority, password=PASSWORD):
    secret = tmp_path / "secret"
    secret.write_text(password + "\n")
    secret.chmod(0o600)
    return {
        "mail_to": "ops@example.org", "smtp": f"localhost:{sink.port}", "smtp_tls": "required", "smtp_ca": authority,
        "smtp_user": "ops", "smtp_password_file": secret,
    }  # fmt: skip


def test_login_over_tls(uwsgi, secured, tmp_path):
    sink, authority = secured
    server = uwsgi(**login_options(tmp_path, sink, authority))
    slow_request(server)
    sink.wait_mails(1)
    assert sink.logins == [("ops", PASSWORD)]
    server.stop()
    assert PASSWORD not in server.log()


def test_wrong_password_is_said_without_being_shown(uwsgi, secured, tmp_path, spool):
    sink, authority = secured
    wrong = "wrong-battery-4712"
    server = uwsgi(**login_options(tmp_path, sink, authority, wrong), spool=spool)
    slow_request(server)
    server.wait_log(r"slowwatch: .*(mail|smtp|SMTP).*")
    wait_for(lambda: sink.logins, "an attempt to log in")
    server.wait_log(r"slowwatch: .*(535|uthent|login|log in)")
    server.stop()
    assert wrong not in server.log()
    assert sink.mails == []
    assert spooled(spool)


def test_unknown_authority_is_refused(uwsgi, secured, tmp_path):
    sink, _ = secured
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    other.chmod(0o600)
    server = uwsgi(**login_options(tmp_path, sink, other))
    slow_request(server)
    server.wait_log(r"slowwatch: .*(certificate|TLS)")
    assert sink.mails == []
    assert sink.logins == []


def test_server_without_tls_gets_no_mail_when_tls_is_required(uwsgi, smtp):
    server = uwsgi(**mailing(smtp, smtp_tls="required"))
    slow_request(server)
    server.wait_log(r"slowwatch: .*TLS")
    assert smtp.mails == []


# ---- obstacles ----


def test_mail_server_down_then_up(uwsgi, spool):
    """Down over a restart of uWSGI, then up: the mail comes, once, and nothing stays in the spool."""
    sink = SmtpSink()
    options = mailing(sink, spool=spool)
    server = uwsgi(**options)
    request = slow_request(server)
    wait_for(lambda: spooled(spool), "the mail in the spool")
    (name,) = spooled(spool)
    assert stat.S_IMODE((spool / name).stat().st_mode) == 0o600
    server.stop()
    assert spooled(spool)
    with sink:
        again = uwsgi(**options)
        (mail,) = sink.wait_mails(1)
        wait_for(lambda: not spooled(spool), "an empty spool")
        again.stop()
        # Had it gone out twice, the second one would lie there by now: the reporter ends when all is sent.
        assert len(sink.mails) == 1
    assert not any(file.stat().st_size for file in spool.iterdir())
    assert mail["X-Slowwatch-Id"] == request.events("slow_request")[0]["id"]


def test_mail_server_that_is_not_there_holds_up_nothing(uwsgi):
    server = uwsgi(mail_to="ops@example.org", smtp=f"127.0.0.1:{free_port()}")
    for _ in range(2):
        slow_request(server).event("request_finished")
    assert server.get("/ping").status == 200
    server.wait_log("slowwatch: .*mail")


def test_mail_of_a_request_just_before_the_end(uwsgi, smtp):
    server = uwsgi(**mailing(smtp))
    slow_request(server)
    server.stop()
    assert len(smtp.mails) == 1


def test_header_injection(uwsgi, smtp):
    """Every header is one we made; a client's CR and LF stay text."""
    server = uwsgi(**mailing(smtp), disable_logging=True)
    uri = b"/hold\r\nBcc: victim@example.org\r\n\r\nbody?x"
    gated = server.stuck("/hold")
    with gated.gate:
        query = gated.uri.partition("?")[2]
        variables = uwsgi_variables("/hold", query, uri=uri, HTTP_HOST=b"h\r\nBcc: x@y", REQUEST_METHOD=b"GET\r\nX: y")
        call = Background(server.uwsgi_call, variables)
        (mail,) = smtp.wait_mails(1)
        gated.gate.release()
        call.result()
    assert mail["Bcc"] is None
    assert mail["X"] is None
    assert len(smtp.envelopes[0].rcpt_tos) == 2
    assert "victim@example.org" in str(mail["Subject"]) + text_of(mail)


def test_sink_itself(smtp):
    """The tests' own mail server takes a mail, so that its silence means something."""
    with smtplib.SMTP("127.0.0.1", smtp.port) as client:
        client.sendmail("a@example.org", ["b@example.org"], "Subject: x\r\n\r\nbody\r\n")
    assert smtp.wait_mails(1)[0]["Subject"] == "x"
