"""Snapshots of sessions on their way: from a process that is parked, or from this machine's memory, to a stream."""

import contextlib
import fcntl
import os
import socket
from typing import Protocol

from tessera.remote.executor.orders import Descriptor, Verb
from tessera.remote.executor.processes import Process
from tessera.remote.executor.pump import carry
from tessera.remote.protocol.streams import Stream

REPORT_S = 30.0
"""A process reports within this that it has done what it has just done."""
_PIECE = 256 << 10


class MoveError(Exception):
    """Nothing was moved, in a sentence that says why."""


class Source(Protocol):
    """A session that is parked."""

    process: Process

    def pour(self, sink: Stream) -> None:
        """Writes the whole snapshot. Raises ``MoveError`` and, where the sink ends, ``OSError``."""


class Parked:
    """In its process, which can go on."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def pour(self, sink: Stream) -> None:
        ours, its = socket.socketpair()
        with ours:
            with its:
                _ordered(self.process, Verb.SNAPSHOT, its.fileno())
            carry(ours, sink)
        _reported(self.process, Verb.SNAPSHOT)


class Copied:
    """In this machine's memory, of which it takes no more than ``most_bytes``; its process is ended.

    Raises ``MoveError``: then it goes on as it was.
    """

    def __init__(self, process: Process, most_bytes: int) -> None:
        self.process = process
        self._memory = os.memfd_create("session", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._memory, most_bytes)
            fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
            _ordered(process, Verb.SNAPSHOT, self._memory)
            _reported(process, Verb.SNAPSHOT, within_s=None)
        except BaseException:
            self.let_go()
            raise
        self._size = os.lseek(self._memory, 0, os.SEEK_CUR)
        process.end()

    def pour(self, sink: Stream) -> None:
        for at in range(0, self._size, _PIECE):
            sink.sendall(os.pread(self._memory, min(_PIECE, self._size - at), at))

    def let_go(self) -> None:
        os.close(self._memory)


def poured(source: Source, process: Process) -> None:
    """``process`` becomes the session. Raises ``MoveError``."""
    ours, its = socket.socketpair()
    with ours:
        with its:
            _ordered(process, Verb.RESTORE, its.fileno())
        with contextlib.suppress(OSError):  # of one that has ended: it reports why
            source.pour(ours)
    restored(process)


def restoring(process: Process) -> Descriptor:
    """Where a process that becomes a session reads it from. Raises ``MoveError``."""
    ours, its = socket.socketpair()
    with its:
        _ordered(process, Verb.RESTORE, its.fileno())
    return Descriptor(ours.detach())


def restored(process: Process) -> None:
    """Raises ``MoveError``."""
    _reported(process, Verb.RESTORE)


def _ordered(process: Process, verb: Verb, descriptor: int) -> None:
    try:
        process.order(verb, descriptor=descriptor)
    except OSError as error:
        raise MoveError(f"session: found one that takes no orders ({error.strerror}) when it was moved") from None


def _reported(process: Process, verb: Verb, within_s: float | None = REPORT_S) -> None:
    report = process.report(verb, within_s)
    if report is None:
        raise MoveError("session: found one that ended while it was moved")
    if report.failed:
        raise MoveError(f"session: not moved: {report.failed}")
