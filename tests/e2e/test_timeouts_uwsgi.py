"""`with timeout(...)` in the application, in every shape a uWSGI server takes: what it interrupts, what the log says of
it, and that it stands in the way of no fork, no reload and no end."""

import json
import re
import signal

import pytest
from clients import PATIENCE, Gate, wait_for
from harness import APPS, innermost, line_of

APP = "timeouts:application"
NEVER = 3600  # seconds, as a threshold: nothing is slow
CORES = 4
MODES = {
    "plain": {},
    "lazy-apps": {"lazy_apps": True},
    "osafterfork": {"py_call_osafterfork": True},
    "lazy-apps, osafterfork": {"lazy_apps": True, "py_call_osafterfork": True},
    "without master": {"master": None},
    "without enable-threads": {"enable_threads": None},
    "without anything": {"master": None, "enable_threads": None},
    "several processes": {"processes": 2, "thunder_lock": True},
    "single-interpreter": {"single_interpreter": True},
}
# What an interpreter says when something went wrong in it that no request can answer for.
WRONG = r"Fatal Python error|Exception ignored|Traceback|SystemError|[Ss]egmentation|!!! uWSGI process|DAMN"


@pytest.fixture
def serving(uwsgi):
    """Makes a server with the application."""

    def server(**options):
        return uwsgi(**{"app": APP, "threshold": NEVER, "disable_logging": True, **options})

    return server


def body(response):
    assert response.status == 200, response
    return json.loads(response.body)


def answer(server, path):
    return body(server.get(path))["answer"]


def nothing_wrong(server):
    found = [line for line in server.lines() if re.search(WRONG, line)]
    assert not found, server.tail()


def check_raised(result, least=0.05, most=10.0):
    assert result["raised"] == "TooSlow"
    assert result["expired"]
    assert least <= result["took"] < most


def on_all_cores(server, path, cores=CORES):
    """The answers of a request on each core at the same time, by core. They wait for each other at a gate."""
    with Gate() as gate:
        calls = [server.background(f"{path}&gate={gate.port}") for _ in range(cores)]
        gate.wait_arrived(cores)
        gate.release()
        bodies = [body(call.result()) for call in calls]
    answers = {one["core"]: one["answer"] for one in bodies}
    assert sorted(answers) == list(range(cores))
    return answers


# ---- what is interrupted ----


@pytest.mark.parametrize("at_import", [None, "1"], ids=["", "used at import"])
@pytest.mark.parametrize("mode", MODES)
def test_main_thread_of_a_worker(serving, mode, at_import):
    server = serving(**MODES[mode], env={"TIMEOUTS_AT_IMPORT": at_import} if at_import else None)
    for work in ("sleep", "loop", "regex", "lock"):
        check_raised(answer(server, f"/limited?work={work}"))
    assert answer(server, "/everything") == ["TooSlow", "TooSlow", "TooSlow", "shielded", "TooSlow"]
    assert answer(server, "/child") == 0
    if at_import:
        check_raised(body(server.get("/ping"))["at_import"])
    nothing_wrong(server)


@pytest.mark.parametrize("mode", ["plain", "lazy-apps", "osafterfork", "without master", "without anything"])
def test_threads_of_a_worker(serving, mode):
    """Core 0 is the main thread and is interrupted in a call; the others when they are back in Python."""
    server = serving(threads=CORES, **{"enable_threads": True, **MODES[mode]})
    for work in ("loop", "slices"):
        for result in on_all_cores(server, f"/gathered?work={work}").values():
            check_raised(result)
    for core, result in on_all_cores(server, "/gathered?work=call").items():
        check_raised(result, least=0.05 if core == 0 else 0.4)
    assert answer(server, "/child") == 0
    nothing_wrong(server)


def test_every_core_at_once_again_and_again(serving):
    """No exception comes outside of its block, on whichever core."""
    server = serving(threads=CORES)
    calls = [server.background("/border?seconds=3") for _ in range(CORES)]
    counts = [body(call.result())["answer"] for call in calls]
    assert sum(count["fired"] for count in counts) > 100, counts
    assert sum(count["left"] for count in counts) > 100, counts
    nothing_wrong(server)


def mounted(serving, **options):
    """Two applications, each in an interpreter of its own."""
    return serving(
        app=None, pythonpath=str(APPS), mount=[f"/one={APPS}/timeouts.py", f"/two={APPS}/timeouts.py"],
        manage_script_name=True, probe="/one/ping", **options,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, CORES])
def test_mounted_applications(serving, threads):
    """In the main thread of an interpreter that is not the main one, too, Python code is interrupted."""
    server = mounted(serving, threads=threads)
    for mount in ("/one", "/two"):
        for work in ("loop", "slices"):
            for _ in range(2):
                check_raised(answer(server, f"{mount}/limited?work={work}"))
        assert answer(server, mount + "/everything") == ["TooSlow", "TooSlow", "TooSlow", "shielded", "TooSlow"]
    nothing_wrong(server)


def test_mounted_applications_on_every_core_at_once(serving):
    """None of them lets the others through: a deadline in one interpreter must not wait for a loop in another one."""
    server = mounted(serving, threads=CORES)
    for work in ("slices", "loop"):
        with Gate() as gate:
            calls = [
                server.background(f"{mount}/gathered?work={work}&gate={gate.port}")
                for mount in ("/one", "/two", "/one", "/two")
            ]
            gate.wait_arrived(CORES)
            gate.release()
            for call in calls:
                check_raised(body(call.result())["answer"], most=PATIENCE)
    nothing_wrong(server)


