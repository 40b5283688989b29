"""What a block is, does and refuses: arguments, exceptions, nesting, one object used in many ways. Most of it holds in
every thread, so it is looked at in two."""

import contextlib
import copy
import functools
import gc
import itertools
import math
import pickle
import sys
import traceback
import weakref
from decimal import Decimal
from fractions import Fraction

import slowwatch
from cases import BRIEF, FAR, LONG, SOON, Thread, case, hold_gil, holding, in_c, in_thread, raises, start, takes, wait
from slowwatch import Quota, StateException, shield, timeout


class Outer(Exception):
    pass


class Middle(Exception):
    pass


class Inner(Exception):
    pass


# ---- arguments ----


@case
def seconds_are_numbers():
    for seconds in (1, True, 1.5, Fraction(3, 2), Decimal("1.5"), sys.float_info.max, 10**30, math.inf):
        for made in (timeout(seconds), Quota(seconds), timeout(Quota(seconds))):
            assert type(made.remaining()) is float
            assert made.remaining() == math.inf if seconds == math.inf else 0.9 < made.remaining() <= seconds
        with timeout(seconds) as t:
            assert 0.9 < t.remaining() <= seconds
    with contextlib.suppress(ImportError):
        import numpy

        with timeout(numpy.float32(2)) as t:
            assert 1 < t.remaining() <= 2


@case
def seconds_that_are_none():
    class NotAFloat:
        def __float__(self):
            return "1.0"

    for make in (timeout, Quota):
        for seconds in (0, 0.0, -0.0, -1, -1.5, -math.inf, math.nan, False, Decimal("nan"), Fraction(-1, 2)):
            with raises(ValueError, "seconds"):
                make(seconds)
        for seconds in ("1", b"1", None, [], 1j, object(), RuntimeError, NotAFloat()):
            with raises(TypeError):
                make(seconds)
        for seconds in ("1", None, object()):
            with raises(TypeError, "seconds"):
                make(seconds)
        with raises((ValueError, OverflowError)):
            make(10**400)
        with raises(TypeError):
            make()
        with raises(TypeError):
            make(secs=1.0)
    with raises(TypeError):
        Quota(Quota(1.0))
    with raises(TypeError):
        Quota(1.0, RuntimeError)
    with raises(TypeError):
        timeout(1.0, RuntimeError, 3)


@case
def error_of_the_number_itself():
    class Broken:
        def __float__(self):
            raise ZeroDivisionError("broken")

    for make in (timeout, Quota):
        with raises(ZeroDivisionError, "broken"):
            make(Broken())


@case
def by_keyword():
    with raises(KeyError), timeout(seconds=SOON, exception=KeyError):
        wait()
    assert Quota(seconds=2.0).remaining() == 2.0


@case
def exceptions_that_are_none():
    for wrong in (None, "RuntimeError", 3, int, object(), timeout, [RuntimeError], (RuntimeError, KeyError)):
        with raises(TypeError, "exception"):
            timeout(1.0, wrong)


@case
def exported_names():
    assert sorted(slowwatch.__all__) == ["Quota", "StateException", "set_signal", "shield", "timeout"]
    assert issubclass(StateException, Exception)
    for name in slowwatch.__all__:
        assert getattr(slowwatch, name).__doc__, name
        assert getattr(slowwatch, name).__module__.startswith("slowwatch"), name
    for made in (Quota.running, Quota.remaining, timeout.remaining):
        assert made.__doc__
    for made in (timeout(1.0), Quota(1.0), shield()):
        assert "slowwatch" in repr(made) or type(made).__name__ in repr(made)


@case
def classes_are_final():
    for parent in (timeout, Quota, shield):
        with raises(TypeError):
            type("Child", (parent,), {})


@case
def attributes_are_fixed():
    t = timeout(1.0)
    for name, value in (("expired", True), ("remaining", None), ("anything", 1)):
        with raises(AttributeError):
            setattr(t, name, value)


# ---- what is raised ----


@case(both=True)
def default_exception_and_its_message():
    for seconds, text in ((0.02, "timed out after 0.02 s"), (0.1, "timed out after 0.1 s")):
        with raises(RuntimeError) as raised, takes(seconds), timeout(seconds):
            wait()
        assert type(raised.value) is RuntimeError
        assert str(raised.value) == text
        assert raised.value.__cause__ is raised.value.__context__ is None


