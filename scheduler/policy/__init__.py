"""Placement policies: which node a pod should go to, and which GPUs of the node.

A policy never decides what is allowed: it ranks nodes that hold the pod, and GPUs that fit. Each is one module with
its formula and its source; ``kernels`` holds the compiled loops of those that weigh a whole node, ``workload`` what
they expect to arrive, ``standing`` what they keep between two decisions.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from tessera.model.demands import PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.policy import pack, spread
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.policy.by_gpu import ByGpu
from tessera.scheduler.policy.fgd import Fgd
from tessera.scheduler.policy.fragmentation import Fragmentation
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.policy.workload import Workload


class Policy(Protocol):
    """Bound to one workload; lower GPU costs and higher node scores are better."""

    def gpu_costs(self, gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
        """The cost of each GPU for a share of ``need_bytes`` (same shape) and ``need_percent`` points."""
        ...

    def node_scores(
        self, ledger: Ledger, need: HostNeed, demand: PodDemand | None, candidates: Bools, ties: Floats
    ) -> Floats:
        """Per row: how good it is to place a pod there that asks for ``need`` of the host and ``demand`` of GPUs.

        ``kernels.NEVER`` for rows that are no ``candidates``; ``ties``, in 0..1 by row, orders equal nodes.
        """
        ...


PACK = ByGpu(pack.cost, spreading=False)
POLICIES: Mapping[str, Callable[[Workload, int], Policy]] = {
    "fragmentation": Fragmentation,
    "pack": lambda workload, seed: PACK,
    "spread": lambda workload, seed: ByGpu(spread.cost, spreading=True),
    "fgd": Fgd,
}
"""By name; each is made for a workload and a seed."""
