"""A lease that ends under a program: the node says so in its folder, and the program need not wait out its patience."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tessera.remote.client.connect import connect, grace_s, over
from tessera.remote.client.errors import ConnectError, DeviceLostError
from tessera.remote.client.session import Session
from tessera.remote.protocol import records
from tests.remote.leases import stage
from tests.remote.wire.certificates import Authority
from tests.remote.wire.served import children_of

pytestmark = [pytest.mark.torch, pytest.mark.timeout(120)]
GRACE_S, SOON_S = 600.0, 30.0
WHY = "GPULease team/trainer was deleted"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Path]:
    with stage.executor(tmp_path) as at:
        yield at


@pytest.fixture
def gate(authority: Authority, executor: Path) -> Iterator[stage.PoolGate]:
    with stage.gate(executor, authority.sign("executor", host=stage.NAME)) as made:
        yield made


@pytest.fixture
def node(tmp_path: Path, authority: Authority, gate: stage.PoolGate, monkeypatch: pytest.MonkeyPatch) -> stage.Node:
    made = stage.Node(tmp_path / "container", authority, gate.endpoint)
    for name, value in made.environment.items():
        if name.startswith("TESSERA"):
            monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def session(node: stage.Node) -> Iterator[Session]:
    found = Session(connect, torch.__version__, first_s=30.0, grace_s=GRACE_S, over=over)
    assert found.ask(synced)
    yield found
    found.close()


def synced(request: int) -> bytes:
    return records.packed(records.Sync(request))


def end(node: stage.Node) -> float:
    """The node writes it; answers when."""
    node.over = WHY
    node.write()
    return time.monotonic()


def descendants(process: int) -> Iterator[int]:
    for child in children_of(process):
        yield child
        yield from descendants(child)


def lost(session: Session) -> DeviceLostError:
    with pytest.raises(DeviceLostError) as caught:
        session.ask(synced)
    return caught.value


def test_a_session_that_looks_for_its_executor_ends_when_the_lease_does(session, gate, node):
    gate.front.stop()
    gate.front.cut()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lost, session)
        assert not asked.done()
        since = end(node)
        error = asked.result(SOON_S)
    assert time.monotonic() - since < SOON_S < GRACE_S
    assert (error.lease, error.epoch, error.cause) == ("team/trainer", 1, WHY)


def test_who_waits_for_an_executor_that_is_silent_ends_when_the_lease_does(session, node):
    """Its machine is gone, and nothing ends the connection."""
    served = list(descendants(os.getpid()))
    for process in served:
        os.kill(process, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lost, session)
            since = end(node)
            error = asked.result(SOON_S)
    finally:
        for process in served:
            os.kill(process, signal.SIGCONT)
    assert time.monotonic() - since < SOON_S and error.cause == WHY


def test_who_comes_anew_is_refused_at_once(node, gate):
    since = end(node)
    with pytest.raises(ConnectError, match=WHY):
        Session(connect, "2.15.0", first_s=GRACE_S, over=over)
    assert time.monotonic() - since < SOON_S and not gate.heard


def test_a_program_is_told_why(gate, node):
    program = node.start(
        "import torch\n"
        "x = torch.ones(3, device='cuda')\n"
        "print(x.sum().item())\n"
        "input()\n"
        "try:\n"
        "    x.sum().item()\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    assert program.stdout.readline() == "3.0\n"
    gate.front.stop()
    gate.front.cut()
    since = end(node)
    out, errors = program.communicate("\n", timeout=SOON_S)
    assert out == f"the remote device was lost: lease team/trainer, epoch 1: {WHY}\n", errors
    assert time.monotonic() - since < SOON_S


def test_a_program_says_how_long_it_waits_for_a_connection_that_broke(gate, node, monkeypatch):
    monkeypatch.setenv("TESSERA_GRACE_S", "0")
    session = Session(connect, torch.__version__, first_s=30.0, grace_s=grace_s(), over=over)
    assert session.ask(synced)
    since = time.monotonic()
    gate.front.stop()
    gate.front.cut()
    error = lost(session)
    assert time.monotonic() - since < SOON_S < GRACE_S and "refused" in error.cause
    session.close()
