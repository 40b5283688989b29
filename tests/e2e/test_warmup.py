"""A new worker sends itself real requests before it accepts: in every mode, in every way to start, counted nowhere."""

import json
import os
import re
import signal

import pytest
from clients import wait_for
from harness import APPS, UWSGI
from warmups import Stats, host_plugin, loop_plugin, noted, options, plugins_with, start, start_gevent, warmups

MAX_REQUESTS = 5
HARAKIRI = 2


def state(server, path="/", **kwargs):
    """What the page says: "warm" or "cold", and the process."""
    response = server.get(path, **kwargs)
    assert response.status == 200, response
    return response.text.split()


def seen(server):
    """What the one worker's application was asked for, in order."""
    return json.loads(server.get("/seen").text)


# ---- in every mode ----


@pytest.mark.parametrize(
    "more",
    [
        {"processes": 2},
        {"processes": 2, "lazy_apps": None},
        {"threads": 4},
        {"threads": 4, "lazy_apps": None},
        {"processes": 2, "threads": 2, "thunder_lock": True},
        {"enable_threads": None},
        {"enable_threads": None, "lazy_apps": None},
        {"master": None},
        {"master": None, "threads": 3},
        {"single_interpreter": True},
        {"harakiri": 1, "cold": "1.5"},
        {"offload_threads": 1},
        {"py_call_osafterfork": True},
    ],
    ids=lambda more: "-".join(f"{name}={value}" for name, value in more.items()),
)
def test_no_request_meets_a_cold_worker(uwsgi, more):
    cold = more.pop("cold", "0.3")
    server = start(uwsgi, probe=None, env={"COLD_SECONDS": cold}, **more)
    clients = [server.background("/") for _ in range(8)]
    assert [client.result().text.split()[0] for client in clients] == ["warm"] * len(clients)
    found = warmups(server, more.get("processes", 1))
    assert {(one["result"], one["why"]) for one in found} == {("ok", "first start")}


def test_gevent(uwsgi):
    server = start_gevent(uwsgi, processes=2, probe=None)
    assert [state(server)[0] for _ in range(8)] == ["warm"] * 8
    assert {one["result"] for one in warmups(server)} == {"ok"}


def test_asyncio(uwsgi):
    plugins = plugins_with(loop_plugin("asyncio"), loop_plugin("greenlet"))
    server = start(uwsgi, plugins=plugins, asyncio=8, greenlet=True, probe=None)
    assert [state(server)[0] for _ in range(4)] == ["warm"] * 4
    assert {one["result"] for one in warmups(server)} == {"ok"}


def test_ugreen(uwsgi):
    options = {"ugreen": True, "async": 8, "enable_threads": None}  # ugreen does not go with threads
    server = start(uwsgi, plugins=plugins_with(loop_plugin("ugreen")), probe=None, **options)
    assert [state(server)[0] for _ in range(4)] == ["warm"] * 4
    assert {one["result"] for one in warmups(server)} == {"ok"}


def test_async_with_a_streamed_answer(uwsgi):
    """In the async modes an answer in pieces needs the loop between them, which does not run yet."""
    server = start(uwsgi, probe=None, slowwatch_warmup="/big?pieces=40", **{"async": 4})
    assert server.get("/").status == 200
    assert [(one["result"], one["bytes"]) for one in warmups(server)] == [("ok", 40 * 65536)]


def test_further_mounted_applications(uwsgi):
    """Each has an interpreter of its own, and is as cold as the first."""
    server = uwsgi(
        **options(
            app=None, pythonpath=str(APPS), mount=[f"/one={APPS}/cold.py", f"/two={APPS}/cold.py"], threads=2,
            manage_script_name=True, slowwatch_warmup=["/one/", "/two/"], probe=None,
        )
    )  # fmt: skip
    assert state(server, "/one/")[0] == state(server, "/two/")[0] == "warm"
    assert [(one["path"], one["result"]) for one in warmups(server, 2)] == [("/one/", "ok"), ("/two/", "ok")]


# ---- in every way to start ----


def new_process(server, before, worker=1):
    """Waits for the next process of the worker and returns what its page says."""
    wait_for(lambda: server.workers().get(worker, before) != before, "a new process")
    return state(server)


def test_after_max_requests(uwsgi):
    server = start(uwsgi, max_requests=MAX_REQUESTS, min_worker_lifetime=0, probe=None)
    states = [state(server) for _ in range(4 * MAX_REQUESTS)]
    assert {word for word, _ in states} == {"warm"}
    # the warm-up itself is none of the requests after which a worker is replaced
    assert [sum(pid == one for _, pid in states) for one in dict.fromkeys(pid for _, pid in states)] == [
        MAX_REQUESTS
    ] * 4
    assert [one["why"] for one in warmups(server, 4)[:4]] == ["first start"] + ["max-requests"] * 3