def test_threads_of_the_application(serving):
    server = serving()
    check_raised(answer(server, "/helper"))
    check_raised(answer(server, "/limited?work=sleep"))
    nothing_wrong(server)


def test_mules(serving):
    server = serving(mule=APPS / "timeouts.py")
    server.wait_log("in the mule: TooSlow TooSlow")
    check_raised(answer(server, "/limited?work=sleep"))


# ---- what the log says ----


def timeouts_of(server, count=1):
    events = server.wait_event("timeout", count=count)
    return [events] if count == 1 else events


def test_raised_in_the_main_thread_is_an_event(serving):
    server = serving()
    check_raised(answer(server, "/limited?work=sleep"))
    (event,) = timeouts_of(server)
    told = event["timeout"]
    assert (told["outcome"], told["exception"], told["limit_ms"]) == ("raised", "TooSlow", 50)
    assert told["late_ms"] < 5000
    assert innermost(event) == ("timeouts.py", line_of("timeouts.py", "sleep"), "sleep")
    assert event["request"]["uri"] == "/limited?work=sleep"
    assert (event["core"], event["pid"]) == (0, server.workers()[1])


def test_raised_on_every_core_is_an_event_of_its_request(serving):
    server = serving(threads=CORES)
    on_all_cores(server, "/gathered?work=slices")
    events = timeouts_of(server, CORES)
    assert {event["core"] for event in events} == set(range(CORES))
    for event in events:
        assert event["timeout"]["outcome"] == "raised"
        assert any(frame["function"] == "slices" for frame in event["stack"]["frames"])


@pytest.mark.parametrize("threads", [1, 2])
def test_swallowed_is_an_event(serving, threads):
    server = serving(threads=threads)
    for _ in range(threads):
        assert answer(server, "/swallowing") == {"expired": True}
    events = timeouts_of(server, 2 * threads)
    assert [event["timeout"]["outcome"] for event in events] == ["raised", "swallowed"] * threads


def test_in_time_is_no_event(serving):
    server = serving()
    with server.stuck("/held") as request:
        request.finish()
    check_raised(answer(server, "/limited?work=loop"))
    (event,) = timeouts_of(server)
    assert event["request"]["uri"] == "/limited?work=loop"


def test_stuck_is_an_event(serving):
    """A call that does not look, on a core that cannot be interrupted in it: that is said, and the exception comes when
    the call returns."""
    server = serving(threads=2)
    with Gate() as gate:
        calls = [server.background(f"/waiting?gate={gate.port}") for _ in range(2)]
        wait_for(lambda: any(event["timeout"]["outcome"] == "stuck" for event in server.events("timeout")), "it")
        assert sorted(call.done for call in calls) == [False, True]
        gate.release()
        answers = {one["core"]: one["answer"] for one in (body(call.result()) for call in calls)}
    check_raised(answers[0])
    check_raised(answers[1], least=1, most=PATIENCE)
    events = timeouts_of(server, 3)
    # "raised" in another thread: its exception is set, and waits there for the next bytecode
    outcomes = [(event["core"], event["timeout"]["outcome"]) for event in events]
    assert sorted(outcomes) == [(0, "raised"), (1, "raised"), (1, "stuck")]
    stuck = next(event for event in events if event["timeout"]["outcome"] == "stuck")
    assert stuck["timeout"]["late_ms"] >= 1000
    assert innermost(stuck) == ("gate.py", line_of("gate.py", "hold"), "hold")
    assert stuck["thread"]["syscall"] == "recvfrom"


# ---- forks, reloads, ends ----


def test_in_time_for_harakiri(serving):
    """The exception comes first: nobody is killed."""
    server = serving(harakiri=2)
    worker = server.workers()[1]
    for _ in range(3):
        check_raised(answer(server, "/limited?work=sleep&seconds=1"), least=1)
    assert server.workers()[1] == worker
    nothing_wrong(server)


@pytest.mark.parametrize("threads", [1, CORES])
def test_workers_that_are_recycled_with_blocks_open(serving, threads):
    server = serving(threads=threads, max_requests=5, min_worker_lifetime=0, worker_reload_mercy=2)
    for _ in range(2):
        worker = server.workers()[1]
        answer(server, "/helper")
        answer(server, "/leaves_open?seconds=600")
        wait_for(
            lambda worker=worker: server.get("/ping").status == 200 and server.workers().get(1, worker) != worker,
            "a new worker",
        )
    check_raised(answer(server, "/limited?work=loop"))
    nothing_wrong(server)


@pytest.mark.parametrize("mode", ["plain", "lazy-apps", "osafterfork"])
def test_reload_with_blocks_open(serving, mode):
    """A request in the middle of its block is waited for; what else is open is nobody's business."""
    server = serving(threads=2, **MODES[mode])
    answer(server, "/helper")
    answer(server, "/leaves_open?seconds=600")
    with server.stuck("/held") as request:
        mark = server.mark()
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("Gracefully killing worker", since=mark)
        assert request.finish().status == 200
    server.wait_started(since=mark)
    check_raised(answer(server, "/limited?work=loop"))
    check_raised(answer(server, "/limited?work=slices"))
    nothing_wrong(server)


def test_end_at_a_deadline(serving):
    """The time of blocks that nobody left runs out while the worker goes down."""
    server = serving(threads=2)
    answer(server, "/helper")
    for number in range(10):
        server.get(f"/leaves_open?seconds={0.02 * number + 0.1}")
    server.stop()
    assert not re.search(r"Fatal Python error|[Ss]egmentation|!!! uWSGI process", server.log()), server.tail()
