import pytest
from harness import Uwsgi
from smtp_sink import SmtpSink


class Servers:
    """Starts servers and ends them after the test, whatever became of it."""

    def __init__(self, folder):
        self.folder, self.servers = folder, []

    def make(self, **options):
        server = Uwsgi(self.folder / f"server{len(self.servers)}", **options)
        self.servers.append(server)
        return server

    def __call__(self, probe="/ping", **options):
        return self.make(**options).start(probe)

    def end(self):
        errors = []
        for server in self.servers:
            try:
                server.stop()
            except AssertionError as error:
                errors.append(error)
            print(f"---- log of {server.folder.name} ----\n{server.tail(200)}")
        if errors:
            raise errors[0]


@pytest.fixture
def uwsgi(tmp_path):
    servers = Servers(tmp_path)
    yield servers
    servers.end()


@pytest.fixture(scope="module")
def module_servers(tmp_path_factory, request):
    servers = Servers(tmp_path_factory.mktemp(request.module.__name__))
    yield servers
    servers.end()


@pytest.fixture
def smtp():
    with SmtpSink() as sink:
        yield sink
