"""A client of known size: ``python -m tessera.node_agent.enforcement.mps_probe_client BYTES``.

It uses the first GPU that its environment shows, prints ``context`` once it has one and waits for a line; then it takes
BYTES, prints ``allocated`` and waits until its standard input ends. Needs the driver's libcuda.so.1 and nothing else.
"""

import ctypes
import sys

LIBRARY = "libcuda.so.1"
CONTEXT, ALLOCATED = "context", "allocated"


class DriverError(Exception):
    """A call of the driver failed."""


def main(argv: list[str]) -> int:
    """Answers the exit status; what failed is said on standard output."""
    if len(argv) != 1 or not argv[0].isdigit():
        print(f"found {' '.join(argv)!r}; allowed: a number of bytes")
        return 2
    try:
        _run(int(argv[0]))
    except (OSError, AttributeError, DriverError) as error:
        print(error, flush=True)
        return 1
    return 0


def _run(size: int) -> None:
    cuda = ctypes.CDLL(LIBRARY)
    device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    _call(cuda, "cuInit", ctypes.c_uint(0))
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    _call(cuda, "cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), device)
    print(CONTEXT, flush=True)
    sys.stdin.readline()
    _call(cuda, "cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
    print(ALLOCATED, flush=True)
    sys.stdin.read()


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    code = getattr(cuda, name)(*arguments)
    if code:
        raise DriverError(f"{name}: CUDA error {code}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
