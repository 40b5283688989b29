"""Interpreters that end with blocks open, sub-interpreters, and programs that embed an interpreter: nothing crashes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time

from cases import FAR, LONG, PATIENCE, SOON, Skip, case, in_thread, raises, start, takes, wait
from slowwatch import timeout

SOON_ENOUGH = 10.0  # seconds within which an interpreter is closed

PRELUDE = """
import atexit, os, sys, time
from slowwatch import Quota, shield, timeout

def fires(seconds=0.02):
    try:
        with timeout(seconds):
            while True:
                time.sleep(0.001)
    except RuntimeError:
        return True

def endless():
    while True:
        pass
"""


# threading is not imported in sub-interpreters: some versions hang at the end of one that was run in several threads.
THREADS = "import threading\n"


def ran(script):
    """What became of this program."""
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", PRELUDE + THREADS + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def ends(script, code=0, out="", err=""):
    """This program ends in time, with this code, and says this."""
    done = ran(script)
    assert (done.returncode, done.stdout) == (code, out), done
    assert (err in done.stderr) if err else done.stderr == "", done.stderr


# ---- the end of the interpreter ----


@case
def with_blocks_open():
    for block in ("timeout(600)", "timeout(0.3)", "timeout(Quota(600))", "shield()"):
        ends(f"kept = {block}; kept.__enter__()")


@case
def callbacks():
    """Blocks time out in those that are called before ours; what was registered before the import comes after it: there
    nothing times out any more, and nothing is wrong."""
    ends("atexit.register(lambda: print(fires()))", out="True\n")
    ends("atexit.register(time.sleep, 600); kept = timeout(0.05); kept.__enter__()", err="timed out after 0.05 s")
    last = """
        import atexit, sys, time

        def last():
            with timeout(0.01), shield(), timeout(Quota(0.01)):
                end = time.monotonic() + 0.05
                while time.monotonic() < end:
                    pass
            print("last")

        atexit.register(last)
        from slowwatch import Quota, shield, timeout
        kept = timeout(0.03)
        kept.__enter__()
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(last)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "last\n", ""), done


@case
def leaving_from_within():
    ends("with timeout(600), timeout(0.05): sys.exit(3)", code=3)
    ends("with timeout(600), shield(): os._exit(4)", code=4)
    ends("""
        import ctypes
        with timeout(0.02):
            ctypes.CDLL(None).exit(5)
        """, code=5)  # fmt: skip
    ends("with timeout(0.05): os.execv('/bin/sh', ['sh', '-c', 'sleep 0.2; echo done'])", out="done\n")
    ends("with timeout(600): os.kill(os.getpid(), 15)", code=-15)


@case
def nobody_catches_it():
    ends("with timeout(0.05): time.sleep(600)", code=1, err="RuntimeError: timed out after 0.05 s")
    ends("with timeout(0.05, SystemExit(7)): time.sleep(600)", code=7)


@case
def daemon_threads_in_blocks():
    """They are stopped in the middle of whatever they do, while their time runs out."""
    for _ in range(4):
        ends(
            f"""
            import random
            def work():
                while True:
                    try:
                        with timeout(random.uniform(1e-5, 5e-3)):
                            endless()
                    except RuntimeError:
                        pass
            for _ in range(4):
                threading.Thread(target=work, daemon=True).start()
            time.sleep({random.uniform(0.02, 0.1)})
            """
        )
    ends("""
        for work in (endless, lambda: time.sleep(600), lambda: fires(600)):
            def limited(work=work):
                try:
                    with timeout(0.05):
                        work()
                except RuntimeError:
                    pass
            threading.Thread(target=limited, daemon=True).start()
        time.sleep(0.01)
        """)  # fmt: skip


@case
def threads_that_outlive_the_main_program():
    """The interpreter waits for them, and they are timed out as ever."""
    ends("threading.Thread(target=lambda: (time.sleep(0.1), print(fires(0.1)))).start()", out="True\n")


@case
def destructors_at_the_very_end():
    ends("""
        class Last:
            def __del__(self, timeout=timeout, shield=shield):
                with timeout(0.001), shield():
                    for _ in range(100000):
                        pass
        last = sys.last = Last()
        cycle = [Last()]
        cycle.append(cycle)
        kept = timeout(0.01)
        """)  # fmt: skip