def test_after_max_worker_lifetime(uwsgi):
    server = start(uwsgi, max_worker_lifetime=2, min_worker_lifetime=1)
    before = server.workers()[1]
    assert new_process(server, before)[0] == "warm"
    assert [one["why"] for one in warmups(server, 2)][:2] == ["first start", "max-worker-lifetime"]


def test_after_harakiri(uwsgi):
    server = start(uwsgi, harakiri=HARAKIRI, threshold=0.5)
    before = server.workers()[1]
    assert server.get("/sleep?seconds=20").status == 0
    assert new_process(server, before)[0] == "warm"
    assert [one["why"] for one in warmups(server, 2)] == ["first start", "harakiri"]


def test_after_kill(uwsgi):
    server = start(uwsgi)
    before = server.workers()[1]
    os.kill(before, signal.SIGKILL)
    assert new_process(server, before)[0] == "warm"
    assert [one["why"] for one in warmups(server, 2)] == ["first start", "killed or crashed"]


def test_after_reload(uwsgi):
    server = start(uwsgi)
    mark = server.mark()
    server.process.send_signal(signal.SIGHUP)
    server.wait_started(since=mark)
    assert state(server)[0] == "warm"
    assert [one["why"] for one in warmups(server, 2)] == ["first start", "reload"]


@pytest.mark.parametrize("how", ["chain_reload", "workers_reload"])
def test_after_touch(uwsgi, tmp_path, how):
    touch = tmp_path / "touch"
    touch.touch()
    server = start(uwsgi, processes=2, **{"touch_" + how: str(touch)})
    server.wait_event("warmup", count=2)
    before = set(server.workers().values())
    os.utime(touch, (2_000_000_000, 2_000_000_000))  # uWSGI compares whole seconds
    wait_for(lambda: len(server.workers()) == 2 and not before & set(server.workers().values()), "two new workers")
    server.wait_event("warmup", count=4)
    assert {state(server)[0] for _ in range(4)} == {"warm"}
    assert [one["why"] for one in warmups(server, 4)] == ["first start"] * 2 + ["reload"] * 2


def test_after_cheaper(uwsgi):
    """Workers that come when there is more to do, and go when there is less."""
    server = uwsgi.make(
        **options(processes=2, cheaper=1, cheaper_initial=1, cheaper_step=1, cheaper_overload=1)
    ).launch()
    server.wait_started(workers=1)
    server.wait_event("warmup", worker=1)
    busy = [server.background("/sleep?seconds=4") for _ in range(2)]
    server.wait_event("warmup", worker=2)
    assert [client.result().status for client in busy] == [200, 200]
    server.wait_log(r"uWSGI worker \d cheaped")
    busy = [server.background("/sleep?seconds=4") for _ in range(2)]
    third = server.wait_event("warmup", count=3)[2]
    assert [client.result().status for client in busy] == [200, 200]
    assert third["warmup"]["why"] == "cheaper"


# ---- a real request ----


def test_several_in_order(uwsgi):
    server = start(uwsgi, probe=None, slowwatch_warmup=["/", "POST /a%%20b/%%2f/x?q=1&%%41", "/status?of=204"])
    assert seen(server)[:3] == ["GET /", "POST /a%20b/%2f/x?q=1&%41", "GET /status?of=204"]
    results = [
        (one["method"], one["path"].partition("?")[0], one["status"], one["result"]) for one in warmups(server, 3)
    ]
    assert results == [
        ("GET", "/", 200, "ok"), ("POST", "/a%20b/%2f/x", 200, "ok"), ("GET", "/status", 204, "ok"),
    ]  # fmt: skip


def environ_of_warmup(server):
    """What /keep left in the file."""
    return json.loads((server.folder / "kept.json").read_text())


def test_environ(uwsgi):
    server = start(
        uwsgi, probe=None, slowwatch_warmup="PUT /keep/a%%20b?file=kept.json&x=%%41", route_run="addvar:ROUTED=yes",
        slowwatch_warmup_host="www.example.org:8080",
        slowwatch_warmup_header=["X-Forwarded-Proto: https", "Content-Type: text/plain", "Cookie: a=1; b=2"],
    )  # fmt: skip
    assert server.get("/").status == 200
    kept = environ_of_warmup(server)
    assert {name: kept.get(name) for name in EXPECTED} == EXPECTED
    assert kept["body"] == ""


