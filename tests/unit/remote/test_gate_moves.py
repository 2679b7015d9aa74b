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
from tessera.remote.gate.moves import Moves
from tessera.remote.gate.watched import Watched
from tessera.remote.gate.word import Word
from tessera.remote.protocol.greeting import Move
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
    return socket.create_connection((host, int(port)), 5)


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
