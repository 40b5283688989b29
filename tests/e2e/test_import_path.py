"""`import slowwatch` works inside uWSGI with nothing installed: in every interpreter, mode and order of plugins."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
from clients import wait_for
from harness import BUILD, PYTHON_PLUGIN, UWSGI, Uwsgi
from test_build import copy_of_build, make

PACKAGE = BUILD / "python"
VERSION = sysconfig.get_python_version()
# It imports where applications do: while it is loaded.
APPLICATION = """
import json, os, sys
try:
    import slowwatch
    found = {"file": slowwatch.__file__, "works": hasattr(slowwatch, "timeout")}
except ImportError as error:
    found = {"error": str(error)}
found["path"] = sys.path
LATER = os.environ["FOUND_IN"]

def note(where):
    with open(os.path.join(LATER, where + ".new"), "w") as file:
        json.dump(found, file)
    os.rename(file.name, os.path.join(LATER, where))

def spool(task):
    note("spooler")
    return uwsgi.SPOOL_OK

def application(environ, start_response):
    if environ["PATH_INFO"].endswith("/spool"):
        uwsgi.spool({b"task": b"x"})
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]

import uwsgi
uwsgi.spooler = spool
if uwsgi.mule_id():
    note("mule")
    while True:
        uwsgi.mule_get_msg()
