"""Code written for interruptingcow works when its import is changed, and nothing else: the same cases run with both
packages, in the main thread, which is all that interruptingcow knows. Then what it refuses, and is allowed here."""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
import warnings

import slowwatch
from cases import FAR, LONG, SOON, Case, Skip, case, in_thread, raises, takes, wait


class Outer(Exception):
    pass


class Inner(Exception):
    pass


def cow():
    """As installed for the tests, whichever interpreter this is: it is plain Python."""
    sys.path.append(os.environ["TEST_PACKAGES"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it compares numbers by `is`
            import interruptingcow
    except ImportError:
        raise Skip("interruptingcow is not installed") from None
    finally:
        sys.path.remove(os.environ["TEST_PACKAGES"])
    return interruptingcow


PACKAGES = {"slowwatch": lambda: slowwatch, "interruptingcow": cow}


def with_both(function):
    """Decorator: two cases of a function that takes the package."""
    made = Case(function, alone=False, both=False)
    made.runs = {
        f"{function.__name__}_{name}": functools.partial(lambda get: function(get()), get)
        for name, get in PACKAGES.items()
    }
    return made


@with_both
def names(package):
    assert callable(package.timeout)
    assert callable(package.Quota)
    assert issubclass(package.StateException, Exception)


@with_both
def default_exception(package):
    with raises(RuntimeError), takes(SOON), package.timeout(SOON):
        time.sleep(FAR)


@with_both
def exception_by_position_and_name(package):
    with raises(Outer), package.timeout(SOON, Outer):
        time.sleep(FAR)
    with raises(Outer), package.timeout(SOON, exception=Outer):
        time.sleep(FAR)
    with raises(Outer), package.timeout(seconds=SOON, exception=Outer):
        time.sleep(FAR)
    with raises(BaseException) as raised, package.timeout(SOON, SystemExit):
        time.sleep(FAR)
    assert type(raised.value) is SystemExit


@with_both
def exception_as_instance(package):
    instance = Outer("this one")
    with raises(Outer) as raised, package.timeout(SOON, instance):
        time.sleep(FAR)
    assert raised.value is instance


@with_both
def python_loop(package):
    with raises(RuntimeError), package.timeout(SOON):
        while True:
            pass


@with_both
def in_time(package):
    with package.timeout(LONG):
        pass
    with package.timeout(int(FAR)):
        pass
    with raises(KeyError), package.timeout(LONG):
        raise KeyError
    wait(1.2 * LONG)


@with_both
def outer_is_shorter(package):
    with raises(Outer), takes(SOON), package.timeout(SOON, Outer), package.timeout(FAR, Inner):
        time.sleep(FAR)


@with_both
def inner_is_shorter(package):
    done = []
    with package.timeout(FAR, Outer):
        with raises(Inner), package.timeout(SOON, Inner):
            time.sleep(FAR)
        done.append("the cheap thing instead")
    assert done


@with_both
def both_in_turn(package):
    with raises(Outer), takes(LONG), package.timeout(LONG, Outer):
        with raises(Inner), package.timeout(SOON, Inner):
            time.sleep(FAR)
        time.sleep(FAR)


@with_both
def three_levels(package):
    first, second, third = (package.timeout(*limit) for limit in ((FAR, KeyError), (SOON, Outer), (LONG, Inner)))
    with raises(Outer), takes(SOON), first, second, third:
        time.sleep(FAR)


@with_both
def decorator(package):
    @package.timeout(LONG, Outer)
    def work(seconds, *, answer):
        time.sleep(seconds)
        return answer

    for _ in range(2):
        assert work(0, answer=3) == 3
        with raises(Outer), takes(LONG):
            work(FAR, answer=3)


@with_both
def decorator_and_block(package):
    @package.timeout(FAR, Outer)
    def work():
        with package.timeout(SOON, Inner):
            time.sleep(FAR)

    with raises(Inner), takes(SOON):
        work()


@with_both
def one_object_again(package):
    block = package.timeout(SOON, Outer)
    for _ in range(3):
        with raises(Outer), takes(SOON), block:
            time.sleep(FAR)


@with_both
def quota(package):
    budget = package.Quota(2 * LONG)
    assert budget.remaining() == 2 * LONG
    assert not budget.running()
    with takes(2 * LONG):
        with package.timeout(budget, Outer):
            assert budget.running()
            time.sleep(LONG)
        assert not budget.running()
        assert 0 < budget.remaining() <= LONG
        with raises(Outer), package.timeout(budget, Outer):
            time.sleep(FAR)
    assert budget.remaining() == 0


@with_both
def quota_in_a_loop(package):
    budget, expensive, cheap = package.Quota(LONG), 0, 0
    with takes(LONG):
        for _ in range(6):
            try:
                with package.timeout(budget, RuntimeError):
                    time.sleep(LONG / 3)
                expensive += 1
            except RuntimeError:
                cheap += 1
    assert expensive < 3
    assert cheap == 6 - expensive


@with_both
def quota_that_is_used_up(package):
    budget, begun = package.Quota(SOON), []
    with raises(Outer), package.timeout(budget, Outer):
        time.sleep(FAR)
    for _ in range(2):
        with raises(Inner), package.timeout(budget, Inner):
            begun.append(1)
    assert not begun
    assert not budget.running()


@with_both
def quota_nested(package):
    budget = package.Quota(FAR)
    with package.timeout(budget), package.timeout(budget):
        time.sleep(LONG)
        assert budget.running()
    assert not budget.running()
    assert FAR - 2 * LONG < budget.remaining() <= FAR - LONG


@with_both
def quota_around_and_within(package):
    budget = package.Quota(SOON)
    with raises(Outer), takes(SOON), package.timeout(budget, Outer), package.timeout(FAR, Inner):
        time.sleep(FAR)
    budget = package.Quota(SOON)
    with package.timeout(FAR, Inner), raises(Outer), takes(SOON), package.timeout(budget, Outer):
        time.sleep(FAR)


@with_both
def wrong_seconds(package):
    for seconds in (0, -1, -0.5):
        with raises(ValueError), package.timeout(seconds):
            pass
        with raises(ValueError):
            package.Quota(seconds)
    for seconds in (None, "soon", object()):
        with raises((TypeError, ValueError)), package.timeout(seconds):
            pass


@with_both
def swallowed(package):
    """It comes once; what follows in the block goes on."""
    with package.timeout(LONG, Outer):
        with contextlib.suppress(Exception):
            time.sleep(FAR)
        wait(SOON)


@with_both
def printed(package):
    assert str(package.Quota(2.5)) == "<Quota remaining=2.5>"


# ---- refused by interruptingcow ----


def limited():
    with raises(RuntimeError), takes(SOON), slowwatch.timeout(SOON):
        wait()


@case
def any_thread():
    in_thread(limited)
    cow()  # is it here?

    def refused():
        with raises(cow().StateException), cow().timeout(SOON):
            pass

    in_thread(refused)


@case(alone=True)
def main_thread_with_another_name():
    """Which is what uWSGI gives it."""
    threading.main_thread().name = "uWSGIWorker1Core0"
    limited()
    with raises(cow().StateException), cow().timeout(SOON):
        pass


@case(alone=True)
def sigalrm_in_use():
    signal.signal(signal.SIGALRM, lambda *_: None)
    limited()
    with raises(cow().StateException), cow().timeout(SOON):
        pass


@case(alone=True)
def both_at_once():
    """While a program is migrated piece by piece, one of them may be used inside the other."""
    other = cow()
    with raises(Outer), takes(SOON), slowwatch.timeout(SOON, Outer), other.timeout(FAR, Inner):
        time.sleep(FAR)
    with raises(Inner), takes(SOON), slowwatch.timeout(FAR, Outer), other.timeout(SOON, Inner):
        time.sleep(FAR)
    with raises(Outer), takes(SOON), other.timeout(SOON, Outer), slowwatch.timeout(FAR, Inner):
        time.sleep(FAR)
    with raises(Inner), takes(SOON), other.timeout(FAR, Outer), slowwatch.timeout(SOON, Inner):
        time.sleep(FAR)
