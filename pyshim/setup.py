"""The part of the package's build that pyproject.toml cannot say for all of CPython 3.8 to 3.14: its C sources."""

from glob import glob

from setuptools import Extension, setup

setup(
    license="MIT",
    ext_modules=[
        Extension(
            "slowwatch._deadline",
            sources=sorted(glob("slowwatch/*.c")),
            depends=sorted(glob("slowwatch/*.h")),
            define_macros=[("_GNU_SOURCE", None)],
            extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-fno-omit-frame-pointer"],
            extra_link_args=["-Wl,-z,relro,-z,now"],
            libraries=["pthread", "dl"],
        )
    ],
)
