"""A GPU as the scheduler sees it, and its health."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

LEVEL_NONE = -1
"""Not even watched: no slices are placed there, whole GPUs only."""
LEVEL_WATCH = 0
LEVEL_MPS = 1
LEVEL_PARTITION = 2
LEVEL_DRIVER = 3
MIG_PREFIX = "MIG-"


@dataclass(frozen=True, slots=True)
class Health:
    """Healthy, or not and why (an Xid, a lost device, a conflict with another plugin)."""

    healthy: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GpuCondition:
    """Something that stands against a GPU beside its health and its level. ``type``: the reason of its event."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or a MIG device, which is given out whole only.

    ``mem_bytes`` is what the scheduler may give (whole MiB); ``total_bytes`` is what the driver reports; the rest is
    the driver's reserve, the contexts' and the MPS server's headroom. ``level`` is the enforcement level, -1..3, and
    ``evidence`` says why; the scheduler does without.
    ``mps_group`` names the GPUs of the node that share an MPS daemon, and so their faults; empty for one by itself.
    ``conditions`` are for people, too.
    """

    uuid: str
    model: str
    mem_bytes: int
    total_bytes: int
    sm_count: int = 0
    compute_capability: str = ""
    numa_node: int = -1
    nvlink_peers: tuple[str, ...] = ()
    health: Health = Health()
    level: int = LEVEL_WATCH
    evidence: str = ""
    mps_group: str = ""
    conditions: tuple[GpuCondition, ...] = ()

    @property
    def is_mig(self) -> bool:
        """Whether it is a MIG device, by the form that NVML gives their UUIDs."""
        return self.uuid.startswith(MIG_PREFIX)

    @property
    def takes_slices(self) -> bool:
        """Whether slices can ever lie there: on no MIG device, and not where nothing can be given."""
        return self.mem_bytes > 0 and not self.is_mig


@dataclass(frozen=True, slots=True)
class GpuNode:
    """The GPUs of one node, in the driver's order.

    ``client_slots``: how many containers whose slices are on other nodes it takes; 0 where it has GPUs.
    """

    name: str
    gpus: tuple[Gpu, ...]
    client_slots: int = 0

    @property
    def is_client(self) -> bool:
        """Whether it has no GPUs, and takes pods whose slices are on nodes that have."""
        return self.client_slots > 0 and not self.gpus


def sliced_capacity(gpus: Iterable[Gpu]) -> tuple[int, int]:
    """Bytes and percent of the GPUs that take slices, as the node shows them."""
    sliced = [gpu for gpu in gpus if gpu.takes_slices]
    return sum(gpu.mem_bytes for gpu in sliced), 100 * len(sliced)


def mps_groups(gpus: Sequence[Gpu]) -> list[int]:
    """The MPS group of each GPU: the place of its first GPU; one that names none is a group by itself."""
    first: dict[str, int] = {}
    return [first.setdefault(gpu.mps_group or gpu.uuid, index) for index, gpu in enumerate(gpus)]


class Linked(Protocol):
    """Whatever has NVLinks."""

    @property
    def uuid(self) -> str: ...

    @property
    def nvlink_peers(self) -> tuple[str, ...]: ...


def islands(gpus: Sequence[Linked]) -> list[int]:
    """The NVLink island of each GPU, numbered from 0: those that reach each other over links among ``gpus``.

    A link counts if either end tells of it; a GPU without links is an island by itself.
    """
    at = {gpu.uuid: index for index, gpu in enumerate(gpus)}
    leader = list(range(len(gpus)))

    def leader_of(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    for index, gpu in enumerate(gpus):
        for peer in gpu.nvlink_peers:
            if peer in at:
                one, other = sorted((leader_of(index), leader_of(at[peer])))
                leader[other] = one
    numbers: dict[int, int] = {}
    return [numbers.setdefault(leader_of(index), len(numbers)) for index in range(len(gpus))]
