"""A budget of seconds that several blocks share."""

import contextlib
import math

from cases import BRIEF, FAR, LONG, SOON, case, in_thread, raises, start, takes, until, wait
from slowwatch import Quota, shield, timeout


class Late(Exception):
    pass


class Later(Exception):
    pass


@case
def a_new_one():
    quota = Quota(2.0)
    assert quota.remaining() == 2.0
    assert quota.running() is False
    assert type(quota.remaining()) is float
    assert Quota(math.inf).remaining() == math.inf


@case(both=True)
def used_up_while_open_only():
    quota = Quota(FAR)
    wait(0.02)
    assert quota.remaining() == FAR
    with timeout(quota):
        assert quota.running() is True
        wait(0.02)
        during = quota.remaining()
        assert FAR - 10 < during <= FAR - 0.02
    assert quota.running() is False
    after = quota.remaining()
    assert FAR - 10 < after <= during
    wait(0.02)
    assert quota.remaining() == after


@case(both=True)
def several_blocks_in_turn():
    quota = Quota(2 * LONG)
    with takes(2 * LONG):
        for _ in range(2):
            with timeout(quota, Late):
                wait(LONG / 2)
        with raises(Late), timeout(quota, Late) as t:
            wait()
    assert t.expired
    assert quota.remaining() == 0
    assert not quota.running()


@case(both=True)
def exhausted():
    """The block does not begin."""
    quota = Quota(SOON)
    with raises(Late), timeout(quota, Late):
        wait()
    for _ in range(3):
        t = timeout(quota, Later)
        with raises(Later), t:
            raise AssertionError("the block began")
        assert t.expired
        assert t.remaining() == 0
        assert quota.remaining() == 0
        assert not quota.running()
    instance = Late("this one")
    with raises(Late) as raised, timeout(quota, instance):
        raise AssertionError("the block began")
    assert raised.value is instance


@case(both=True)
def exhausted_inside_others():
    """Those around it go on as if nothing had been."""
    quota = Quota(SOON)
    with contextlib.suppress(Late), timeout(quota, Late):
        wait()
    with timeout(FAR) as outer:
        for _ in range(3):
            with raises(Late), timeout(quota, Late):
                raise AssertionError("the block began")
        assert outer.remaining() > FAR - 10
        with raises(Later), timeout(SOON, Later):
            wait()
    with raises(Later), takes(SOON), timeout(SOON, Later):
        with contextlib.suppress(Late), timeout(quota, Late):
            raise AssertionError("the block began")
        wait()


@case(both=True)
def exhausted_within_a_shield():
    """A shield holds back those around it, not one that begins inside."""
    quota = Quota(SOON)
    with contextlib.suppress(Late), timeout(quota, Late):
        wait()
    with shield(), raises(Late), timeout(quota, Late):
        raise AssertionError("the block began")


@case(both=True)
def exhausted_decorator():
    calls = []

    @timeout(Quota(LONG), Late)
    def work(seconds):
        calls.append(seconds)
        wait(seconds)

    work(SOON)
    with raises(Late):
        work(20)
    with raises(Late):
        work(0.001)
    assert calls == [SOON, 20]


@case(both=True)
def nested_counts_once():
    quota = Quota(FAR)
    with timeout(quota), timeout(quota):
        with timeout(quota), timeout(quota):
            wait(LONG)
        assert quota.running()
    assert not quota.running()
    assert FAR - 2 * LONG < quota.remaining() <= FAR - LONG
    block = timeout(quota)
    with block, block:
        assert quota.running()
    assert not quota.running()


@case(both=True)
def nested_and_exhausted():
    """All of them are due at once; the outermost is raised."""
    quota = Quota(BRIEF)
    with raises(Late), takes(BRIEF), timeout(quota, Late) as outer, timeout(quota, Later) as inner:
        wait()
    assert outer.expired
    assert not quota.running()
    assert quota.remaining() == 0
    assert inner is not outer


@case(both=True)
def with_a_limit_around_it():
    quota = Quota(FAR)
    with raises(Later), takes(SOON), timeout(SOON, Later), timeout(quota, Late):
        wait()
    assert not quota.running()
    quota = Quota(SOON)
    with timeout(FAR, Later), raises(Late), takes(SOON), timeout(quota, Late):
        wait()


@case
def several_threads_count_once():
    quota, go = Quota(FAR), []

    def user():
        with timeout(quota):
            until(lambda: go)

    threads = [start(user) for _ in range(4)]
    wait(LONG)
    assert quota.running()
    go.append(1)
    for thread in threads:
        thread.result()
    assert not quota.running()
    used = FAR - quota.remaining()
    assert LONG <= used < 2 * LONG, used


@case
def several_threads_run_out_together():
    quota = Quota(4 * SOON)

    def user(kind):
        with raises(kind), timeout(quota, kind):
            wait()

    with takes(4 * SOON):
        threads = [start(user, kind) for kind in (Late, Later, KeyError)]
        user(RuntimeError)
        for thread in threads:
            thread.result()
    assert quota.remaining() == 0
    assert not quota.running()


@case
def used_in_one_thread_and_left_for_another():
    quota = Quota(2 * LONG)

    def half():
        with timeout(quota):
            wait(LONG)

    in_thread(half)
    assert quota.remaining() <= LONG
    with raises(Late), takes(0, LONG + 1), timeout(quota, Late):
        wait()


@case(both=True)
def swallowed():
    quota = Quota(BRIEF)
    with timeout(quota, Late) as t:
        with contextlib.suppress(Exception):
            wait()
        assert quota.remaining() == 0
        assert quota.running()
    assert t.expired
    assert not quota.running()


@case(both=True)
def without_a_limit():
    quota = Quota(math.inf)
    with timeout(quota) as t:
        wait(0.01)
        assert t.remaining() == quota.remaining() == math.inf
    assert quota.remaining() == math.inf


@case(both=True)
def block_that_is_gone():
    """Never left, but its object is gone: the budget is not used up any longer."""
    quota = Quota(FAR)
    timeout(quota).__enter__()
    assert not quota.running()
    after = quota.remaining()
    wait(0.01)
    assert quota.remaining() == after


@case
def of_a_thread_that_ended_in_a_block():
    quota = Quota(FAR)
    kept = timeout(quota)
    in_thread(kept.__enter__)
    del kept
    assert not quota.running()
    with timeout(quota):
        assert quota.running()
    assert not quota.running()
