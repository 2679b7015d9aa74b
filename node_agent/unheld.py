"""Containers on GPUs that the driver tells nothing of: nobody would see them take more than their slice.

After a grace those are ended that are not provably held by something else. Provably held is a slice that the driver
itself limits (level 3); else every process that has the GPU's driver has to be a client that the GPU's MPS daemon
lists, where MPS holds the slice, or to have our shim, with nothing over the files that the shim reads. Who has the
driver is seen without it: its library mapped, or one of its devices open.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from tessera.model.gpus import LEVEL_DRIVER, LEVEL_MPS
from tessera.node_agent.accounting import NameOf
from tessera.node_agent.cgroups import Container
from tessera.node_agent.covered import covered
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.kernel import Kernel
from tessera.node_agent.preloaded import File, has_any, installed
from tessera.node_agent.processes import Process, Processes
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

REASON = "UnwatchedEnded"
ROUNDS = 2
"""Looks in a row: the agent may look while a program is being replaced by another."""
_DRIVER = re.compile(r"/\S*libcuda\.so\S*|/dev/nvidia\S*")


@dataclass(frozen=True, slots=True)
class Unheld:
    """A process with the driver and without the shim, in a container with slices on a GPU; what was ``found``."""

    process: Process
    gpu_uuid: str
    slices: tuple[str, ...]
    found: str


class UnheldContainers:
    """``unseen``: GPUs that are not watched, and why, until several looks went well again.

    ``blind``: those of which the last look did not tell all; nobody is ended for an earlier one. ``level_of``: the
    level that prepared a slice. ``clients_of``: whom a GPU's MPS daemon lists; ``None``: not known. ``folder``: where
    shims are installed; none: containers have none.
    """

    def __init__(
        self,
        unseen: Callable[[], Mapping[str, str]],
        blind: Callable[[], Collection[str]],
        slices: Callable[[], Iterable[Slice]],
        level_of: Callable[[str], int | None],
        clients_of: Callable[[str], Collection[int] | None],
        folder: Path | None,
        processes: Processes,
        kernel: Kernel,
        name_of: NameOf,
        grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unseen, self._blind = unseen, blind
        self._slices, self._level_of, self._clients_of, self._folder = slices, level_of, clients_of, folder
        self._processes, self._kernel, self._name_of = processes, kernel, name_of
        self._grace_s, self._clock = grace_s, clock
        self._since: dict[str, float] = {}
        self._seen: dict[Process, int] = {}
        self._told: set[Container] = set()

    async def look(self) -> tuple[Incident, ...]:
        """Ends those whose time has come; answers one event for each container."""
        now, unseen = self._clock(), self._unseen()
        self._since = {uuid: self._since.get(uuid, now) for uuid in unseen}
        blind = self._blind()
        due = {u: why for u, why in unseen.items() if u in blind and now - self._since[u] >= self._grace_s}
        if not due:
            self._seen, self._told = {}, set()
            return ()
        return await asyncio.to_thread(self._end_all, due)

    def _end_all(self, due: Mapping[str, str]) -> tuple[Incident, ...]:
        found = self._find(due)
        self._seen = {one.process: self._seen.get(one.process, 0) + 1 for one in found}
        certain = {one.process.container: one for one in found if self._seen[one.process] >= ROUNDS}
        return tuple(incident for one in certain.values() for incident in self._end(one, due[one.gpu_uuid]))

    def _find(self, due: Mapping[str, str]) -> list[Unheld]:
        here = [item for item in self._slices() if (self._level_of(item.id) or 0) < LEVEL_DRIVER]
        pods = {item.pod_uid for item in here if _on(item, due)}
        ours = installed(self._folder)
        looked = [self._processes.look(pid) for pid in self._kernel.pids()] if pods else []
        inside = [one for one in looked if one and one.container and one.container.pod_uid in pods]
        return [unheld for process in inside if (unheld := self._unheld(process, here, due, ours))]

    def _unheld(
        self, process: Process, here: Collection[Slice], due: Mapping[str, str], ours: Collection[File]
    ) -> Unheld | None:
        """Until the container's name is known it counts only if all of its pod's slices lie on such GPUs."""
        name = self._name_of(process.container) if process.container else None
        pod = [item for item in here if process.container and item.pod_uid == process.container.pod_uid]
        own = [item for item in pod if name in (None, item.container)]
        if not own or not (all if name is None else any)(_on(item, due) for item in own):
            return None
        touched = [item for item in own if _on(item, due)]
        if all(self._is_client(process, item, _on(item, due)) for item in touched):
            return None
        found = self._driver_without_shim(process, ours, [item.id for item in own])
        uuid = _on(touched[0], due)
        return Unheld(process, uuid, tuple(item.id for item in own), found) if found else None

    def _is_client(self, process: Process, item: Slice, uuid: str) -> bool:
        level = self._level_of(item.id) or 0
        return level >= LEVEL_MPS and process.pid in (self._clients_of(uuid) or ())

    def _driver_without_shim(self, process: Process, ours: Collection[File], slices: Collection[str]) -> str:
        """What was found of the driver; empty: nothing, or a shim that reads our files. Who has ended has nothing."""
        try:
            maps, mounts = (self._kernel.read(process.pid, name) for name in ("maps", "mountinfo"))
        except OSError:
            return ""
        opened: Iterable[str] = ()
        with contextlib.suppress(OSError):
            opened = self._kernel.opened(process.pid)
        if self._processes.look(process.pid) != process or (has_any(maps, ours) and not covered(mounts, slices)):
            return ""
        if mapped := _DRIVER.search(maps):
            return f"has {mapped[0]} mapped"
        device = next((name for name in opened if name.startswith("/dev/nvidia")), "")
        return f"has {device} open" if device else ""

    def _end(self, one: Unheld, why: str) -> Iterable[Incident]:
        ended = self._processes.end_container(one.process)
        log.warning("ended unwatched", gpu=one.gpu_uuid, pid=one.process.pid, found=one.found, processes=ended)
        if not ended or one.process.container is None or one.process.container in self._told:
            return
        self._told.add(one.process.container)
        text = (
            f"GPU {one.gpu_uuid} is not watched, for more than {self._grace_s:g} s: {why}; process {one.process.pid} "
            f"{one.found} and nothing was seen that holds it to its slice, so its container was ended"
        )
        yield Incident(one.gpu_uuid, REASON, text, one.slices)


def _on(item: Slice, due: Mapping[str, str]) -> str:
    """One of these GPUs that the slice lies on; a whole GPU has no limit there."""
    return next((share.uuid for share in item.shares if share.uuid in due and not share.whole), "")
