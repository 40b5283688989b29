"""The signal that interrupts the main thread: which one is taken, and that nobody else's is touched. Each case has a
process of its own, since the choice is made once."""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import threading
import time

from cases import FAR, PATIENCE, SOON, case, in_child, in_thread, raises, spin, start, takes, until, wait
from slowwatch import set_signal, timeout

REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
ALL = [*range(1, 32), *REAL_TIME]  # without those of the C library
FALLBACK = 5.0  # seconds within which the exception comes another way when the signal is of no use

libc = ctypes.CDLL(None, use_errno=True)
libc.signal.restype = ctypes.c_void_p
libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]


class Late(Exception):
    pass


def interrupted(work=lambda: time.sleep(FAR), most=10.0):
    with raises(Late), takes(SOON, most), timeout(SOON, Late):
        work()
    with timeout(FAR):
        pass


def handled():
    """The signals with a handler, and what it is."""
    found = {}
    for signum in ALL:
        with contextlib.suppress(ValueError, OSError):
            handler = signal.getsignal(signum)
            if handler not in (signal.SIG_DFL, signal.SIG_IGN, None) or c_handler(signum) > 1:
                found[signum] = handler
    return found


def c_handler(signum):
    """As the kernel has it: the first word of struct sigaction."""
    action = (ctypes.c_size_t * 32)()
    assert libc.sigaction(signum, None, action) == 0
    return action[0]


def ours():
    """The signal that the package has taken."""
    (found,) = [number for number in REAL_TIME if signal.getsignal(number) not in (signal.SIG_DFL, None)]
    return found


# ---- the choice ----


@case(alone=True)
def taken_at_the_first_block_in_the_main_thread():
    before = handled()
    block = timeout(SOON, Late)
    assert handled() == before
    in_thread(block.__enter__)

    def limited():
        with timeout(FAR):
            pass

    in_thread(limited)
    assert handled() == before
    with timeout(FAR):
        pass
    after = handled()
    (new,) = set(after) - set(before)
    assert new in REAL_TIME
    assert {number: after[number] for number in before} == before
    interrupted()
    assert handled() == after


@case(alone=True)
def handler_of_somebody_in_python_is_not_replaced():
    """Whichever of the real-time signals is free is taken. Each in a child, which has not chosen yet."""
    for free in (signal.SIGRTMIN, signal.SIGRTMIN + 5, signal.SIGRTMIN + 15, signal.SIGRTMAX):

        def body(free=free):
            for signum in REAL_TIME:
                if signum != free:
                    signal.signal(signum, stranger)
            interrupted()
            assert signal.getsignal(free) not in (stranger, signal.SIG_DFL)
            assert all(signal.getsignal(signum) is stranger for signum in REAL_TIME if signum != free)
            assert called == []

        in_child(body)


called = []


def stranger(signum, frame):
    called.append(signum)


@case(alone=True)
def handler_of_somebody_in_c_is_not_replaced():
    seen = []
    entry = ctypes.CFUNCTYPE(None, ctypes.c_int)(seen.append)
    address = ctypes.cast(entry, ctypes.c_void_p).value
    free = signal.SIGRTMIN + 12
    for signum in REAL_TIME:
        if signum != free:
            libc.signal(signum, address)
    interrupted()
    assert all(c_handler(signum) == address for signum in REAL_TIME if signum != free)
    assert ours() == free
    assert seen == []


@case(alone=True)
def none_is_free():
    """Then blocks work in another way, or say at once what to do."""
    for signum in REAL_TIME:
        signal.signal(signum, stranger)
    with raises((Late, RuntimeError)) as raised, timeout(SOON, Late):
        wait()
    if isinstance(raised.value, RuntimeError):
        assert "set_signal" in str(raised.value)
        set_signal(signal.SIGUSR2)
        interrupted()
    assert all(signal.getsignal(signum) is stranger for signum in REAL_TIME)
    assert called == []


