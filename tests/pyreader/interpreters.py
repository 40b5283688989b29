"""Which interpreters the stack reader is tested and measured with."""

import os
import subprocess
from pathlib import Path

KNOWN = [f"3.{minor}" for minor in range(8, 16)]
USUAL = ["/usr/bin/python3", "/usr/bin/python3.*[0-9]", "/usr/local/bin/python3", "/usr/local/bin/python3.*[0-9]"]
VERSION = "import sys; print('.'.join(map(str, sys.version_info[:3])), sys.flags.debug, sys.implementation.name)"


def candidates():
    """Those of PYTHONS (separated as PATH is), else those in the usual places."""
    if named := os.environ.get("PYTHONS"):
        return [Path(path) for path in named.split(os.pathsep) if path]
    found = []
    for pattern in USUAL:
        found += sorted(Path("/").glob(pattern[1:]))
    return found + sorted((Path.home() / ".pyenv/versions").glob("3.*/bin/python3"))


def version_of(python):
    done = subprocess.run([python, "-c", VERSION], capture_output=True, text=True)
    version, debug, name = (done.stdout.split() + [""] * 3)[:3]
    return version if done.returncode == 0 and name == "cpython" and debug == "0" else None


def interpreters():
    """{version: path}: one per version, oldest first."""
    found, seen = {}, set()
    for path in candidates():
        real = path.resolve() if path.exists() else path
        if real in seen:
            continue
        seen.add(real)
        version = version_of(path)
        if version:
            found.setdefault(version, path)
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def known(version):
    return ".".join(version.split(".")[:2]) in KNOWN
