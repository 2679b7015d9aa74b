"""The process of one session: gets its connections from the gate, runs what comes over them, keeps what was made.

It ends when the client says goodbye, when no connection came for the grace period, when the gate is gone, when the
client sends what the protocol does not allow, or when the session goes on in another process.
"""

import contextlib
import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence

import torch

from tessera.remote.executor import orders, settings, snapshots
from tessera.remote.executor.devices import facts_of, free_bytes, name_of
from tessera.remote.executor.forks import Start
from tessera.remote.executor.interpreter import Interpreter
from tessera.remote.executor.meters import Meter
from tessera.remote.executor.orders import SERVED, Descriptor, Order, Report, Verb
from tessera.remote.executor.overloads import RefusedOperator
from tessera.remote.executor.quota import Share
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.peer import Ended, Peer
from tessera.remote.protocol.streams import limit_stalls

END_S = 2.0
"""An operator that runs when the session is over is waited for so long."""
HEAR_S = 1.0
"""A client that is told that it goes on elsewhere, or why it does not go on, has so long to hear it."""
_WAKE = (Kind.ACK, b"")


class Session:
    """``gate``: a socket that brings orders, of which some bring connections."""

    def __init__(
        self, name: str, device: str, limit_bytes: int, grace_s: float, gate: socket.socket, epoch: int = 0,
        share: Share | None = None,
    ) -> None:  # fmt: skip
        self._name, self._device, self._limit_bytes = name, torch.device(device), limit_bytes
        self._grace_s, self._gate, self._epoch = grace_s, gate, epoch
        self._queue: queue.SimpleQueue[tuple[Kind, bytes] | None] = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._peer = Peer(self._deliver, kept=True, farewell=_farewell)
        self._interpreter = Interpreter(self._device, limit_bytes, self._answer, share)
        self._error: ProtocolError | None = None
        self._meter: Meter | None = None
        self._received = self._sent = 0
        self._alone = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        """Until the session ends. Raises ``ProtocolError`` if the client broke the protocol."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (item := self._queue.get()) is not None and not self.over.is_set():
            if not self._orders.empty() and not self._held():
                return
            if item is not _WAKE:
                self._run(*item)
        if self._error is not None:
            raise self._error

    def measure(self, meter: Meter) -> None:
        """It tells there what it does."""
        self._meter = meter
        self._tell()

    def restored(self, meters: int, quota: int) -> bool:
        """Becomes the session that the gate brings; whether it is to go on here. ``quota``: its descriptor, or -1."""
        self._report(Report(Verb.READY))
        order = orders.receive(self._gate)
        if order is None or order.verb is not Verb.RESTORE:
            return False
        stream = Descriptor(order.descriptor)
        with contextlib.closing(stream):
            try:
                outbox, inbox = snapshots.restore(self._interpreter, stream)
            except (ProtocolError, RuntimeError, OSError) as error:
                self._report(Report(Verb.RESTORE, str(error) or type(error).__name__))
                return False
        self._peer = Peer(self._deliver, kept=True, farewell=_farewell, outbox=outbox, inbox=inbox)
        self._report(Report(Verb.RESTORE))
        order = orders.receive(self._gate)
        if order is None or order.verb is not Verb.SERVE:
            return False
        self._epoch, slot = SERVED.unpack(order.body)
        self.measure(Meter(meters, slot))
        if quota >= 0:
            self._interpreter.store.join(Share(quota, slot))
        return True

    def _deliver(self, kind: Kind, payload: bytes) -> None:
        self._queue.put((kind, payload))

    def _run(self, kind: Kind, payload: bytes) -> None:
        try:
            self._interpreter.take(kind, payload)
        except ProtocolError as error:
            self._peer.say_last(_farewell(error))
            self._alone.wait(HEAR_S)
            raise
        self._peer.taken(len(payload))
        self._received += len(payload)
        self._tell()

    def _tell(self) -> None:
        if self._meter is not None:
            store, done = self._interpreter.store, self._interpreter
            self._meter.tell(
                store.used_bytes, store.peak_bytes, done.operators, done.failed, self._received, self._sent
            )

    def _held(self) -> bool:
        """Between two frames: what the gate has ordered; whether the session goes on here."""
        while not self.over.is_set():
            order = self._orders.get()
            match order.verb:
                case Verb.QUIESCE:
                    self._quiesced()
                case Verb.SNAPSHOT:
                    self._write(order.descriptor)
                case Verb.LEAVE:
                    self._peer.say_last(greeting.framed(greeting.decode(greeting.Redirect, order.body)))
                    self._alone.wait(HEAR_S)
                    return False
                case _:
                    return True
        return False

    def _quiesced(self) -> None:
        self._interpreter.synchronize()
        used, size = self._interpreter.store.used_bytes, snapshots.size_of(self._interpreter, self._peer.frozen())
        self._report(Report(Verb.QUIESCE, "", used, size, free_bytes(self._device)))

    def _write(self, descriptor: int) -> None:
        failed = ""
        with contextlib.closing(Descriptor(descriptor)) as stream:
            try:
                snapshots.write(self._interpreter, self._peer.frozen(), stream)
            except (RefusedOperator, RuntimeError, OSError) as error:
                failed = str(error) or type(error).__name__
        self._report(Report(Verb.SNAPSHOT, failed))

    def _report(self, report: Report) -> None:
        orders.report(self._gate, report)

    def _answer(self, kind: Kind, payload: bytes) -> None:
        self._sent += len(payload)
        with contextlib.suppress(Ended):
            self._peer.send(kind, payload)

    def _listen(self) -> None:
        try:
            self._connections()
        except ProtocolError as error:
            self._error = error
        finally:
            self.over.set()
            self._alone.set()
            self._peer.end("the session is over")
            self._orders.put(Order(Verb.RESUME))
            self._queue.put(None)

    def _connections(self) -> None:
        """Reads one connection after another; returns when no other will come."""
        stream: socket.socket | None = None
        while True:
            if stream is None:
                self._alone.set()
            waits = [self._gate] if stream is None else [self._gate, stream]
            ready, _, _ = select.select(waits, [], [], self._grace_s if stream is None else None)
            if not ready:
                return
            if self._gate in ready:
                order = orders.receive(self._gate)
                if order is None:
                    return
                if order.verb is Verb.CONNECT:
                    stream = self._adopt(order)
                else:
                    self._orders.put(order)
                    self._queue.put(_WAKE)
                continue
            kind = self._peer.take(ready[0])
            if kind is Kind.BYE:
                return
            if kind is None:
                stream = None

    def _adopt(self, order: Order) -> socket.socket:
        """The next connection, greeted."""
        self._alone.clear()
        stream = socket.socket(fileno=order.descriptor)
        limit_stalls(stream, socket.SO_SNDTIMEO, socket.SO_RCVTIMEO)
        with contextlib.suppress(OSError):
            stream.sendall(self._welcome())
        self._peer.attach(stream, order.number)
        return stream

    def _welcome(self) -> bytes:
        welcome = greeting.Welcome(
            session=self._name, received=self._peer.received, torch=torch.__version__, device=name_of(self._device),
            limit_bytes=self._limit_bytes, epoch=self._epoch, **facts_of(self._device),
        )  # fmt: skip
        return greeting.framed(welcome)


def _farewell(error: ProtocolError) -> bytes:
    """What a client is told that broke the protocol."""
    return greeting.framed(greeting.Refused("Malformed", str(error)[:1000]))


def serve(start: Start, descriptors: Sequence[int]) -> int:
    """To its end, with descriptors of the gate, of the meters and perhaps of a quota. Answers 0, or 1 with one line on
    standard error if the client broke the protocol."""
    gate_number, meters, quota = (*descriptors, -1)[:3]
    gate = socket.socket(fileno=gate_number)
    begin = orders.receive(gate)
    if begin is None:
        return 0
    settings.start(torch.device(start.device))
    share = Share(quota, start.slot) if start.slot and quota >= 0 else None
    name = begin.body.decode()
    session = Session(name, start.device, start.limit_bytes, start.grace_s, gate, start.epoch, share)
    if start.slot:
        session.measure(Meter(meters, start.slot))
    threading.Thread(target=_end_with, args=(session,), daemon=True).start()
    try:
        if not start.restore or session.restored(meters, quota):
            session.run()
    except ProtocolError as error:
        print(f"session {name[:8]}: {error}", file=sys.stderr)
        orders.report(gate, Report(Verb.ENDED, str(error)))
        return 1
    return 0


def _end_with(session: Session) -> None:
    session.over.wait()
    time.sleep(END_S)
    os._exit(1)