@case
def ends_at_its_deadline():
    """The exception may come in what is left of the program: before or after, never a crash."""
    with contextlib.ExitStack() as stack:
        scripts = [f"kept = timeout({0.001 * number})\nkept.__enter__()" for number in range(1, 6)]
        scripts += [f"threading.Thread(target=timeout({0.001 * number}).__enter__).start()" for number in range(1, 6)]
        for script in scripts:
            command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", PRELUDE + THREADS + script]
            done = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            said = done.communicate(timeout=PATIENCE)[1]
            assert done.returncode in (0, 1), (done.returncode, said)
            assert "Fatal" not in said, said


# ---- sub-interpreters ----


class Sub:
    """A sub-interpreter, by whichever module this version has. own_gil: None where there is no such thing."""

    def __init__(self, own_gil=False):
        with contextlib.suppress(ImportError):
            import _interpreters as module

            self.module, self.id = module, module.create("isolated" if own_gil else "legacy")
            return
        try:
            import _xxsubinterpreters as module
        except ImportError:
            raise Skip("this interpreter has no module for sub-interpreters") from None
        self.module = module
        try:
            self.id = module.create(isolated=own_gil)
        except TypeError:  # 3.8 knows one kind only
            self.id = module.create()

    def persist(self, function, *args):
        """The module refuses for as long as a deadline is looked after there."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return function(self.id, *args)
            except RuntimeError as error:
                if "more than one thread" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.001)

    def run(self, script):
        """None, or what it was ended by."""
        try:
            failed = self.persist(self.module.run_string, PRELUDE + textwrap.dedent(script))
        except self.module.RunFailedError as error:
            return str(error)
        return failed and failed.formatted

    def check(self, script):
        failed = self.run(script)
        assert failed is None, failed

    def destroy(self):
        self.persist(self.module.destroy)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.destroy()


if sys.version_info >= (3, 13):
    with contextlib.suppress(ImportError):
        import _interpreters

        _interpreters.RunFailedError = getattr(_interpreters, "RunFailedError", ZeroDivisionError)

IMPORT_SUB = f"sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r}); from test_interpreters import Sub"

WORKS = """
assert fires()
with timeout(600) as t:
    pass
assert not t.expired
quota = Quota(0.02)
for _ in range(2):
    try:
        with timeout(quota):
            endless()
    except RuntimeError:
        pass
    else:
        raise AssertionError
try:
    with timeout(0.02, KeyError("instance")):
        with shield():
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                pass
            done = True
        raise AssertionError
except KeyError:
    assert done
"""


@case(alone=True)
def sub_interpreter_in_the_main_thread():
    with Sub() as sub:
        sub.check(WORKS)
        with timeout(FAR):
            sub.check(WORKS)
        with raises(RuntimeError), takes(SOON), timeout(SOON):
            wait()
        sub.check(WORKS)


@case(alone=True)
def sub_interpreter_before_anything_else():
    with Sub() as sub:
        in_thread(sub.check, WORKS)
    with raises(RuntimeError), takes(SOON), timeout(SOON):
        time.sleep(FAR)


@case(alone=True)
def sub_interpreters_in_several_threads():
    def work():
        with Sub() as sub:
            sub.check(WORKS)
            with timeout(FAR):
                sub.check(WORKS)
            with raises(RuntimeError), timeout(SOON):
                wait()

    threads = [start(work) for _ in range(4)]
    with raises(RuntimeError), timeout(SOON):
        wait()
    for thread in threads:
        thread.result()


@case(alone=True)
def deadline_of_the_main_interpreter_passes_in_a_sub_interpreter():
    """It comes when the sub-interpreter's code has returned, at the latest."""
    with Sub() as sub:
        for place in (in_thread, lambda function: function()):

            def work():
                with raises(RuntimeError), takes(SOON, 1.0 + 10), timeout(SOON):
                    failed = sub.run("end = time.monotonic() + 0.1\nwhile time.monotonic() < end: pass")
                    assert failed is None or "RuntimeError" in failed
                    wait()

            place(work)
        sub.check(WORKS)


@case(alone=True)
def sub_interpreter_that_ends_with_a_block_open():
    """Its deadline does not outlive it, nor does it meet another interpreter at the same address."""
    for place in (in_thread, lambda function: function()):
        for seconds in (LONG, 600):

            def work(seconds=seconds):
                with Sub() as sub:
                    sub.run(f"kept = timeout({seconds})\nkept.__enter__()")
                with Sub() as sub:
                    sub.check("end = time.monotonic() + 0.3\nwhile time.monotonic() < end: pass")
                    sub.check(WORKS)

            place(work)
    with raises(RuntimeError), takes(SOON), timeout(SOON):
        wait()


