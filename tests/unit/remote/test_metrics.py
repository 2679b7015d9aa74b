"""What is said of sessions to Prometheus, and whose word is taken for it."""

import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tessera.remote.executor import commands
from tessera.remote.executor.commands import Done
from tessera.remote.executor.handed import HandOver
from tessera.remote.executor.handover import listening, look
from tessera.remote.executor.meters import SLOTS, Figures, Meter, Meters
from tessera.remote.executor.metrics import ExecutorMetrics
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.reception import Reception

ONE = Figures("0123abcd", 1, 2, 3, 4, 5, 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "executor.sock"


def answered(path: Path, data: bytes) -> list[Figures]:
    """What is believed of an executor that says this."""
    with listening(path) as listener, ThreadPoolExecutor(1) as pool:
        listener.listen()
        found = pool.submit(look, path)
        way, _ = listener.accept()
        with way:
            assert way.recv(1 << 15) == b"Look {}"
            way.sendall(data)
        return found.result()


def test_a_session_tells_its_own_numbers() -> None:
    meters = Meters()
    mine, other = (Meter(os.dup(meters.descriptor), slot) for slot in (1, SLOTS))
    mine.tell(1, 2, 3, 4, 5, 6)
    other.tell(7, 8, 9, 10, 11, 12)
    assert meters.figures({"0123abcd" + "0" * 24: 1}) == [ONE]
    assert meters.figures({"f" * 32: SLOTS, "0123abcd" + "0" * 24: 1})[0] == Figures("f" * 8, 7, 8, 9, 10, 11, 12)
    meters.clear(1)
    assert meters.figures({"0123abcd" + "0" * 24: 1}) == [Figures("0123abcd", 0, 0, 0, 0, 0, 0)]


def test_prometheus_reads_each_session_and_who_was_refused() -> None:
    registry = CollectorRegistry()
    registry.register(ExecutorMetrics(lambda: [ONE], lambda: Counter(Lease=2)))
    text = generate_latest(registry).decode()
    for line in (
        "tessera_executor_sessions 1.0",
        'tessera_executor_refusals_total{reason="Lease"} 2.0',
        'tessera_session_memory_bytes{session="0123abcd"} 1.0',
        'tessera_session_memory_peak_bytes{session="0123abcd"} 2.0',
        'tessera_session_operators_total{session="0123abcd"} 3.0',
        'tessera_session_failed_operators_total{session="0123abcd"} 4.0',
        'tessera_session_received_bytes_total{session="0123abcd"} 5.0',
        'tessera_session_sent_bytes_total{session="0123abcd"} 6.0',
    ):
        assert line in text.splitlines()


def test_a_gate_asks_its_executor(path: Path) -> None:
    server = HandOver(listening(path), Reception(Offer("cpu", together=True), "2.15.0"))
    server.start()
    assert look(path) == []
    server.stop()
    assert answered(path, commands.encode(Done(), ONE)) == [ONE]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        commands.encode(Done()),
        commands.encode(Done(), Figures("../other", 1, 2, 3, 4, 5, 6)),
        commands.encode(Done(), Figures("0123abcd9", 1, 2, 3, 4, 5, 6)),
        commands.encode(Done()) + b'\nFigures {"session": "0123abcd", "used_bytes": -1}',
    ],
)
def test_an_executor_that_says_something_else_says_nothing(path: Path, data: bytes) -> None:
    assert answered(path, data) == []


def test_no_executor_says_nothing(path: Path) -> None:
    assert look(path) == []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(path))
        assert look(path) == []


def test_an_executor_has_no_more_sessions_than_it_can_have(path: Path) -> None:
    many = [Figures(f"{number:08x}", 1, 2, 3, 4, 5, 6) for number in range(SLOTS + 5)]
    assert answered(path, commands.encode(Done(), *many)) == many[:SLOTS]
