"""What a gate says of its part in a move. The executors are real and have no sessions to bring."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tessera.pb.remote.v1 import remote_pb2
from tessera.remote.executor.front import Front
from tessera.remote.executor.handed import HandOver
from tessera.remote.executor.handover import Allowance, Expect, expect, hand_over_move, listening, tell
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.reception import Reception
from tessera.remote.executor.refusals import Elsewhere
from tessera.remote.gate.following import Following
from tessera.remote.gate.moves import Moves
from tessera.remote.gate.watched import Watched
from tessera.remote.gate.word import Word
from tessera.remote.protocol.greeting import Move, Redirect
from tessera.remote.protocol.streams import Stream

LEASE = "uid.pool.tessera.io"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Starts an executor."""
    served: list[HandOver] = []

    def start(name: str) -> Path:
        path = tmp_path / name
        served.append(HandOver(listening(path), Reception(Offer("cpu"), "2.15.0")))
        served[-1].start()
        return path

    yield start
    for each in served:
        each.stop()


@pytest.fixture
def door() -> Iterator[Callable[[Path], str]]:
    """A gate's listener that takes other executors to the one at a path; answers where."""
    fronts: list[Front] = []

    def open_to(path: Path) -> str:
        def arrive(stream: Stream, move: Move) -> Callable[[], None]:
            assert isinstance(stream, socket.socket)
            hand_over_move(path, stream, move)
            return lambda: None

        listener = socket.create_server(("127.0.0.1", 0))
        fronts.append(Front(listener, lambda *_: None, arrive=arrive))
        fronts[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield open_to
    for each in fronts:
        each.stop()


def reach(endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    return socket.create_connection((host, int(port)))


def until(condition: Callable[[], object], what: str) -> None:
    for _ in range(1500):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"waited in vain for {what}")


def said(word: Word) -> remote_pb2.FollowRequest:
    return next(word.heard())


def test_a_second_try_that_succeeds_says_nothing_of_the_first(
    serve: Callable[[str], Path], door: Callable[[Path], str]
) -> None:
    """The controller takes sessions that have left with a refusal for lost."""
    here, there, word = serve("here"), serve("there"), Word()
    tell(here, Allowance(2, 1 << 30, 2))
    moves = Moves(here, LEASE, reach, word, Watched())
    endpoint = door(there)
    moves.leave(remote_pb2.Leave(epoch=3, ticket="not theirs", endpoint=endpoint))
    until(lambda: said(word).refused, "a refusal")
    assert not said(word).left
    ticket = expect(there, Expect(3, 1 << 30, 2))
    moves.leave(remote_pb2.Leave(epoch=3, ticket=ticket, endpoint=endpoint))
    until(lambda: said(word).left, "its sessions to have left")
    told = said(word)
    assert (told.ticket, told.refused, told.about) == (ticket, "", 3)


def test_a_gate_whose_sessions_have_left_hears_what_comes_after_an_epoch_that_it_cannot_serve() -> None:
    """Else a controller that leads from then on would never be told that they have left."""
    word, calls = Word(), list[remote_pb2.FollowRequest]()

    def follow(requests: Iterator[remote_pb2.FollowRequest]) -> Iterator[remote_pb2.LeaseState]:
        calls.append(next(requests))
        if len(calls) == 2:
            following.stop()
        yield remote_pb2.LeaseState(epoch=4, serving=True, limit_bytes=1, sessions=1)

    class Left:
        def enter(self, allowance: Allowance) -> None:
            raise Elsewhere(Redirect(3, "10.0.0.8:7443", LEASE))

    following = Following(follow, Left(), Moves(Path("none"), LEASE, reach, word, Watched()), word)
    word.say(about=3, ticket="t", left=True)
    thread = threading.Thread(target=following.run, daemon=True)
    thread.start()
    thread.join(15)
    assert [call.left for call in calls] == [True, True]


def test_an_order_that_no_thread_could_follow_is_followed_when_it_comes_again(
    serve: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    word, begin = Word(), threading.Thread.start
    moves = Moves(serve("there"), LEASE, reach, word, Watched())

    def lacks(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    order = remote_pb2.Arrive(epoch=3, limit_bytes=1, sessions=1)
    monkeypatch.setattr(threading.Thread, "start", lacks)
    with pytest.raises(RuntimeError):
        moves.arrive(order)
    monkeypatch.setattr(threading.Thread, "start", begin)
    moves.arrive(order)
    until(lambda: said(word).ticket, "a ticket")
    moves.stop()
