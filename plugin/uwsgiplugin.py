# `uwsgi --build-plugin plugin`, run in the root of the checkout with PYTHON=/usr/bin/python3, executes this file. uWSGI
# has then written its header into BUILDER and put its flags into the environment; it reads NAME, GCC_LIST and so on.
import glob
import os
import sys

BUILDER = ".uwsgi_plugins_builder"


def identity(*texts):
    """The same as sw_identity_of() in identity.c."""
    value = 0xCBF29CE484222325
    for text in texts:
        for byte in text.rstrip(b" \t\r\n") + b"\xff":
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value or 1


def write_identity():
    with open(BUILDER + "/uwsgi.h", "rb") as file:
        header = file.read()
    flags = os.environb[b"UWSGI_PLUGINS_BUILDER_CFLAGS"]
    with open(BUILDER + "/uwsgi_identity.h", "w") as file:
        file.write("#define SW_UWSGI_VERSION UWSGI_VERSION\n")
        file.write(f"#define SW_UWSGI_IDENTITY UINT64_C(0x{identity(header, flags):016x})\n")


write_identity()
folder = os.path.abspath(sys.argv[2])  # what was given to --build-plugin

NAME = "slowwatch"
GCC_LIST = sorted(os.path.basename(path)[:-2] for path in glob.glob(folder + "/*.c"))
CFLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fno-omit-frame-pointer"]
LDFLAGS = []
LIBS = ["-lesmtp", "-lssl", "-lcrypto", "-ljansson", "-lyajl", "-lpcre2-8", "-lpthread", "-ldl"]
