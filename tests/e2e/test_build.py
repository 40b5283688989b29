"""What make builds: what the plugin needs and exports, whom it refuses, where it goes, what its docs say."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import BUILD, PYTHON_PLUGIN, REPO, UWSGI

PLUGIN = BUILD / "slowwatch_plugin.so"
READY = "slowwatch: .*watching "


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


def test_only_the_plugin_struct_is_exported():
    assert symbols(PLUGIN, "--defined-only") == {"slowwatch_plugin"}


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
    env = {**os.environ, "PYTHON": "/usr/bin/python3"}
    log = output(UWSGI, "--build-plugin", "plugin", cwd=tmp_path, env=env)
    assert "slowwatch plugin built" in log
    assert "warning:" not in log
    identity = re.compile(r"IDENTITY (\S+)")
    assert (
        identity.search((tmp_path / ".uwsgi_plugins_builder" / "uwsgi_identity.h").read_text())[1]
        == identity.search((BUILD / "uwsgi_identity.h").read_text())[1]
    )
    assert symbols(tmp_path / "slowwatch_plugin.so", "--defined-only") == {"slowwatch_plugin"}
    server = uwsgi(plugin_dir=tmp_path)
    server.wait_log(READY)


@pytest.mark.parametrize("arguments", [[], ["PREFIX=/opt/sw"], ["PLUGIN_DIR=/srv/plugins"]])
def test_install_puts_it_where_it_was_asked(tmp_path, own_build, arguments):
    flags = (BUILD / "uwsgi.cflags").read_text()
    own = re.search(r'-DUWSGI_PLUGIN_DIR="\\"(.*?)\\""', flags)[1]
    folder = {
        "": own if own.startswith("/") else "/usr/local/lib/uwsgi/plugins",
        "PREFIX=/opt/sw": "/opt/sw/lib/uwsgi/plugins",
        "PLUGIN_DIR=/srv/plugins": "/srv/plugins",
    }["".join(arguments)]
    root = tmp_path / "root"
    same = [f"B={own_build}", f"UWSGI={UWSGI}", f"DESTDIR={root}", *arguments]
    log = make(*same, "install")
    installed = [path for path in root.rglob("*") if path.is_file()]
    assert installed == [Path(f"{root}{folder}/slowwatch_plugin.so")]
    assert installed[0].read_bytes() == PLUGIN.read_bytes()
    assert (f"plugin-dir = {folder} " in log) == (folder != own)
    make(*same, "uninstall")
    assert not installed[0].exists()


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
