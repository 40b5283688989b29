"""Clients hammer a server through every way in which its workers come and go: none ever meets a cold worker. The same
without a warm-up shows that they would."""

import itertools
import os
import signal
import time

import pytest
from clients import wait_for
from warmups import Hammer, loop_plugin, options, plugins_with, start, warmups

MODES = {
    "prefork": {"processes": 3},
    "threads": {"processes": 2, "threads": 3},
    "no threads": {"processes": 3, "enable_threads": None},
    "imported before the fork": {"processes": 3, "lazy_apps": None},
    "gevent": {"processes": 2, "gevent": 8, "gevent_early_monkey_patch": True},
}
REQUESTS_BETWEEN = 40
CLIENTS = 6
_moments = itertools.count(2_000_000_000)


def hammered(uwsgi, mode, cold="0.3", **more):
    mode = dict(MODES[mode])
    if "gevent" in mode:
        mode["plugins"] = plugins_with(loop_plugin("gevent"))
    env = {"COLD_SECONDS": cold, "SERVICE_SECONDS": "0.01"}  # so that one worker alone does not serve all
    server = start(uwsgi, disable_logging=True, forkbomb_delay=0, env=env, **mode, **more)
    server.wait_event(
        "warmup", count=server.options["processes"]
    )  # a chain reload skips workers that do not accept yet
    return server


def touch(path):
    moment = next(_moments)  # uWSGI compares whole seconds
    os.utime(path, (moment, moment))


def replaced(server, hammer, action):
    """Does it, and waits until all workers are new ones that have served."""
    before = set(server.workers().values())
    action()

    def all_new():
        now = set(server.workers().values())
        return len(now) == len(before) and not now & before and hammer.met(now)

    wait_for(all_new, "answers of all new workers", timeout=90)
    hammer.wait_requests(REQUESTS_BETWEEN)


def check(hammer, least_processes, cut=0):
    """cut: requests that were under way when their process was killed"""
    assert hammer.counts["cold"] == 0, hammer.counts
    assert set(hammer.counts) <= {"warm", "cold", "refused", "status 0"}, hammer.counts
    assert hammer.counts["status 0"] <= cut, hammer.counts
    assert hammer.counts["warm"] > least_processes
    assert len(hammer.pids) >= least_processes, hammer.pids


@pytest.mark.parametrize("mode", MODES)
def test_chain_reload(uwsgi, tmp_path, mode):
    path = tmp_path / "touch"
    path.touch()
    server = hammered(uwsgi, mode, touch_chain_reload=str(path))
    count = len(server.workers())
    with Hammer(server, CLIENTS) as hammer:
        for _ in range(2):
            mark = server.mark()
            replaced(server, hammer, lambda: touch(path))
            server.wait_log("chain reloading complete", since=mark)
    check(hammer, 2 * count)
    assert hammer.counts["refused"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_kill(uwsgi, mode):
    server = hammered(uwsgi, mode)
    count = len(server.workers())
    with Hammer(server, CLIENTS) as hammer:
        for _ in range(2):
            replaced(server, hammer, lambda: [os.kill(pid, signal.SIGKILL) for pid in server.workers().values()])
    check(hammer, 2 * count, cut=2 * CLIENTS)


@pytest.mark.parametrize("mode", MODES)
def test_reload(uwsgi, mode):
    server = hammered(uwsgi, mode)
    count = len(server.workers())
    with Hammer(server, CLIENTS) as hammer:
        for _ in range(2):
            replaced(server, hammer, lambda: server.process.send_signal(signal.SIGHUP))
    check(hammer, 2 * count)


@pytest.mark.parametrize("mode", ["prefork", "gevent"])
def test_max_requests(uwsgi, mode):
    server = hammered(uwsgi, mode, max_requests=20, min_worker_lifetime=0)
    with Hammer(server, CLIENTS) as hammer:
        wait_for(lambda: len(hammer.pids) >= 9, "nine processes", timeout=90)
    check(hammer, 9, cut=CLIENTS)  # a client that came just when a process left


def test_harakiri(uwsgi):
    server = hammered(uwsgi, "prefork", harakiri=1, threshold=0.5)
    with Hammer(server, clients=2) as hammer:
        killed = [server.get("/sleep?seconds=30").status for _ in range(3)]
        wait_for(lambda: len(warmups(server, why="harakiri")) == 3, "their successors", timeout=60)
        hammer.wait_requests(REQUESTS_BETWEEN)
    assert killed == [0, 0, 0]
    check(hammer, 4)


def test_killed_while_it_warms_up(uwsgi):
    """Two deaths in a row; the third would be one too many."""
    server = hammered(uwsgi, "prefork", cold="1")
    with Hammer(server, CLIENTS) as hammer:
        for _ in range(2):
            before = server.workers()[1]
            os.kill(before, signal.SIGKILL)
            wait_for(lambda before=before: server.workers().get(1, before) != before, "a new process")
            time.sleep(0.3)  # it is in its warm-up, or waits for its turn, or is about to begin: all shall do
        wait_for(lambda: hammer.met({server.workers()[1]}), "answers of the last one", timeout=60)
    check(hammer, 3, cut=CLIENTS)


def test_without_a_warmup_they_are_met(uwsgi):
    """What all others here would show if the warm-up did nothing."""
    server = uwsgi(**options(processes=3, slowwatch_warmup=None, disable_logging=True))
    with Hammer(server, CLIENTS) as hammer:
        replaced(server, hammer, lambda: [os.kill(pid, signal.SIGKILL) for pid in server.workers().values()])
    assert hammer.counts["cold"] >= 3
