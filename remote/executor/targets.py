"""Where sessions are moved to: new processes beside the old ones, or another executor."""

import contextlib
import time
from collections.abc import Callable, Sequence

from tessera.remote.executor import transfer
from tessera.remote.executor.lease import Lease
from tessera.remote.executor.orders import Verb
from tessera.remote.executor.processes import Process
from tessera.remote.executor.refusals import Refusal
from tessera.remote.executor.sessions import Sessions
from tessera.remote.executor.transfer import MoveError, Source
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind, pack_header
from tessera.remote.protocol.greeting import Move, Redirect
from tessera.remote.protocol.streams import Stream, at_most, close, read_frame

START_S = 120.0
"""A new process is ready within this, however busy the machine is."""
DECIDE_S = 30.0
"""The other executor is asked so long whether it serves."""
_PAUSE_S = 0.2

Connect = Callable[[], Stream]
"""A connection to the other executor. Raises ``OSError``."""


class Undecided(Exception):
    """The other executor may serve the sessions or not: they are lost here."""


def begun(sessions: Sessions, name: str, limit_bytes: int, epoch: int) -> Process:
    """A process that is ready to become a session. Raises ``MoveError``."""
    try:
        process = sessions.begin(name, limit_bytes, epoch)
    except Refusal as refusal:
        raise MoveError(str(refusal)) from None
    if process.report(Verb.READY, START_S) is None:
        process.end()
        raise MoveError(f"session: found no process that is ready within {START_S:.0f} s")
    return process


def serve(sessions: Sessions, lease: Lease, epoch: int, processes: Sequence[Process]) -> None:
    """The epoch begins."""
    lease.enter(epoch)
    sessions.adopt(processes, epoch)


class Here:
    """This executor, in the epoch of ``redirect``."""

    here = True

    def __init__(self, sessions: Sessions, lease: Lease, redirect: Redirect) -> None:
        self._sessions, self._lease, self.redirect = sessions, lease, redirect
        self._open: dict[str, Process] = {}
        self._taken: dict[str, Process] = {}

    def open(self, name: str, limit_bytes: int) -> None:
        self._open[name] = begun(self._sessions, name, limit_bytes, self.redirect.epoch)

    def take(self, source: Source) -> None:
        process = self._open[source.process.name]
        transfer.poured(source, process)
        self._taken[process.name] = process

    def commit(self) -> None:
        if not all(process.child.running() for process in self._taken.values()):
            raise MoveError("session: found one that ended while it was moved")
        serve(self._sessions, self._lease, self.redirect.epoch, list(self._taken.values()))

    def abort(self) -> None:
        for process in self._open.values():
            process.end()


class There:
    """Another executor, which has given a ``ticket`` for all sessions of this one."""

    here = False

    def __init__(self, connect: Connect, ticket: str, redirect: Redirect, torch: str, device: str) -> None:
        self._connect, self.redirect = connect, redirect
        self._ticket, self._torch, self._device = ticket, torch, device
        self._streams: dict[str, Stream] = {}

    def open(self, name: str, limit_bytes: int) -> None:
        move = Move(self._ticket, self._torch, name, limit_bytes, self._device)
        try:
            stream = self._streams[name] = self._connect()
            with at_most(START_S + transfer.REPORT_S, stream):
                _asked(stream, move)
        except OSError as error:
            raise MoveError(f"{self.redirect.endpoint}: found no executor that takes sessions: {error}") from None

    def take(self, source: Source) -> None:
        stream = self._streams[source.process.name]
        with contextlib.suppress(OSError):  # of one that takes no more: it says why
            source.pour(stream)
            stream.sendall(pack_header(Kind.BYE, 0))
        try:
            with at_most(transfer.REPORT_S, stream):
                _answered(stream)
        except OSError as error:
            raise MoveError(f"{self.redirect.endpoint}: found its end while a session was moved ({error})") from None

    def commit(self) -> None:
        deadline, asked = time.monotonic() + DECIDE_S, False
        while True:
            try:
                stream = self._connect()
            except OSError as error:
                if not asked:
                    raise MoveError(f"{self.redirect.endpoint}: found no executor any more: {error}") from None
            else:
                asked = True
                if self._committed(stream):
                    return
            if time.monotonic() > deadline:
                lost = f"found no answer within {DECIDE_S:.0f} s; the sessions are lost"
                raise Undecided(f"{self.redirect.endpoint}: {lost}")
            time.sleep(_PAUSE_S)

    def abort(self) -> None:
        """It notices by the connections' end, or by the ticket's."""
        for stream in self._streams.values():
            close(stream)

    def _committed(self, stream: Stream) -> bool:
        """Whether it answers. Raises ``MoveError`` where it says that it does not serve."""
        try:
            with at_most(DECIDE_S, stream):
                _asked(stream, Move(self._ticket))
        except OSError:
            return False
        finally:
            close(stream)
        return True


def _asked(stream: Stream, move: Move) -> None:
    """Raises ``MoveError``, and ``OSError`` where no answer comes."""
    stream.sendall(greeting.framed(move))
    _answered(stream)


def _answered(stream: Stream) -> None:
    try:
        frame = read_frame(stream)
        if frame is None:
            raise ConnectionResetError("the connection ended before the answer")
        header, payload = frame
        if header.kind is Kind.REFUSED:
            refused = greeting.decode(greeting.Refused, payload)
            raise MoveError(f"refused ({refused.reason}): {refused.text}")
        if header.kind is not Kind.MOVED:
            raise ProtocolError(f"answer: found {header.kind.name}; allowed: MOVED, REFUSED")
    except ProtocolError as error:
        raise MoveError(f"the other executor broke the protocol: {error}") from None
