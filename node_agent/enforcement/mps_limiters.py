"""The two limiters of MPS on a node. Both are there whatever is asked for: slices stay with the level that has them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tessera.model.gpus import LEVEL_MPS, LEVEL_PARTITION, Linked
from tessera.node_agent.enforcement.mps import ANSWER_S, Mps, Partition, exclusive
from tessera.node_agent.enforcement.mps_groups import Extent, partition
from tessera.node_agent.enforcement.mps_modes import PARTITIONS
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.port import Incident

STATIC = "static"
"""Below the folder of the daemons with percentages, which looks for its own one level higher."""


class MpsLimiters:
    """``node`` answers what the limiter of a level needs, ``gpus`` those of the node; ``extent`` is for percentages:
    a partition has one GPU."""

    def __init__(
        self,
        program: str,
        folder: Path,
        node: Callable[[int], Node],
        gpus: Callable[[], Sequence[Linked]],
        extent: Extent,
        answer_s: float = ANSWER_S,
    ) -> None:
        def groups(extent: Extent) -> Partition:
            return lambda kept: partition(gpus(), extent, kept)

        below = folder / STATIC
        percentages = Mps(program, folder, groups(extent), node(LEVEL_MPS), answer_s=answer_s)
        static = Mps(program, below, groups(Extent.GPU), node(LEVEL_PARTITION), mode=PARTITIONS, answer_s=answer_s)
        exclusive(percentages, static)
        self._limiters = percentages, static

    def __iter__(self) -> Iterator[Mps]:
        return iter(self._limiters)

    def group_name(self, uuid: str) -> str:
        """Names the GPUs whose programs share a daemon with those of this one, or would without partitions; empty for
        one by itself."""
        percentages, _ = self._limiters
        return percentages.group_name(uuid)

    async def look_after_shm(self) -> tuple[Incident, ...]:
        """Keeps the groups' /dev/shm; what is to be told of them."""
        return tuple([incident for limiter in self for incident in await limiter.look_after_shm()])

    def holds(self, slice_id: str) -> bool:
        """Whether a slice is to run under MPS, be it that it cannot now."""
        return any(limiter.holds(slice_id) for limiter in self)

    def clients_of(self, uuid: str) -> frozenset[int] | None:
        """Whom the daemon of a GPU lists, of which there is one at most; ``None``: not known."""
        found = (limiter.clients_of(uuid) for limiter in self)
        return next((clients for clients in found if clients is not None), None)
