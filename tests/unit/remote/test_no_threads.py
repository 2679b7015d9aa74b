"""A machine that gives no thread more: who asks then is sent away, and what listens goes on."""

import socket
import threading
from pathlib import Path

import pytest

from tessera.remote.executor.front import EACH, Front
from tessera.remote.executor.handed import HandOver
from tessera.remote.executor.handover import Expect, expect, hand_over_move, listening, served
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.reception import Reception
from tessera.remote.executor.refusals import Refusal
from tessera.remote.protocol.greeting import Move


class Machine:
    """Of the threads that are begun for ``target`` the next ``lacking`` are not given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
        self.lacking = 0
        begin = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if self.lacking and getattr(getattr(thread, "_target", None), "__qualname__", "") == target:
                self.lacking -= 1
                raise RuntimeError("can't start new thread")
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


def test_a_gate_goes_on_and_counts_nobody_who_was_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tessera.remote.executor.accepting._PAUSE_S", 0.001)
    machine = Machine(monkeypatch, "Front._serve")
    listener = socket.create_server(("127.0.0.1", 0))
    front = Front(listener, lambda *_: None)
    front.start()
    machine.lacking = EACH + 1
    for _ in range(EACH + 1):
        with socket.create_connection(listener.getsockname(), 30) as stream:
            assert stream.recv(1) == b""
    with socket.create_connection(listener.getsockname(), 30) as stream:
        stream.sendall(b"\0" * 64)
        assert stream.recv(1), "a refusal in words"
    front.stop()
    assert not front.refused["Crowd"]


def test_an_executor_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, "HandOver._serve")
    executor = HandOver(listening(tmp_path / "socket"), Reception(Offer("cpu"), "2.15.0"))
    executor.start()
    machine.lacking = 1
    with pytest.raises(OSError, match=r"ended before|reset|Broken"):
        served(tmp_path / "socket")
    assert served(tmp_path / "socket") == 0
    executor.stop()


def test_a_session_that_no_thread_can_take_is_refused_and_the_last_word_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who brought sessions that are served would go on with them if it were refused."""
    path = tmp_path / "socket"
    executor = HandOver(listening(path), Reception(Offer("cpu"), "2.15.0"))
    executor.start()
    machine = Machine(monkeypatch, "Arrivals.granted.<locals>.<lambda>")
    for session in ("0" * 32, ""):
        ticket, machine.lacking = expect(path, Expect(3, 0, 2)), 1
        ours, its = socket.socketpair()
        with ours, its:
            if session:
                with pytest.raises(Refusal, match="cannot be taken"):
                    hand_over_move(path, its, Move(ticket, "2.15.0", session, 0, "cpu"))
            else:
                hand_over_move(path, its, Move(ticket))
    assert served(path) == 3
    executor.stop()
