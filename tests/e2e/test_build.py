"""What make builds: what the plugin needs and exports, whom it refuses, where it goes, what its docs say."""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from harness import BUILD, PYTHON_PLUGIN, REPO, UWSGI

PLUGIN = BUILD / "slowwatch_plugin.so"
READY = "slowwatch: .*watching "
PYTHON_VERSION = sysconfig.get_python_version()


def output(*command, **kwargs):
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        **kwargs,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def make(*arguments):
    # what an outer make put into the environment is not meant for this one
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return output("make", "--no-print-directory", *arguments, cwd=REPO, env=env)


def symbols(path, which):
    """Dynamic symbols without their versions; weak ones need not be there and are left out."""
    table = [line.split() for line in output("nm", "--dynamic", which, path).splitlines()]
    return {words[-1].split("@")[0] for words in table if words[-2] not in "wv"}


def libraries(path):
    """What the loader finds for a file, by name."""
    return re.findall(r"=> (/\S+) \(", output("ldd", path))


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory):
    """A uWSGI whose header differs in one line from the one that runs."""
    path = tmp_path_factory.mktemp("wrapper") / "uwsgi"
    path.write_text(f'#!/bin/sh\n"{UWSGI}" "$@" || exit\n[ "$1" != --dot-h ] || echo "/* another one */"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def own_build(tmp_path):
    """A build folder to make things in: other tests run what is in BUILD at this moment."""
    return copy_of_build(tmp_path / "build")


@pytest.fixture(scope="module")
def foreign_build(tmp_path_factory, wrapper):
    """Made for that other uWSGI: only what depends on it is compiled again."""
    folder = copy_of_build(tmp_path_factory.mktemp("foreign") / "build")
    log = make(f"B={folder}", f"UWSGI={wrapper}", "all")
    return folder, log


def copy_of_build(folder):
    """With the times of its files, so that make finds in it what it would find in BUILD."""
    shutil.copytree(BUILD, folder, ignore=shutil.ignore_patterns("venv", "asan", "tsan", "fuzz", "bench", "test_*"))
    return folder


EXPORTED = {"slowwatch_plugin", "slowwatch_timeout_report"}  # for uWSGI, for the Python package


def test_only_what_others_look_for_is_exported():
    assert symbols(PLUGIN, "--defined-only") == EXPORTED


def test_every_symbol_needed_is_there_whatever_the_load_order():
    needed = symbols(PLUGIN, "--undefined-only")
    there = symbols(os.path.realpath(UWSGI), "--defined-only")
    for library in libraries(PLUGIN):
        there |= symbols(library, "--defined-only")
    assert {name for name in needed - there if name != "__tls_get_addr"} == set()
    assert {name for name in needed if re.match(r"_?Py", name)} == set()
    assert not any("python" in library for library in libraries(PLUGIN))


def test_nothing_in_it_can_abort_the_host():
    assert symbols(PLUGIN, "--undefined-only") & {"abort", "__assert_fail", "quick_exit"} == set()


def test_making_again_makes_nothing(own_build):
    log = make(f"B={own_build}", f"UWSGI={UWSGI}", "all")
    assert "slowwatch_plugin.so" not in log
    assert " -c " not in log


def test_another_uwsgi_rebuilds_what_depends_on_it(foreign_build):
    folder, log = foreign_build
    assert f"{folder}/hosted/plugin.o" in log
    assert f"-o {folder}/plain/text.o" not in log
    identity = "uwsgi_identity.h"
    assert (folder / identity).read_text() != (BUILD / identity).read_text()


def test_the_wrong_uwsgi_is_refused_in_one_line(foreign_build, uwsgi):
    folder, _ = foreign_build
    code, log = uwsgi.make(plugin_dir=folder).run_to_exit()
    assert code == 1
    refusals = [line for line in log.splitlines() if "built for another uWSGI" in line]
    assert len(refusals) == 1
    assert refusals[0].startswith("slowwatch: ")


def test_build_plugin_of_uwsgi_works_too(tmp_path, uwsgi):
    sources = tmp_path / "plugin"
    shutil.copytree(REPO / "plugin", sources, ignore=shutil.ignore_patterns("__pycache__"))
    contract = Path("pyshim", "slowwatch", "timeout_abi.h")
    (tmp_path / contract).parent.mkdir(parents=True)
    shutil.copy(REPO / contract, tmp_path / contract)
    env = {**os.environ, "PYTHON": "/usr/bin/python3"}
    log = output(UWSGI, "--build-plugin", "plugin", cwd=tmp_path, env=env)
    assert "slowwatch plugin built" in log
    assert "warning:" not in log
    identity = re.compile(r"IDENTITY (\S+)")
    assert (
        identity.search((tmp_path / ".uwsgi_plugins_builder" / "uwsgi_identity.h").read_text())[1]
        == identity.search((BUILD / "uwsgi_identity.h").read_text())[1]
    )
    assert symbols(tmp_path / "slowwatch_plugin.so", "--defined-only") == EXPORTED
    server = uwsgi(plugin_dir=tmp_path)
    server.wait_log(READY)


@pytest.mark.parametrize("arguments", [[], ["PREFIX=/opt/sw"], ["PLUGIN_DIR=/srv/plugins", "PYTHON_DIR=/srv/python"]])
def test_install_puts_it_where_it_was_asked(tmp_path, own_build, arguments):
    flags = (BUILD / "uwsgi.cflags").read_text()
    own = re.search(r'-DUWSGI_PLUGIN_DIR="\\"(.*?)\\""', flags)[1]
    folder, packages = {
        "": (own if own.startswith("/") else "/usr/local/lib/uwsgi/plugins", site.getsitepackages()[0]),
        "PREFIX=/opt/sw": ("/opt/sw/lib/uwsgi/plugins", f"/opt/sw/lib/python{PYTHON_VERSION}/site-packages"),
        "PLUGIN_DIR=/srv/plugins": ("/srv/plugins", "/srv/python"),
    }["".join(arguments[:1])]
    root = tmp_path / "root"
    same = [f"B={own_build}", f"UWSGI={UWSGI}", f"PYTHON={sys.executable}", f"DESTDIR={root}", *arguments]
    log = make(*same, "install")
    package = {path.name: path for path in (BUILD / "python" / "slowwatch").iterdir() if path.is_file()}
    installed = {str(path)[len(str(root)) :]: path for path in root.rglob("*") if path.is_symlink() or path.is_file()}
    link = installed.pop(f"{folder}/slowwatch_python/slowwatch")
    assert os.readlink(link) == f"{packages}/slowwatch"
    built = {f"{folder}/slowwatch_plugin.so": PLUGIN}
    built.update({f"{packages}/slowwatch/{name}": path for name, path in package.items()})
    assert set(installed) == set(built)
    for name in built:
        assert installed[name].read_bytes() == built[name].read_bytes()
    assert (f"plugin-dir = {folder} " in log) == (folder != own)
    make(*same, "uninstall")
    assert [path for path in root.rglob("*") if path.is_symlink() or path.is_file() or "slowwatch" in path.name] == []


def test_uninstall_leaves_what_is_not_ours(tmp_path, own_build):
    same = [f"B={own_build}", f"UWSGI={UWSGI}", f"DESTDIR={tmp_path}/root", "PLUGIN_DIR=/plugins", "PYTHON_DIR=/python"]
    make(*same, "install")
    others = [tmp_path / "root" / name for name in ("plugins/python3_plugin.so", "python/slowwatch/local.py")]
    for path in others:
        path.touch()
    make(*same, "uninstall")
    assert sorted(path for path in tmp_path.rglob("root/*/**/*") if path.is_file()) == others


def test_another_python_rebuilds_the_package(tmp_path):
    """Any interpreter whose extensions have another name; the one of before leaves nothing."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" | sed "s/^suffix .*/suffix .other.so/"\n')
    python.chmod(0o755)
    build = copy_of_build(tmp_path / "build")
    log = make(f"B={build}", f"PYTHON={python}", f"{build}/python/.ready")
    assert f"{build}/extension/_deadline.o" in log
    extensions = [path.name for path in build.glob("python/slowwatch/_deadline*")]
    assert extensions == ["_deadline.other.so"]


def test_docs_show_the_option_table():
    output("python3", REPO / "tools" / "options_page.py", "--check", REPO / "docs" / "options.md")


def test_uwsgi_help_shows_every_option():
    help_text = output(UWSGI, "--plugin-dir", BUILD, "--plugins", "slowwatch", "--help")
    table = re.findall(r"^\| `(slowwatch-[a-z-]+)", (REPO / "docs" / "options.md").read_text(), re.MULTILINE)
    assert len(table) >= 18
    for name in table:
        assert re.search(rf"^ +--{name}\s", help_text, re.MULTILINE), name


@pytest.mark.skipif(not PYTHON_PLUGIN, reason="this uWSGI has Python inside: there is no order")
@pytest.mark.parametrize("python_first", [True, False])
def test_it_loads_before_and_after_python(uwsgi, python_first):
    server = uwsgi(plugins=uwsgi.make().plugin_list("slowwatch", python_first=python_first))
    server.wait_log(READY)
