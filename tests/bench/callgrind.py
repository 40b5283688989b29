"""Runs a server under valgrind's callgrind and adds up what it counted."""

import re
import tempfile
from collections import Counter
from pathlib import Path

from benchlib import UWSGI, make_server
from clients import PATIENCE
from hello import LEAVE

PLUGIN = "slowwatch_plugin.so"
ALLOCATOR = re.compile(r"(_int_(malloc|free|realloc)|malloc|free|calloc|realloc|malloc_consolidate|unlink_chunk)\b")


def self_costs(lines):
    """(object, function, instructions) of a callgrind file. A name is written out once and is a number after that; the
    line after "calls=" is what the callee cost, which is counted where it happened."""
    names, here, skip = {}, {"ob": "", "fn": ""}, False
    for line in lines:
        found = re.match(r"c?(ob|fn|fl|fi|fe)=\((\d+)\)(?: (.*))?$", line)
        if found:
            kind, number, name = found.groups()
            if name is not None:
                names[kind, number] = name
            if not line.startswith("c") and kind in here:
                here[kind] = names.get((kind, number), "")
        elif line.startswith("calls="):
            skip = True
        elif re.match(r"[+*\d-]", line):
            if not skip:
                yield here["ob"], here["fn"], int(line.split()[1])
            skip = False


def groups_of(folder):
    """Instructions of all threads of a run: all, those in the plugin's code, those in the memory allocator."""
    counted = Counter()
    for file in folder.glob("callgrind.out*"):
        with file.open(errors="replace") as lines:
            for file_name, function, cost in self_costs(line.rstrip("\n") for line in lines):
                counted["all"] += cost
                if file_name.endswith(PLUGIN):
                    counted["plugin"] += cost
                elif ALLOCATOR.match(function):
                    counted["allocator"] += cost
    return counted


def count(configuration, requests):
    """What a single process costs that serves this many requests, from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="slowwatch-bench-") as name:
        folder = Path(name)
        server = make_server(folder, master=None, **configuration)
        # --trace-children: Debian's uwsgi is a link that may run another program
        valgrind = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--separate-threads=yes"]
        server.launch([*valgrind, f"--callgrind-out-file={folder}/callgrind.out", UWSGI, "--ini", str(server.ini)])
        try:
            server.wait_started()
            for _ in range(requests):
                assert server.get("/").status == 200
            server.get(LEAVE)
            server.process.wait(PATIENCE)  # not a signal: with Python threads it may reach one that ignores it
        finally:
            server.kill_all()
        return groups_of(folder)


def per_request(configuration, requests):
    """What one more request costs: the difference to a run with twice as many, so that start and end cancel out."""
    once, twice = count(configuration, requests), count(configuration, 2 * requests)
    return {group: (twice[group] - once[group]) / requests for group in ("all", "plugin", "allocator")}
