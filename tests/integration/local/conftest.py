"""The shim for simulated leases, and an agent that gives them."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tessera.simulator.agent_process import SOCKET, STATE_DIR, start
from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml import build as nvml
from tessera.simulator.fakes.nvml import presets
from tessera.simulator.fakes.nvml.state import ENV, NvmlState
from tests.integration.local.commands import Commands
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
    """A node agent on simulated GPUs that outlives its clients."""

    def __init__(
        self, folder: Path, shim: Path | None, gpus: Sequence[str] = ("H100", "H100"), context_bytes: int = 0
    ) -> None:
        self.folder, self.socket = folder, folder / SOCKET
        self.environment = {
            ENV: str(folder / "nvml.state"),
            "LD_LIBRARY_PATH": f"{nvml.library_dir()}:{cuda.library_dir()}",
        }
        self.state = NvmlState(gpus=presets.host_gpus(list(gpus), host="lab"))
        self.state.write(folder / "nvml.state")
        self.options = ("--enforcement", "watch", "--shim", str(shim or ""), "--context-bytes", str(context_bytes))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it gives leases."""
        self.process = start(self.folder, *self.options, environment=self.environment)

    def end(self, how: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        """``terminate`` or ``kill``."""
        if self.process is not None:
            how(self.process)
            self.process.wait(30)
            self.process = None

    def slices(self) -> list[str]:
        """What it has on record."""
        return sorted(path.stem for path in (self.folder / STATE_DIR / "prepared").glob("*.json"))


@pytest.fixture
def agent(tmp_path: Path, shim: Path) -> Iterator[Agent]:
    """Started; ended with the test."""
    made = Agent(tmp_path, shim)
    made.start()
    yield made
    made.end(subprocess.Popen.terminate)
