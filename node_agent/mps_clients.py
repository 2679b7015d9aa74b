"""The clients of MPS as processes of this host."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tessera.node_agent.processes import Processes
from tessera.node_agent.slices import Slice


class HostClients:
    """``slices`` answers those prepared now: processes of other pods, and of none, are nobody's to end."""

    def __init__(self, processes: Processes, slices: Callable[[], Iterable[Slice]]) -> None:
        self._processes, self._slices = processes, slices

    async def pods(self, pids: Iterable[int]) -> dict[int, str]:
        asked = tuple(pids)
        found = await asyncio.to_thread(lambda: [self._processes.look(pid) for pid in asked]) if asked else []
        return {one.pid: one.container.pod_uid for one in found if one and one.container}

    async def end(self, pid: int, terminate: Callable[[], Awaitable[None]]) -> bool:
        process = await asyncio.to_thread(self._processes.look, pid)
        if process is None:
            await terminate()  # only the server still knows it
            return False
        if process.container is None or process.container.pod_uid not in {item.pod_uid for item in self._slices()}:
            return False
        await terminate()
        return await asyncio.to_thread(self._processes.end, process)
