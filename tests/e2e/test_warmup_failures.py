"""A warm-up that fails, hangs or kills its worker: what is said, that it ends, and that it never ends the service."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from clients import wait_for
from harness import APPS, Uwsgi, innermost, line_of
from warmups import Stats, host_plugin, noted, options, start, start_gevent, warmups

ATTEMPTS = 3
LIMIT = 1  # second for a request of the warm-up
SOON = 10  # seconds for the end of a process, where its request would take an hour
PATIENCE_OF_GUARD = 5  # seconds from the first interruption until the process is replaced


def launch(uwsgi, path, limit=LIMIT, **more):
    server = uwsgi.make(**options(slowwatch_warmup=path, slowwatch_warmup_timeout=limit, **more)).launch()
    server.wait_started(workers=1)
    return server


def gave_up(server, **match):
    """Waits until a worker accepts cold; all that was told before."""
    wait_for(lambda: warmups(server, result="gave up", **match), "the worker gives up", timeout=60)
    return warmups(server, **match)


def spawned(server):
    return len(re.findall(r"spawned uWSGI worker", server.log(), re.IGNORECASE))


# ---- answers that are no success ----


@pytest.mark.parametrize(
    ("path", "status", "advice"),
    [
        ("/status?of=400", 400, "slowwatch-warmup-host"),
        ("/status?of=401", 401, "slowwatch-warmup-header"),
        ("/status?of=403", 403, "slowwatch-warmup-header"),
        ("/status?of=404", 404, "correct slowwatch-warmup"),
        ("/status?of=405", 405, "slowwatch-warmup = HEAD /path"),
        ("/status?of=500", 500, "log of the application"),
        ("/status?of=503", 503, "log of the application"),
    ],
)
def test_error_status(uwsgi, path, status, advice):
    server = launch(uwsgi, path)
    told = gave_up(server)
    assert [one["result"] for one in told] == ["failed"] * ATTEMPTS + ["gave up"]
    assert [one["attempt"] for one in told] == [1, 2, 3, 3]
    assert {one["status"] for one in told} == {status}
    assert advice in told[0]["reason"]
    assert "next attempt in 1 s" in told[0]["reason"]
    assert "next attempt in 2 s" in told[1]["reason"]
    assert "next attempt" not in told[2]["reason"]
    assert "accepts requests although it is not warm" in told[3]["reason"]
    assert server.get("/").status == 200
    assert spawned(server) == 1


def test_exception_with_its_traceback(uwsgi):
    server = launch(uwsgi, "/fail")
    first = gave_up(server)[0]
    assert (first["result"], first["status"], first["bytes"]) == ("failed", 500, 0)
    assert first["reason"].startswith("cold.AppError: no such table: orders; ")
    frames = [(frame["line"], frame["function"]) for frame in first["stack"]["frames"]]
    assert frames[-1] == (line_of("cold.py", "fail"), "fail")
    assert frames[-2][1] == "application"
    assert server.get("/").status == 200


def test_exception_as_text(uwsgi):
    server = launch(uwsgi, "/fail", log="text")
    server.wait_log(r"^slowwatch: warm-up of worker 1 \(pid \d+\) failed: GET /fail → 500, .*: cold\.AppError: no such")
    server.wait_log(rf'^  File ".*cold\.py", line {line_of("cold.py", "fail")}, in fail\n    raise AppError')


def test_exception_in_the_middle_of_the_body(uwsgi):
    """The status was good until then."""
    server = launch(uwsgi, "/fail-late")
    first = gave_up(server)[0]
    assert (first["result"], first["status"]) == ("failed", 200)
    assert "in the middle of the body" in first["reason"]


def test_exception_in_a_further_application(uwsgi, tmp_path):
    """Another interpreter."""
    apps = str(APPS / "cold.py")
    server = uwsgi.make(
        **options(
            app=None, pythonpath=str(APPS), mount=[f"/one={apps}", f"/two={apps}"], threads=2,
            manage_script_name=True, slowwatch_warmup=["/one/", "/two/fail"],
        )
    ).launch()  # fmt: skip
    server.wait_started()
    told = gave_up(server)
    assert [(one["path"], one["result"]) for one in told[:2]] == [("/one/", "ok"), ("/two/fail", "failed")]
    assert "no such table: orders" in told[1]["reason"]
    assert [one["path"] for one in told[2:]] == ["/two/fail"] * 3  # what has worked is not asked for again


def test_no_application_there(uwsgi):
    server = launch(uwsgi, "/", app=None, plugins=Uwsgi.plugin_list("slowwatch"))
    told = gave_up(server)
    assert told[0]["result"] == "failed"
    assert told[0]["status"] == 500


def test_no_python_there(uwsgi, tmp_path):
    server = launch(uwsgi, "/", app=None, plugins="slowwatch," + host_plugin("notfound"), check_static=str(tmp_path))
    assert gave_up(server)[0]["result"] == "failed"


def test_works_at_the_second_attempt(uwsgi, tmp_path):
    flag = tmp_path / "flag"
    server = launch(uwsgi, f"/when-there?file={flag}")
    server.wait_event("warmup")
    flag.touch()
    told = warmups(server, 2)
    assert [(one["result"], one["attempt"]) for one in told] == [("failed", 1), ("ok", 2)]
    assert server.get("/").status == 200


def test_next_process_tries_again(uwsgi, tmp_path):
    """A worker that gave up does not stay cold for ever."""
    flag = tmp_path / "flag"
    server = launch(uwsgi, f"/when-there?file={flag}")
    gave_up(server)
    flag.touch()
    before = server.workers()[1]
    os.kill(before, signal.SIGKILL)
    last = warmups(server, ATTEMPTS + 2)[-1]
    assert (last["result"], last["attempt"]) == ("ok", 1)


def test_said_although_reports_are_off(uwsgi):
    server = launch(uwsgi, "/status?of=500", log="off")
    server.wait_log(r"slowwatch: warm-up of worker 1 gave up: GET /status")


# ---- hangs ----


@pytest.mark.parametrize("more", [{}, {"threads": 3}, {"enable_threads": None}, {"master": None}], ids=str)
@pytest.mark.parametrize("path", ["/sleep?seconds=60", "/loop"])
def test_hang_is_interrupted(uwsgi, path, more):
    server = launch(uwsgi, path, **more)
    told = gave_up(server)
    assert [one["result"] for one in told] == ["timed out"] * ATTEMPTS + ["gave up"]
    assert all(LIMIT * 1000 <= one["took_ms"] < LIMIT * 1000 + 900 for one in told[:ATTEMPTS]), told
    assert "slowwatch-warmup-timeout" in told[0]["reason"]
    name = path[1:].partition("?")[0]
    assert (line_of("cold.py", name), name) in [
        (frame["line"], frame["function"]) for frame in told[0]["stack"]["frames"]
    ]
    assert len(server.wait_event("request_finished", count=ATTEMPTS)) == len(server.events("slow_request")) == ATTEMPTS
    assert "took too long" not in server.get("/").text
    assert [server.get("/").status for _ in range(5)] == [200] * 5  # nothing of it hits a later request
    assert spawned(server) == 1


def test_no_signal_stays_in_use(uwsgi):
    """What interrupts a warm-up is taken back."""
    server = launch(uwsgi, "/sleep?seconds=60")
    gave_up(server)
    assert server.get("/").status == 200
    status = Path(f"/proc/{server.workers()[1]}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s+([0-9a-f]+)", status, re.MULTILINE)[1], 16)
    assert caught >> (signal.SIGRTMIN - 1) == 0, hex(caught)


def test_hang_in_gevent(uwsgi):
    server = start_gevent(uwsgi, slowwatch_warmup="/sleep?seconds=60", slowwatch_warmup_timeout=LIMIT)
    assert [one["result"] for one in gave_up(server)] == ["timed out"] * ATTEMPTS + ["gave up"]
    assert [server.get("/").status for _ in range(5)] == [200] * 5


def test_hang_is_reported_like_a_slow_request(uwsgi):
    """Half of its time before it is interrupted."""
    server = launch(uwsgi, "/sleep?seconds=60", threshold=30)
    event = server.wait_event("slow_request")
    assert innermost(event) == ("cold.py", line_of("cold.py", "sleep"), "sleep")
    assert LIMIT / 2 * 1000 <= event["elapsed_ms"] < LIMIT * 1000
    assert event["request"]["user_agent"] == "slowwatch-warmup"
    end = server.wait_event("request_finished")
    assert end["id"] == event["id"]


def test_hang_is_reported_although_nothing_else_is_watched(uwsgi):
    server = launch(uwsgi, "/sleep?seconds=60", threshold=0)
    server.wait_event("slow_request")
    gave_up(server)
    assert server.get(f"/sleep?seconds={2 * LIMIT}").status == 200
    assert {event["request"]["uri"] for event in server.events("slow_request")} == {"/sleep?seconds=60"}


@pytest.mark.parametrize("path", ["/stubborn", "/hold-gil"])
def test_hang_that_cannot_be_interrupted(uwsgi, path):
    """The process is replaced; after as many attempts the worker serves cold."""
    server = launch(uwsgi, path, slowwatch_warmup_parallel=0)
    told = gave_up(server)
    assert [one["result"] for one in told] == ["hangs"] * ATTEMPTS + ["gave up"]
    assert [one["attempt"] for one in told] == [1, 2, 3, 3]
    assert [one["why"] for one in told] == ["first start"] + ["its warm-up hung"] * 3
    assert len({one["pid"] for one in told}) == ATTEMPTS + 1
    assert all(LIMIT + PATIENCE_OF_GUARD <= one["took_ms"] / 1000 < LIMIT + PATIENCE_OF_GUARD + 2 for one in told[:3])
    assert server.get("/").status == 200
    assert spawned(server) == ATTEMPTS + 1
    assert server.workers()[1] == told[-1]["pid"]
    slow = server.events("slow_request")
    assert [event["pid"] for event in slow] == [one["pid"] for one in told[:ATTEMPTS]]
    assert {event["request"]["uri"] for event in slow} == {path}
    ends = server.wait_event("worker_died", count=ATTEMPTS)
    assert {event["id"] for event in ends} == {event["id"] for event in slow}
    assert "DAMN" not in server.log()


def test_hang_that_cannot_be_interrupted_without_a_master(uwsgi):
    """Nobody would start another process: it waits on, and says so."""
    server = launch(uwsgi, "/hold-gil", master=None)
    told = warmups(server, result="hangs") or [wait_for(lambda: warmups(server, result="hangs"), "the hang")[0]]
    assert "without a master" in told[0]["reason"]
    assert server.process.poll() is None


def test_hang_in_a_further_application(uwsgi):
    """Python runs no signal handlers in another interpreter: the process is replaced."""
    apps = str(APPS / "cold.py")
    server = uwsgi.make(
        **options(
            app=None, pythonpath=str(APPS), mount=[f"/one={apps}", f"/two={apps}"],
            manage_script_name=True, slowwatch_warmup="/two/sleep?seconds=60", slowwatch_warmup_timeout=LIMIT,
        )
    ).launch()  # fmt: skip
    server.wait_started()
    assert [one["result"] for one in gave_up(server)] == ["hangs"] * ATTEMPTS + ["gave up"]
    assert server.get("/two/").status == 200


# ---- deaths ----


@pytest.mark.parametrize("path", ["/leave", "/crash", "/exit"])
def test_warmup_that_ends_its_process(uwsgi, path):
    """No endless chain of new processes."""
    server = launch(uwsgi, path)
    told = gave_up(server)
    assert [one["result"] for one in told] == ["died"] * ATTEMPTS + ["gave up"]
    assert [one["attempt"] for one in told] == [1, 2, 3, 3]
    assert server.get("/").status == 200
    assert spawned(server) == ATTEMPTS + 1
    pid = server.workers()[1]
    time.sleep(1)  # the master looks for dead workers once a second
    assert server.workers()[1] == pid


def test_warmup_that_works_at_last(uwsgi, tmp_path):
    """Two processes die in it, the third is warm: the deaths before it are forgotten."""
    server = launch(uwsgi, f"/once-a-while?deaths=2&file={tmp_path}/pids")
    told = warmups(server, 3)
    assert [(one["result"], one["attempt"]) for one in told] == [("died", 1), ("died", 2), ("ok", 3)]
    assert server.get("/").text.startswith("warm")
    (tmp_path / "pids").unlink()
    os.kill(server.workers()[1], signal.SIGKILL)
    told = warmups(server, 6)
    assert [(one["result"], one["attempt"]) for one in told[3:]] == [("died", 1), ("died", 2), ("ok", 3)]


def test_deadline_of_the_applications_own(uwsgi):
    """uWSGI's user harakiri is the application's wish, and kills; but not for ever."""
    server = launch(uwsgi, "/own-harakiri")
    told = gave_up(server)
    assert [one["result"] for one in told] == ["died"] * ATTEMPTS + ["gave up"]
    assert {one["why"] for one in told} == {"harakiri"}  # the next process tells of the death
    assert server.get("/").status == 200


def test_harakiri_does_not_count_the_warmup(uwsgi):
    server = start(uwsgi, harakiri=1, threshold=0.4, slowwatch_warmup="/sleep?seconds=4", probe=None)
    assert server.get("/").status == 200
    assert [one["result"] for one in warmups(server)] == ["ok"]
    assert spawned(server) == 1
    assert server.get("/sleep?seconds=20").status == 0  # it is back for others


def test_memory_limit_does_not_end_the_warmup(uwsgi):
    server = start(uwsgi, reload_on_as=1, min_worker_lifetime=0, memory_report=True, probe=None)
    for _ in range(3):
        assert server.get("/").text.startswith("warm")
    assert {one["result"] for one in warmups(server, 3)} == {"ok"}
    assert {one["why"] for one in warmups(server, 3)[1:3]} == {"memory limit"}


# ---- required ----


def test_required_keeps_the_worker_from_accepting(uwsgi, tmp_path):
    flag, stats = tmp_path / "flag", Stats()
    server = launch(
        uwsgi, ["/", f"/when-there?file={flag}"], slowwatch_warmup_required=True, stats=stats.option, processes=2
    )
    client = server.background("/")
    told = wait_for(lambda: warmups(server, attempt=ATTEMPTS), "three attempts")
    assert "the worker accepts nothing until this works (slowwatch-warmup-required)" in told[0]["reason"]
    assert [worker["accepting"] for worker in stats.workers()] == [0, 0]
    # attempts go on: what the application was asked for grows
    marks = [line for line in server.lines() if "gave up" in line]
    assert not marks
    assert not client.done
    flag.touch()
    assert client.result(timeout=60).text.startswith("warm")
    wait_for(lambda: [worker["accepting"] for worker in stats.workers()] == [1, 1], "both accept")
    assert [one["path"] for one in warmups(server, result="ok")].count("/") == 2


def test_required_survives_deaths(uwsgi, tmp_path):
    server = launch(uwsgi, f"/once-a-while?deaths=4&file={tmp_path}/pids", slowwatch_warmup_required=True)
    assert server.get("/", timeout=120).text.startswith("warm")
    assert [one["result"] for one in warmups(server, 5)] == ["died"] * 4 + ["ok"]


def test_required_stops_a_chain_reload(uwsgi, tmp_path):
    """The new version does not work: its first worker does not accept, and the others go on with the old one."""
    flag, touch = tmp_path / "flag", tmp_path / "touch"
    flag.touch()
    touch.touch()
    server = start(
        uwsgi, processes=3, slowwatch_warmup=["/", f"/when-there?file={flag}"], slowwatch_warmup_required=True,
        touch_chain_reload=str(touch),
    )  # fmt: skip
    warmups(server, 6)
    old = dict(server.workers())
    flag.unlink()
    os.utime(touch, (2_000_000_000, 2_000_000_000))  # uWSGI compares whole seconds
    wait_for(lambda: warmups(server, attempt=ATTEMPTS), "three attempts")
    assert {number for number, pid in server.workers().items() if old[number] != pid} == {1}
    answers = [server.get("/").text.split() for _ in range(6)]
    assert {state for state, _ in answers} == {"warm"}
    assert {int(pid) for _, pid in answers} <= {old[2], old[3]}
    flag.touch()
    server.wait_log("chain reloading complete", timeout=60)
    assert not set(server.workers().values()) & set(old.values())


def test_required_says_so_every_minute(uwsgi):
    """And not with each attempt."""
    server = launch(uwsgi, "/status?of=503", slowwatch_warmup_required=True)
    wait_for(lambda: len(warmups(server)) > ATTEMPTS, "the line of the next minute", timeout=100)
    told = warmups(server)
    assert len(told) == ATTEMPTS + 1
    assert told[-1]["attempt"] > ATTEMPTS + 2
    assert re.search(r"accepts nothing until this works .* for (1 min|6\d\.\d s).* so far", told[-1]["reason"])
    moments = [event["time"] for event in server.events("warmup")]
    assert moments == sorted(moments)


# ---- asked to leave meanwhile ----


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.parametrize("where", ["in a request", "between attempts"])
def test_end_of_the_server_meanwhile(uwsgi, tmp_path, where, signum, threads):
    path = f"/sleep?seconds=3600&file={tmp_path}/began" if where == "in a request" else "/status?of=503"
    server = launch(
        uwsgi, path, limit=600, processes=2, threads=threads, die_on_term=signum == signal.SIGTERM or None,
        slowwatch_warmup_required=True, worker_reload_mercy=60,
    )  # fmt: skip
    if where == "in a request":
        wait_for(lambda: noted(tmp_path / "began"), "the request of the warm-up")
    else:
        server.wait_event("warmup")
    ends_soon(server, lambda: server.stop(signum))


def ends_soon(server, action):
    began = time.monotonic()
    action()
    assert time.monotonic() - began < SOON
    assert "Segmentation" not in server.log()
    assert "Aborted" not in server.log()


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("path", ["/sleep?seconds=3600", "/stubborn"])
def test_reload_meanwhile(uwsgi, tmp_path, path, threads):
    """A graceful reload waits for requests of clients; one of a warm-up is not worth waiting for."""
    began = tmp_path / "began"
    paths = [f"/sleep?seconds=0&file={began}", path]
    server = launch(uwsgi, paths, limit=600, threads=threads, worker_reload_mercy=60)
    for turn in (1, 2):
        wait_for(lambda turn=turn: len(noted(began)) == turn, "the warm-up")
        mark = server.mark()
        server.process.send_signal(signal.SIGHUP)
        ends_soon(server, lambda mark=mark: server.wait_started(since=mark))
    wait_for(lambda: len(noted(began)) == 3, "the warm-up")


def test_leaving_is_no_failure(uwsgi, tmp_path):
    """Workers that are reloaded in their warm-up again and again do not end cold."""
    touch, began = tmp_path / "touch", tmp_path / "began"
    touch.touch()
    server = launch(uwsgi, f"/sleep?seconds=2&file={began}", limit=30, touch_workers_reload=str(touch))
    for turn in range(1, ATTEMPTS + 2):
        wait_for(lambda turn=turn: len(noted(began)) == turn, "the warm-up")
        pid = server.workers()[1]
        os.utime(touch, (2_000_000_000 + turn, 2_000_000_000 + turn))
        wait_for(lambda pid=pid: server.workers().get(1, pid) != pid, "the next process")
    told = warmups(server)
    assert [(one["result"], one["attempt"], one["why"]) for one in told] == [("ok", 1, "reload")]
