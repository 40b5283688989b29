"""A mail server that takes everything and keeps it, on a port that stays the same when it goes down and comes up."""

import asyncio
import email
import email.policy
import ssl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from clients import PATIENCE, free_port, wait_for


def text_of(mail):
    """The decoded body, its lines ended as Python's."""
    return mail.get_content().replace("\r\n", "\n")


class RememberingController(Controller):
    """Leaves no connection open, which the library does with those that have not ended yet."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._sessions = []

    def factory(self):
        self._sessions.append(super().factory())
        return self._sessions[-1]

    async def _hang_up(self):
        for session in self._sessions:
            for transport in (session.transport, session._original_transport):
                if transport:
                    transport.abort()
        for _ in range(2):  # rounds of the loop: the sockets are closed, the sessions hear of it
            await asyncio.sleep(0)

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result(PATIENCE)
        super().stop()


class SmtpSink:
    def __init__(self, tls=None, login=None, host="127.0.0.1"):
        """tls: an SSLContext, then STARTTLS is offered; login: (user, password), then AUTH is required."""
        self.host, self.port = host, free_port()
        self.mails, self.envelopes, self.logins = [], [], []
        self._tls, self._login, self._controller = tls, login, None

    async def handle_DATA(self, server, session, envelope):
        self.envelopes.append(envelope)
        self.mails.append(email.message_from_bytes(envelope.original_content, policy=email.policy.default))
        return "250 kept"

    def _authenticate(self, server, session, envelope, mechanism, data):
        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        return AuthResult(success=login == self._login, handled=False)  # the server says 235 or 535

    def start(self):
        options = {"hostname": self.host, "port": self.port, "ready_timeout": PATIENCE}
        if self._tls:
            options.update(tls_context=self._tls, require_starttls=True)
        if self._login:
            options.update(authenticator=self._authenticate, auth_required=True, auth_require_tls=bool(self._tls))
        self._controller = RememberingController(self, **options)
        self._controller.start()
        return self

    def stop(self):
        if self._controller:
            self._controller.stop()
            self._controller = None

    def wait_mails(self, count, timeout=PATIENCE):
        wait_for(lambda: len(self.mails) >= count, f"{count} mail(s), there are {len(self.mails)}", timeout)
        return self.mails[:count]

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()


def server_context(authority, name, folder):
    """A server's TLS context and the file of the authority that signed it (trustme)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(file)
    file.chmod(0o600)
    return context, file
