"""Simulated GPU hosts: which there are, and one of them from its start to its end.

A host's kubelet and containers are simulated in this process; its node agent and device plugin are the real ones, in a
child process of their own (``host_process``), because the NVML library and its state file belong to a process.
"""

import asyncio
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from tessera.kube.connection import plain
from tessera.model.assignment import Share
from tessera.simulator.children import end, last_words
from tessera.simulator.fakes.nvml.state import ENV
from tessera.simulator.kubelet import Containerd, KubeletSettings, SimKubelet
from tessera.simulator.machines import Machine
from tessera.simulator.workload import Pace, View, Workloads

STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A host's name and the models of its GPUs (names of ``PRESETS``); none for a host without a GPU."""

    name: str
    models: tuple[str, ...] = ()


DEMO_HOSTS = (
    HostPlan("gpu-1", ("H200",) * 8),
    HostPlan("gpu-2", ("H100",) * 4),
    HostPlan("gpu-3", ("A100",) * 4),
    HostPlan("gpu-4", ("L40S",) * 4),
    HostPlan("gpu-5", ("L4", "L4", "T4")),
    HostPlan("gpu-6", ("T4",) * 2),
    HostPlan("cpu-1"),
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a host is given: its folder, the API server, the node's token file, and the stub library's folder."""

    folder: Path
    server: str
    token_file: Path
    library_dir: Path
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A slice as the node agent has it on record."""

    pod_uid: str
    container: str
    device: str
    shares: tuple[Share, ...]


class Host(Protocol):
    """A node of the embedded cluster, as the cluster handles it."""

    @property
    def plan(self) -> HostPlan: ...

    async def start(self) -> None:
        """Returns when the node is registered; GPUs may follow later."""

    async def failed(self) -> None:
        """Returns only by raising what went wrong."""

    async def stop(self) -> None:
        """Ends it; nothing of it stays behind."""

    def views(self) -> Iterable[View]:
        """What the running containers see of their slices."""

    def records(self) -> Iterable[Prepared]:
        """The slices that the node agent has on record."""


class HostError(Exception):
    """A host's child process ended; the text holds the last lines that it said."""


class _Record(msgspec.Struct):
    id: str
    pod_uid: str
    container: str
    shares: list[Share]


class SimHost:
    """A ``Host`` with the real node agent and device plugin in a child process (none on a host without a GPU)."""

    def __init__(self, plan: HostPlan, surroundings: Surroundings) -> None:
        self._plan, self._around = plan, surroundings
        self._folder = surroundings.folder / plan.name
        self._log = self._folder / "log"
        self.machine = Machine(plan.name, plan.models, self._folder)
        self._workloads = Workloads(self.machine, surroundings.pace)
        self._containerd = Containerd(self._workloads)
        settings = KubeletSettings(
            node=plan.name,
            root=self._folder / "kubelet",
            cdi_dirs=(self._folder / "cdi",),
            backoff_s=1.0,
            restart_backoff_s=2.0,
        )
        self._kubelet = SimKubelet(settings, plain(surroundings.server), self._containerd)
        self._child: asyncio.subprocess.Process | None = None
        self._kubelet_runs = False

    @property
    def plan(self) -> HostPlan:
        return self._plan

    async def start(self) -> None:
        if self._plan.models:
            self._child = await self._spawn()
        await self._kubelet.start()
        self._kubelet_runs = True

    async def failed(self) -> None:
        if self._child is None:
            await asyncio.get_running_loop().create_future()
        else:
            code = await self._child.wait()
            raise HostError(
                f"host {self._plan.name}: its child process ended with status {code}\n{last_words(self._log)}"
            )

    async def stop(self) -> None:
        if self._kubelet_runs:
            await self._kubelet.stop()
        await self._containerd.close()
        if self._child is not None:
            await end(self._child, STOP_S)

    def views(self) -> Iterable[View]:
        return tuple(self._workloads.views.values())

    def records(self) -> Iterable[Prepared]:
        for path in sorted((self._folder / "agent" / "prepared").glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=_Record)
            except FileNotFoundError:
                continue
            yield Prepared(record.pod_uid, record.container, record.id, tuple(record.shares))

    async def _spawn(self) -> asyncio.subprocess.Process:
        around = self._around
        setup = {
            "node": self._plan.name,
            "folder": str(self._folder),
            "processes": str(self.machine.processes_dir),
            "server": around.server,
            "token_file": str(around.token_file),
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TESSERA_")}
        env = inherited | {"LD_LIBRARY_PATH": str(around.library_dir), ENV: str(self.machine.state_path)}
        with self._log.open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tessera.simulator.host_process",
                msgspec.json.encode(setup).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
