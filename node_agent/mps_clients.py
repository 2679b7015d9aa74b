"""The clients of MPS as processes of this host."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tessera.node_agent.processes import Processes


class HostClients:
    """``end`` kills a process if it belongs to a container with a slice."""

    def __init__(self, processes: Processes, end: Callable[[int], Awaitable[bool]]) -> None:
        self._processes, self._end = processes, end

    async def pods(self, pids: Iterable[int]) -> dict[int, str]:
        asked = tuple(pids)
        found = await asyncio.to_thread(lambda: [self._processes.look(pid) for pid in asked]) if asked else []
        return {one.pid: one.container.pod_uid for one in found if one and one.container}

    async def end(self, pid: int) -> bool:
        return await self._end(pid)
