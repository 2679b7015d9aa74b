"""The two limiters of MPS on a node. Both are there whatever is asked for: slices stay with the level that has them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tessera.model.gpus import Linked
from tessera.node_agent.enforcement.looks import LOOK_S
from tessera.node_agent.enforcement.mps import ANSWER_S, Mps, Partition, exclusive
from tessera.node_agent.enforcement.mps_groups import Extent, partition
from tessera.node_agent.enforcement.mps_modes import PARTITIONS, PERCENTAGES, Mode
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
        look_s: float = LOOK_S,
    ) -> None:
        def groups(extent: Extent) -> Partition:
            return lambda kept: partition(gpus(), extent, kept)

        def limiter(mode: Mode, folder: Path, extent: Extent) -> Mps:
            times = {"answer_s": answer_s, "look_s": look_s}
            return Mps(program, folder, groups(extent), node(mode.level), mode=mode, **times)

        percentages = limiter(PERCENTAGES, folder, extent)
        static = limiter(PARTITIONS, folder / STATIC, Extent.GPU)
        exclusive(percentages, static)
        self._limiters = percentages, static

    def __iter__(self) -> Iterator[Mps]:
        return iter(self._limiters)

    def group_name(self, uuid: str) -> str:
        """Names the GPUs whose programs share a daemon with those of this one, or would without partitions; empty for
        one by itself."""
        percentages, _ = self._limiters
        return percentages.group_name(uuid)

    def serves(self, uuid: str) -> bool:
        """Whether a daemon may run that has this GPU."""
        return any(limiter.serves(uuid) for limiter in self)

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
