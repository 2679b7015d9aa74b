"""Two peers, each with a thread that reads, over connections that are cut after so many bytes."""

import queue
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.link import Inbox, Outbox
from tessera.remote.protocol.peer import Peer
from tessera.remote.protocol.streams import shut

PATIENCE_S = 60
"""No measure: what has not come by then never comes."""
MARK = struct.Struct("<HI")
"""Begins each payload: who sent it, and the how manieth of his it is."""


class Side:
    """``kept``: what comes is taken by a thread of its own, later."""

    def __init__(self, window_bytes: int, window_frames: int, *, kept: bool) -> None:
        self.came: list[bytes] = []
        self.error: Exception | None = None
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        windows = window_bytes, window_frames
        deliver = self._keep if kept else self._note
        self.peer = Peer(deliver, kept=kept, outbox=Outbox(*windows), inbox=Inbox(*windows))
        self._taker = threading.Thread(target=self._take, daemon=True)
        if kept:
            self._taker.start()

    def read(self, stream: socket.socket, received: int) -> threading.Thread:
        """Goes on over a connection until it ends."""
        self.peer.attach(stream, received)
        reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        reader.start()
        return reader

    def end(self) -> None:
        self.peer.end("the test is over")
        self._queue.put(None)

    def _read(self, stream: socket.socket) -> None:
        try:
            while self.peer.take(stream) is not None:
                pass
        except ProtocolError as error:
            self.error = error

    def _note(self, kind: Kind, payload: bytes) -> None:
        self.came.append(payload)

    def _keep(self, kind: Kind, payload: bytes) -> None:
        self._queue.put(payload)

    def _take(self) -> None:
        while (payload := self._queue.get()) is not None:
            self._note(Kind.BATCH, payload)
            self.peer.taken(len(payload))


def send_all(side: Side, kind: Kind, sender: int, sizes: Sequence[int]) -> threading.Thread:
    """One of the threads that send from a side, each in its own order."""

    def send() -> None:
        for number, size in enumerate(sizes):
            side.peer.send(kind, MARK.pack(sender, number) + bytes(size))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def connection(there: int | None, back: int | None) -> tuple[socket.socket, socket.socket]:
    """Two ends; after so many bytes one way or the other both have ended. ``None``: never."""
    (one, near), (far, other) = socket.socketpair(), socket.socketpair()
    for source, sink, budget in ((near, far, there), (far, near, back)):
        threading.Thread(target=_relay, args=(source, sink, budget), daemon=True).start()
    return one, other


def _relay(source: socket.socket, sink: socket.socket, budget: int | None) -> None:
    with suppress(OSError):
        while budget is None or budget > 0:
            data = source.recv(4096 if budget is None else min(4096, budget))
            if not data:
                break
            budget = None if budget is None else budget - len(data)
            sink.sendall(data)
    shut(source)
    shut(sink)
