"""What a session's end does in corners that chance seldom finds: backlogs on both sides, interrupts, ends."""

import socket
import threading

import pytest

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, pack_header, parse_header
from tessera.remote.protocol.link import Inbox, Outbox
from tessera.remote.protocol.peer import Ended, Peer
from tessera.remote.protocol.streams import read_exactly, read_frame
from tests.property.remote.two_sides import PATIENCE_S, Side, send_all

WIDE = 64 << 20, 64 << 10


class Broken:
    """A stream whose first write fails in the middle."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self.closed = False

    def sendall(self, data: bytes | memoryview) -> None:
        raise self._error

    def recv_into(self, buffer: memoryview) -> int:
        return 0

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None:
        self.closed = True


def listening(peer: Peer, stream: socket.socket) -> threading.Thread:
    def read() -> None:
        while peer.take(stream) is not None:
            pass

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def test_backlogs_of_both_sides_larger_than_any_buffer_pass_each_other() -> None:
    one, other = Side(*WIDE, kept=False), Side(*WIDE, kept=True)
    sizes = [1 << 20] * 20
    try:
        for thread in (send_all(one, Kind.UPLOAD, 0, sizes), send_all(other, Kind.DATA, 0, sizes)):
            thread.join(PATIENCE_S)
        near, far = socket.socketpair()
        one.read(near, 0), other.read(far, 0)
        wanted = threading.Event()
        threading.Thread(target=lambda: (_until(one, other, len(sizes)), wanted.set()), daemon=True).start()
        assert wanted.wait(PATIENCE_S)
    finally:
        one.end()
        other.end()


def _until(one: Side, other: Side, count: int) -> None:
    while min(len(one.came), len(other.came)) < count:
        threading.Event().wait(0.001)


def test_a_side_that_is_busy_sending_still_reads_what_makes_room_for_it() -> None:
    """The executor answers a long read while the client goes on sending: it must see the acknowledgements behind."""
    busy, other = Side(4 << 20, 64, kept=True), Side(4 << 20, 64, kept=False)
    near, far = socket.socketpair()
    try:
        busy.read(near, 0), other.read(far, 0)
        answers = send_all(busy, Kind.DATA, 0, [1 << 20] * 32)
        records = send_all(other, Kind.BATCH, 0, [1 << 10] * 2000)
        for thread in (answers, records):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    finally:
        busy.end()
        other.end()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError()])
def test_a_write_that_is_broken_off_leaves_the_connection_and_loses_nothing(error: BaseException) -> None:
    came = Side(*WIDE, kept=False)
    peer = Peer(lambda kind, payload: None)
    broken = Broken(error)
    peer.attach(broken, 0)
    try:
        if isinstance(error, OSError):
            peer.send(Kind.BATCH, b"first")
        else:
            with pytest.raises(KeyboardInterrupt):
                peer.send(Kind.BATCH, b"first")
        near, far = socket.socketpair()
        came.read(far, 0)
        peer.attach(near, 0)
        listening(peer, near)
        peer.send(Kind.BATCH, b"second")
        while len(came.came) < 2:
            assert came.error is None
            threading.Event().wait(0.001)
        assert came.came == [b"first", b"second"]
        assert peer.take(broken) is None and broken.closed
    finally:
        peer.end("")
        came.end()


def test_an_acknowledgement_that_was_lost_with_its_connection_is_sent_again() -> None:
    sender, taker = Side(1 << 20, 2, kept=False), Side(1 << 20, 2, kept=False)
    deaf, reads = socket.socketpair()
    try:
        reader = taker.read(reads, 0)
        for number in (1, 2):
            sender.peer.send(Kind.BATCH, bytes([number]))
            deaf.sendall(pack_header(Kind.BATCH, 1, number) + bytes([number]))
        answer = read_frame(deaf)
        assert answer is not None and answer[0].acknowledged == 2
        deaf.close()
        reader.join(PATIENCE_S)
        near, far = socket.socketpair()
        taker.read(far, 0), sender.read(near, taker.peer.received)
        sending = send_all(sender, Kind.BATCH, 0, [1] * 5)
        sending.join(PATIENCE_S)
        assert not sending.is_alive()
    finally:
        sender.end()
        taker.end()


def test_who_waits_for_room_is_told_of_the_end() -> None:
    peer = Peer(lambda kind, payload: None, outbox=Outbox(window_frames=1))
    peer.send(Kind.BATCH, b"")
    found: list[str] = []

    def send() -> None:
        try:
            peer.send(Kind.BATCH, b"")
        except Ended as ended:
            found.append(str(ended))

    waiting = threading.Thread(target=send)
    waiting.start()
    peer.end("the host has gone")
    waiting.join(PATIENCE_S)
    assert found == ["the host has gone"]
    with pytest.raises(Ended, match="the host has gone"):
        peer.send(Kind.BATCH, b"")


def test_an_end_wakes_who_reads_and_who_writes_and_the_connection_is_closed() -> None:
    near, far = socket.socketpair()
    peer = Peer(lambda kind, payload: None)
    peer.attach(near, 0)
    reader = listening(peer, near)
    writer = threading.Thread(target=peer.send, args=(Kind.DATA, bytes(8 << 20)), daemon=True)
    writer.start()
    assert far.recv(1)
    peer.end("enough")
    for thread in (reader, writer):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert near.fileno() == -1
    far.close()


def test_a_connection_that_comes_after_the_end_ends() -> None:
    near, far = socket.socketpair()
    peer = Peer(lambda kind, payload: None)
    peer.end("over")
    peer.attach(near, 0)
    assert peer.take(near) is None and far.recv(1) == b""
    far.close()


def test_a_new_connection_takes_the_place_of_the_former() -> None:
    former, gone = socket.socketpair()
    near, far = socket.socketpair()
    peer = Peer(lambda kind, payload: None)
    peer.attach(former, 0)
    peer.send(Kind.BATCH, b"x")
    peer.attach(near, 0)
    head = read_exactly(far, HEADER.size + 1)
    assert head is not None and parse_header(head).sequence == 1 and former.fileno() == -1
    assert gone.recv(100)[HEADER.size :] == b"x" and gone.recv(1) == b""
    peer.end("")
    for stream in (gone, far, near):
        stream.close()


def test_goodbye_comes_after_what_was_sent() -> None:
    near, far = socket.socketpair()
    peer = Peer(lambda kind, payload: None)
    peer.attach(near, 0)
    peer.send(Kind.BATCH, b"last")
    peer.say_bye()
    assert [frame[0].kind for frame in (read_frame(far), read_frame(far)) if frame] == [Kind.BATCH, Kind.BYE]
    peer.end("")
    near.close(), far.close()


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (pack_header(Kind.HELLO, 0), "frame: found HELLO within a session"),
        (pack_header(Kind.ACK, 0, 0, 1), "acknowledged: found 1; allowed: up to 0"),
        (pack_header(Kind.BATCH, 0, 2), "sequence number: found 2; allowed: up to 1"),
        (b"\0" * 24, "frame kind: found 0"),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(frame: bytes, sentence: str) -> None:
    near, far = socket.socketpair()
    peer = Peer(lambda kind, payload: None, inbox=Inbox())
    peer.attach(near, 0)
    far.sendall(frame)
    with pytest.raises(ProtocolError, match=sentence):
        peer.take(near)
    assert near.fileno() == -1
    peer.end("")
    far.close()