@case(alone=True)
def sigalrm_is_left_alone():
    """Its handler and all three interval timers belong to the application."""
    rings, timers = [], (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

    def ring(signum, frame):
        rings.append(signum)

    signals = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
    for signum in signals:
        signal.signal(signum, ring)
    for timer in timers:
        signal.setitimer(timer, FAR, FAR)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    for _ in range(3):
        interrupted()
        interrupted(lambda: spin(FAR))
    assert all(signal.getsignal(signum) is ring for signum in signals)
    assert signal.getitimer(signal.ITIMER_REAL)[1] == 0.01
    for timer in timers[1:]:
        assert abs(signal.getitimer(timer)[0] - FAR) < 60
    until(lambda: len(rings) > 10, "SIGALRM")
    assert set(rings) == {signal.SIGALRM}
    signal.setitimer(signal.ITIMER_REAL, 0)


@case(alone=True)
def alarm_raises_inside_a_block():
    """A timeout that the application makes itself, of SIGALRM, in one of ours and around one."""

    def ring(signum, frame):
        raise KeyError("alarm")

    signal.signal(signal.SIGALRM, ring)
    with timeout(FAR) as t, raises(KeyError), takes(SOON):
        signal.setitimer(signal.ITIMER_REAL, SOON)
        time.sleep(FAR)
    assert not t.expired
    signal.setitimer(signal.ITIMER_REAL, FAR)
    interrupted()
    signal.setitimer(signal.ITIMER_REAL, 0)


# ---- set_signal ----


@case(alone=True)
def another_one_is_chosen():
    set_signal(signal.SIGUSR1)
    interrupted()
    assert callable(signal.getsignal(signal.SIGUSR1))
    assert not any(callable(signal.getsignal(number)) for number in REAL_TIME)
    set_signal(signal.SIGUSR1)
    interrupted()
    set_signal(signal.SIGRTMIN + 3)
    interrupted()
    assert ours() == signal.SIGRTMIN + 3
    assert not callable(signal.getsignal(signal.SIGUSR1))
    set_signal(signal.SIGUSR1)  # and back
    interrupted()


@case(alone=True)
def wrong_signals():
    for wrong in (0, -1, signal.NSIG, 10**6, signal.SIGKILL, signal.SIGSTOP):
        with raises((ValueError, OverflowError)):
            set_signal(wrong)
    for wrong in ("SIGUSR1", None, [signal.SIGUSR1]):
        with raises(TypeError):
            set_signal(wrong)
    with raises(TypeError):
        set_signal()
    with raises((ValueError, OverflowError)):
        set_signal(10**30)
    interrupted()


@case(alone=True)
def signal_in_use():
    signal.signal(signal.SIGUSR1, stranger)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_int)(called.append)
    libc.signal(signal.SIGUSR2, ctypes.cast(entry, ctypes.c_void_p))
    for taken in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        before = c_handler(taken)
        with raises(ValueError):
            set_signal(taken)
        assert c_handler(taken) == before
    interrupted()
    first = ours()
    with raises(ValueError):
        set_signal(signal.SIGUSR1)
    assert ours() == first
    interrupted()
    assert signal.getsignal(signal.SIGUSR1) is stranger
    assert called == []


