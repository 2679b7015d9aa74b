"""The stub NVML library, loaded where the real nvidia-ml-py looks for the driver's."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.node_agent.nvml import DriverNvml
from tessera.simulator.fakes.nvml import presets
from tessera.simulator.fakes.nvml.build import SONAME, library_dir
from tessera.simulator.fakes.nvml.state import ENV, NvmlState


class Machine:
    """A host's GPUs: change ``state``, then ``write``."""

    def __init__(self, library: ctypes.CDLL, path: Path) -> None:
        self._library, self.path = library, path
        self.state = NvmlState(gpus=presets.host_gpus(["H100", "H100", "T4"], host="node-a"))
        self.write()

    def write(self) -> None:
        self.state.write(self.path)

    @property
    def uuids(self) -> list[str]:
        return [gpu.uuid for gpu in self.state.gpus]

    @property
    def calls(self) -> int:
        """NVML calls since the epoch of the state began."""
        return int(self._library.tessera_fake_nvml_calls())

    def count_anew(self) -> None:
        self.state.epoch += 1
        self.state.failures = []
        self.write()


@pytest.fixture(scope="session")
def nvml_library() -> ctypes.CDLL:
    """Loaded under its soname, so that a later search for that name finds it."""
    library = ctypes.CDLL(str(library_dir() / SONAME), ctypes.RTLD_GLOBAL)
    library.tessera_fake_nvml_calls.restype = ctypes.c_ulong
    return library


@pytest.fixture
def machine(nvml_library: ctypes.CDLL, tmp_path: Path) -> Iterator[Machine]:
    os.environ[ENV] = str(tmp_path / "nvml.state")
    yield Machine(nvml_library, tmp_path / "nvml.state")
    del os.environ[ENV]


@pytest.fixture
def nvml(machine: Machine) -> Iterator[DriverNvml]:
    """The driver's, open."""
    nvml = DriverNvml()
    nvml.open()
    yield nvml
    machine.state.failures = []
    machine.write()
    nvml.close()