EXPECTED = {
    "REQUEST_METHOD": "PUT",
    "REQUEST_URI": "/keep/a%20b?file=kept.json&x=%41",
    "PATH_INFO": "/keep/a b",
    "QUERY_STRING": "file=kept.json&x=%41",
    "SCRIPT_NAME": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_NAME": "www.example.org",
    "SERVER_PORT": "8080",
    "HTTP_HOST": "www.example.org:8080",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_USER_AGENT": "slowwatch-warmup",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_COOKIE": "a=1; b=2",
    "CONTENT_TYPE": "text/plain",
    "ROUTED": "yes",
    "wsgi.url_scheme": "https",
}


def test_user_agent_of_ones_own(uwsgi):
    server = start(
        uwsgi, probe=None, slowwatch_warmup="/keep?file=kept.json", slowwatch_warmup_header="User-Agent: probe"
    )
    assert server.get("/").status == 200
    assert environ_of_warmup(server)["HTTP_USER_AGENT"] == "probe"


def test_secrets_of_the_query_stay(uwsgi):
    server = start(uwsgi, probe=None, slowwatch_warmup="/?page=1&token=topsecret")
    assert server.get("/").status == 200
    (one,) = warmups(server)
    assert one["path"].startswith("/?page=1&token=")
    assert "topsecret" not in server.log()


def test_redirect_is_shown_and_not_followed(uwsgi):
    server = start(uwsgi, probe=None, slowwatch_warmup="/redirect")
    assert seen(server) == ["GET /redirect", "GET /seen"]
    (one,) = warmups(server)
    assert (one["status"], one["result"]) == (301, "redirected")
    assert "https://www.example.org/there" in one["reason"]
    assert "hidden" not in server.log()


def test_redirect_by_a_route(uwsgi):
    redirects = plugins_with(host_plugin("router_redirect"))
    server = uwsgi.make(**options(plugins=redirects))
    server.options["route-if-not"] = "equal:${HTTP_X_FORWARDED_PROTO};https redirect-permanent:https://${HTTP_HOST}/"
    server.launch()
    server.wait_started()
    (one,) = warmups(server)
    assert (one["status"], one["result"]) == (301, "redirected")
    assert "https://localhost/" in one["reason"]


def test_big_answer(uwsgi):
    server = start(uwsgi, probe=None, slowwatch_warmup="/big?pieces=300")
    assert server.get("/").status == 200
    assert [(one["result"], one["bytes"]) for one in warmups(server)] == [("ok", 300 * 65536)]


# ---- counted nowhere ----


@pytest.mark.parametrize("threads", [1, 3])
def test_not_counted(uwsgi, threads):
    stats = Stats()
    server = start(uwsgi, probe=None, slowwatch_warmup=["/", "/sleep?seconds=0.2"], stats=stats.option, threads=threads)
    assert state(server)[0] == "warm"
    (worker,) = stats.workers()
    assert (worker["requests"], worker["delta_requests"]) == (1, 1)
    assert sum(core["requests"] for core in worker["cores"]) == 1
    assert worker["apps"][0]["requests"] == 1
    assert worker["running_time"] < 100_000  # microseconds: without the 0.3 + 0.2 s of the warm-up
    assert worker["avg_rt"] < 100_000
    assert len(warmups(server, 2)) == 2
    requests = [line for line in server.lines() if re.search(r"\[pid: \d+\|app: ", line)]
    assert len(requests) == 1, requests


def test_not_reported_as_slow(uwsgi):
    """A cold application takes longer than the threshold of its pages."""
    server = start(uwsgi, probe=None, threshold=0.1, env={"COLD_SECONDS": "1"})
    assert state(server)[0] == "warm"
    assert server.get("/sleep?seconds=0.5").status == 200
    server.wait_event("request_finished")
    assert {event["request"]["uri"] for event in server.events("slow_request")} == {"/sleep?seconds=0.5"}


def test_cpu_time_of_the_warmup_is_not_that_of_the_first_request(uwsgi):
    server = start(uwsgi, probe=None, threshold=0.4, slowwatch_warmup="/spin?seconds=1", sample_interval=50)
    assert server.get("/sleep?seconds=1").status == 200
    event = server.wait_event("request_finished")
    assert event["request"]["uri"] == "/sleep?seconds=1"
    slow = server.wait_event("slow_request")
    assert slow["thread"].get("cpu_ms", 0) < 300, slow


def test_emperor(uwsgi):
    """A vassal is ready when it has warmed up, and loyal after a request of a client."""
    server = uwsgi.make(**options())
    server.launch([UWSGI, "--emperor", str(server.folder)])
    server.wait_log("is ready to accept requests")
    assert [one["result"] for one in warmups(server)] == ["ok"]
    assert "loyal" not in server.log()
    assert state(server)[0] == "warm"
    server.wait_log("announcing my loyalty to the Emperor")


# ---- its place in the life of the server ----


