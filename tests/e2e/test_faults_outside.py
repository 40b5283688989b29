"""What is around the server fails: the reporter dies in the middle of a mail, the spool is full or gone, nobody reads
the log. Requests are served all the same, and what was reported arrives."""

import contextlib
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from clients import wait_for
from harness import REPO, THRESHOLD, UWSGI
from reports import alive, ends_of, report_of

sys.path.insert(0, str(REPO / "tests" / "mail"))
from smtp_server import STALL, SmtpServer

PIPE_BYTES = 65536


def mailing(port, **more):
    return {"mail_to": "ops@example.org", "smtp": f"127.0.0.1:{port}", "app": "faults:application", **more}


def spooled(folder):
    return [file.name for file in folder.glob("*.mail")]


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


# ---- the reporter dies while a mail is on its way ----


@pytest.mark.parametrize("state", ["DATA", "MESSAGE"])
def test_reporter_killed_while_it_sends_a_mail(uwsgi, spool, state):
    """Its delivery process goes with it, and the next reporter sends the mail. Only when the whole message was out and
    its answer was not in (MESSAGE) may the server have kept it: then it comes a second time, as SMTP wants it."""
    with SmtpServer() as smtp:
        smtp.on(state, STALL, times=1)
        server = uwsgi(**mailing(smtp.port, spool=spool))
        reporter = server.reporter()
        event = report_of(server)
        smtp.wait_command(state)
        (delivery,) = psutil.Process(reporter).children()
        assert len(spooled(spool)) == 1
        os.kill(reporter, signal.SIGKILL)
        wait_for(lambda: not alive(delivery.pid), "the end of the delivery")
        (mail,) = smtp.wait_mails(1)
        wait_for(lambda: not spooled(spool), "an empty spool")
        server.stop()  # drains: a mail that was still to be sent would come now
        assert len(smtp.mails) == 1
        assert smtp.seen("MESSAGE") == (2 if state == "MESSAGE" else 1)
    assert mail.message["X-Slowwatch-Id"] == event["id"]


# ---- a spool that cannot be written ----


@contextlib.contextmanager
def full_disk(folder):
    """A file system of two pages with a file that fills it."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    try:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def limit_file_size(server, spool):
    resource.prlimit(server.reporter(), resource.RLIMIT_FSIZE, (1024, 1024))


def remove(server, spool):
    shutil.rmtree(spool)


@contextlib.contextmanager
def busy_smtp():
    """Its clients are connected by the kernel and wait; accept() begins when the server is entered."""
    smtp = SmtpServer()
    smtp._listener.listen()
    try:
        yield smtp
    finally:
        smtp._listener.close()


def assert_mail_goes_out_from_memory(server, smtp, complaint):
    """Two mails wait for the mail server; that they wait in memory only is said once."""
    events = [report_of(server, "/hold"), report_of(server, "/two_places")]
    server.wait_log(rf"^slowwatch: mail: spool .*{complaint}")
    assert server.get("/ping").status == 200
    reporter = server.reporter()
    with smtp:
        mails = smtp.wait_mails(2)
        assert server.reporter() == reporter, "the reporter died of it"
        server.stop()
    assert sorted(mail.message["X-Slowwatch-Id"] for mail in mails) == sorted(event["id"] for event in events)
    (said,) = [line for line in server.said() if "mail: spool" in line]
    assert "memory" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_full_spool(uwsgi, spool):
    with busy_smtp() as smtp, full_disk(spool):
        server = uwsgi(**mailing(smtp.port, spool=spool))
        assert_mail_goes_out_from_memory(server, smtp, "No space left")
        assert [file.name for file in spool.iterdir()] == ["filler"], "half a file was left"


@pytest.mark.parametrize(
    ("harm", "complaint"), [(limit_file_size, "File too large"), (remove, "No such file")], ids=["file size", "removed"]
)
def test_spool_that_fails_later(uwsgi, spool, harm, complaint):
    # The log is a pipe: the limit is on files only.
    with busy_smtp() as smtp, unread_log(uwsgi, **mailing(smtp.port, spool=spool)) as (server, _):
        harm(server, spool)
        assert_mail_goes_out_from_memory(server, smtp, complaint)


# ---- a log that nobody reads ----


class Pipe:
    """The server's standard error: a pipe, read into the log file that the harness looks at, or for a while not."""

    def __init__(self, path, log):
        os.mkfifo(path)
        self.path, self._log = path, log
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._reading, self._end = threading.Event(), threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with self._log.open("ab", buffering=0) as log:
            while not self._end.is_set():
                if self._reading.wait(0.1) and select.select([self._fd], [], [], 0.1)[0] and self._reading.is_set():
                    log.write(os.read(self._fd, PIPE_BYTES))

    def stop_reading(self):
        """From now on whoever writes waits: the pipe is filled up with lines of the test's own."""
        self._reading.clear()
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._fd, b"\n")

    def read_again(self):
        self._reading.set()

    def close(self):
        self._reading.set()
        self._end.set()
        self._thread.join()
        os.close(self._fd)


