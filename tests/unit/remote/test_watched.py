"""A gate a part of which dies ends, with a word and a status."""

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


@pytest.mark.parametrize(
    ("broken", "work"),
    [
        ("following.Following.run", "following"),
        ("identity.Identity.keep", "certificate"),
        ("identity.Identity.obtain", "start"),
    ],
)
def test_the_process_ends(tmp_path: Path, broken: str, work: str) -> None:
    (tmp_path / "token").write_text("mine")
    ca = Authority(tmp_path, "ca").cert
    options = {
        "host": "127.0.0.1", "port": "0", "socket": tmp_path / "executor.sock", "lease": "team/train",
        "server-name": "uid.pool.tessera.io", "controller": "127.0.0.1:9", "authority-file": ca,
        "token-file": tmp_path / "token",
    }  # fmt: skip
    command = [sys.executable, "-c", BROKEN.format(broken=broken)]
    command += [f"--{name}={value}" for name, value in options.items()]
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
