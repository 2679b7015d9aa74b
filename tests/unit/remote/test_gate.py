"""Who is let in at the gate and who is not. No session is begun here: whoever is let in has another torch."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tessera.remote.client import connect as connecting
from tessera.remote.client.connect import TLS
from tessera.remote.client.errors import ConnectError
from tessera.remote.executor import front
from tessera.remote.executor.certificates import Certificates, Files
from tessera.remote.executor.gate import Gate
from tessera.remote.executor.processes import Offer
from tessera.remote.protocol import greeting
from tessera.remote.protocol.frames import Kind, pack_header
from tessera.remote.protocol.streams import Stream, close, read_frame
from tests.remote.wire.certificates import DAY, Authority, Pair

HELLO = greeting.encode(greeting.Hello(torch="2.14.1"))
TORCH = "torch: found 2.14.1; allowed: 2.15, which the executor has (2.15.0)"
Serve = Callable[..., Gate]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    started: list[Gate] = []

    def start(files: Files | None = None) -> Gate:
        listener = socket.create_server(("127.0.0.1", 0))
        certificates = Certificates(files) if files else None
        gate = Gate(listener, Offer("cpu"), "2.15.0", certificates)
        gate.start()
        started.append(gate)
        monkeypatch.setenv("TESSERA_POOL", f"127.0.0.1:{listener.getsockname()[1]}")
        return gate

    yield start
    for gate in started:
        gate.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def secured(serve: Serve, authority: Authority) -> Gate:
    return serve(files_of(authority.sign("server"), authority))


def files_of(pair: Pair, authority: Authority) -> Files:
    return Files(pair.cert, pair.key, authority.cert)


def show(monkeypatch: pytest.MonkeyPatch, authority: Authority, pair: Pair) -> None:
    for name, path in zip(TLS, (authority.cert, pair.cert, pair.key), strict=True):
        monkeypatch.setenv(name, str(path))


def connect() -> Stream:
    return connecting.connect().stream


def answer(stream: Stream, kind: Kind = Kind.HELLO, payload: bytes = HELLO) -> greeting.Refused | None:
    stream.sendall(pack_header(kind, len(payload)) + payload)
    return told(stream)


def told(stream: Stream) -> greeting.Refused | None:
    try:
        frame = read_frame(stream)
        return greeting.decode(greeting.Refused, frame[1]) if frame else None
    finally:
        close(stream)


def counted(gate: Gate, reason: str, count: int = 1) -> bool:
    """Once its connections are served: the gate counts after the client has its answer."""
    for _ in range(6000):
        if gate.refused[reason] >= count:
            return True
        threading.Event().wait(0.01)
    return False


@pytest.mark.parametrize(
    ("kind", "payload", "reason", "text"),
    [
        (Kind.HELLO, HELLO, "Torch", TORCH),
        (Kind.HELLO, b"{}", "Malformed", "Hello.torch: found nothing; allowed: text"),
        (
            Kind.HELLO, b'{"torch": "2.15.0", "container": "\\ud800"}', "Malformed",
            "Hello.container: found '\\ud800'; allowed: text",
        ),
        (Kind.ACK, b"", "Malformed", "first frame: found ACK; allowed: HELLO"),
        (Kind.HELLO, b'{"torch": "2.15.0", "protocol": 2}', "Protocol", "protocol: found version 2; allowed: 1"),
        (Kind.HELLO, b'{"torch": "2.15.0", "session": "x"}', "SessionLost", "session: found one that is not here any"),
    ],
)  # fmt: skip
def test_a_first_frame_that_is_not_taken(serve: Serve, kind: Kind, payload: bytes, reason: str, text: str) -> None:
    gate = serve()
    refused = answer(connect(), kind, payload)
    assert refused is not None and refused.reason == reason and refused.text.startswith(text)
    assert counted(gate, reason)


def test_a_first_frame_may_come_byte_by_byte(serve: Serve) -> None:
    serve()
    stream = connect()
    for byte in pack_header(Kind.HELLO, len(HELLO)) + HELLO:
        stream.sendall(bytes([byte]))
    assert told(stream) == greeting.Refused("Torch", TORCH)


def test_who_says_a_little_at_a_time_is_cut_off_all_the_same(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "FIRST_FRAME_S", 0.2)
    gate = serve()
    stream = connect()
    said = 0
    with contextlib.suppress(OSError):
        while said < 10_000:
            stream.sendall(b"\x01")
            said += 1
            threading.Event().wait(0.01)
    assert said < 10_000 and counted(gate, "Malformed")
    close(stream)


def test_a_crowd_that_says_nothing_is_bounded_and_then_gone(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "FIRST_FRAME_S", 1.0)
    gate = serve()
    address = gate._front._listener.getsockname()
    crowd = [
        socket.create_connection(address, source_address=(f"127.0.0.{2 + number % 3}", 0))
        for number in range(front.WAITING + 3)
    ]
    assert counted(gate, "Crowd") and counted(gate, "Malformed", front.WAITING - 3)
    assert answer(connect()) == greeting.Refused("Torch", TORCH)
    for stream in crowd:
        close(stream)


def test_one_address_alone_does_not_keep_others_out(serve: Serve) -> None:
    gate = serve()
    address = gate._front._listener.getsockname()
    crowd = [socket.create_connection(address, source_address=("127.0.0.2", 0)) for _ in range(front.WAITING)]
    assert counted(gate, "Crowd", front.WAITING - front.EACH)
    assert answer(connect()) == greeting.Refused("Torch", TORCH)
    for stream in crowd:
        close(stream)


def test_who_is_let_in_while_all_are_cut_is_cut_too() -> None:
    """The epoch may end between the answer to a client and the carrying of what he says."""
    ends: list[socket.socket] = []

    def receive(_: Stream, __: greeting.Hello) -> socket.socket:
        ours, its = socket.socketpair()
        ends.append(its)
        door.cut()
        return ours

    listener = socket.create_server(("127.0.0.1", 0))
    door = front.Front(listener, receive)
    door.start()
    with socket.create_connection(listener.getsockname()) as stream:
        stream.settimeout(30)
        stream.sendall(pack_header(Kind.HELLO, len(HELLO)) + HELLO)
        assert stream.recv(1) == b""
    ends[0].settimeout(30)
    assert ends[0].recv(1) == b"", "the session's end is told too"
    ends[0].close()
    door.stop()


def test_the_gate_goes_on_after_accepting_failed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    failures = iter([OSError(24, "Too many open files")])

    class Failing(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            for failure in failures:
                raise failure
            return super().accept()

    gate = Gate(Failing(fileno=listener.detach()), Offer("cpu"), "2.15.0")
    monkeypatch.setenv("TESSERA_POOL", f"127.0.0.1:{gate._front._listener.getsockname()[1]}")
    gate.start()
    assert answer(connect()) == greeting.Refused("Torch", TORCH)
    gate.stop()


def test_refusals_are_logged_with_their_count(serve: Serve) -> None:
    with structlog.testing.capture_logs() as logs:
        gate = serve()
        for _ in range(2):
            answer(connect())
        assert counted(gate, "Torch", 2)
        gate.stop()
    lines = [line for line in logs if line["event"] == "connection refused"]
    # A set: a thread of the gate of a former test may write its line now.
    assert {(line["reason"], line["text"], line["count"]) for line in lines} == {
        ("Torch", TORCH, 1),
        ("Torch", TORCH, 2),
    }


def test_the_right_certificate_is_let_in(secured: Gate, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, authority, authority.sign("client"))
    assert answer(connect()) == greeting.Refused("Torch", TORCH)


@pytest.mark.parametrize("which", ["another CA", "expired"])
def test_a_certificate_that_is_not_good_is_refused(
    secured: Gate, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    signs, lives = (Authority(tmp_path, "other"), DAY) if which == "another CA" else (authority, -DAY)
    show(monkeypatch, authority, signs.sign("client", lives=lives))
    with pytest.raises((ConnectError, OSError)) as caught:
        answer(connect())
    if isinstance(caught.value, ConnectError):
        assert str(caught.value).startswith("TLS: the pool does not take ")
    assert counted(secured, "Tls")


def test_a_client_without_a_certificate_is_refused(secured: Gate, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.cert)
    address = secured._front._listener.getsockname()
    with (
        socket.create_connection(address) as raw,
        pytest.raises(OSError, match=r"CERTIFICATE_REQUIRED|reset"),
        context.wrap_socket(raw, server_hostname="127.0.0.1") as stream,
    ):
        stream.recv(1)
    assert counted(secured, "Tls")


@pytest.mark.parametrize(
    ("address", "lives", "sentence"),
    [
        ("127.0.0.2", DAY, "TLS: the pool's certificate is not good for '127.0.0.1': IP address mismatch"),
        ("127.0.0.1", -DAY, "TLS: the pool's certificate is not good for '127.0.0.1': certificate has expired"),
    ],
)
def test_a_pool_that_is_not_the_one_meant_gets_nothing(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch, address: str, lives: object, sentence: str
) -> None:
    gate = serve(files_of(authority.sign("server", address=address, lives=lives), authority))  # type: ignore[arg-type]
    show(monkeypatch, authority, authority.sign("client"))
    with pytest.raises(ConnectError, match=sentence):
        connect()
    assert counted(gate, "Tls")


def test_plain_text_to_tls_is_refused(secured: Gate) -> None:
    assert answer(connect()) is None
    assert counted(secured, "Tls")


def test_tls_to_plain_text_ends_with_a_sentence(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = serve()
    show(monkeypatch, authority, authority.sign("client"))
    with pytest.raises(ConnectError, match=r"TLS: found no pool with TLS at '127.0.0.1': wrong version number"):
        connect()
    assert counted(gate, "Malformed")


def test_a_certificate_that_is_renewed_is_shown_and_one_that_cannot_be_read_leaves_the_former(
    secured: Gate, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, authority, authority.sign("client"))
    server = authority.sign("server", address="127.0.0.2")
    with pytest.raises(ConnectError, match="IP address mismatch"):
        connect()
    server.key.write_text("no key")
    with pytest.raises(ConnectError, match="IP address mismatch"):
        connect()
    authority.sign("server")
    assert answer(connect()) == greeting.Refused("Torch", TORCH)


def test_files_of_the_client_that_cannot_be_used_are_named(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_POOL", "127.0.0.1:1")
    monkeypatch.setenv(TLS[0], str(authority.cert))
    with pytest.raises(ConnectError, match=f"{TLS[1]}, {TLS[2]}: found nothing; allowed: all of"):
        connect()
    show(monkeypatch, authority, Pair(authority.cert, authority.cert))
    with pytest.raises(ConnectError, match="allowed: PEM files that belong together"):
        connect()
