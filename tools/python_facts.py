"""What make asks the Python that it builds for: its facts, or with --folder [PREFIX] where packages are installed."""

import site
import sys
import sysconfig


def folder(prefix=None):
    """The first of the folders where this Python looks for packages, below PREFIX when one is given; if it looks at
    none there, what would be usual."""
    looks_at = [path for path in site.getsitepackages() if not prefix or path.startswith(f"{prefix}/lib")]
    return looks_at[0] if looks_at else f"{prefix}/lib/python{sysconfig.get_python_version()}/site-packages"


if sys.argv[1:2] == ["--folder"]:
    print(folder(*sys.argv[2:]))
else:
    print("version", sys.version.split()[0])
    print("suffix", sysconfig.get_config_var("EXT_SUFFIX"))
    print("include", sysconfig.get_path("include"))
