"""Programs of slices that MPS holds which have come past it: without the limits that were set for them.

The pipe folder may have been without a daemon at the moment, or the program was given another one: CUDA then runs
without MPS and says nothing. Such a program is in neither list, the driver's nor the daemon's. A daemon that is gone,
and cannot be started, lists nobody; of one that does not answer nothing is known.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.processes import Process, Processes

log = structlog.get_logger()

STRAY = "OutsideMps"
ROUNDS = 2
"""Looks in a row: a client that has just come is in the driver's list of programs first."""

Key = tuple[str, Process]


class Strays:
    """``holds``: whether MPS holds a slice; ``clients_of``: whom a GPU's daemon lists; ``None``: not known."""

    def __init__(
        self,
        usages: Callable[[], Iterable[Usage]],
        holds: Callable[[str], bool],
        clients_of: Callable[[str], frozenset[int] | None],
        processes: Processes,
    ) -> None:
        self._usages, self._holds, self._clients_of, self._processes = usages, holds, clients_of, processes
        self._seen: dict[Key, int] = {}

    async def look(self) -> tuple[Incident, ...]:
        """Ends those that were seen often enough; answers one event for each."""
        found = {(usage.gpu_uuid, client.process): usage for usage in self._usages() for client in self._outside(usage)}
        self._seen = {key: self._seen.get(key, 0) + 1 for key in found}
        due = [key for key, rounds in self._seen.items() if rounds == ROUNDS]
        return tuple([await self._end(uuid, process, found[uuid, process]) for uuid, process in due])

    def _outside(self, usage: Usage) -> list[Client]:
        """Nobody, as long as not all of the container's slices are known to be held there."""
        listed = self._clients_of(usage.gpu_uuid)
        if listed is None or not usage.slices or not all(map(self._holds, usage.slices)):
            return []
        return [client for client in usage.clients if not client.mps and client.process.pid not in listed]

    async def _end(self, uuid: str, process: Process, usage: Usage) -> Incident:
        ended = await asyncio.to_thread(self._processes.end, process)
        log.warning("outside MPS", gpu=uuid, pid=process.pid, ended=ended)
        end = "it was ended" if ended else "it has gone"
        text = f"GPU {uuid}: process {process.pid} used it outside of MPS, without its limits; {end}"
        return Incident(uuid, STRAY, text, usage.slices)
