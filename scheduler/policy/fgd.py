"""Fragmentation Gradient Descent, the published policy, as the yardstick.

F(node) = sum over kinds j of the expected mix of w_j * the idle GPU of the node that a pod of kind j could not use;
the node is taken where F falls most. Source: Weng, Yang, Yu, Wang, Tang, Yang, Zhang, "Beware of Fragmentation:
Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023.

As there: w_j is the share of pods; a kind that does not fit the node at all can use nothing of it. Unlike there: the
mix is learnt from the pods that arrive, the GPU within the node is chosen as in ``pack``, the gradient is not rounded,
and equal nodes go by a fixed, seeded order.
"""

import numpy as np

from tessera.model.demands import PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.policy import kernels, pack
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.policy.standing import Standing
from tessera.scheduler.policy.workload import Workload


class Fgd:
    """See the module."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._standing = Standing(workload, seed)

    def gpu_costs(self, gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
        return pack.cost(gpus, need_bytes, need_percent)

    def node_scores(
        self, ledger: Ledger, need: HostNeed, demand: PodDemand | None, candidates: Bools, ties: Floats
    ) -> Floats:
        """See ``Policy``."""
        standing = self._standing
        standing.bring_up_to_date(ledger, ties)
        asked, _ = standing.asked(ledger, need, demand)
        out = np.empty(len(ties))
        shape, _ = standing.shape_of(asked)
        kernels.gradients(standing.nodes, standing.mix, asked, standing.memory, shape, candidates, standing.epoch, out)
        return out