@case(alone=True)
def main_thread_only():
    with raises(ValueError):
        in_thread(set_signal, signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    interrupted()
    with raises(ValueError):
        in_thread(set_signal, signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    interrupted()


@case(alone=True)
def changed_while_blocks_are_open():
    """A signal on its way meets no default action, which would end the process."""
    pair = signal.SIGRTMIN + 3, signal.SIGRTMIN + 4
    end, fired = time.monotonic() + PATIENCE, 0
    while fired < 50:
        assert time.monotonic() < end, fired
        try:
            with timeout(random.uniform(1e-5, 1e-3), Late):
                for turn in range(40):
                    set_signal(pair[turn % 2])
        except Late:
            fired += 1
    interrupted()


# ---- what others do to it afterwards ----


def falls_back():
    """Python code is interrupted all the same."""
    for _ in range(2):
        interrupted(wait, FALLBACK)


@case(alone=True)
def handler_is_replaced_in_python():
    """The signal is not sent any more: whoever has taken it does not expect ours."""
    interrupted()
    taken = ours()
    signal.signal(taken, stranger)
    falls_back()
    assert called == []
    assert signal.getsignal(taken) is stranger


@case(alone=True)
def handler_is_replaced_in_an_open_block():
    interrupted()
    taken = ours()
    with raises(Late), takes(SOON, FALLBACK), timeout(SOON, Late):
        signal.signal(taken, stranger)
        wait()
    assert signal.getsignal(taken) is stranger
    called.clear()  # it has been sent to a handler that nobody had told it of
    falls_back()
    assert called == []


@case(alone=True)
def handler_is_replaced_in_c():
    interrupted()
    taken = ours()
    entry = ctypes.CFUNCTYPE(None, ctypes.c_int)(called.append)
    address = ctypes.cast(entry, ctypes.c_void_p).value
    libc.signal(taken, address)
    falls_back()
    assert called == []
    assert c_handler(taken) == address


@case(alone=True)
def handler_is_reset():
    """Sent to the default action, the signal would end the process."""
    for action in (signal.SIG_DFL, signal.SIG_IGN):

        def body(action=action):
            interrupted()
            signal.signal(ours(), action)
            falls_back()

        in_child(body)


@case(alone=True)
def handlers_of_all_signals_are_reset():
    """As some servers do in their children."""
    interrupted()
    for signum in ALL:
        with contextlib.suppress(ValueError, OSError):
            signal.signal(signum, signal.SIG_DFL)
    falls_back()


@case(alone=True)
def signal_is_blocked():
    interrupted()
    with raises(Late), takes(SOON, FALLBACK), timeout(SOON, Late):
        signal.pthread_sigmask(signal.SIG_BLOCK, [ours()])
        wait()
    falls_back()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [ours()])
    wait(0.01)  # one that was pending does no harm
    interrupted()


@case(alone=True)
def all_signals_are_blocked_from_the_start():
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
    falls_back()


@case(alone=True)
def somebody_sends_it():
    """It means nothing when no deadline is due."""
    interrupted()
    with timeout(FAR) as t:
        for _ in range(100):
            os.kill(os.getpid(), ours())
            signal.pthread_kill(threading.main_thread().ident, ours())
        wait(0.01)
    assert not t.expired
    for _ in range(100):
        os.kill(os.getpid(), ours())
    thread = start(wait, SOON)
    signal.pthread_kill(thread.ident, ours())
    thread.result()
    interrupted()


@case(alone=True)
def handler_called_by_hand():
    interrupted()
    handler = signal.getsignal(ours())
    for arguments in ((ours(), None), (0, None)):
        assert handler(*arguments) is None
    with timeout(FAR) as t:
        assert handler(ours(), None) is None
    in_thread(handler, ours(), None)
    assert not t.expired
    interrupted()


# ---- file descriptors and event loops that hear of signals ----


@case(alone=True)
def wakeup_fd():
    read, write = socket.socketpair()
    with read, write:
        write.setblocking(False)
        read.setblocking(False)
        assert signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False) == -1
        for _ in range(3):
            interrupted()
            interrupted(lambda: spin(FAR))
        assert set(read.recv(65536)) <= {ours()}
        with contextlib.suppress(BlockingIOError):
            while True:
                write.send(b"x" * 65536)
        interrupted()
        assert signal.set_wakeup_fd(-1) == write.fileno()
    interrupted()


@case(alone=True)
def event_loop_with_signal_handlers():
    """A loop hears of each signal of the process: ours is none of its business, and its own are none of ours."""
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = FAR
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "usr1")
        done = loop.create_future()

        def callback():
            try:
                interrupted()
                interrupted(lambda: spin(FAR))
                os.kill(os.getpid(), signal.SIGUSR1)
                loop.call_later(SOON, done.set_result, "done")
            except BaseException as error:
                done.set_exception(error)

        loop.call_soon(callback)
        return await done

    assert asyncio.run(main()) == "done"
    assert seen == ["usr1"]


@case(alone=True)
def other_threads_get_no_signal():
    """It goes to the main thread by name; a call that others wait in is not interrupted."""
    slept = []

    def sleeper():
        with takes(SOON):
            began = time.monotonic()
            libc.usleep(int(SOON * 20e6))  # a signal would end it early
            slept.append(time.monotonic() - began)

    thread = start(sleeper)
    while thread.is_alive():
        interrupted()
    thread.result()
    assert slept[0] >= SOON * 20
    until(lambda: not thread.is_alive())
