"""The reporter may die, the server may be reloaded or shut down: no report is lost, and no process stays."""

import os
import re
import resource
import signal
import socket

import psutil
import pytest
from clients import Gate, http_head, parse_response, read_all, wait_for
from harness import REPORTER_NAME, line_of

PROCESSES, THREADS = 4, 250
LOST = r"slowwatch: .*?(\d+) events? (?:were |was )?lost"


def test_name_and_parent(uwsgi):
    server = uwsgi()
    reporter = psutil.Process(server.reporter())
    assert " ".join(reporter.cmdline()).strip() == REPORTER_NAME
    assert reporter.ppid() == server.master
    assert len(server.reporters()) == 1


def test_killed_reporter_is_replaced_and_nothing_is_lost(uwsgi):
    server = uwsgi(threads=8)
    requests = []
    for round_ in range(2):  # the pause before a restart doubles each time
        old = server.reporter()
        requests += [server.stuck("/hold").begin() for _ in range(2)]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda old=old: server.reporters() not in ([], [old]), f"a new reporter in round {round_}")
        for request in requests:
            request.event("slow_request")
    for request in requests:
        request.finish()
        request.event("request_finished")
        request.gate.close()
    for request in requests:
        assert len(request.events("slow_request")) == 1
        assert len(request.events("request_finished")) == 1


def test_reporter_stopped_for_a_while_catches_up(uwsgi):
    """Meanwhile the channel keeps the events, and the requests go on as if nothing were."""
    server = uwsgi(threads=4)
    reporter = server.reporter()
    os.kill(reporter, signal.SIGSTOP)
    try:
        with server.stuck("/hold") as request:
            assert server.get("/sleep?seconds=1").status == 200
            request.finish()
        assert server.events() == []
    finally:
        os.kill(reporter, signal.SIGCONT)
    request.event("slow_request")
    request.event("request_finished")


@pytest.mark.parametrize("how", ["reload", "SIGTERM", "SIGINT"])
def test_events_are_drained_at_the_end(uwsgi, how):
    """What the workers sent just before the end is in the log after it."""
    server = uwsgi(threads=8, die_on_term=how == "SIGTERM" or None)
    requests = [server.stuck("/hold").begin() for _ in range(6)]
    for request in requests:
        request.event("slow_request")
        request.gate.release()
    answers = [request.call.result().status for request in requests]
    for request in requests:
        request.event("request_finished")
        request.gate.close()
    assert answers == [200] * 6

    late = [server.stuck("/hold").begin() for _ in range(6)]
    for request in late:
        request.event("slow_request")
    old = server.reporter()
    os.kill(old, signal.SIGSTOP)  # a slow reader: all ends have to wait in the channel
    for request in late:
        assert request.finish().status == 200
        request.gate.close()
    mark = server.mark()
    # The watchdog looks again within its sample interval; a further request's answer proves that time has passed.
    assert server.get("/sleep?seconds=0.5").status == 200
    os.kill(server.master, {"reload": signal.SIGHUP}.get(how) or getattr(signal, how))
    os.kill(old, signal.SIGCONT)
    if how == "reload":
        server.wait_started(since=mark)
        assert wait_for(lambda: server.reporters() not in ([], [old]), "a new reporter")
        assert server.get("/ping").status == 200
    else:
        server.wait_gone()
    for request in late:
        assert len(request.events("slow_request")) == 1
        assert len(request.events("request_finished")) == 1


def test_no_orphan_when_the_master_is_killed(uwsgi):
    server = uwsgi(processes=2, no_orphans=True)
    reporter = server.reporter()
    os.kill(server.master, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: not psutil.pid_exists(reporter), "the end of the reporter")
    wait_for(lambda: not server.pids(), "the end of the workers")


def test_reporter_holds_no_socket_of_the_server(uwsgi):
    """Else the port would stay taken, and clients would wait, while a reporter sends its last mail."""
    server = uwsgi()
    listening = {c.laddr.port for c in psutil.Process(server.reporter()).net_connections() if c.status == "LISTEN"}
    assert listening == set()


def test_signals_to_the_process_group_do_not_end_the_reporter_early(uwsgi):
    """Ctrl-C in a terminal goes to every process at once."""
    server = uwsgi()
    with server.stuck("/hold") as request:
        request.event("slow_request")
        reporter = server.reporter()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(reporter, signum)
        request.finish()
    request.event("request_finished")
    assert server.reporters() == [reporter]


@pytest.mark.timeout(240)
def test_a_thousand_slow_requests_at_once(uwsgi):
    """All are reported, or what was not is counted and said."""
    total = PROCESSES * THREADS
    wanted = 4 * total
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files, {hard} are allowed")
    with open("/proc/sys/net/core/somaxconn") as file:
        backlog = min(int(file.read()), total)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    server = uwsgi(processes=PROCESSES, threads=THREADS, listen=backlog, max_fd=wanted, threshold=1)
    clients = []
    with Gate() as gate:
        try:
            for number in range(total):
                client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
                client.sendall(http_head(f"/hold?n={number}&gate={gate.port}"))
                clients.append(client)
            gate.wait_arrived(total, timeout=60)
            ids = wait_for(lambda: accounted(server, total, "slow_request"), f"{total} slow requests", timeout=90)
            gate.release()
            answers = [parse_response(read_all(client)).status for client in clients]
        finally:
            for client in clients:
                client.close()
    assert answers == [200] * total
    assert ids
    wait_for(lambda: accounted(server, 2 * total, None), "their ends", timeout=60)
    finished = [event["id"] for event in server.events("request_finished")]
    assert len(finished) == len(set(finished))
    for event in server.events("slow_request"):
        assert event["stack"]["frames"][-1]["line"] == line_of("gate.py", "hold")


def accounted(server, total, kind):
    """Every request is there as an event, or among the losses that were said."""
    events = [event for event in server.events(kind) if event["event"] in ("slow_request", "request_finished")]
    distinct = {(event["event"], event["id"]) for event in events}
    assert len(distinct) == len(events)
    lost = sum(
        int(number) for number in re.findall(r"slowwatch: (?:.*?)(\d+) events? (?:were |was )?lost", server.log())
    )
    return len(distinct) + lost >= total
