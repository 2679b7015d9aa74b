"""Level 0: nothing holds a container back but the watcher, which ends what goes over its limit."""

from tessera.model.gpus import LEVEL_WATCH
from tessera.node_agent.enforcement.port import Edits, Finding, Incident
from tessera.node_agent.slices import Slice


class Watch:
    """Works wherever the driver tells the bytes of each process."""

    level = LEVEL_WATCH

    async def detect(self, uuid: str) -> Finding:
        return Finding(LEVEL_WATCH, "the driver tells the memory of each process")

    def takes(self, item: Slice) -> bool:
        return True

    def broken(self, uuid: str) -> str:
        return ""

    async def leave(self, uuid: str) -> str:
        return ""

    async def prepare(self, item: Slice) -> Edits:
        return Edits(LEVEL_WATCH)

    async def observe(self) -> tuple[Incident, ...]:
        return ()

    async def terminate(self, uuid: str, pid: int) -> bool:
        return False

    async def release(self, item: Slice) -> None:
        return

    async def close(self) -> None:
        return
