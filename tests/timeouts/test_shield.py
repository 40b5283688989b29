"""What is shielded is done to its end, and the deadline that passed meanwhile is raised right after it."""

import contextlib
import functools
import random
import sys
import time

from cases import BRIEF, FAR, SOON, Tuner, case, holding, in_c, in_thread, raises, spin, start, takes, wait
from slowwatch import shield, timeout


class Outer(Exception):
    pass


class Inner(Exception):
    pass


@case(both=True)
def deadline_passes_inside():
    done = []
    with raises(RuntimeError), takes(2 * BRIEF), timeout(BRIEF) as t:
        with shield():
            wait(2 * BRIEF)
            assert t.expired
            assert t.remaining() == 0
            done.append("committed")
        done.append("after the shield")
    assert done == ["committed"]
    assert t.expired


@case(both=True)
def nothing_passes():
    with timeout(FAR) as t, shield():
        wait(0.01)
    assert not t.expired
    with shield():
        pass
    with raises(RuntimeError), takes(BRIEF), timeout(BRIEF):
        with shield():
            wait(BRIEF / 5)
        wait()


@case(both=True)
def blocking_call_inside_goes_on():
    with raises(RuntimeError), timeout(BRIEF):
        with shield(), takes(3 * BRIEF):
            time.sleep(3 * BRIEF)
        raise AssertionError("not reached")


@case(both=True)
def nested():
    done = []
    with raises(RuntimeError), timeout(BRIEF):
        with shield():
            with shield():
                with shield():
                    wait(2 * BRIEF)
                done.append("innermost")
            done.append("inner")
        done.append("outer")
    assert done == ["innermost", "inner"]


@case(both=True)
def same_object_nested_and_again():
    one = shield()
    for _ in range(2):
        done = []
        with raises(RuntimeError), timeout(BRIEF):
            with one as same:
                assert same is one
                with one:
                    wait(2 * BRIEF)
                done.append("inner")
            done.append("outer")
        assert done == ["inner"]


@case(both=True)
def block_opened_inside_is_not_held_back():
    with shield(), raises(Inner), takes(BRIEF), timeout(BRIEF, Inner):
        wait()
    with timeout(FAR, Outer), shield(), raises(Inner), takes(BRIEF), timeout(BRIEF, Inner):
        wait()


@case(both=True)
def both_pass():
    """The inner one in its time, the outer one at the end of the shield."""
    seen = []
    with raises(Outer), timeout(BRIEF, Outer) as outer:
        with shield():
            with raises(Inner), takes(2 * BRIEF), timeout(2 * BRIEF, Inner) as inner:
                wait()
            seen.append("inner")
            assert outer.expired
        seen.append("after")
    assert seen == ["inner"]
    assert inner.expired


@case(both=True)
def shield_block_shield():
    """The inner shield holds back the block in the middle until its own end, the outer shield the outer block."""
    seen = []
    with raises(Outer), timeout(BRIEF, Outer):
        with shield():
            with raises(Inner), timeout(BRIEF, Inner):
                with shield():
                    wait(2 * BRIEF)
                    seen.append("held")
                seen.append("wrong")
            seen.append("inner")
            wait(0.01)
        seen.append("wrong")
    assert seen == ["held", "inner"]


@case(both=True)
def several_blocks_around_it():
    """The outermost of those that are due."""
    with raises(Outer), timeout(2 * BRIEF, Outer) as outer, timeout(BRIEF, Inner) as inner:
        with shield():
            wait(3 * BRIEF)
        raise AssertionError("not reached")
    assert outer.expired
    assert inner.expired
    with timeout(FAR, Outer), raises(Inner), timeout(BRIEF, Inner):
        with shield():
            wait(2 * BRIEF)
        raise AssertionError("not reached")


@case(both=True)
def block_that_ends_inside_the_shield():
    """Entered before the shield and left within: its own end raises, which nothing holds back."""
    block, guard = timeout(BRIEF), shield()
    block.__enter__()
    guard.__enter__()
    wait(2 * BRIEF)
    with raises(RuntimeError):
        block.__exit__(None, None, None)
    guard.__exit__(None, None, None)
    with raises(RuntimeError), takes(BRIEF), timeout(BRIEF):
        wait()


@case(both=True)
def with_another_exception_in_flight():
    """The deadline is raised all the same, and that one becomes its context."""
    with raises(RuntimeError) as raised, timeout(BRIEF), shield():
        wait(2 * BRIEF)
        raise KeyError("in flight")
    assert isinstance(raised.value.__context__, KeyError)
    with raises(KeyError), timeout(FAR), shield():
        raise KeyError("in flight")