@contextlib.contextmanager
def unread_log(uwsgi, **options):
    server = uwsgi.make(**options)
    pipe = Pipe(server.folder / "stderr", server.log_file)
    try:
        server.launch(["/bin/sh", "-c", 'exec "$0" --ini "$1" >"$2" 2>&1', UWSGI, str(server.ini), str(pipe.path)])
        server.wait_started()
        yield server, pipe
        pipe.read_again()
        server.stop()
    finally:
        pipe.close()


def test_standard_error_that_nobody_reads(uwsgi):
    """The reporter may wait for its reader; the requests do not, and nothing is lost meanwhile."""
    with unread_log(uwsgi, threads=4, disable_logging=True) as (server, pipe):
        report_of(server)
        reporter = server.reporter()
        pipe.stop_reading()
        requests = [server.stuck("/hold").begin() for _ in range(3)]
        wait_for(lambda: writes(reporter), "a reporter that waits for the reader of its log")
        for request in requests:
            assert server.get(f"/sleep?seconds={THRESHOLD * 1.5}").status == 200
            assert request.finish().status == 200
            request.gate.close()
        for _ in range(100):
            assert server.get("/ping").status == 200
        assert not any(request.events() for request in requests)
        pipe.read_again()
        for request in requests:
            request.event("request_finished")
            assert ends_of(request) == ["request_finished"]
            assert len(request.events("slow_request")) == 1
        assert server.reporter() == reporter
    assert "lost" not in "\n".join(server.said())


def test_standard_error_that_nobody_reads_for_long(uwsgi):
    """More than the channel holds: the requests go on, what was lost is counted, and no end of a request is."""
    many = 80  # reports of 50 KB each, in a channel and a backlog of together 2.5 MB
    options = {"app": "faults:application", "threads": many + 1, "stack_depth": 1024, "disable_logging": True}
    with unread_log(uwsgi, **options) as (server, pipe):
        reporter = server.reporter()
        pipe.stop_reading()
        requests = [server.stuck("/deep", depth=400).begin() for _ in range(many)]
        wait_for(lambda: writes(reporter), "a reporter that waits for the reader of its log")
        assert server.get(f"/sleep?seconds={5 * THRESHOLD}").status == 200
        for request in requests:
            assert request.finish().status == 200
            request.gate.close()
        for _ in range(100):
            assert server.get("/ping").status == 200
        pipe.read_again()
        lost = int(server.wait_log(r"^slowwatch: (\d+) events were lost")[1])
        report_of(server)
        first = sum(len(request.events("slow_request")) for request in requests)
        assert first + lost >= many
        assert [ends_of(request) for request in requests] == [["request_finished"]] * many


def writes(pid):
    """Is this process in a system call on its standard error."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()  # "running", or number and arguments
    return len(call) > 1 and call[1] == "0x2"


# ---- uWSGI's own logger in between ----


def assert_whole_lines(server):
    """Of a deep stack, and of characters of several bytes."""
    deep = report_of(server, "/deep", depth=300)
    report_of(server, "/shape", name="größe_日本語")
    assert [event["event"] for event in server.events()] == ["slow_request", "request_finished"] * 2
    assert deep["stack"]["truncated"] > 0
    assert deep["stack"]["frames"][-1]["function"] == "hold"


@pytest.mark.parametrize("log_date", [None, True], ids=["plain", "log-date"])
def test_events_through_the_log_master(uwsgi, log_date):
    """It cuts what is longer than its buffer, so an event is made to fit: each line is whole."""
    assert_whole_lines(uwsgi(app="faults:application", log_master=True, log_date=log_date, stack_depth=1024))


def test_log_master_with_less_room_than_an_event_needs(uwsgi):
    """It would tear each event: text is logged instead, and said is from which size on events are whole."""
    options = {"app": "faults:application", "log_master": True, "log_date": True, "stack_depth": 1024}
    server = uwsgi(log_master_bufsize=1024, **options)
    least = int(server.wait_log(r"^.*slowwatch: .*log-master-bufsize = 1024: an event needs (\d+)")[1])
    with server.stuck("/hold"):
        server.wait_log(r'^.*  File ".*gate\.py", line \d+, in hold$')
    assert server.events() == []
    assert_whole_lines(uwsgi(log_master_bufsize=least, **options))


def test_events_are_drained_through_the_log_master(uwsgi):
    """At the end the master waits for the reporter, whose log only the master reads."""
    server = uwsgi(log_master=True, threads=60, disable_logging=True)
    requests = [server.stuck("/hold").begin() for _ in range(60)]
    for request in requests:
        request.event("slow_request")
    reporter = server.reporter()
    os.kill(reporter, signal.SIGSTOP)
    try:
        for request in requests:
            assert request.finish().status == 200
            request.gate.close()
        worker = server.workers()[1]
        os.kill(server.master, signal.SIGINT)
        wait_for(lambda: not alive(worker), "the end of the worker")
    finally:
        os.kill(reporter, signal.SIGCONT)
    server.wait_gone()
    assert [len(request.events("request_finished")) for request in requests] == [1] * 60
    assert "killed" not in "\n".join(server.said())