def test_accepting_is_said_after_it(uwsgi):
    """The mark that chain reload waits for."""
    stats = Stats()
    server = uwsgi.make(
        **options(stats=stats.option, slowwatch_warmup="/sleep?seconds=3", processes=2, slowwatch_warmup_parallel=0)
    ).launch()
    server.wait_started()
    wait_for(lambda: "spawned" in server.log() and server.workers(), "workers")
    wait_for(stats_ready(stats), "the stats server")
    assert [worker["accepting"] for worker in stats.workers()] == [0, 0]
    server.wait_event("warmup", count=2)
    wait_for(lambda: [worker["accepting"] for worker in stats.workers()] == [1, 1], "two accepting workers")


def stats_ready(stats):
    def ready():
        try:
            return stats.workers()
        except OSError:
            return None

    return ready


def test_one_after_the_other(uwsgi):
    server = uwsgi.make(**options(processes=4, slowwatch_warmup="/span?file=spans&seconds=0.4"))
    assert overlaps(server, 4) == 1


def test_two_at_once_after_the_first(uwsgi):
    server = uwsgi.make(
        **options(processes=5, slowwatch_warmup="/span?file=spans&seconds=0.6", slowwatch_warmup_parallel=2)
    )
    assert overlaps(server, 5) == 2
    spans = spans_of(server)
    first_end = min(end for _, end in spans)
    assert sum(begin < first_end for begin, _ in spans) == 1  # the first had the server for itself


def test_all_at_once(uwsgi):
    server = uwsgi.make(
        **options(processes=3, slowwatch_warmup="/span?file=spans&seconds=1.5", slowwatch_warmup_parallel=0)
    )
    assert overlaps(server, 3) == 3


def spans_of(server):
    """When each warm-up began and ended, as the application noted it."""
    return [tuple(map(float, line.split())) for line in (server.folder / "spans").read_text().splitlines()]


def overlaps(server, workers):
    """The most warm-ups that ran at the same time."""
    server.launch()
    server.wait_started()
    server.wait_event("warmup", count=workers)
    spans = spans_of(server)
    assert len(spans) == workers
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


def test_a_dead_worker_holds_nobody_up(uwsgi):
    """The one that warms up is killed: the next has its turn at once, not after the time that it could have taken."""
    server = uwsgi.make(
        **options(processes=2, slowwatch_warmup="/first-hangs?file=first", slowwatch_warmup_timeout=600)
    ).launch()
    server.wait_started()
    (first,) = wait_for(lambda: noted(server.folder / "first"), "the first warm-up")
    os.kill(first, signal.SIGKILL)
    assert sorted(one["result"] for one in warmups(server, 3)) == ["died", "ok", "ok"]


def test_a_stopped_worker_holds_nobody_up_for_ever(uwsgi):
    server = uwsgi.make(
        **options(processes=2, slowwatch_warmup="/first-hangs?file=first", slowwatch_warmup_timeout=0.5)
    ).launch()
    server.wait_started()
    (first,) = wait_for(lambda: noted(server.folder / "first"), "the first warm-up")
    os.kill(first, signal.SIGSTOP)
    try:
        server.wait_event("warmup")
        assert server.get("/").status == 200
        server.wait_log(r"slowwatch: worker \d \(pid \d+\) waited .* goes ahead without its turn")
    finally:
        os.kill(first, signal.SIGCONT)


# ---- what cannot be a warm-up ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slowwatch-warmup", "page"),
        ("slowwatch-warmup", "GET"),
        ("slowwatch-warmup", "GET page"),
        ("slowwatch-warmup", "/a b"),
        ("slowwatch-warmup-host", "http://example.org/"),
        ("slowwatch-warmup-host", "a:b"),
        ("slowwatch-warmup-header", "X-No-Colon"),
        ("slowwatch-warmup-header", "Bad Name: x"),
        ("slowwatch-warmup-header", "Host: example.org"),
        ("slowwatch-warmup-header", "Content-Length: 5"),
        ("slowwatch-warmup-timeout", "0"),
        ("slowwatch-warmup-timeout", "soon"),
        ("slowwatch-warmup-required", "perhaps"),
        ("slowwatch-warmup-parallel", "-1"),
    ],
)
def test_wrong_values_end_the_start(uwsgi, name, value):
    server = uwsgi.make(**options())
    server.options[name] = value
    code, log = server.run_to_exit()
    assert code == 1
    assert re.search(rf'^slowwatch: {name} = "{re.escape(value)}": ', log, re.MULTILINE), log


def test_longer_than_the_buffer(uwsgi):
    server = uwsgi.make(**options(buffer_size=4096, slowwatch_warmup_header="X-Long: " + "x" * 4000)).launch()
    server.wait_started()
    server.wait_log(r"slowwatch: slowwatch-warmup GET /: .* buffer-size")
