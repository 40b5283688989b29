"""Recycling is spread: workers that start together do not leave together, and none lives longer than its limit."""

import re
import signal
import threading

import pytest
from clients import Background, Gate, http, wait_for

WORKERS = 4
RESPAWN = {"processes": WORKERS, "min_worker_lifetime": 0, "forkbomb_delay": 0}
SPREAD = "slowwatch_recycle_spread"


class Lives:
    """What the log of uWSGI says of its workers, from its first line or from `since` on."""

    LINES = re.compile(
        r"pawned uWSGI worker (?P<worker>\d+) \((?:new )?pid: (?P<born>\d+)"
        r"|^\[pid: (?P<served>\d+)\|"
        r"|The work of process (?P<left>\d+) is done"
        r"|worker (?P<old>\d+) lifetime reached, it was running for (?P<seconds>\d+) second"
    )

    def __init__(self, server, since=0):
        self.worker_of, self.served, self.left, self.old = {}, {}, [], []
        self.away = self.most_away = 0
        for line in server.lines()[since:]:
            found = self.LINES.search(line)
            if found:
                self._take(found)

    def _take(self, found):
        if found["born"]:
            self.away -= found["worker"] in self.worker_of.values()
            self.worker_of[found["born"]] = found["worker"]
            self.served[found["born"]] = 0
        elif found["served"]:
            self.served[found["served"]] += 1
        elif found["left"]:
            self.left.append(found["left"])
            self.away += 1
            self.most_away = max(self.most_away, self.away)
        else:
            self.old.append((int(found["old"]), int(found["seconds"])))

    def of(self, worker):
        """How many requests each ended life of this worker served."""
        return [self.served[pid] for pid in self.left if self.worker_of[pid] == str(worker)]

    def order(self):
        """Which workers left, in this order."""
        return [int(self.worker_of[pid]) for pid in self.left]


def one_each(server):
    """Every worker serves one request: it is held until all workers have one. Then until none is away."""
    since = server.mark()
    with Gate() as gate:
        calls = [Background(http, server.port, f"/hold?gate={gate.port}") for _ in range(WORKERS)]
        gate.wait_arrived(WORKERS)
        gate.release()
        assert [call.result().status for call in calls] == WORKERS * [200]
    wait_for(lambda: len(re.findall(r"^\[pid: ", server.log(since), re.MULTILINE)) == WORKERS, "all log lines")
    # a worker leaves right after its request: each has by then, or waits for its next one
    wait_for(lambda: all_idle_or_gone(server), "workers that wait")
    wait_for(lambda: Lives(server).away == 0, "all workers")


def all_idle_or_gone(server):
    lives = Lives(server)
    return all(pid in lives.left or waits_for_requests(pid) for pid in lives.worker_of)


