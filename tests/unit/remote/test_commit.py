"""The last word of a move: whatever is lost or late, never do both executors serve."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tessera.remote.executor import arrivals
from tessera.remote.executor.front import Front
from tessera.remote.executor.handed import HandOver
from tessera.remote.executor.handover import (
    Allowance,
    Expect,
    Leave,
    expect,
    hand_over_move,
    leave,
    listening,
    served,
    tell,
)
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.pump import join
from tessera.remote.executor.reception import Reception
from tessera.remote.executor.refusals import Refusal
from tessera.remote.protocol.greeting import Move
from tessera.remote.protocol.streams import Stream

ALLOWED = Allowance(2, 1 << 30, 2)


class Executors:
    """One that the sessions leave, ``here``, and the one that they come to, ``there``, behind a gate's listener."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.here, self.there, self.asked = folder / "here", folder / "there", folder / "there"
        for path in (self.here, self.there):
            made = HandOver(listening(path), Reception(Offer("cpu"), "2.15.0"))
            made.start()
            stack.callback(made.stop)
        listener = socket.create_server(("127.0.0.1", 0))
        self._address = listener.getsockname()
        front = Front(listener, lambda *_: None, arrive=self._arrive)
        front.start()
        stack.callback(front.stop)
        tell(self.here, ALLOWED)

    def move(self) -> None:
        """Raises ``Refusal``."""
        ticket = expect(self.there, Expect(3, 1 << 30, 2))
        leave(self.here, Leave(ticket, 3, "there:1"), lambda: socket.create_connection(self._address))

    def _arrive(self, stream: Stream, move: Move) -> Callable[[], None]:
        ours, its = socket.socketpair()
        with ExitStack() as undo, its:
            undo.callback(ours.close)
            hand_over_move(self.asked, its, move)
            undo.pop_all()
        return lambda: join(stream, ours)


@pytest.fixture
def executors(tmp_path: Path) -> Iterator[Executors]:
    with ExitStack() as stack:
        yield Executors(tmp_path, stack)


def losing(path: Path, behind: Path, answers: int) -> socket.socket:
    """The executor ``behind``, of which the first answers are lost on their way to the gate."""
    listener = listening(path)
    listener.listen()

    def carry() -> None:
        for number in range(answers + 1):
            way, _ = listener.accept()
            with way, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as its:
                data, descriptors, _, _ = socket.recv_fds(way, 1 << 16, 1)
                its.connect(str(behind))
                socket.send_fds(its, [data], descriptors)
                for each in descriptors:
                    socket.close(each)
                answer = its.recv(1 << 16)
                if number == answers:
                    way.sendall(answer)

    threading.Thread(target=carry, daemon=True).start()
    return listener


def test_an_answer_that_the_gate_does_not_get_is_not_told_as_a_refusal(executors: Executors, tmp_path: Path) -> None:
    """Else the one would go on with sessions that the other serves."""
    executors.asked = tmp_path / "losing"
    with losing(executors.asked, executors.there, 1):
        executors.move()
    assert served(executors.there) == 3
    with pytest.raises(Refusal, match="found it fenced"):
        leave(executors.here, Leave("x", 4), lambda: pytest.fail("asked for a connection"))


def test_an_executor_that_does_not_listen_has_surely_not_begun(executors: Executors, tmp_path: Path) -> None:
    executors.asked = tmp_path / "nobody"
    with pytest.raises(Refusal, match="found none that takes sessions"):
        executors.move()
    executors.asked = executors.there
    executors.move()
    assert served(executors.there) == 3


def test_a_ticket_that_was_served_is_not_void_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MOVE_S", 1.0)
    reception, before = Reception(Offer("cpu"), "2.15.0"), set(threading.enumerate())
    ticket = reception.arrivals.expect(3, 1 << 30)
    (timer,) = set(threading.enumerate()) - before
    for _ in range(2):
        ours, its = socket.socketpair()
        with ours, its:
            reception.arrivals.granted(its, Move(ticket))()
        timer.join()
    reception.stop()
