"""The stack reader, loaded into this interpreter from the library made of probe.c."""

import ctypes

BACKENDS = ["memfd", "process_vm_readv", "pipe"]
SEPARATOR = "\x1f"


class Probe:
    def __init__(self, path, backend):
        self.lib = ctypes.CDLL(path)  # calls run without the GIL, as the watchdog does
        self.with_gil = ctypes.PyDLL(path)
        for lib in (self.lib, self.with_gil):
            self.declare(lib)
        self.error = self.lib.probe_open(BACKENDS.index(backend))

    @staticmethod
    def declare(lib):
        text, counts = ctypes.c_char_p, ctypes.POINTER(ctypes.c_long)
        ident, number = ctypes.c_ulong, ctypes.c_uint
        for name in ("version", "why", "backend", "capture", "threads"):
            getattr(lib, "probe_" + name).restype = text
        lib.probe_capture.argtypes = [ident, number]
        lib.probe_threads.argtypes = [ident, number]
        lib.probe_time_ns.argtypes = [ident, number, number]
        lib.probe_time_ns.restype = ctypes.c_long
        lib.probe_gil_counts.argtypes = [ident, ctypes.c_long, ident, number, counts]
        lib.probe_gil_counts.restype = None
        lib.probe_hammer.argtypes = [ident, number, number, number, ctypes.POINTER(text), number, counts]
        lib.probe_hammer.restype = ctypes.c_long

    @property
    def why(self):
        return self.lib.probe_why().decode()

    @property
    def version(self):
        return self.lib.probe_version().decode()

    @property
    def backend(self):
        return self.lib.probe_backend().decode()

    def capture(self, ident, depth=1024):
        return parse_stack(self.lib.probe_capture(ident, depth))

    def threads(self, ident, depth):
        found = {}
        for block in self.lib.probe_threads(ident, depth).split(b"\n\n"):
            if not block:
                continue
            head, stack = block.split(b"\n", 1)
            _, thread, tid, gil = head.decode().split(SEPARATOR)
            found[int(thread)] = (int(tid), gil == "1", parse_stack(stack + b"\n"))
        return found


def parse_stack(text):
    """(reason or "clean", frames left out, [(file, line, function)]), outermost first; or the error as text."""
    if text.startswith(b"error: "):
        return text.decode(), 0, []
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    reason, truncated = lines[0].split(SEPARATOR)
    frames = []
    for line in lines[1:-1]:
        file, number, function = line.split(SEPARATOR)
        frames.append((file, int(number), function))
    return reason, int(truncated), frames
