"""Each ready-to-use configuration starts as it is (only its placeholders are set), serves and reports."""

import subprocess

import pytest
from clients import Background, Gate, uwsgi_call, uwsgi_variables
from harness import BUILD, PYTHON_PLUGIN, REPO, THRESHOLD, UWSGI, for_everybody
from smtp_sink import text_of

pytestmark = pytest.mark.skipif(PYTHON_PLUGIN != "python3", reason="the configurations are for Debian's uWSGI")

# The options stay as they are: the one request that shall be slow says so by itself, as a web server could.
ROUTE = f"^/hold addvar:SLOWWATCH_THRESHOLD={THRESHOLD}"


def start(server, name, **placeholders):
    command = [UWSGI, "--plugin-dir", str(BUILD), "--route", ROUTE]
    for placeholder, value in placeholders.items():
        command += ["--set-ph", f"{placeholder}={value}"]
    server.launch([*command, "--ini", str(REPO / "config" / name)])
    return server


@pytest.mark.parametrize("name", ["minimal.ini", "development.ini"])
def test_serves_and_reports_as_text(uwsgi, tmp_path, name):
    server = uwsgi.make()
    apps = for_everybody(tmp_path)
    start(server, name, folder=apps, module="stuck:application", address=f"127.0.0.1:{server.port}")
    server.wait_started()
    assert server.get("/ping").body == b"pong"
    with server.stuck("/hold") as request:
        server.wait_log(r"slowwatch: slow request [0-9a-f]+: GET /hold")
        server.wait_log(rf'  File "{apps}/gate.py", line \d+, in hold')
        assert request.finish().status == 200
    server.wait_log("slow request finished")


def test_production(uwsgi, smtp, tmp_path):
    server = uwsgi.make(processes=4)
    apps = for_everybody(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    start(
        server, "production.ini", folder=apps, module="stuck:application", address=f"127.0.0.1:{server.port}",
        user="root", group="root", mail="ops@example.org", mailserver=f"127.0.0.1:{smtp.port}", spoolfolder=spool,
    )  # fmt: skip
    server.wait_started()
    assert uwsgi_call(server.port, uwsgi_variables("/ping")).body == b"pong"
    with Gate() as gate:
        call = Background(uwsgi_call, server.port, uwsgi_variables("/hold", f"gate={gate.port}&iban=DE0212"))
        event = server.wait_event("slow_request")
        (mail,) = smtp.wait_mails(1)
        gate.release()
        assert call.result().status == 200
    server.wait_event("request_finished")
    assert event["stack"]["frames"][-1]["function"] == "hold"
    assert mail["X-Slowwatch-Id"] == event["id"]
    assert "in hold\n" in text_of(mail)
    assert "DE0212" not in "".join(line for line in server.lines() if '"schema"' in line) + mail.as_string()


def test_production_ends_the_start_without_its_spool(uwsgi, tmp_path):
    server = uwsgi.make()
    start(
        server, "production.ini", folder=for_everybody(tmp_path), module="stuck:application", user="root", group="root",
        address=f"127.0.0.1:{server.port}", spoolfolder=tmp_path / "nowhere",
    )  # fmt: skip
    assert server.process.wait(30) == 1
    assert "slowwatch-spool" in server.log()


@pytest.mark.parametrize("name", ["minimal.ini", "production.ini", "development.ini"])
def test_every_option_is_known(name):
    """uWSGI ignores what it does not know: a misspelt option would be silently without effect."""
    known = subprocess.run(
        [UWSGI, "--plugin-dir", str(BUILD), "--plugins", "slowwatch,python3", "--help"], capture_output=True, text=True
    ).stdout
    for line in (REPO / "config" / name).read_text().splitlines():
        option = line.split("=")[0].strip()
        if option and option[0] not in ";[" and option != "plugins":
            assert f"--{option} " in known or f"--{option}\n" in known, option