@case
def sub_interpreter_that_ends_at_its_deadline():
    """The exception may come in what is left to do there, and is then said to be ignored."""
    done = ran(f"""
        {IMPORT_SUB}
        for number in range(20):
            with Sub() as sub:
                sub.run(f"kept = timeout({{0.0002 * number + 0.0001}})\\nkept.__enter__()")
        with Sub() as sub:
            sub.check("assert fires()")
        assert fires()
        """)  # fmt: skip
    assert done.returncode == 0, done


@case(alone=True)
def many_sub_interpreters():
    """As in a server with many applications: they work, or say why they do not."""
    with contextlib.ExitStack() as stack:
        subs = [stack.enter_context(Sub()) for _ in range(20)]
        failed = [sub.run("assert fires()") for sub in subs]
        for text in failed:
            assert text is None or "ImportError" in text and "slowwatch" in text, text
        assert failed[0] is None
        with raises(RuntimeError), timeout(SOON):
            wait()


@case(alone=True)
def sub_interpreters_one_after_the_other():
    for _ in range(20):
        with Sub() as sub:
            sub.check("with timeout(600): pass")


@case(alone=True)
def sub_interpreter_cannot_choose_the_signal():
    with Sub() as sub:
        failed = sub.run("import slowwatch; slowwatch.set_signal(10)")
        assert "ValueError" in failed, failed
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@case(alone=True)
def sub_interpreter_with_a_gil_of_its_own():
    """Refused by an ImportError that says so; the process goes on."""
    if sys.version_info < (3, 12):
        raise Skip("this interpreter has one GIL only")
    with Sub(own_gil=True) as sub:
        failed = sub.run("")
        assert "ImportError" in failed, failed
        assert "slowwatch" in failed, failed
    with raises(RuntimeError), takes(SOON), timeout(SOON):
        wait()


@case
def end_with_sub_interpreters_left():
    for seconds in (0.01, 0.1, 600):
        done = ran(f"""
            {IMPORT_SUB}
            sub = Sub()
            sub.run("kept = timeout({seconds})\\nkept.__enter__()")
            kept = timeout(600)
            kept.__enter__()
            time.sleep(0.05)
            """)  # fmt: skip
        assert done.returncode == 0, done


# ---- embedded ----

EMBEDDING = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

static const char *script;

static void *one_life(void *again)
{
    Py_Initialize();
    int failed = PyRun_SimpleString(script);
    if (Py_FinalizeEx() < 0)
        failed = 1;
    return failed || !again ? (failed ? again ? again : (void *)1 : NULL) : one_life(NULL);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    void *failed = NULL;
    script = argv[2];
    if (argv[1][0] == 'm')
        return one_life(NULL) != NULL;
    if (argv[1][0] == '2')
        return one_life(&thread) != NULL;
    if (pthread_create(&thread, NULL, one_life, NULL) || pthread_join(thread, &failed))
        return 2;
    if (argv[1][0] == 'b' && !failed)
        failed = one_life(NULL);
    return failed != NULL;
}
"""


@case
def embedded():
    """In the program's first thread, in another one, and more than one life of the interpreter."""
    library, folder = sysconfig.get_config_var("LDLIBRARY") or "", sysconfig.get_config_var("LIBDIR")
    if ".so" not in library or not os.path.exists(os.path.join(folder, library)):
        folder = os.path.join(folder, sysconfig.get_config_var("MULTIARCH") or "")
    if ".so" not in library or not os.path.exists(os.path.join(folder, library)):
        raise Skip("no shared library of this interpreter is here")
    with tempfile.TemporaryDirectory() as temporary:
        source, program = os.path.join(temporary, "embedding.c"), os.path.join(temporary, "embedding")
        with open(source, "w") as file:
            file.write(EMBEDDING)
        include = sysconfig.get_path("include")
        subprocess.run(
            ["gcc", "-o", program, source, "-I" + include, os.path.join(folder, library), "-Wl,-rpath," + folder,
             "-lpthread", "-lm", "-ldl"], check=True)  # fmt: skip
        environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
        for how in ("main thread", "thread", "2 lives", "both threads"):
            for script in (PRELUDE + WORKS, PRELUDE + THREADS + "timeout(0.3).__enter__(); assert fires()\n"):
                done = subprocess.run([program, how, script], env=environment, capture_output=True, text=True,
                                      timeout=PATIENCE)  # fmt: skip
                assert (done.returncode, done.stderr) == (0, ""), (how, script[-60:], done)