"""


@pytest.fixture
def importing(uwsgi, tmp_path):
    """Makes a server whose application tells what `import slowwatch` found."""
    (tmp_path / "importing.py").write_text(APPLICATION)

    def server(**options):
        if "mount" not in options:
            options = {"app": "importing:application", "pythonpath": tmp_path, **options}
        return uwsgi.make(env={"FOUND_IN": str(tmp_path)}, **options)

    return server


def asked(server, path="/"):
    return json.loads(server.get(path).text)


def check(found, folder=PACKAGE):
    assert found.get("file") == f"{folder}/slowwatch/__init__.py", found
    assert found["works"]
    assert found["path"][-1] == str(folder)
    assert found["path"].count(str(folder)) == 1


def plugin_alone(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.copy(BUILD / "slowwatch_plugin.so", folder)


# ---- every interpreter ----

MODES = {
    "prefork": {"processes": 2},
    "lazy apps": {"lazy_apps": True, "processes": 2},
    "threads": {"threads": 3},
    "threads, lazy apps": {"threads": 3, "lazy_apps": True},
    "no master": {"master": None},
    "no threads": {"enable_threads": None},
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("python_first", [True, False], ids=["python first", "slowwatch first"])
def test_every_application(importing, tmp_path, python_first, mode):
    """The second and third application have interpreters of their own."""
    server = importing(
        app=None, mount=[f"/{name}={tmp_path}/importing.py" for name in ("one", "two", "three")],
        manage_script_name=True, plugins=Uwsgi.plugin_list("slowwatch", python_first=python_first), **mode,
    ).start(probe=None)  # fmt: skip
    for name in ("one", "two", "three"):
        check(asked(server, f"/{name}/"))


@pytest.mark.parametrize("options", [{}, {"py_call_osafterfork": True}], ids=["plain", "osafterfork"])
def test_single_application(importing, options):
    """Plain uWSGI answers no request with osafterfork and several applications."""
    check(asked(importing(**options).start()))


@pytest.mark.parametrize("lazy", [True, None], ids=["lazy apps", "prefork"])
def test_mules_and_spoolers(importing, tmp_path, lazy):
    spool = tmp_path / "spool"
    spool.mkdir()
    server = importing(
        lazy_apps=lazy, mule=tmp_path / "importing.py", spooler=spool, spooler_frequency=1,
        spooler_python_import="importing" if lazy else None,
    ).start()  # fmt: skip
    server.get("/spool")
    for where in ("mule", "spooler"):
        wait_for((tmp_path / where).exists, f"what the {where} found\n{server.tail()}")
        check(json.loads((tmp_path / where).read_text()))


def test_after_a_reload(importing):
    server = importing().start()
    mark = server.mark()
    server.process.send_signal(1)
    server.wait_started(since=mark)
    check(asked(server))


# ---- which package ----


@pytest.fixture
def venv(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv"


def test_in_a_virtual_environment(importing, venv):
    check(asked(importing(home=venv).start()))


@pytest.mark.parametrize("where", ["environment", "pythonpath"])
def test_an_installed_one_wins(importing, venv, tmp_path, where):
    (packages,) = venv.glob("lib/python3*/site-packages")
    package = (packages if where == "environment" else tmp_path) / "slowwatch"
    package.mkdir()
    (package / "__init__.py").touch()
    found = asked(importing(home=venv).start())
    assert found["file"] == f"{package}/__init__.py"
    assert found["path"][-1] == str(PACKAGE)


def test_of_another_python(importing, tmp_path):
    """One line says what to do, and the application runs without it."""
    folder = tmp_path / "plugins"
    plugin_alone(folder)
    shutil.copytree(PACKAGE / "slowwatch", folder / "python" / "slowwatch")
    (extension,) = folder.glob("python/slowwatch/_deadline.*.so")
    extension.rename(extension.with_name("_deadline.cpython-37m-x86_64-linux-gnu.so"))
    error = asked(importing(plugin_dir=folder).start())["error"]
    assert "\n" not in error
    for word in (f"{folder}/python/slowwatch", "cpython-37m", extension.name, "make PYTHON=", "pip"):
        assert word in error


def test_without_a_package(importing, tmp_path):
    folder = tmp_path / "plugins"
    plugin_alone(folder)
    server = importing(plugin_dir=folder, processes=2, lazy_apps=True).start()
    assert "slowwatch" in asked(server)["error"]
    (said,) = [line for line in server.said() if "package" in line]
    assert f"no Python package beside the plugin in {folder}:" in said


# ---- where it is ----


def test_from_a_relative_folder(importing):
    server = importing(chdir="/")
    server.options["plugin-dir"] = os.path.relpath(BUILD, server.folder)
    check(asked(server.start()))


@pytest.mark.parametrize("name", ['it\'s "here" \\x41', "bücher=a", "a://b", "x" * 200])
def test_from_a_folder_with_any_name(importing, tmp_path, name):
    folder = tmp_path / name
    plugin_alone(folder)
    (folder / "python").symlink_to(PACKAGE)
    check(asked(importing(plugin_dir=folder).start()), os.path.realpath(folder) + "/python")


@pytest.mark.parametrize("by", ["PREFIX", "PLUGIN_DIR and PYTHON_DIR"])
def test_installed(importing, tmp_path, venv, by):
    """Applications in a virtual environment see it too; what Python itself looks for is the same package."""
    prefix = tmp_path / "prefix"
    plugins, packages = prefix / "lib/uwsgi/plugins", prefix / f"lib/python{VERSION}/site-packages"
    where = [f"PREFIX={prefix}"]
    if by != "PREFIX":
        plugins, packages = prefix / "plugins", prefix / "packages"
        where = [f"PLUGIN_DIR={plugins}", f"PYTHON_DIR={packages}"]
    same = [f"B={copy_of_build(tmp_path / 'build')}", f"UWSGI={UWSGI}", f"PYTHON={sys.executable}", *where]
    make(*same, "install")
    shutil.rmtree(tmp_path / "build" / "python")
    server = importing(plugin_dir=plugins, home=venv).start()
    check(asked(server), plugins / "slowwatch_python")
    server.stop()
    assert (plugins / "slowwatch_python" / "slowwatch").resolve() == packages / "slowwatch"
    subprocess.run([venv / "bin" / "python", "-c", "import slowwatch"], env={"PYTHONPATH": packages}, check=True)
    make(*same, "uninstall")
    assert [path for path in prefix.rglob("*") if path.is_symlink() or not path.is_dir()] == []
    assert list(prefix.rglob("*slowwatch*")) == []


@pytest.mark.skipif(PYTHON_PLUGIN == "", reason="this uWSGI has Python built in")
def test_nothing_is_said_without_python(uwsgi, tmp_path):
    (tmp_path / "hello.txt").write_text("hello\n")
    folder = tmp_path / "plugins"
    plugin_alone(folder)
    server = uwsgi(app=None, plugin_dir=folder, plugins="slowwatch,notfound", check_static=tmp_path, probe="/hello.txt")
    assert not any("package" in line for line in server.said()), server.said()
