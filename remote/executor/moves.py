"""Moves all sessions of an executor at once: to another executor, or to new processes of its own with another limit.

They are stopped between two frames and copied; then this executor is fenced, and only then does the next one serve.
What fails before that leaves everything as it was.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from tessera.remote.executor.lease import Lease
from tessera.remote.executor.orders import Report, Verb
from tessera.remote.executor.processes import Process
from tessera.remote.executor.sessions import END_S, Sessions
from tessera.remote.executor.targets import Here, Undecided
from tessera.remote.executor.transfer import Copied, MoveError, Parked, Source
from tessera.remote.protocol.greeting import Redirect, encode

log = structlog.get_logger()

QUIESCE_S = 30.0
"""An operator that runs, and an answer that is being sent, are waited for so long."""
WAYS = ("auto", "direct", "host")


class Target(Protocol):
    """Where sessions go. All raise ``MoveError``."""

    redirect: Redirect
    here: bool
    """Whether old and new are on one device."""

    def open(self, name: str, limit_bytes: int) -> None:
        """Makes ready for one."""

    def take(self, source: Source) -> None:
        """One that is ready for."""

    def commit(self) -> None:
        """Serves what was taken. Raises ``Undecided`` where it is not known whether it does."""

    def abort(self) -> None:
        """Lets go of what was taken."""


@dataclass(frozen=True, slots=True)
class Moved:
    """``paused_s``: how long no session ran."""

    sessions: int
    used_bytes: int
    paused_s: float


class Mover:
    """``host_bytes``: how much of this machine's memory copies may take."""

    def __init__(self, sessions: Sessions, lease: Lease, host_bytes: int) -> None:
        self._sessions, self._lease, self._host_bytes = sessions, lease, host_bytes
        self._one = threading.Lock()

    def resize(self, epoch: int, limit_bytes: int, way: str = "auto") -> Moved:
        """New processes with another limit, 0 for none, in a later epoch. Raises ``MoveError``."""
        target = Here(self._sessions, self._lease, Redirect(epoch))
        moved = self.move(target, way, limit_bytes)
        self._sessions.limit(limit_bytes)
        return moved

    def move(self, target: Target, way: str, limit_bytes: int | None = None) -> Moved:
        """``limit_bytes`` ``None``: as each has it. Raises ``MoveError``."""
        if way not in WAYS:
            raise MoveError(f"way: found {way!r}; allowed: {', '.join(WAYS)}")
        if not self._one.acquire(blocking=False):
            raise MoveError("move: found one under way; allowed: one at a time")
        try:
            return self._moved(target, way, limit_bytes)
        finally:
            self._one.release()

    def _moved(self, target: Target, way: str, limit_bytes: int | None) -> Moved:
        self._check(target)
        processes, sources = self._sessions.freeze(), list[Source]()
        started = 0.0
        try:
            _in_parallel(lambda one: target.open(one.name, _limit(one, limit_bytes)), processes)
            started = time.monotonic()
            reports = _quiesced(processes)
            way = self._way(way, reports, target, limit_bytes or 0)
            for process, report in zip(processes, reports, strict=True):
                sources.append(Parked(process) if way == "direct" else Copied(process, report.size))
            _in_parallel(target.take, sources)
            self._commit(target)
        except Undecided:
            _ended(processes)
            raise
        except BaseException:
            target.abort()
            self._give_back(processes, sources)
            raise
        finally:
            self._sessions.thaw()
            for source in sources:
                if isinstance(source, Copied):
                    source.let_go()
        _retire(sources, target.redirect)
        moved = Moved(len(processes), sum(report.used for report in reports), time.monotonic() - started)
        log.info("sessions moved", sessions=moved.sessions, bytes=moved.used_bytes, epoch=target.redirect.epoch)
        return moved

    def _check(self, target: Target) -> None:
        before = self._lease.epoch
        if self._lease.gone is not None:
            raise MoveError(f"executor: found it fenced; its sessions are in epoch {self._lease.gone.epoch}")
        if target.redirect.epoch <= before:
            raise MoveError(f"epoch: found {target.redirect.epoch}; allowed: above {before}, which the sessions have")

    def _way(self, way: str, reports: Sequence[Report], target: Target, limit_bytes: int) -> str:
        together = self._sessions.offer.together
        return way_of(way, reports, limit_bytes, self._host_bytes, here=target.here, together=together)

    def _commit(self, target: Target) -> None:
        """From here on this executor serves only who is of the next epoch, unless the next has surely not begun."""
        if target.here:
            return target.commit()
        self._lease.fence(target.redirect)
        try:
            target.commit()
        except Undecided:
            raise
        except BaseException:
            self._lease.unfence()
            raise

    def _give_back(self, processes: Sequence[Process], sources: Sequence[Source]) -> None:
        """Each goes on where it is, or from its copy."""
        copied = [source for source in sources if isinstance(source, Copied)]
        for process in processes:
            if process not in [source.process for source in copied]:
                with contextlib.suppress(OSError):
                    process.order(Verb.RESUME)
        again = Here(self._sessions, self._lease, Redirect(self._lease.epoch))
        for source in copied:
            try:
                again.open(source.process.name, source.process.limit_bytes)
                again.take(source)
            except MoveError as error:
                log.warning("session lost", session=source.process.name[:8], error=str(error))
        again.commit()