@case(both=True)
def classes_that_take_a_message():
    class Named(KeyError):
        pass

    class Base(BaseException):
        pass

    for kind in (Named, Base, ValueError, LookupError, KeyboardInterrupt, AssertionError):
        with raises(kind) as raised, timeout(SOON, kind):
            wait()
        assert type(raised.value) is kind
        assert raised.value.args == ("timed out after 0.02 s",)


@case(both=True)
def classes_with_a_constructor_of_their_own():
    class Init(Exception):
        def __init__(self):
            super().__init__("of its own")

    class New(Exception):
        def __new__(cls):
            made = super().__new__(cls)
            made.args = ("of its own",)
            return made

        def __init__(self):
            pass

    class Optional(Exception):
        def __init__(self, text="of its own"):
            super().__init__(text)

    for kind in (Init, New, Optional):
        with raises(kind, "of its own"), timeout(SOON, kind):
            wait()


@case(both=True)
def classes_that_cannot_be_made():
    """The error that says so ends the block in their place."""

    class Needs(Exception):
        def __init__(self, request, seconds):
            super().__init__(request, seconds)

    class Fails(Exception):
        def __init__(self):
            raise ZeroDivisionError

    class Other(Exception):
        def __new__(cls):
            return 3

    errors = {Needs: TypeError, UnicodeDecodeError: TypeError, Fails: ZeroDivisionError, Other: TypeError}
    for kind, error in errors.items():
        t = timeout(SOON, kind)
        with raises(error), t:
            wait()
        assert t.expired
    with raises(RuntimeError), timeout(SOON):  # nothing is left over from them
        wait()


@case(both=True)
def instances():
    class Rich(Exception):
        def __init__(self, request, seconds):
            super().__init__(request, seconds)
            self.request = request

    for instance in (Rich("GET /", 20), RuntimeError("this very one"), OSError(110, "timed out"), SystemExit(3)):
        text = str(instance)
        for _ in range(3):
            with raises(type(instance)) as raised, timeout(SOON, instance):
                wait()
            assert raised.value is instance
            assert str(instance) == text


@case(both=True)
def instance_is_caught_by_its_own_classes_only():
    class Both(KeyError, OSError):
        pass

    for kind in (Both, KeyError, OSError, LookupError, Exception):
        try:
            with timeout(SOON, Both("x")):
                wait()
        except ZeroDivisionError:
            raise AssertionError from None
        except kind as error:
            caught = error
        assert type(caught) is Both
        del caught
    gc.collect()
    assert Both.__subclasses__() == []


@case(both=True)
def classes_with_odd_metaclasses():
    """Whatever the class does when it is called, inherited or asked, the block is ended by it."""

    class Refuses(type):
        def __new__(mcs, name, bases, namespace):
            if bases and bases[0] is not Exception:
                raise TypeError("final")
            return super().__new__(mcs, name, bases, namespace)

        def __getattr__(cls, name):
            raise ZeroDivisionError(name)

    class Final(Exception, metaclass=Refuses):
        pass

    class Calls(type):
        def __call__(cls, *args):
            return super().__call__("made by the metaclass")

    class Called(Exception, metaclass=Calls):
        pass

    class Asked(type):
        def __instancecheck__(cls, instance):
            return False

        def __subclasscheck__(cls, other):
            return False

    class Unsure(Exception, metaclass=Asked):
        pass

    class Registry(Exception):
        known = []

        def __init_subclass__(cls, *, name, **more):
            Registry.known.append(name)

    for exception in (Final, Final("x"), Called, Called("x"), Unsure, Registry, Registry("x")):
        kind = exception if isinstance(exception, type) else type(exception)
        got = None
        t = timeout(SOON, exception)
        try:
            with t:
                wait()
        except BaseException as error:
            got = error
        assert type(got) is kind, (exception, got)
        assert t.expired
    assert Registry.known == []


@case
def metaclass_that_lies_about_being_an_exception():
    class Lies(type):
        def __subclasscheck__(cls, other):
            return True

    class NotOne(metaclass=Lies):
        __class__ = RuntimeError

    for wrong in (NotOne, NotOne()):
        with raises(TypeError):
            timeout(1.0, wrong)


@case(both=True)
def raised_where_the_code_stands():
    def work():
        wait()

    with raises(RuntimeError) as raised, timeout(BRIEF):
        work()
    assert [frame.name for frame in raised.traceback][1:3] == ["work", "wait"], traceback.format_list(raised.traceback)


@case(both=True)
def never_early():
    for _ in range(20):
        with raises(RuntimeError), takes(0.01), timeout(0.01):
            wait()


# ---- the end of a block ----


