"""What tests of faults ask of a report: that it is whole, has one end, and that nothing comes after that."""

import psutil

ENDS = {"request_finished", "request_killed", "worker_died"}


def ends_of(request):
    return [event["event"] for event in request.events() if event["event"] in ENDS]


def report_of(server, path="/hold", **query):
    """A whole report, from the first event to the end: proof that all works, and that earlier events are in the log."""
    with server.stuck(path, **query) as request:
        event = request.event("slow_request")
        assert request.finish().status == 200
    request.event("request_finished")
    assert ends_of(request) == ["request_finished"]
    return event


def one_end(server, request, kind):
    """Waits for the end and, by another report, for all that could come after it."""
    end = request.event(kind)
    report_of(server)
    assert ends_of(request) == [kind]
    assert len(request.events("slow_request")) == 1
    return end


def alive(pid):
    """Not even as a zombie that nobody has reaped yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