def way_of(
    way: str, reports: Sequence[Report], limit_bytes: int, host_bytes: int, *, here: bool, together: bool
) -> str:
    """Whether processes are copied ``direct`` or by way of the ``host``'s memory. Raises ``MoveError`` beforehand for
    what cannot be."""
    used, free = sum(report.used for report in reports), min((report.free for report in reports), default=0)
    most = used if together else max((report.used for report in reports), default=0)
    if 0 < limit_bytes < most:
        who = "the sessions have" if together else "a session has"
        raise MoveError(f"gpu-mem: found {limit_bytes} bytes; allowed: at least {most}, which {who} in use")
    fits = not here or used <= free
    size = sum(report.size for report in reports)
    if way == "direct" or (way == "auto" and fits):
        if fits:
            return "direct"
        raise MoveError(f"device: found {free} bytes free; allowed: {used}, for old and new at once")
    if size > host_bytes:
        raise MoveError(f"host memory: found {size} bytes to be copied out; allowed: up to {host_bytes}")
    return "host"


def _limit(process: Process, limit_bytes: int | None) -> int:
    return process.limit_bytes if limit_bytes is None else limit_bytes


def _quiesced(processes: Sequence[Process]) -> list[Report]:
    """Stops all of them between two frames."""
    for process in processes:
        process.forget_reports()
        try:
            process.order(Verb.QUIESCE)
        except OSError:
            raise MoveError("session: found one that ended while it was moved") from None
    deadline = time.monotonic() + QUIESCE_S
    return [_quiet(process, deadline) for process in processes]


def _quiet(process: Process, deadline: float) -> Report:
    report = process.report(Verb.QUIESCE, max(deadline - time.monotonic(), 0))
    if report is None:
        state = "an operator still running" if process.child.running() else "its end"
        raise MoveError(f"session: found {state}; allowed: to come to rest within {QUIESCE_S:.0f} s")
    return report


def _in_parallel(work: Callable[[Any], None], items: Sequence[object]) -> None:
    """Raises what the first raised, once all are through."""
    if items:
        with ThreadPoolExecutor(len(items)) as pool:
            for done in [pool.submit(work, item) for item in items]:
                done.result()


def _retire(sources: Sequence[Source], redirect: Redirect) -> None:
    for source in sources:
        if isinstance(source, Parked):
            try:
                threading.Thread(target=_retired, args=(source.process, redirect), daemon=True).start()
            except RuntimeError:  # as many threads as the machine gives; the session has gone, and its client finds it
                source.process.end()


def _retired(process: Process, redirect: Redirect) -> None:
    """Tells its client where the session goes on, and ends."""
    with contextlib.suppress(OSError):
        process.order(Verb.LEAVE, encode(redirect))
    try:
        process.child.wait(END_S)
    except TimeoutError:
        process.end()


def _ended(processes: Sequence[Process]) -> None:
    for process in processes:
        process.end()
