"""A client that speaks the wire and nothing else: it says what no program would."""

import queue
import socket
import threading
from collections.abc import Iterable

from tessera.remote.protocol import greeting, records, replies
from tessera.remote.protocol.frames import Kind, pack_header
from tessera.remote.protocol.peer import Peer
from tessera.remote.protocol.streams import read_frame

PATIENCE_S = 60
TORCH = "2.15.0"


def greeted(address: tuple[str, int], session: str = "", received: int = 0) -> tuple[socket.socket, greeting.Welcome]:
    """A connection to a new session, or to one that is there. Raises ``ConnectionError`` if it is refused."""
    stream = socket.create_connection(address, PATIENCE_S)
    stream.settimeout(None)
    payload = greeting.encode(greeting.Hello(TORCH, session, received))
    stream.sendall(pack_header(Kind.HELLO, len(payload)) + payload)
    frame = read_frame(stream)
    if frame is None or frame[0].kind is not Kind.WELCOME:
        stream.close()
        raise ConnectionError(str(frame))
    return stream, greeting.decode(greeting.Welcome, frame[1])


class Client:
    """A session of its own; ``lost`` is set when its connection has ended."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.stream, self.welcome = greeted(address)
        self.lost = threading.Event()
        self._answers: queue.SimpleQueue[replies.Reply | None] = queue.SimpleQueue()
        self.peer = Peer(self._deliver)
        self.peer.attach(self.stream, 0)
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, *said: bytes | records.Record) -> None:
        """A batch. Raises ``Ended``."""
        self.peer.send(Kind.BATCH, b"".join(map(packed, said)))

    def answer(self, wait_s: float = PATIENCE_S) -> replies.Reply | None:
        """The next; ``None``: the connection has ended. Raises ``queue.Empty``."""
        return self._answers.get(timeout=wait_s)

    def sync(self, wait_s: float = PATIENCE_S) -> replies.Reply | None:
        self.send(records.Sync(1))
        return self.answer(wait_s)

    def close(self) -> None:
        self.peer.say_bye()
        self.peer.end("closed")

    def _deliver(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.REPLY:
            self._answers.put(replies.decode(payload))

    def _read(self) -> None:
        while self.peer.take(self.stream) is not None:
            pass
        self.peer.end("the connection ended")
        self.lost.set()
        self._answers.put(None)


def packed(said: bytes | records.Record) -> bytes:
    if isinstance(said, bytes):
        return said
    out = bytearray()
    match said:
        case records.Form():
            records.put_form(said, out)
        case records.Call():
            code = records.Code.CALL_SYNC if said.request else records.Code.CALL
            fields: Iterable[float] = (said.form, said.layout, said.first, *([said.request] if said.request else []))
            shape = records.call_struct(code, len(said.tensors), len(said.floats))
            out += shape.pack(code, *fields, *said.tensors, *said.floats)
        case _:
            records.put(said, out)
    return bytes(out)
