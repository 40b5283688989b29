"""Secrets in what a client sends are neither in the log nor in a mail nor in the spool."""

import pytest
from smtp_sink import text_of

SECRETS = {
    "password": "hunter2-Xq81",
    "token": "tk-9917-abcdef",
    "api_key": "AKIA-55-zyx",
    "session_id": "sess-0042-qwe",
    "pa%73sword": "encoded-name-313",
}
BEARER, COOKIE, URL_LOGIN = "bearer-secret-771", "cookie-secret-772", "url-secret-773"
OWN = "own-secret-774"


@pytest.mark.parametrize("log", ["json", "text"])
def test_secrets_stay(uwsgi, smtp, tmp_path, log):
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    server = uwsgi(
        log=log, disable_logging=True, redact="^kennwort$", mail_to="ops@example.org", smtp=f"127.0.0.1:{smtp.port}",
        spool=spool,
    )  # fmt: skip
    request = server.stuck("/hold")
    request.uri += "".join(f"&{name}={value}" for name, value in SECRETS.items()) + f"&kennwort={OWN}&color=blue"
    headers = {
        "Authorization": f"Bearer {BEARER}",
        "Cookie": f"session={COOKIE}",
        "Referer": f"https://user:{URL_LOGIN}@example.org/",
        "User-Agent": f"agent https://user:{URL_LOGIN}@example.org/",
    }
    with request.begin(headers=headers):
        server.wait_log("slow request|slow_request")
        (mail,) = smtp.wait_mails(1)
        request.finish()
        server.wait_log("finished")
    text = mail.as_string() + text_of(mail)
    everything = [server.log(), text, *(file.read_text("latin-1") for file in spool.iterdir() if file.is_file())]
    for secret in (*SECRETS.values(), BEARER, COOKIE, URL_LOGIN, OWN):
        assert not any(secret in place for place in everything), secret
    assert "color=blue" in server.log()
    assert "color=blue" in text
    assert "[redacted]" in server.log()
