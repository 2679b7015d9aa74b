"""A simulated machine: GPUs behind the stub NVML library and processes in a folder that stands for /proc.

Whoever simulates containers changes it here; the node agent of that host sees the change at its next look. An agent
ends a process by removing it, which ``living`` shows.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tessera.simulator.fakes.nvml.presets import host_gpus
from tessera.simulator.fakes.nvml.state import NvmlState
from tessera.simulator.fakes.processes import FakeProcesses

FIRST_PID = 1000


class Machine:
    """One host's GPUs and processes. ``models`` are names of ``PRESETS``; UUIDs follow from ``name``."""

    def __init__(self, name: str, models: Sequence[str], folder: Path) -> None:
        self.state_path = folder / "nvml"
        self.processes_dir = folder / "proc"
        folder.mkdir(parents=True, exist_ok=True)
        self.nvml = NvmlState(gpus=host_gpus(models, host=name))
        self._processes = FakeProcesses(self.processes_dir)
        self._pids = itertools.count(FIRST_PID)
        self.nvml.write(self.state_path)

    def spawn(self, pod_uid: str, container_id: str) -> int:
        """A process of a container appears; answers its id."""
        pid = next(self._pids)
        self._processes.start(pid, pod_uid, container_id, started=pid)
        return pid

    def use(self, pid: int, used_bytes: Mapping[str, int]) -> None:
        """The process uses so many bytes of these GPUs from now on."""
        for uuid, used in used_bytes.items():
            self.nvml.add_process(pid, uuid, used)
        self.nvml.write(self.state_path)

    def end(self, pid: int) -> None:
        """The process is gone, and what it held on the GPUs is free."""
        self._processes.remove(pid)
        self.nvml.remove_process(pid)
        self.nvml.write(self.state_path)

    def living(self) -> Collection[int]:
        """The ids of the processes that nobody has ended."""
        return self._processes.pids()
