"""Wrong values end the start-up with exit code 1 and one clear line; doubtful ones are said; clients change nothing."""

import os
import re

import pytest
from clients import uwsgi_variables
from harness import THRESHOLD, for_everybody

WRONG = [
    ("threshold", ""),
    ("threshold", "ten"),
    ("threshold", "-1"),
    ("threshold", "nan"),
    ("threshold", "inf"),
    ("threshold", "1e3"),
    ("threshold", "10 ("),
    ("threshold", "0.000001"),
    ("threshold", "99999999999999999999"),
    ("sample-interval", "0"),
    ("sample-interval", "fast"),
    ("sample-interval", "1.5"),
    ("stack-depth", "0"),
    ("stack-depth", "100000"),
    ("stack-depth", "-5"),
    ("redact", "("),
    ("redact", "["),
    ("log", "xml"),
    ("log", ""),
    ("mail-to", "nobody"),
    ("mail-to", "a@b@c"),
    ("mail-to", "a b@example.org"),
    ("mail-from", "<ops@example.org>"),
    ("mail-interval", "soon"),
    ("mail-interval", "-1"),
    ("mail-max", "0"),
    ("mail-max", "many"),
    ("smtp", "localhost:0"),
    ("smtp", "localhost:99999"),
    ("smtp", ":25"),
    ("smtp", "25"),
    ("smtp", "[::1]:25"),
    ("smtp-tls", "yes"),
    ("smtp-ca", ""),
    ("smtp-user", ""),
    ("smtp-password-file", ""),
    ("smtp-timeout", "0"),
    ("smtp-timeout", "never"),
    ("spool", ""),
    ("alarm", ""),
    ("strict", "perhaps"),
]


@pytest.mark.parametrize(("option", "value"), WRONG, ids=[f"{option}={value}"[:40] for option, value in WRONG])
def test_wrong_value_ends_the_start(uwsgi, option, value):
    code, log = uwsgi.make(args=[f"--slowwatch-{option}={value}"]).run_to_exit()
    assert code == 1
    lines = [line for line in log.splitlines() if f"slowwatch-{option} = " in line]
    assert len(lines) == 1, log
    assert f'"{value}"' in lines[0]
    assert "slowwatch: " in lines[0]
    assert "Traceback" not in log
    assert "spawned uWSGI worker" not in log


@pytest.mark.parametrize("value", ["a\nslowwatch: forged", "a\x1b[2J", "caf\u00e9@example.org"])
def test_wrong_value_is_shown_escaped(uwsgi, value):
    code, log = uwsgi.make(args=[f"--slowwatch-mail-to={value}"]).run_to_exit()
    assert code == 1
    assert not re.search("^slowwatch: forged", log, re.MULTILINE)
    assert "\x1b" not in log


# ---- contradictions: said, and the end of a strict start ----


MAIL = {"mail_to": "ops@example.org"}
LOGIN = {**MAIL, "smtp_tls": "required", "smtp_user": "ops"}
# What contradicts what, and the option or word that must be named. {folder} is the test's own.
CONFLICTS = {
    "threshold over harakiri": ({"threshold": 20, "harakiri": 10}, "harakiri"),
    "interval over threshold": ({"threshold": 0.2, "sample_interval": 500}, "slowwatch-sample-interval"),
    "spool below a file": ({**MAIL, "spool": "{folder}/file/spool"}, "slowwatch-spool"),
    "spool is a file": ({**MAIL, "spool": "{folder}/file"}, "slowwatch-spool"),
    "spool does not exist": ({**MAIL, "spool": "{folder}/nowhere"}, "slowwatch-spool"),
    "spool without mail": ({"spool": "{folder}"}, "slowwatch-mail-to"),
    "user without password": (LOGIN, "slowwatch-smtp-password-file"),
    "password without user": ({**MAIL, "smtp_password_file": "{folder}/secret"}, "slowwatch-smtp-user"),
    "password file missing": ({**LOGIN, "smtp_password_file": "{folder}/nowhere"}, "slowwatch-smtp-password-file"),
    "password file is a folder": ({**LOGIN, "smtp_password_file": "{folder}"}, "slowwatch-smtp-password-file"),
    "password file for all": ({**LOGIN, "smtp_password_file": "{folder}/readable"}, "slowwatch-smtp-password-file"),
    "authority missing": ({**MAIL, "smtp_ca": "{folder}/nowhere"}, "slowwatch-smtp-ca"),
    "mail without master": ({**MAIL, "master": None}, "without master"),
    "alarm without master": ({"alarm": "cry", "master": None}, "slowwatch-alarm"),
    "nothing to say anything": ({"log": "off"}, "slowwatch-log"),
}
PASSWORD = "geheim-7781"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture(params=CONFLICTS)
def conflict(request, tmp_path):
    """The options of a contradiction, and what must be said about it."""
    (tmp_path / "file").write_text("")
    for name, mode in (("secret", 0o600), ("readable", 0o644)):
        (tmp_path / name).write_text(PASSWORD + "\n")
        (tmp_path / name).chmod(mode)
    options, said = CONFLICTS[request.param]
    filled = {
        name: value.format(folder=tmp_path) if isinstance(value, str) else value for name, value in options.items()
    }
    return filled, said


