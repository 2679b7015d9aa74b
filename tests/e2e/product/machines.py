"""The GPUs of a node: the stub NVML library's state file, and processes that use them."""

from __future__ import annotations

from pathlib import Path

from tessera.simulator.fakes.nvml.build import library_dir
from tessera.simulator.fakes.nvml.presets import host_gpus
from tessera.simulator.fakes.nvml.state import ENV, NvmlState


class Machine:
    """One node's stub GPUs; every change is written at once."""

    def __init__(self, name: str, models: list[str], path: Path) -> None:
        self.path = path
        self.state = NvmlState(gpus=host_gpus(models, host=name))
        self.write()
        self.state.let_programs_tell(path)

    @property
    def environment(self) -> dict[str, str]:
        """What makes the real nvidia-ml-py load the stub."""
        return {"LD_LIBRARY_PATH": str(library_dir()), ENV: str(self.path)}

    @property
    def uuids(self) -> list[str]:
        return [gpu.uuid for gpu in self.state.gpus]

    def write(self) -> None:
        self.state.write(self.path)

    def use(self, pid: int, uuid: str, used_bytes: int) -> None:
        """From now on the process ``pid`` holds ``used_bytes`` of the GPU."""
        self.state.remove_process(pid, uuid)
        self.state.add_process(pid, uuid, used_bytes)
        self.write()

    def forget(self, pid: int) -> None:
        self.state.remove_process(pid)
        self.write()

    def change(self, uuid: str, *, lost: bool) -> None:
        self.state.change(uuid, lost=lost)
        self.write()