@case(both=True)
def blocks_that_are_left_in_time():
    def body(how):
        for number in range(2):
            with timeout(LONG) as t:
                assert not t.expired
                if how == "continue":
                    continue
                if how == "break":
                    break
                if how == "return":
                    return number
                if how == "raise":
                    raise KeyError(number)
        return None

    for how in ("end", "continue", "break", "return"):
        body(how)
    with raises(KeyError):
        body("raise")
    wait(1.2 * LONG)


@case(both=True)
def due_at_the_end():
    """Its time ran out in a C call that is the last thing in the block."""
    t = timeout(SOON)
    hold = holding(3 * SOON)
    with raises(RuntimeError, "timed out"), t:
        hold()
    assert t.expired


@case(both=True)
def exit_itself_raises():
    """No bytecode runs between the C call and __exit__."""
    t = timeout(SOON)
    hold = holding(3 * SOON)
    t.__enter__()
    with raises(RuntimeError, "timed out"):
        in_c(hold, functools.partial(t.__exit__, None, None, None))
    assert t.expired
    spin_after()


@case(both=True)
def due_with_another_exception_in_flight():
    """That one goes on; the timeout shows in `expired` only."""
    error = KeyError("in flight")
    t = timeout(BRIEF)
    hold = holding(1.5 * BRIEF)
    t.__enter__()
    _, result = in_c(hold, functools.partial(t.__exit__, KeyError, error, None))
    assert not result
    assert t.expired
    spin_after()


def spin_after():
    """Where an exception that comes late would come."""
    for _ in range(1000):
        pass
    wait(0.02)


@case(both=True)
def own_exception_in_flight():
    """It is not raised a second time, nor swallowed."""
    with raises(RuntimeError) as raised, timeout(BRIEF) as t:
        try:
            wait()
        except RuntimeError as error:
            first = error
            raise
    assert raised.value is first
    assert t.expired
    spin_after()


@case(both=True)
def swallowed():
    """It is raised once; the block goes on, and says so."""
    with timeout(BRIEF) as t:
        with contextlib.suppress(Exception):
            wait()
        assert t.expired
        assert t.remaining() == 0
        wait(2 * SOON)
    assert t.expired
    with raises(ZeroDivisionError), t:
        with contextlib.suppress(Exception):
            wait()
        1 / 0  # noqa: B018
    assert t.expired


@case(both=True)
def not_swallowed_when_it_is_no_exception():
    class Hard(BaseException):
        pass

    with raises(Hard), timeout(SOON, Hard):
        try:
            wait()
        except Exception:
            raise AssertionError from None


@case(both=True)
def finally_and_with_are_run():
    done = []
    with raises(RuntimeError), timeout(BRIEF), contextlib.ExitStack() as stack:
        stack.callback(done.append, "left")
        try:
            wait()
        finally:
            done.append("finally")
    assert done == ["finally", "left"]


# ---- expired, remaining ----


@case(both=True)
def expired():
    t = timeout(LONG)
    for _ in range(2):
        assert t.expired is False
        with t as same:
            assert same is t
            assert t.expired is False
        assert t.expired is False
        with raises(RuntimeError), t:
            assert t.expired is False
            wait()
        assert t.expired is True
        with t:
            assert t.expired is False


@case(both=True)
def remaining():
    t = timeout(FAR)
    assert t.remaining() == FAR
    with t:
        first = t.remaining()
        wait(0.01)
        second = t.remaining()
        assert FAR - 10 < second <= first - 0.01 < FAR
        with t:
            assert second - 0.02 < FAR - 0.02 < t.remaining() <= FAR
        assert t.remaining() <= second
    assert t.remaining() == FAR
    quota = Quota(FAR)
    t = timeout(quota)
    with t:
        wait(0.01)
    assert t.remaining() == quota.remaining() <= FAR - 0.01


@case(both=True)
def remaining_is_never_negative():
    with raises(RuntimeError), timeout(SOON) as t:
        try:
            wait()
        finally:
            wait(0.01)
            assert t.remaining() == 0
    assert t.remaining() == SOON


@case(both=True)
def remaining_of_an_outer_block():
    with timeout(FAR) as outer, timeout(1.0) as inner:
        assert outer.remaining() > FAR - 10
        assert inner.remaining() <= 1


# ---- one object, many blocks ----


@case(both=True)
def used_again():
    t = timeout(2 * LONG)
    for _ in range(3):
        with t:
            wait(LONG)
    with raises(RuntimeError), takes(2 * LONG), t:
        wait()


