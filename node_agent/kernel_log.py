"""Processes that the driver blames for an error in the kernel's log; NVML's events do not say whose it was.

A record reads ``NVRM: Xid (PCI:0000:00:06): 31, pid=1234, name=python3, Ch 00000008, ...``, with host process ids.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

REMEMBERED_S = 30.0
"""Longer ago, a process has nothing to do with the fault that is looked at."""
_XID = re.compile(r"NVRM: Xid \([^)]*\): \d+, pid='?(\d+)")
_RECORD = 8192
_MOST_RECORDS = 4096


class KernelLog:
    """From the moment it is made. Where the log cannot be read nobody is blamed; never raises."""

    def __init__(self, path: Path = Path("/dev/kmsg"), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._blamed: deque[tuple[float, int]] = deque(maxlen=64)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self._fd = -1

    def blamed(self) -> tuple[int, ...]:
        """Process ids named in the last ``REMEMBERED_S``, the last one first."""
        now = self._clock()
        self._blamed += [(now, int(match[1])) for match in _XID.finditer(self._news())]
        return tuple(pid for at, pid in reversed(self._blamed) if now - at <= REMEMBERED_S)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _news(self) -> str:
        records: list[bytes] = []
        while self._fd >= 0 and len(records) < _MOST_RECORDS:
            try:
                record = os.read(self._fd, _RECORD)
            except BrokenPipeError:
                continue  # records were overwritten before they were read
            except OSError:
                break
            if not record:
                break
            records.append(record)
        return b"".join(records).decode(errors="replace")
