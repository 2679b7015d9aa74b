"""Sessions that come from another executor: taken with a ticket, and served once that executor is fenced."""

import contextlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tessera.remote.executor import transfer
from tessera.remote.executor.lease import Lease
from tessera.remote.executor.processes import Process
from tessera.remote.executor.refusals import Refusal
from tessera.remote.executor.sessions import Sessions
from tessera.remote.executor.targets import begun, serve
from tessera.remote.executor.transfer import MoveError
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind, pack_header
from tessera.remote.protocol.greeting import Move
from tessera.remote.protocol.streams import Stream, at_most, close, read_frame

MOVE_S = 900.0
"""A ticket is good for so long."""
_NAME_LENGTH = 32


@dataclass(slots=True)
class _Ticket:
    name: str
    epoch: int
    limit_bytes: int | None
    taken: dict[str, Process] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    served: bool = False


class Arrivals:
    """``torch``: this executor's version."""

    def __init__(self, sessions: Sessions, lease: Lease, torch: str) -> None:
        self._sessions, self._lease, self._torch = sessions, lease, torch
        self._ticket: _Ticket | None = None
        self._lock = threading.Lock()

    def expect(self, epoch: int, limit_bytes: int | None = None) -> str:
        """A ticket for all sessions of another executor, which go on here in ``epoch``. The former is void.

        ``limit_bytes`` ``None``: as each has it. Raises ``MoveError``.
        """
        with self._lock:
            if epoch <= self._lease.epoch:
                raise MoveError(f"epoch: found {epoch}; allowed: above {self._lease.epoch}, which this executor has")
            if self._lease.gone is not None:
                raise MoveError(f"executor: found it fenced; its sessions are in epoch {self._lease.gone.epoch}")
            self._void()
            if self._sessions.freeze():
                self._sessions.thaw()
                raise MoveError(f"sessions: found {len(self._sessions)}; allowed: none where others are to come")
            ticket = self._ticket = _Ticket(secrets.token_hex(16), epoch, limit_bytes)
        timer = threading.Timer(MOVE_S, self._expire, (ticket,))
        timer.daemon = True
        timer.start()
        return ticket.name

    def granted(self, stream: Stream, move: Move) -> Callable[[], None]:
        """What is to be done with a connection that began so. Raises ``Refusal``."""
        ticket = self._found(move.ticket)
        if not move.session:
            self._serve(ticket)
            stream.sendall(greeting.framed(greeting.Moved()))
            return lambda: close(stream)
        limit_bytes = self._checked(ticket, move)
        return lambda: self._take(stream, ticket, move.session, limit_bytes)

    def stop(self) -> None:
        with self._lock:
            self._void()

    def _take(self, stream: Stream, ticket: _Ticket, name: str, limit_bytes: int) -> None:
        with contextlib.closing(stream), contextlib.suppress(OSError):
            try:
                self._became(stream, ticket, name, limit_bytes)
                answer: greeting.Message = greeting.Moved(name)
            except (MoveError, ProtocolError, Refusal) as error:
                answer = greeting.Refused("Move", str(error))
            finally:
                with self._lock:
                    ticket.open.discard(name)
            stream.sendall(greeting.framed(answer))

    def _became(self, stream: Stream, ticket: _Ticket, name: str, limit_bytes: int) -> None:
        process = begun(self._sessions, name, limit_bytes, ticket.epoch)
        try:
            stream.sendall(greeting.framed(greeting.Moved(name)))
            with (
                contextlib.closing(transfer.restoring(process)) as sink,
                at_most(MOVE_S, stream),
            ):
                _carry_parts(stream, sink)
            transfer.restored(process)
            with self._lock:
                if self._ticket is not ticket or ticket.served:
                    raise MoveError("ticket: found one that is void")
                ticket.taken[name] = process
        except BaseException:
            process.end()
            raise

    def _serve(self, ticket: _Ticket) -> None:
        """All have come, and the other executor is fenced. Said again, it is so already."""
        with self._lock:
            if ticket.served:
                return
            if self._ticket is not ticket or ticket.open:
                raise Refusal("Move", f"sessions: found {len(ticket.open)} still on their way; allowed: none")
            processes = list(ticket.taken.values())
            if not all(process.child.running() for process in processes):
                raise Refusal("Move", "session: found one that has ended since it came")
            ticket.served = True
            serve(self._sessions, self._lease, ticket.epoch, processes)
            self._sessions.thaw()

    def _found(self, name: str) -> _Ticket:
        with self._lock:
            ticket = self._ticket
        if ticket is None or not hmac.compare_digest(ticket.name.encode(), name.encode()):
            raise Refusal("Ticket", "ticket: found one that is not good here (any more)")
        return ticket

    def _checked(self, ticket: _Ticket, move: Move) -> int:
        """What the session may hold here. Raises ``Refusal``."""
        offer = self._sessions.offer
        if greeting.minor(move.torch) != greeting.minor(self._torch):
            raise Refusal("Torch", f"torch: found {move.torch}; allowed: {greeting.minor(self._torch)}")
        if move.device != offer.device.split(":")[0]:
            raise Refusal("Move", f"device: found {move.device}; allowed: {offer.device.split(':')[0]}")
        limit_bytes = ticket.limit_bytes if ticket.limit_bytes is not None else move.limit_bytes or offer.limit_bytes
        if offer.limit_bytes and not 0 < limit_bytes <= offer.limit_bytes:
            raise Refusal("Memory", f"gpu-mem: found {limit_bytes} bytes; allowed: up to {offer.limit_bytes}")
        with self._lock:
            known = ticket.open | ticket.taken.keys()
            if len(move.session) != _NAME_LENGTH or move.session in known or ticket.served:
                raise Refusal("Move", "session: found one that has come already; allowed: each once")
            if len(known) >= offer.sessions:
                raise Refusal("Full", f"sessions: found {len(known)}, as many as are allowed")
            ticket.open.add(move.session)
        return limit_bytes

    def _expire(self, ticket: _Ticket) -> None:
        """One that was served stays good: the other executor may not have heard so yet, and asks again."""
        with self._lock:
            if self._ticket is ticket and not ticket.served:
                self._void()

    def _void(self) -> None:
        """What came with a ticket and is not served ends."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None and not ticket.served:
            for process in ticket.taken.values():
                process.end()
            self._sessions.thaw()


def _carry_parts(stream: Stream, sink: Stream) -> None:
    """All parts of a session, to a process that may have ended: it reports why. Raises ``MoveError``."""
    taken = True
    while True:
        frame = read_frame(stream)
        if frame is None:
            raise MoveError("session: found its beginning only")
        header, payload = frame
        if header.kind is Kind.BYE:
            return
        if header.kind is not Kind.PART:
            raise MoveError(f"frame: found {header.kind.name}; allowed: PART, BYE")
        try:
            if taken:
                sink.sendall(pack_header(Kind.PART, len(payload)) + payload)
        except OSError:
            taken = False