@case(both=True)
def entered_again_while_open():
    t = timeout(2 * SOON)
    with raises(RuntimeError), takes(2 * SOON, 3.5 * SOON + 1), t:
        wait(SOON)
        with t:
            assert t.remaining() > SOON
            wait()
    assert t.expired
    t = timeout(LONG)
    with t, t, t:
        pass
    wait(1.2 * LONG)


@case(both=True)
def recursive_function():
    @timeout(FAR)
    def down(depth):
        return depth and 1 + down(depth - 1)

    assert down(100) == 100

    @timeout(4 * SOON, Outer)
    def slow(depth):
        wait(SOON / 10)
        return slow(depth + 1)

    with raises(Outer), takes(4 * SOON):
        slow(0)
    assert down(100) == 100


@case
def shared_between_threads():
    t = timeout(2 * LONG)

    def user(number):
        for _ in range(2):
            if number % 2:
                with t:
                    wait(SOON)
                    assert 0 < t.remaining() <= 2 * LONG - SOON
            else:
                with raises(RuntimeError), takes(2 * LONG), t:
                    wait()

    for thread in [start(user, number) for number in range(8)]:
        thread.result()
    user(0)
    assert t.remaining() == 2 * LONG


@case
def remaining_is_that_of_this_thread():
    t = timeout(FAR)
    with t:
        wait(0.02)
        assert in_thread(t.remaining) == FAR
        assert t.remaining() < FAR


@case(both=True)
def decorated_function():
    class Shop:
        @timeout(LONG, Outer)
        def order(self, number, *, wait_for=None):
            """Orders."""
            if wait_for:
                wait(wait_for)
            return self, number

    shop = Shop()
    for _ in range(2):
        assert shop.order(3) == (shop, 3)
        with raises(Outer), takes(LONG):
            shop.order(3, wait_for=20)
    assert Shop.order.__name__ == "order"
    assert Shop.order.__doc__ == "Orders."
    assert Shop.order.__wrapped__(shop, 4) == (shop, 4)
    for wrong in (None, 3, "text"):
        with raises(TypeError):
            timeout(1.0)(wrong)


@case(both=True)
def context_manager_made_of_one():
    @contextlib.contextmanager
    def limit(seconds):
        with timeout(seconds, Inner):
            yield

    with raises(Inner), takes(SOON), limit(SOON):
        wait()
    with limit(LONG):
        pass
    wait(1.2 * LONG)


# ---- nesting ----


@case(both=True)
def outer_first():
    inner = timeout(FAR, Inner)
    with raises(Outer), takes(SOON), timeout(SOON, Outer) as outer, inner:
        wait()
    assert outer.expired
    assert not inner.expired


@case(both=True)
def inner_first():
    with timeout(FAR, Outer) as outer:
        with raises(Inner), takes(SOON), timeout(SOON, Inner) as inner:
            wait()
        assert inner.expired
        assert not outer.expired
    assert not outer.expired


@case(both=True)
def one_after_the_other():
    with raises(Outer), takes(3 * SOON), timeout(3 * SOON, Outer) as outer:
        with raises(Inner), timeout(SOON, Inner):
            wait()
        assert not outer.expired
        with timeout(FAR, Inner):
            wait()


@case(both=True)
def any_order():
    """The earliest wins with its own exception, and the others say nothing."""
    kinds = (Outer, Middle, Inner)
    for limits in itertools.permutations((SOON, 1.0, 2.0)):
        blocks = [timeout(limit, kind) for limit, kind in zip(limits, kinds)]
        with raises(kinds) as raised, takes(SOON), blocks[0], blocks[1], blocks[2]:
            wait()
        assert isinstance(raised.value, kinds[limits.index(SOON)])
        assert [block.expired for block in blocks] == [limit == SOON for limit in limits]
    spin_after()


@case(both=True)
def several_due_at_once():
    """The outermost is raised, the inner ones are not, though their time is up as well."""
    for limits in ((0.1, 0.105, 0.11), (0.11, 0.105, 0.1)):
        blocks = [timeout(limit, kind) for limit, kind in zip(limits, (Outer, Middle, Inner))]
        seen = []
        hold = holding(0.15)
        with raises(Outer), blocks[0]:
            try:
                with blocks[1]:
                    try:
                        with blocks[2]:
                            hold()
                            wait()
                    finally:
                        seen.append(type(sys.exc_info()[1]))
            finally:
                seen.append(type(sys.exc_info()[1]))
        assert seen == [Outer, Outer], seen
        assert all(block.expired for block in blocks)
        spin_after()


