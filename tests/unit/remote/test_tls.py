"""A TLS stream of which one thread reads while another writes, and what the gate carries between two streams."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from tessera.remote.executor.certificates import Certificates, Files
from tessera.remote.executor.pump import join
from tessera.remote.protocol.streams import close, read_exactly, shut
from tessera.remote.protocol.tls import TlsStream
from tests.remote.wire.certificates import Authority

PATIENCE_S = 60
MUCH = 24 << 20


@pytest.fixture
def pair(tmp_path: Path) -> tuple[TlsStream, TlsStream]:
    """Client's and server's ends."""
    authority = Authority(tmp_path, "ca")
    server, client = authority.sign("server"), authority.sign("client")
    context = ssl.create_default_context(cafile=authority.cert)
    context.load_cert_chain(client.cert, client.key)
    certificates = Certificates(Files(server.cert, server.key, authority.cert))
    near, far = socket.socketpair()
    ours, its = TlsStream(near, context, "127.0.0.1"), TlsStream(far, certificates.context())
    greets = threading.Thread(target=its.handshake)
    greets.start()
    ours.handshake()
    greets.join(PATIENCE_S)
    return ours, its


def test_both_ways_at_once(pair: tuple[TlsStream, TlsStream]) -> None:
    data = bytes(range(256)) * (MUCH >> 8)
    writers = [threading.Thread(target=stream.sendall, args=(data,), daemon=True) for stream in pair]
    found: dict[int, bytearray | None] = {}

    def read(number: int) -> None:
        found[number] = read_exactly(pair[number], MUCH)

    readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in (0, 1)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert found == {0: data, 1: data}
    for stream in pair:
        close(stream)


def test_the_end_of_one_side_is_the_end_for_the_other(pair: tuple[TlsStream, TlsStream]) -> None:
    ours, its = pair
    ours.sendall(b"last")
    shut(ours)
    assert read_exactly(its, 4) == b"last" and its.recv_into(memoryview(bytearray(1))) == 0
    for stream in pair:
        close(stream)


@pytest.mark.parametrize("first", ["client", "session"])
def test_what_is_carried_arrives_and_an_end_of_either_is_the_end_of_both(
    pair: tuple[TlsStream, TlsStream], first: str
) -> None:
    client, gate = pair
    ours, session = socket.socketpair()
    carried = threading.Thread(target=join, args=(gate, ours), daemon=True)
    carried.start()
    client.sendall(b"up")
    assert read_exactly(session, 2) == b"up"
    session.sendall(b"down")
    assert read_exactly(client, 4) == b"down"
    ends, sees = (client, session) if first == "client" else (session, client)
    shut(ends)
    assert sees.recv_into(memoryview(bytearray(1))) == 0
    carried.join(PATIENCE_S)
    assert not carried.is_alive() and ours.fileno() == -1
    for stream in (client, session):
        close(stream)


def test_a_client_that_does_not_read_holds_up_the_session_and_no_memory(pair: tuple[TlsStream, TlsStream]) -> None:
    client, gate = pair
    ours, session = socket.socketpair()
    carried = threading.Thread(target=join, args=(gate, ours), daemon=True)
    carried.start()
    session.settimeout(1)
    with pytest.raises(TimeoutError):
        session.sendall(bytes(MUCH))
    shut(client)
    carried.join(PATIENCE_S)
    assert not carried.is_alive()
    for stream in (client, session):
        close(stream)
