"""The executor's side of a hand-over: serves what the gates say that connect to its socket."""

import contextlib
import socket
import threading
from collections.abc import Sequence
from functools import partial

import structlog

from tessera.remote.executor import commands
from tessera.remote.executor.accepting import accept
from tessera.remote.executor.commands import MOST_BYTES, Ask, Connect, Done, Expect, Leave, Look, Resize, Said
from tessera.remote.executor.handover import ANSWER_S, MOVE_S
from tessera.remote.executor.lease import Allowance
from tessera.remote.executor.moves import Moved
from tessera.remote.executor.reception import Reception
from tessera.remote.executor.refusals import Refusal
from tessera.remote.executor.targets import Undecided
from tessera.remote.executor.transfer import MoveError
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.greeting import Hello, Move, Redirect, Refused
from tessera.remote.protocol.streams import close

log = structlog.get_logger()

_BACKLOG = 128


class HandOver:
    """Serves on ``listener`` between ``start`` and ``stop``."""

    def __init__(self, listener: socket.socket, reception: Reception) -> None:
        self._listener, self._reception = listener, reception
        self._stopping = threading.Event()
        work = partial(accept, listener, self._stopping, "hand-over", self._begin)
        self._thread = threading.Thread(target=work, daemon=True)

    def start(self) -> None:
        self._listener.listen(_BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        """Ends the sessions with it."""
        self._stopping.set()
        close(self._listener)
        self._thread.join()
        self._reception.stop()

    def _begin(self, way: socket.socket, _: object) -> None:
        try:
            threading.Thread(target=self._serve, args=(way,), daemon=True).start()
        except RuntimeError:
            way.close()
            raise

    def _serve(self, way: socket.socket) -> None:
        with way, contextlib.suppress(OSError), contextlib.ExitStack() as held:
            way.settimeout(ANSWER_S)
            data, descriptors, _, _ = socket.recv_fds(way, MOST_BYTES, 1)
            streams = [held.enter_context(socket.socket(fileno=number)) for number in descriptors]
            way.sendall(commands.encode(*self._answers(way, data, streams)))

    def _answers(self, way: socket.socket, data: bytes, streams: list[socket.socket]) -> Sequence[Said]:
        try:
            return self._obeyed(way, commands.decode(data), streams)
        except ProtocolError as error:
            return [Refused("Malformed", str(error))]
        except MoveError as error:
            return [Refused("Move", str(error))]
        except Undecided as error:
            return [Refused("Lost", str(error))]
        except Refusal as refusal:
            return [refusal.answer]

    def _obeyed(self, way: socket.socket, said: Sequence[Said], streams: list[socket.socket]) -> Sequence[Said]:
        reception = self._reception
        match (*said, *streams):
            case (Allowance() as allowance,):
                reception.allow(allowance)
            case (Allowance() as allowance, Hello() as hello, socket.socket() as stream):
                reception.allow(allowance)
                reception.receive(stream, hello)
            case (Move() as move, socket.socket() as stream):
                self._arrive(stream.dup(), move)
            case (Expect(epoch, limit_bytes, sessions),):
                reception.sessions.limit(limit_bytes, sessions)
                return [Done(ticket=reception.arrivals.expect(epoch, limit_bytes))]
            case (Resize(epoch, limit_bytes, mode),):
                return [_told(reception.mover.resize(epoch, limit_bytes, mode))]
            case (Ask(),):
                return [Done(epoch=reception.lease.epoch)]
            case (Look(),):
                return [Done(), *reception.sessions.figures()]
            case (Leave() as order,):
                return [_told(self._left(way, order))]
            case _:
                found = ", ".join(type(one).__name__ for one in (*said, *streams))
                raise ProtocolError(f"order: found {found}; allowed: what a gate says")
        return [Done()]

    def _arrive(self, stream: socket.socket, move: Move) -> None:
        """The last word of a move has nothing left to do: once the sessions are served nothing here fails any more."""
        try:
            work = self._reception.arrivals.granted(stream, move)
            if move.session:
                threading.Thread(target=work, daemon=True).start()
            else:
                work()
        except RuntimeError as error:
            stream.close()
            raise Refusal("Busy", f"session: cannot be taken ({error}); allowed: to come again") from None
        except BaseException:
            stream.close()
            raise

    def _left(self, way: socket.socket, order: Leave) -> Moved:
        way.settimeout(MOVE_S)
        redirect = Redirect(order.epoch, order.endpoint, order.server_name)
        gate = _Reaching(way)
        return self._reception.leave(gate.connect, order.ticket, redirect, order.way)


class _Reaching:
    """Asks the gate for connections, one at a time."""

    def __init__(self, way: socket.socket) -> None:
        self._way, self._lock = way, threading.Lock()

    def connect(self) -> socket.socket:
        """Raises ``OSError``."""
        with self._lock:
            self._way.sendall(commands.encode(Connect()))
            data, descriptors, _, _ = socket.recv_fds(self._way, MOST_BYTES, 1)
        if descriptors:
            return socket.socket(fileno=descriptors[0])
        try:
            said = commands.decode(data)[0]
        except ProtocolError as error:
            raise ConnectionError(str(error)) from None
        raise ConnectionError(said.text if isinstance(said, Refused) else "the gate has none")


def _told(moved: Moved) -> Done:
    return Done("", moved.sessions, moved.used_bytes, int(moved.paused_s * 1e6))