@case(both=True)
def outer_due_inside_an_inner_one_that_swallows():
    """Only the deadline that is due is swallowed; a further one comes in its own time."""
    with raises(Outer), takes(LONG), timeout(LONG, Outer), timeout(BRIEF, Inner) as inner:
        with contextlib.suppress(Inner):
            wait()
        wait()
    assert inner.expired


@case(both=True)
def many_levels():
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(timeout(FAR))
        with raises(Inner), takes(SOON), timeout(SOON, Inner):
            wait()
    with raises(Outer), takes(SOON), contextlib.ExitStack() as stack:
        stack.enter_context(timeout(SOON, Outer))
        for _ in range(500):
            stack.enter_context(timeout(FAR))
        wait()


# ---- used wrongly ----


@case(both=True)
def exit_without_enter():
    for block in (timeout(1.0), shield()):
        for _ in range(2):
            with contextlib.suppress(RuntimeError):
                block.__exit__(None, None, None)
    with raises(TypeError):
        timeout(1.0).__exit__()
    t = timeout(SOON)
    with raises(RuntimeError), takes(SOON), t:
        wait()


@case(both=True)
def exits_in_the_wrong_order():
    outer, inner = timeout(LONG, Outer), timeout(LONG, Inner)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    with contextlib.suppress(RuntimeError):
        inner.__exit__(None, None, None)
    wait(1.2 * LONG)
    with raises(Inner), takes(LONG), inner:
        wait()


@case
def exit_in_another_thread():
    t = timeout(SOON)
    t.__enter__()

    def leave():
        with contextlib.suppress(RuntimeError):
            t.__exit__(None, None, None)
        wait(2 * SOON)

    try:
        in_thread(leave)
        t.__exit__(None, None, None)
    except RuntimeError:
        pass  # it was open here all the time, and perhaps still is
    spin_after()
    for use in (in_thread, lambda function: function()):

        def times_out():
            with raises(RuntimeError), takes(SOON), t:
                wait()

        use(times_out)


@case(both=True)
def never_left_inner_block():
    """A block is left by its own end only, or when its object is gone."""
    kept = timeout(LONG, Inner)
    with timeout(FAR):
        kept.__enter__()
    with raises(Inner):
        wait()
    kept.__exit__(None, None, None)
    with timeout(FAR):
        kept.__enter__()
    del kept
    wait(1.2 * LONG)


@case(both=True)
def object_that_is_gone_has_no_block():
    timeout(LONG).__enter__()
    wait(1.2 * LONG)


@case
def without_init():
    for kind in (timeout, Quota, shield):
        with contextlib.suppress(TypeError):
            made = kind.__new__(kind)
            repr(made)
            with contextlib.suppress(Exception), made:
                pass
            with contextlib.suppress(Exception):
                made.remaining()
            with contextlib.suppress(Exception):
                made(lambda: None)()


@case(both=True)
def init_again():
    """An open block is none of its business."""
    t = timeout(SOON, Inner)
    with contextlib.suppress(Inner), t:
        with contextlib.suppress(TypeError, RuntimeError):
            t.__init__(FAR, Outer)
        wait(3 * SOON)
    q = Quota(1.0)
    with timeout(q), contextlib.suppress(TypeError, RuntimeError):
        q.__init__(2.0)
    spin_after()


@case
def copies():
    for made in (timeout(1.0), Quota(1.0)):
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with contextlib.suppress(TypeError, pickle.PicklingError):
                duplicate(made)


@case
def cycles_are_collected():
    class Marked(Exception):
        pass

    instance = Marked()
    instance.block = timeout(FAR, instance)
    with contextlib.suppress(Marked), instance.block:
        pass
    gone = weakref.ref(instance)
    del instance
    gc.collect()
    assert gone() is None


@case
def nothing_is_kept_of_an_exception():
    class Big(Exception):
        pass

    def fire(exception):
        with contextlib.suppress(Big), timeout(0.005, exception):
            wait()

    instance = Big()
    before = sys.getrefcount(Big), sys.getrefcount(instance)
    for place in (lambda: fire(Big), lambda: fire(instance)):
        for _ in range(10):
            place()
            in_thread(place)
    instance.__traceback__ = instance.__context__ = None
    Thread(hold_gil, 0.001).start()
    gc.collect()
    after = sys.getrefcount(Big), sys.getrefcount(instance)
    assert max(later - sooner for later, sooner in zip(after, before)) <= 2, (before, after)