def test_contradiction_ends_a_strict_start(uwsgi, conflict):
    options, said = conflict
    code, log = uwsgi.make(strict=True, **options).run_to_exit()
    assert code == 1
    assert said in log
    assert PASSWORD not in log


def test_contradictions_are_said_and_the_server_serves(uwsgi, tmp_path):
    """All at once, each in a line of its own: a guest does not keep its host from working."""
    options = {"threshold": 20, "harakiri": 10, "sample_interval": 60000, **LOGIN, "spool": tmp_path / "nowhere"}
    server = uwsgi(**options, smtp_password_file=tmp_path / "missing", smtp_ca=tmp_path / "no-ca", alarm="cry")
    for said in (
        "harakiri", "slowwatch-sample-interval", "slowwatch-spool", "slowwatch-smtp-password-file", "slowwatch-smtp-ca",
    ):  # fmt: skip
        assert any(said in line for line in server.said()), said
    assert server.get("/ping").body == b"pong"


def test_contradictions_without_a_master(uwsgi):
    server = uwsgi(master=None, alarm="cry", **MAIL)
    for said in ("slowwatch-mail-to without master", "slowwatch-alarm"):
        assert any(said in line for line in server.said()), said
    assert server.get("/ping").body == b"pong"


@needs_root
def test_unreadable_password_file_after_a_change_of_user(uwsgi, tmp_path):
    apps = for_everybody(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    server = uwsgi(
        uid="nobody", gid="nogroup", pythonpath=apps, mail_to="ops@example.org", smtp_tls="required", smtp_user="ops",
        smtp_password_file=secret,
    )  # fmt: skip
    assert any("slowwatch-smtp-password-file" in line and "ermission denied" in line for line in server.said())
    assert server.get("/ping").status == 200


@needs_root
def test_spool_not_writable_after_a_change_of_user(uwsgi, tmp_path):
    apps = for_everybody(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o755)
    server = uwsgi(uid="nobody", gid="nogroup", pythonpath=apps, mail_to="ops@example.org", spool=spool)
    assert any("slowwatch-spool" in line and "ermission denied" in line for line in server.said())


def test_strict_start_without_contradictions(uwsgi):
    server = uwsgi(strict=True, harakiri=30)
    assert server.get("/ping").status == 200
    assert any("watching requests over 0.4 s" in line for line in server.said())


# ---- hostile clients ----


def test_longest_request(uwsgi):
    server = uwsgi()
    uri = b"/sleep?" + b"A" * 60000
    assert server.uwsgi_call(uwsgi_variables("/sleep", "seconds=0.9", uri=uri)).status == 200
    event = server.wait_event("slow_request")
    assert event["request"]["uri"].startswith("/sleep?")
    assert event["stack"]["frames"]


@pytest.mark.parametrize("size", [3000, 20000, 40000])
def test_long_headers(uwsgi, size):
    server = uwsgi()
    headers = {"User-Agent": b"\xff" * size, "X-Request-Id": "r" * 300, "Traceparent": "00-" + "a" * 300}
    request = server.stuck("/hold").begin(headers=headers)
    with request:
        event = request.event("slow_request")
        assert request.finish().status == 200
    assert event["stack"]["frames"]
    assert len(event["request"]["user_agent"]) < 5000


def test_empty_variables(uwsgi):
    server = uwsgi()
    variables = uwsgi_variables("/sleep", f"seconds={2 * THRESHOLD}")
    for name in ("REQUEST_METHOD", "HTTP_HOST", "REMOTE_ADDR", "REQUEST_URI"):
        variables[name] = b""
    assert server.uwsgi_call(variables).status == 200
    server.wait_event("slow_request")
