"""The process that those of the sessions are forked from."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tessera.remote.executor.forks import Child, Ended, ForkServer, ForkServerError, Start
from tessera.remote.executor.meters import Meters
from tessera.remote.executor.processes import Offer
from tessera.remote.executor.sessions import Sessions
from tests.remote.server import Conversation, serving
from tests.remote.wire.served import children_of, comes

pytestmark = pytest.mark.torch
PATIENCE_S = 60

SUMMING = """
    import torch
    print(torch.ones(3, device="cuda").sum().item())
    input()
    try:
        while True:
            torch.ones(3, device="cuda").sum().item()
    except RuntimeError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def forks():
    made = ForkServer()
    yield made
    made.close()


def started(forks: ForkServer) -> tuple[Child, socket.socket]:
    """A process of a session that nobody has come to, and its gate's end."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        start = Start("cpu", 0, PATIENCE_S, 0, 0, restore=False)
        return forks.start(start, [its.fileno(), Meters().descriptor]), ours


def test_it_tells_what_it_has_found(forks):
    counted = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    gpus = subprocess.run(counted, capture_output=True, text=True, check=True, env=alone).stdout
    assert forks.facts().torch == torch.__version__ and forks.facts().gpus == int(gpus)


def test_a_process_that_is_killed_is_told_of_alone(forks):
    (first, way), (second, other) = started(forks), started(forks)
    with way, other:
        first.kill()
        assert first.wait(PATIENCE_S) == Ended(1, -signal.SIGKILL) and second.running()
        other.shutdown(socket.SHUT_RDWR)
        assert second.wait(PATIENCE_S) == Ended(2, 0)
        first.kill()


def test_what_it_has_started_ends_with_it_and_the_next_has_another(forks):
    child, way = started(forks)
    with way:
        (server,) = children_of(os.getpid()) & serving_forks()
        os.kill(server, signal.SIGKILL)
        assert child.wait(PATIENCE_S) == Ended(1, -signal.SIGKILL)
    child, way = started(forks)
    with way:
        child.kill()
        assert child.wait(PATIENCE_S) == Ended(2, -signal.SIGKILL)
    assert server not in serving_forks()


def test_one_that_does_not_answer_any_more_is_closed_all_the_same(forks):
    child, way = started(forks)
    with way:
        (server,) = children_of(os.getpid()) & serving_forks()
        os.kill(server, signal.SIGSTOP)
        forks.close()
        assert child.wait(PATIENCE_S) == Ended(1, -signal.SIGKILL) and server not in serving_forks()


def test_a_session_finds_no_other_ones_name_in_its_memory():
    """Names of several lengths of what else is said, so that none is overwritten by the next."""
    sessions = Sessions(Offer("cpu"), ForkServer())
    try:
        names = []
        for limit_bytes in (0, 10**3, 10**12, 8, 10**15, 4096):
            sessions.limit(limit_bytes)
            process = sessions.open(0, 0)
            names.append(process.name.encode())
            assert comes(lambda: names[-1] in seen_by(process.child.pid, names))  # noqa: B023
            assert seen_by(process.child.pid, names) == {names[-1]}
    finally:
        sessions.stop()


def test_memory_runs_out_for_a_session_first(forks):
    child, way = started(forks)
    with way:
        forks.facts()
        assert comes(lambda: child.pid)
        (server,) = children_of(os.getpid()) & serving_forks()
        assert comes(lambda: badness(server) < badness(child.pid))


def badness(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_where_it_cannot_be_it_says_so(forks, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ForkServerError, match="found its end with status 1 before it was ready"):
        forks.facts()


def test_where_there_is_no_torch_it_says_so(forks, monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no such thing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ForkServerError, match=r"^torch: found none \(no such thing\); allowed: an installed one$"):
        forks.facts()


def test_a_server_goes_on_with_another():
    with serving() as served, Conversation(served.address, SUMMING) as program:
        assert program.hears() == "3.0"
        (forks,) = children_of(served.pid)
        os.kill(forks, signal.SIGKILL)
        program.tell()
        assert program.hears().startswith("DeviceLostError the remote device was lost")
        with Conversation(served.address, SUMMING) as other:
            assert other.hears() == "3.0"


def seen_by(pid: int, names: list[bytes]) -> set[bytes]:
    """Which of them are in what a process can write to; none before there is one."""
    if not pid:
        return set()
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights = line.split()[:2]
            begin, end = (int(at, 16) for at in where.split("-"))
            if "w" not in rights or end - begin > 1 << 30:
                continue
            memory.seek(begin)
            try:
                data = memory.read(end - begin)
            except OSError:
                continue
            found |= {name for name in names if name in data}
    return found


def serving_forks() -> set[int]:
    """Fork servers of this machine."""
    found = Path("/proc").glob("[0-9]*/cmdline")
    return {int(path.parent.name) for path in found if b"remote.executor.fork_server" in _read(path)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
