"""Programs of slices that run without the shim: static ones, of musl, or past it.

They are no fault, but nothing refuses them what is over their limit: the watcher alone holds them, and people are told
so, once for each container.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import structlog

from tessera.node_agent.accounting import Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.kernel import Kernel
from tessera.node_agent.preloaded import File, has_any, installed
from tessera.node_agent.processes import Process, Processes

log = structlog.get_logger()

REASON = "WithoutShim"
ROUNDS = 2
"""Looks in a row: the agent may look while a program is being replaced by another."""


class Unshimmed:
    """``folder``: where shims are installed; none: containers have none. ``shimmed``: whether a slice has one."""

    def __init__(
        self,
        folder: Path | None,
        usages: Callable[[], Iterable[Usage]],
        shimmed: Callable[[str], bool],
        processes: Processes,
        kernel: Kernel,
    ) -> None:
        self._folder, self._usages, self._shimmed = folder, usages, shimmed
        self._processes, self._kernel = processes, kernel
        self._seen: dict[Process, int] = {}
        self._told: set[Container] = set()

    @property
    def count(self) -> int:
        """Processes without it, as of the last looks."""
        return sum(rounds >= ROUNDS for rounds in self._seen.values())

    async def look(self) -> tuple[Incident, ...]:
        """What has newly been found."""
        usages = [usage for usage in self._usages() if usage.slices and all(map(self._shimmed, usage.slices))]
        if self._folder is None:
            return ()
        bare = await asyncio.to_thread(self._bare, {client.process for usage in usages for client in usage.clients})
        self._seen = {process: self._seen.get(process, 0) + 1 for process in bare}
        self._told &= {usage.container for usage in usages}
        return tuple(incident for usage in usages for incident in self._tell(usage))

    def _tell(self, usage: Usage) -> Iterable[Incident]:
        found = [c.process for c in usage.clients if self._seen.get(c.process, 0) >= ROUNDS]
        if not found or usage.container in self._told:
            return
        self._told.add(usage.container)
        text = (
            f"process {found[0].pid} uses GPU {usage.gpu_uuid} without the library that refuses what is over its limit"
        )
        yield Incident(usage.gpu_uuid, REASON, f"{text}; the watcher ends it if it takes more", usage.slices)

    def _bare(self, processes: Collection[Process]) -> set[Process]:
        ours = installed(self._folder)
        return {process for process in processes if self._is_bare(process, ours)}

    def _is_bare(self, process: Process, ours: Collection[File]) -> bool:
        """Who cannot be read, or has ended meanwhile, is not spoken of."""
        try:
            maps = self._kernel.read(process.pid, "maps")
        except OSError:
            return False
        return self._processes.look(process.pid) == process and not has_any(maps, ours)