@case(both=True)
def due_when_the_shield_begins():
    """Its time ran out in the C call before: either it is raised before the shield begins or at its end."""
    done = []
    hold = holding(2 * SOON)
    guard = shield()
    with raises(RuntimeError), timeout(SOON):
        in_c(hold, guard.__enter__)
        done.append("begun")
        wait(0.02)
        done.append("committed")
        guard.__exit__(None, None, None)
        done.append("after")
    if not done:
        return
    assert done == ["begun", "committed"], done


@case(both=True)
def leaving_it_early():
    def body(how):
        for _ in range(1):
            with shield():
                wait(2 * BRIEF)
                if how == "return":
                    return
                if how == "continue":
                    continue
                if how == "break":
                    break

    for how in ("return", "continue", "break"):
        with raises(RuntimeError), timeout(BRIEF):
            body(how)
            raise AssertionError("not reached")


@case(both=True)
def as_decorator():
    class Bank:
        done = 0

        @shield()
        def commit(self, *, by):
            """Commits."""
            wait(2 * BRIEF)
            self.done += 1
            return by

    bank = Bank()
    assert bank.commit(by=3) == 3
    assert (Bank.commit.__name__, Bank.commit.__doc__) == ("commit", "Commits.")
    with raises(RuntimeError), timeout(BRIEF):
        bank.commit(by=4)
        raise AssertionError("not reached")
    assert bank.done == 2


@case(both=True)
def raised_once_only():
    with raises(RuntimeError), timeout(BRIEF):
        with contextlib.suppress(RuntimeError), shield():
            wait(2 * BRIEF)
        for _ in range(3):
            with shield():
                pass
        wait(BRIEF)
        raise RuntimeError("the end")
    wait(BRIEF)


@case(both=True)
def takes_no_arguments():
    for arguments in ((1,), (None, None)):
        with raises(TypeError):
            shield(*arguments)
    with raises(TypeError):
        shield(seconds=1)
    for wrong in (None, 3):
        with raises(TypeError):
            shield()(wrong)


@case(both=True)
def left_more_often_than_entered():
    guard = shield()
    for _ in range(3):
        with contextlib.suppress(RuntimeError):
            guard.__exit__(None, None, None)
    with raises(RuntimeError), takes(BRIEF), timeout(BRIEF):
        wait()
    with raises(RuntimeError), takes(2 * BRIEF), timeout(BRIEF):
        with shield():
            wait(2 * BRIEF)
        raise AssertionError("not reached")


@case
def of_one_thread_only():
    one = shield()
    with one, raises(RuntimeError), takes(BRIEF):
        in_thread(limited)
    thread = start(limited)
    with one:
        wait(BRIEF)
    with raises(RuntimeError):
        thread.result()


def limited():
    with timeout(BRIEF):
        wait()


@case
def thread_that_ends_shielded():
    """The next thread, which may bear the same id, is not shielded."""
    for _ in range(10):
        in_thread(shield().__enter__)
        with raises(RuntimeError), takes(BRIEF):
            in_thread(limited)


@case
def entered_here_and_left_elsewhere():
    guard = shield()
    in_thread(guard.__enter__)
    in_thread(guard.__exit__, None, None, None)
    guard.__enter__()
    with contextlib.suppress(RuntimeError):
        in_thread(guard.__exit__, None, None, None)
    guard.__exit__(None, None, None)
    with raises(RuntimeError), takes(BRIEF):
        limited()


@case(both=True)
def exit_itself_raises():
    """No bytecode runs between the C call that takes too long and the end of the shield."""
    guard, hold = shield(), holding(2 * SOON)
    with raises(RuntimeError), timeout(SOON):
        guard.__enter__()
        in_c(hold, functools.partial(guard.__exit__, None, None, None))
        raise AssertionError("not reached")


@case(both=True)
def never_inside():
    """Deadlines that pass about when a shield begins or ends: what is in it is done as a whole or not at all."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    state = {"begun": 0, "done": 0}

    def commit():
        with shield():
            for _ in range(20):
                state["begun"] += 1
                state["done"] += 1

    tuner = Tuner(0.0003)
    try:
        for _ in range(2000):
            fired = True
            try:
                with timeout(0.0003):
                    spin(tuner.seconds + random.uniform(-2e-5, 2e-5))
                    commit()
                    fired = False
            except RuntimeError:
                pass
            tuner.count(fired)
            assert state["begun"] == state["done"]
    finally:
        sys.setswitchinterval(interval)
    tuner.check()
