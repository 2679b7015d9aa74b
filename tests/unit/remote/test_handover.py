"""What a gate in another process is answered. No session is begun here: whoever is let in has another torch."""

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tessera.remote.executor import commands, handover
from tessera.remote.executor.front import Front
from tessera.remote.executor.handed import HandOver
from tessera.remote.executor.handover import (
    Allowance,
    Expect,
    Leave,
    Resize,
    expect,
    hand_over,
    hand_over_move,
    leave,
    listening,
    resize,
    tell,
)
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.reception import Reception
from tessera.remote.executor.refusals import Refusal
from tessera.remote.protocol import greeting
from tessera.remote.protocol.greeting import Hello, Move
from tessera.remote.protocol.streams import Stream

ALLOWED = Allowance(epoch=3, limit_bytes=1 << 30, sessions=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "executor.sock"


@pytest.fixture
def reception(path: Path) -> Iterator[Reception]:
    made = Reception(Offer("cpu", sessions=0), "2.15.0")
    served = HandOver(listening(path), made)
    served.start()
    yield made
    served.stop()


def handed(path: Path, allowance: Allowance = ALLOWED, torch: str = "2.15.0", **fields: object) -> Refusal:
    ours, its = socket.socketpair()
    with ours, its, pytest.raises(Refusal) as caught:
        hand_over(path, its, Hello(torch, **fields), allowance)  # type: ignore[arg-type]
    return caught.value


def test_a_refusal_is_the_gates_to_tell(path: Path, reception: Reception) -> None:
    refusal = handed(path, torch="2.9.1")
    assert refusal.reason == "Torch" and "found 2.9.1" in str(refusal)


def test_a_session_of_an_epoch_that_is_over_goes_on_in_the_next(path: Path, reception: Reception) -> None:
    answer = handed(path, session="0" * 32, epoch=2).answer
    assert answer == greeting.Redirect(3)
    assert handed(path, session="0" * 32, epoch=3).reason == "SessionLost"


@pytest.mark.parametrize(("epoch", "said"), [(2, "found 2, which is over; allowed: 3"), (4, "found 4; allowed: 3")])
def test_a_new_session_is_of_the_epoch_that_is(path: Path, reception: Reception, epoch: int, said: str) -> None:
    refusal = handed(path, epoch=epoch)
    assert refusal.reason == "Epoch" and said in str(refusal)


def test_what_is_allowed_holds_until_something_else_is(path: Path, reception: Reception) -> None:
    tell(path, ALLOWED)
    assert (reception.lease.epoch, reception.sessions.offer.limit_bytes) == (3, 1 << 30)
    assert "allowed: up to 1073741824" in str(handed(path, mem_bytes=2 << 30))
    assert "found 0, as many as are allowed" in str(handed(path, Allowance(3, 0, 0)))


def test_an_epoch_never_goes_back(path: Path, reception: Reception) -> None:
    tell(path, ALLOWED)
    with pytest.raises(Refusal, match="epoch: found 2, which is over; allowed: 3"):
        tell(path, Allowance(2, 0, 1))
    assert reception.lease.epoch == 3


def test_the_executor_is_told_no_token(path: Path) -> None:
    ours, its = socket.socketpair()
    with listening(path) as listener, ours, its, ThreadPoolExecutor(1) as pool:
        listener.listen()
        listener.settimeout(10)
        done = pool.submit(hand_over, path, its, Hello("2.15.0", token="secret", lease="a/b"), ALLOWED)
        way, _ = listener.accept()
        with way:
            said = way.recv(1 << 15)
        with pytest.raises(Refusal, match="found none that takes sessions") as caught:
            done.result()
    assert b"secret" not in said and b"a/b" in said and caught.value.reason == "Unavailable"


def test_no_executor(path: Path) -> None:
    assert handed(path).reason == "Unavailable"
    with pytest.raises(OSError, match="No such file"):
        tell(path, ALLOWED)


def test_the_socket_is_for_its_group_too_and_takes_a_former_ones_place(path: Path) -> None:
    listening(path).close()
    with listening(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}", "order: found b'{}'; allowed: Allowance"),
        (b"Allowance no", "Allowance: found no JSON"),
        (b"Allowance {}", "Allowance.epoch: found nothing"),
        (commands.encode(ALLOWED, Hello("2.15.0")), "order: found Allowance, Hello; allowed: what a gate says"),
    ],
)
def test_an_order_that_is_none(path: Path, reception: Reception, data: bytes, said: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
        way.connect(str(path))
        way.sendall(data)
        answer = way.recv(1 << 15)
    (refused,) = commands.decode(answer)
    assert isinstance(refused, greeting.Refused) and refused.reason == "Malformed" and said in refused.text


def test_an_executor_without_sessions_is_resized_and_left(path: Path, reception: Reception) -> None:
    tell(path, ALLOWED)
    resize(path, Resize(4, 2 << 30))
    assert (reception.lease.epoch, reception.sessions.offer.limit_bytes) == (4, 2 << 30)
    other = path.with_name("other.sock")
    there = HandOver(listening(other), Reception(Offer("cpu"), "2.15.0"))
    there.start()

    def arrive(stream: Stream, move: Move) -> Callable[[], None]:
        assert isinstance(stream, socket.socket)
        hand_over_move(other, stream, move)
        return lambda: None

    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate = Front(listener, lambda stream, hello: None, arrive=arrive)
        gate.start()
        address, ticket = listener.getsockname(), expect(other, Expect(5, 1 << 30, 2))
        leave(path, Leave(ticket, 5, "10.0.0.8:7443"), lambda: socket.create_connection(address))
        gate.stop()
    there.stop()
    assert handed(path, Allowance(4, 2 << 30, 2), epoch=4).answer == greeting.Redirect(5, "10.0.0.8:7443")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Resize(3, 0), "epoch: found 3; allowed: above 3"),
        (Resize(4, 0, "sideways"), "way: found 'sideways'; allowed: auto, direct, host"),
    ],
)
def test_a_resize_that_cannot_be(path: Path, reception: Reception, order: Resize, said: str) -> None:
    tell(path, ALLOWED)
    with pytest.raises(Refusal, match=said):
        resize(path, order)


