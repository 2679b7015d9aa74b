"""A gate that cannot go on, or cannot begin, ends with a word and a status."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tessera.remote.gate.watched import Watched
from tests.remote.wire.certificates import Authority

BROKEN = """
import sys
from tessera.remote.gate import following, gate, identity, main

def broken(*_):
    raise KeyError("nobody thought of this")

identity.Identity.obtain = lambda self: True
{broken} = broken
sys.exit(main.run(sys.argv[1:]))
"""


def options(folder: Path, **other: object) -> list[str]:
    """Of a gate whose controller nobody is, and ``other`` ones."""
    (folder / "token").write_text("mine")
    given = {
        "host": "127.0.0.1", "port": "0", "socket": folder / "executor.sock", "lease": "team/train",
        "server-name": "uid.pool.tessera.io", "controller": "127.0.0.1:9", "token-file": folder / "token",
        "authority-file": Authority(folder, "ca").cert,
    } | other  # fmt: skip
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


@pytest.mark.parametrize(
    ("broken", "work"),
    [
        ("following.Following.run", "following"),
        ("identity.Identity.keep", "certificate"),
        ("identity.Identity.obtain", "start"),
    ],
)
def test_the_process_ends(tmp_path: Path, broken: str, work: str) -> None:
    command = [sys.executable, "-c", BROKEN.format(broken=broken), *options(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended
    assert f"tessera pool-gate: {work} ended: KeyError: 'nobody thought of this'" in ended.stderr


def test_the_first_error_is_told_and_work_that_ends_well_is_none() -> None:
    broke = threading.Event()
    watched = Watched(broke.set)
    watched("orderly", lambda: False)()
    assert not broke.is_set() and not watched.error

    def fails(text: str) -> None:
        raise ValueError(text)

    watched("one", lambda: fails("first"))()
    watched("two", lambda: fails("second"))()
    assert broke.is_set() and watched.error == "one ended: ValueError: first"


def ended(folder: Path, **other: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tessera.cli.tessera", "pool-gate", *options(folder, **other)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_for_metrics_that_is_the_gates_is_refused(tmp_path: Path) -> None:
    found = ended(tmp_path, port=7443, metrics_port=7443)
    assert found.returncode == 2
    assert "metrics_port: found 7443, which is the gate's port; allowed: another, or 0" in found.stderr


def test_a_port_for_metrics_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = ended(tmp_path, metrics_port=port)
    assert found.returncode == 1
    assert f"tessera pool-gate: cannot listen on 127.0.0.1:{port}: Address already in use\n" in found.stderr
