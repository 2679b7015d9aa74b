"""The shim for simulated leases, and an agent that gives them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml import build as nvml
from tessera.simulator.fakes.nvml import presets
from tessera.simulator.fakes.nvml.state import ENV, NvmlState
from tests.integration.local.commands import Commands, until
from tests.native.conftest import shim
from tests.native.container import unshare

__all__ = ["shim"]


@pytest.fixture(scope="session", autouse=True)
def _mounts() -> None:
    """The command has mounts of its own: root's, or a user's where the kernel lets users make namespaces."""
    try:
        subprocess.run([*unshare(), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody make a mount namespace")


@pytest.fixture
def commands(shim: Path) -> Commands:
    """With the shim, where a simulated agent is started for the command alone."""
    return Commands({"TESSERA_SHIM": str(shim)})


class Agent:
    """A node agent on two simulated GPUs that outlives its clients."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder, self.socket, self.log = folder, folder / "lease.sock", folder / "agent.log"
        self.environment = {
            ENV: str(folder / "nvml.state"),
            "LD_LIBRARY_PATH": f"{nvml.library_dir()}:{cuda.library_dir()}",
        }
        NvmlState(gpus=presets.host_gpus(["H100", "H100"], host="lab")).write(folder / "nvml.state")
        self._shim = shim
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it gives leases."""
        command = [sys.executable, "-m", "tessera.node_agent.main", "--node", "lab", "--api", "false"]
        command += ["--agent-socket", str(self.folder / "agent.sock"), "--lease-socket", str(self.socket)]
        command += ["--state-dir", str(self.folder / "state"), "--enforcement", "watch", "--shim", str(self._shim)]
        self.socket.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(lambda: self.socket.exists() or self.process is None or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def end(self, how: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        """``terminate`` or ``kill``."""
        if self.process is not None:
            how(self.process)
            self.process.wait(30)
            self.process = None

    def slices(self) -> list[str]:
        """What it has on record."""
        return sorted(path.stem for path in (self.folder / "state" / "prepared").glob("*.json"))


@pytest.fixture
def agent(tmp_path: Path, shim: Path) -> Iterator[Agent]:
    """Started; ended with the test."""
    made = Agent(tmp_path, shim)
    made.start()
    yield made
    made.end(subprocess.Popen.terminate)