def test_an_executor_that_nobody_reaches_stays_where_it_is(path: Path, reception: Reception) -> None:
    tell(path, ALLOWED)

    def reach() -> socket.socket:
        raise OSError("no route")

    with pytest.raises(Refusal, match="found no executor any more: no route"):
        leave(path, Leave("x", 4, "10.0.0.8:7443"), reach)
    assert handed(path, session="0" * 32, epoch=3).reason == "SessionLost"


@contextmanager
def taken(path: Path, say: Callable[[socket.socket], None]) -> Iterator[None]:
    """An executor that its tenant has taken over."""
    with listening(path) as listener:
        listener.listen()

        def serve() -> None:
            way, _ = listener.accept()
            with way, suppress(OSError):
                way.recv(commands.MOST_BYTES)
                say(way)

        threading.Thread(target=serve, daemon=True).start()
        yield


def test_an_executor_that_asks_on_and_on_has_no_more_time_than_one_that_is_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could keep a second slice for as long as it likes."""
    monkeypatch.setattr(handover, "MOVE_S", 0.5)

    def ask(way: socket.socket) -> None:
        for _ in range(3000):
            way.sendall(commands.encode(commands.Connect()))
            way.recv(commands.MOST_BYTES)
            threading.Event().wait(0.01)

    def reach() -> socket.socket:
        raise OSError("no route")

    with taken(path, ask), pytest.raises(OSError, match=r"did not answer within|timed out"):
        leave(path, Leave("x", 4, "10.0.0.8:7443"), reach)


def test_what_an_executor_says_is_kept_in_part(path: Path) -> None:
    def refuse(way: socket.socket) -> None:
        way.sendall(commands.encode(greeting.Refused("R" * 5000, "t" * 20_000)))

    with taken(path, refuse), pytest.raises(Refusal) as caught:
        leave(path, Leave("x", 4), lambda: pytest.fail("asked for a connection"))
    assert (len(caught.value.reason), len(str(caught.value))) == (32, 1024)


@pytest.mark.parametrize("length", [0, 65])
def test_a_ticket_that_is_none(path: Path, length: int) -> None:
    with (
        taken(path, lambda way: way.sendall(commands.encode(commands.Done(ticket="t" * length)))),
        pytest.raises(Refusal, match=f"ticket of {length} characters; allowed: 1 to 64"),
    ):
        expect(path, Expect(4, 0, 1))
