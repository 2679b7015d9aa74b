"""The replies of nvidia-cuda-mps-control, read leniently. Pure.

They are made for people and differ between drivers: ``1044M`` may be printed as ``1G``, a percentage as ``25.0``, lists
one a line or separated by blanks, and errors are sentences on standard output.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_ERRORS = ("cannot find mps control daemon", "failed to", "unable to", "invalid", "unrecognized", "error", "denied")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True, slots=True)
class Context:
    """One row of ``ps``: a client's context. ``device`` is the beginning of the GPU's UUID, as much as is printed."""

    pid: int
    device: str


class ServerStatus(StrEnum):
    """A server's state; UNKNOWN for a word that this driver has and we do not know."""

    INITIALIZING = "INITIALIZING"
    ACTIVE = "ACTIVE"
    FAULT = "FAULT"
    UNKNOWN = "UNKNOWN"


def pids_of(reply: str) -> tuple[int, ...] | None:
    """The numbers of a list of servers or clients; ``None`` if it is no such list."""
    words = reply.split()
    return tuple(map(int, words)) if all(word.isdigit() for word in words) else None


def contexts_of(reply: str) -> tuple[Context, ...]:
    """The rows below the heading ``PID ID SERVER DEVICE NAMESPACE COMMAND``; empty where it has other columns."""
    heading, *rows = reply.strip().splitlines() or [""]
    columns = heading.split()
    if "PID" not in columns or "DEVICE" not in columns:
        return ()
    pid, device = columns.index("PID"), columns.index("DEVICE")
    cells = [words for row in rows if len(words := row.split()) > max(pid, device) and words[pid].isdigit()]
    return tuple(Context(int(words[pid]), words[device]) for words in cells)


def status_of(reply: str) -> ServerStatus:
    """What ``get_server_status`` says."""
    upper = reply.upper()
    return next((status for status in ServerStatus if status in upper), ServerStatus.UNKNOWN)


def error_of(reply: str) -> str:
    """The reply if it is a complaint, else empty."""
    text = " ".join(reply.split())
    return text if any(word in text.lower() for word in _ERRORS) else ""


def size_of(reply: str) -> int | None:
    """Bytes, as coarse as they were printed."""
    match = _SIZE.search(reply)
    return int(float(match[1]) * (1 << _POWERS[match[2].upper()])) if match else None


def same_size(reply: str, mem_bytes: int) -> bool:
    """Whether a printed size can stand for ``mem_bytes``: it is rounded to the unit that it is printed in."""
    match = _SIZE.search(reply)
    if match is None:
        return False
    unit = 1 << _POWERS[match[2].upper()]
    return abs(float(match[1]) * unit - mem_bytes) < unit


def percent_of(reply: str) -> float | None:
    """A percentage."""
    match = re.search(r"\d+(?:\.\d+)?", reply)
    return float(match[0]) if match else None