def waits_for_requests(pid):
    """Its main thread sleeps in epoll, which is nothing else than waiting for the next request."""
    try:
        with open(f"/proc/{pid}/wchan") as file:
            return re.search("epoll|ep_poll", file.read()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def load():
    """load(server): requests without a pause, until the end of the test."""
    stop, threads = threading.Event(), []

    def ask(port):
        while not stop.is_set():
            assert http(port, "/ping").status == 200

    def begin(server, clients=WORKERS):
        for _ in range(clients):
            threads.append(threading.Thread(target=ask, args=(server.port,)))
            threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


# ---- max-requests ----


def test_workers_that_serve_alike_leave_one_by_one(uwsgi):
    server = uwsgi(probe=None, **RESPAWN, max_requests=20)
    server.wait_log(r"slowwatch: watching .*, max-requests 16 to 20, log json")
    for _ in range(40):
        one_each(server)
    lives = Lives(server)
    assert lives.most_away == 1
    assert {worker: lives.of(worker) for worker in range(1, WORKERS + 1)} == {
        1: [20, 20], 2: [19, 19], 3: [17, 17], 4: [16, 16],
    }  # fmt: skip


def test_without_the_spread_they_leave_together(uwsgi):
    """The same without: what the tests above and below would look like if nothing were spread."""
    server = uwsgi(probe=None, **RESPAWN, max_requests=5, **{SPREAD: 0})
    for _ in range(10):
        one_each(server)
    lives = Lives(server)
    assert lives.most_away >= WORKERS - 1
    assert [lives.of(worker) for worker in range(1, WORKERS + 1)] == WORKERS * [[5, 5]]
    assert "max-requests" not in "".join(server.said())


def test_no_life_is_longer_than_its_limit(uwsgi, load):
    """Under load, respawned again and again, and after a reload."""
    limits = {1: 10, 2: 8, 3: 7, 4: 5}
    server = uwsgi(probe=None, **RESPAWN, max_requests=10, **{SPREAD: 50})
    load(server)

    def each_served_its_share(lives_wanted, since):
        wait_for(lambda: all(len(Lives(server, since).of(worker)) >= lives_wanted for worker in limits), "their lives")
        lives = Lives(server, since)
        for worker, limit in limits.items():
            assert set(lives.of(worker)) == {limit}

    each_served_its_share(3, 0)
    since = server.mark()
    server.process.send_signal(signal.SIGHUP)
    server.wait_log("slowwatch: watching ", since=since)
    each_served_its_share(2, since + server.log(since)[: server.log(since).index("slowwatch: watching ")].count("\n"))


def test_young_workers_leave_one_by_one(uwsgi, load):
    """When max-requests is reached long before min-worker-lifetime, that decides, and is spread too."""
    options = {**RESPAWN, "min_worker_lifetime": 6}
    server = uwsgi(probe=None, **options, max_requests=1, **{SPREAD: 90})
    server.wait_log(r"slowwatch: watching .*, min-worker-lifetime 1 to 6 s, log json")
    load(server)
    wait_for(lambda: 1 in Lives(server).order(), "the end of worker 1")
    lives = Lives(server)
    assert sorted(set(lives.order()), key=lives.order().index) == [4, 3, 2, 1]


# ---- max-worker-lifetime ----


def test_lifetimes_end_one_by_one(uwsgi):
    server = uwsgi(probe=None, **RESPAWN, max_worker_lifetime=9, **{SPREAD: 90})
    server.wait_log(r"slowwatch: watching .*, max-worker-lifetime 3 to 9 s, log json")
    wait_for(lambda: 1 in [worker for worker, _ in Lives(server).old], "the end of worker 1")
    ages = {worker: [] for worker in range(1, WORKERS + 1)}
    for worker, seconds in Lives(server).old:
        ages[worker].append(seconds)
    first = {worker: seconds[0] for worker, seconds in ages.items()}
    assert sorted(first, key=first.get) == [4, 3, 2, 1]
    # uWSGI waits until the age is over the limit, and looks once a second: or later, on a busy machine
    assert all(first[worker] > limit for worker, limit in {1: 9, 2: 7, 3: 5, 4: 3}.items())
    assert len(ages[4]) >= 2
    assert max(ages[4]) < first[1]


def test_without_the_spread_lifetimes_end_together(uwsgi):
    server = uwsgi(probe=None, **RESPAWN, max_worker_lifetime=3, **{SPREAD: 0})
    wait_for(lambda: len(Lives(server).old) >= WORKERS, "the end of all workers")
    old = Lives(server).old[:WORKERS]
    assert sorted(worker for worker, _ in old) == [1, 2, 3, 4]
    assert len({seconds for _, seconds in old}) == 1


def test_the_spread_of_uwsgi_wins(uwsgi):
    server = uwsgi(**RESPAWN, max_worker_lifetime=3600, max_worker_lifetime_delta=60, **{SPREAD: 20})
    assert any("max-worker-lifetime-delta is set" in line for line in server.said())
    assert not any(re.search(r"max-worker-lifetime \d+ to", line) for line in server.said())


def test_nothing_is_spread_without_limits(uwsgi):
    server = uwsgi(processes=WORKERS)
    assert not any("max-requests" in line or "lifetime" in line for line in server.said())
