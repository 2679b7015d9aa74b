"""What runs inside simulated containers: a program that takes GPU memory, goes on for a while, and ends.

It uses three fifths of what it was given, or what the pod's annotation ``simulator.tessera.io/use-gpu-mem`` says, in
growing steps. Pods of a Job end well after ``job_s``; others run until they are stopped. A process that the node agent
ended takes its container with it, with exit code 137, as the kernel's SIGKILL would.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.model.assignment import Share
from tessera.model.quantities import QuantityError, parse_whole
from tessera.simulator.controllers.actions import owner_of
from tessera.simulator.kubelet import RunningContainer, SimContainer
from tessera.simulator.machines import Machine

USE = "simulator.tessera.io/use-gpu-mem"
KILLED, TERMINATED = 137, 143
_STEPS = (40, 70, 100)
_DEFAULT_USE = 60
"""Percent of what was given."""


class ProgramError(ValueError):
    """The container cannot run; the text names what is wrong."""


@dataclass(frozen=True, slots=True)
class View:
    """What a container saw of its slice from inside: its CDI device, and the shares that its environment names."""

    pod_uid: str
    container: str
    device: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds: between two steps of growth, between two looks at the processes, and a Job's life."""

    step_s: float = 0.4
    look_s: float = 0.1
    job_s: float = 2.0


def view_of(container: SimContainer) -> View | None:
    """What the container sees of its slice; ``None`` if it has none. Raises ``ProgramError`` where the environment
    and ``/run/tessera/slice.json`` do not say the same."""
    env = container.env
    if "TESSERA_SLICE" not in env:
        return None
    try:
        uuids = env["CUDA_VISIBLE_DEVICES"].split(",")
        mem = [int(part) for part in env["TESSERA_MEM_LIMIT_BYTES"].split(",")]
        core = [int(part) for part in env["TESSERA_CORE_LIMIT_PERCENT"].split(",")]
        shares = tuple(Share(u, m, c) for u, m, c in zip(uuids, mem, core, strict=True))
    except (KeyError, ValueError) as error:
        raise ProgramError(f"container {container.name}: the slice's variables cannot be read: {error!r}") from None
    written = _slice_file(container)
    if written is not None and written != shares:
        raise ProgramError(f"container {container.name}: environment says {shares}, slice.json says {written}")
    return View(container.pod_uid, container.name, env["TESSERA_SLICE"], shares)


def wished_bytes(view: View, annotations: Mapping[str, str]) -> dict[str, int]:
    """How much the program takes of each GPU. Raises ``ProgramError`` for an annotation that is no quantity."""
    text = annotations.get(USE)
    if text is None:
        return {share.uuid: share.mem_bytes * _DEFAULT_USE // 100 for share in view.shares}
    try:
        total = parse_whole(text)
    except QuantityError as error:
        raise ProgramError(f"metadata.annotations[{USE}]: found {text!r}; allowed: a quantity such as 3Gi") from error
    return {share.uuid: total // len(view.shares) for share in view.shares}


class Workloads:
    """The ``ContainerRuntime`` of one machine. ``views`` holds what the running containers see, by container ID."""

    def __init__(self, machine: Machine, pace: Pace | None = None) -> None:
        self._machine = machine
        self._pace = pace or Pace()
        self.views: dict[str, View] = {}

    async def start(self, container: SimContainer) -> RunningContainer:
        view = view_of(container)
        if view is not None:
            self.views[container.id] = view
        return _Process(self._run(container, view))

    async def _run(self, container: SimContainer, view: View | None) -> int:
        pid = self._machine.spawn(container.pod_uid, container.id)
        try:
            return await self._live(pid, container, view)
        finally:
            self._machine.end(pid)
            self.views.pop(container.id, None)

    async def _live(self, pid: int, container: SimContainer, view: View | None) -> int:
        wished = wished_bytes(view, container.pod["metadata"].get("annotations") or {}) if view else {}
        loop = asyncio.get_running_loop()
        owner = owner_of(container.pod)
        end = loop.time() + self._pace.job_s if owner and owner[0] == "Job" else float("inf")
        steps, next_step = list(_STEPS) if wished else [], loop.time()
        while loop.time() < end:
            if steps and loop.time() >= next_step:
                percent = steps.pop(0)
                self._machine.use(pid, {uuid: used * percent // 100 for uuid, used in wished.items()})
                next_step = loop.time() + self._pace.step_s
            await asyncio.sleep(self._pace.look_s)
            if pid not in self._machine.living():
                return KILLED
        return 0


class _Process:
    """A ``RunningContainer`` around a task."""

    def __init__(self, run: Any) -> None:
        self._task: asyncio.Task[int] = asyncio.create_task(run)
        self._code: int | None = None

    async def wait(self) -> int:
        await asyncio.wait([self._task])
        if self._task.cancelled():
            return self._code or TERMINATED
        return self._task.result()

    async def stop(self, grace_s: float) -> None:
        self._code = TERMINATED if grace_s else KILLED
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([self._task])


def _slice_file(container: SimContainer) -> tuple[Share, ...] | None:
    """What ``/run/tessera/slice.json`` says inside the container."""
    for mount in container.mounts:
        if mount["containerPath"] == "/run/tessera":
            data = json.loads((Path(mount["hostPath"]) / "slice.json").read_text())
            return tuple(Share(g["uuid"], g["mem_bytes"], g["core_percent"]) for g in data["gpus"])
    return None
