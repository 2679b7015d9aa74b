"""Other users of the machine than root: they lease from root's agent, each for himself."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml.state import NvmlState
from tests.integration.local.commands import CUDA, RUN
from tests.integration.local.conftest import Agent

PYTHON = shutil.which("python3", path="/usr/bin:/bin")
"""One that every user may run: this test's own may be in somebody's home."""
pytestmark = [
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another user"),
    pytest.mark.skipif(PYTHON is None, reason="there is no Python for all users"),
]
UID = 65534
AS_USER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
JOIN = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b'{"type":"join","lease":"%s"}\\n' % sys.argv[2].encode())
print(connection.makefile().readline())
"""


@pytest.fixture
def shared(shim: Path) -> Iterator[Agent]:
    """Root's agent, in a folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="tessera-") as folder:
        Path(folder).chmod(0o755)
        made = Agent(Path(folder), shim)
        driver = shutil.copytree(cuda.library_dir(), Path(folder) / "cuda")
        driver.chmod(0o755)
        made.environment["LD_LIBRARY_PATH"] += f":{driver}"
        state = made.folder / "nvml.state"
        state.chmod(0o644)
        NvmlState.let_programs_tell(state)
        made.start()
        yield made
        made.end(subprocess.Popen.terminate)


def start(agent: Agent, command: Sequence[str], *more: str, who: Sequence[str] = AS_USER) -> "subprocess.Popen[str]":
    lease = (*who, *RUN, "--socket", str(agent.socket), "--gpu-mem", "4Gi", *more, "--", *command)
    pipe = subprocess.PIPE
    environment = {**os.environ, **agent.environment}
    return subprocess.Popen(lease, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def python(code: str) -> list[str]:
    return [str(PYTHON), "-c", code]


def test_an_ordinary_user_gets_a_slice_and_is_held_to_it(shared: Agent):
    code = f"{CUDA}import os\nprint(os.getuid(), told()[1], take(3072), take(1025))"
    with start(shared, python(code)) as run:
        assert (*run.communicate(timeout=60), run.returncode) == (f"{UID} 4096 0 2\n", "", 0)


def test_the_watcher_ends_what_an_ordinary_user_takes_past_the_shim(shared: Agent):
    code = f"{CUDA}assert not take(3072) and not take(2048)\nprint(told(), flush=True)\nsys.stdin.read()"
    with start(shared, ["env", "-u", "LD_PRELOAD", *python(code)]) as run:
        assert run.stdout and run.stdout.readline().startswith("("), run.stderr and run.stderr.read()
        assert run.wait(60) == 137


def test_nobody_joins_another_users_lease(shared: Agent):
    with start(shared, ["cat"], who=()) as run:
        assert run.stdin and run.stdout
        print("ready", file=run.stdin, flush=True)
        assert run.stdout.readline() == "ready\n"
        (lease,) = shared.slices()
        join = (*python(JOIN), str(shared.socket), lease)
        other, own = (
            subprocess.run([*who, *join], capture_output=True, text=True, check=True) for who in (AS_USER, ())
        )
        run.stdin.close()
        assert run.wait(60) == 0
    refused = json.loads(other.stdout)
    assert refused["type"] == "refused" and "allowed: a lease of the same user" in refused["text"]
    assert json.loads(own.stdout)["type"] == "joined"


def test_what_was_leased_is_said_where_it_is_asked_for(shared: Agent):
    with start(shared, ["true"], "--gpu-core", "30", "--verbose") as run:
        _, said = run.communicate(timeout=60)
    uuids = [gpu.uuid for gpu in shared.state.gpus]
    assert run.returncode == 0 and said.count("\n") == 1
    assert any(f": 4Gi and 30% of {uuid}; held at level 0, its processes by " in said for uuid in uuids)
