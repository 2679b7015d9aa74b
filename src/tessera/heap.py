"""The memory of a process that keeps millions of small objects for long.

By default Python's cyclic garbage collector looks at all of them again and again: a pause of a tenth of a second in a
scheduler of 5,000 nodes, and most of the time of a bulk load. What is loaded once is better taken out of its sight.
What a start needs and nothing after it is given back to the system.
"""

import ctypes
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50
_MADV_DONTNEED = 4


@contextmanager
def filling() -> Iterator[None]:
    """While a process fills its heap nothing is collected; what then is there is left out of all later collections,
    which come seldom. Objects are freed as before when nothing refers to them; only cycles among them stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
        gc.enable()
        with suppress(OSError, AttributeError):  # glibc's alone
            ctypes.CDLL(None).malloc_trim(0)


def unload(library: str) -> None:
    """Takes the pages of a shared library's code out of this process's memory; a call into it reads them again.

    For code that is not called any more, such as a compiler's. On other systems than Linux nothing happens.
    """
    with suppress(OSError, AttributeError):
        lines = Path("/proc/self/smaps").read_text().splitlines()
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        for start, end in as_in_file(lines, library):
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def as_in_file(smaps: Iterable[str], library: str) -> Iterator[tuple[int, int]]:
    """Start and end of each mapping of a file named so that cannot be written and holds nothing but the file's bytes:
    only from those can pages be dropped without loss. ``smaps``: lines of /proc/PID/smaps, see proc(5)."""
    found: tuple[int, int] | None = None
    for line in smaps:
        field, *values = line.split()
        if not field.endswith(":"):
            start, end = (int(each, 16) for each in field.split("-"))
            named = len(values) >= 5 and values[4].rpartition("/")[2].startswith(library)
            found = (start, end) if named and "w" not in values[0] else None
        elif field == "Anonymous:" and found is not None and values[0] == "0":
            yield found
