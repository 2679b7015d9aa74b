"""The logs of MPS, and whom a server's blames for a fault.

A line of a server's is ``[2026-04-28 18:20:41.986 Server 4428] Client {PID: 4267, Context ID: 0} connected``, or
``Client 4267 disconnected`` with older drivers. A line about a fault counts if it names a client; most kinds of fault
name none.
"""

import re
from pathlib import Path

MOST = 256 * 1024
"""Bytes read at once: what comes before them is passed over."""
_FAULT = re.compile(r"\b(?:fault|exception|fatal|illegal|xid)\w*", re.IGNORECASE)
_CLIENT = re.compile(r"\bclient\s+(?:\{\s*PID:\s*)?(\d+)", re.IGNORECASE)
_CONNECTION = re.compile(r"\b(?:connected|disconnected|request|worker thread)\b", re.IGNORECASE)


def offender_in(text: str) -> int:
    """The process that the last such line names; 0: none does."""
    lines = (line for line in text.splitlines() if _FAULT.search(line) and not _CONNECTION.search(line))
    named = [int(match[1]) for line in lines if (match := _CLIENT.search(line))]
    return named[-1] if named else 0


class Log:
    """A log that others write. ``news`` answers what was added since it was asked last, or since it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = self._size()

    def news(self) -> str:
        """Text, at most the last ``MOST`` bytes; empty where there is no log."""
        size = self._size()
        if size <= self._at:
            self._at = size
            return ""
        try:
            with self._path.open("rb") as file:
                file.seek(max(self._at, size - MOST))
                text = file.read(MOST)
        except OSError:
            return ""
        self._at = size
        return text.decode(errors="replace")

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0
