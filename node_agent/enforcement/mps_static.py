"""An MPS control daemon in static mode: its clients run on partitions of the GPU's multiprocessors."""

from typing import ClassVar

from tessera.node_agent.enforcement.mps_control import MpsControl, MpsError
from tessera.node_agent.enforcement.mps_lspart import Layout, layout_of, name_in


class StaticControl(MpsControl):
    """Partitions are the daemon's and go with it; the next may give the same names again."""

    flags: ClassVar[tuple[str, ...]] = ("-S",)

    async def layout(self, uuid: str) -> Layout:
        """The partitions of a GPU. Raises ``MpsError``."""
        reply = await self._ask("lspart")
        found = layout_of(reply, uuid)
        if found is None:
            raise MpsError(f"lspart: found {reply.strip()[:80]!r}; allowed: a row of {uuid}")
        return found

    async def add_partition(self, uuid: str, chunks: int) -> str:
        """Makes a partition; answers its name. Raises ``MpsError``."""
        command = f"sm_partition add {uuid} {chunks}"
        reply = await self._ask(command)
        name = name_in(reply)
        if name is None:
            raise MpsError(f"{command}: found {reply.strip()[:80]!r}; allowed: the name of a partition")
        return name

    async def remove_partition(self, uuid: str, name: str) -> None:
        """Raises ``MpsRefused`` for one that still has clients."""
        await self._ask(f"sm_partition rm {uuid} {name}")
