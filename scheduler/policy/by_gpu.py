"""Policies that look at one GPU at a time: a node costs what the GPUs that a pod would take on it cost together.

For a pod without GPUs the node with the least free CPU is taken (``pack``) or the one with the most (``spread``).
"""

from collections.abc import Callable

import numpy as np

from tessera.model.demands import PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.fit import fit
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.policy.kernels import NEVER, Floats, cheapest
from tessera.scheduler.policy.standing import nodes_for
from tessera.scheduler.policy.wanted import simple, wanted

GpuCost = Callable[[GpuArrays, Ints, int], Ints]
_TOO_DEAR = 1 << 40
"""Above any GPU's cost, and small enough to be added up over all GPUs of a node for all containers of a pod."""
_ANY_LEVEL = -1


class ByGpu:
    """See the module. ``cost`` is that of one GPU, which ``kernels.cheapest`` knows as well; ``spreading`` says which
    of the two it is, and takes hosts with much free CPU first.
    """

    def __init__(self, cost: GpuCost, *, spreading: bool) -> None:
        self.gpu_costs, self._spreading = cost, spreading

    def node_scores(
        self, ledger: Ledger, need: HostNeed, demand: PodDemand | None, candidates: Bools, ties: Floats
    ) -> Floats:
        """See ``Policy``."""
        if demand is None:
            scores = (1 if self._spreading else -1) * ledger.free_cpu.astype(np.float64)
        elif simple(demand):
            costs = np.zeros(len(candidates), np.int64)
            asked = wanted(ledger, demand, demand.containers[0], _ANY_LEVEL)
            cheapest(nodes_for(ledger, demand), asked, self._spreading, candidates, _TOO_DEAR, costs)
            scores = -costs.astype(np.float64)
        else:
            scores = -_node_costs(ledger, demand, self.gpu_costs).astype(np.float64)
        out: Floats = np.where(candidates, scores - 1e-3 * ties, NEVER)
        return out


def _node_costs(ledger: Ledger, demand: PodDemand, cost: GpuCost) -> Ints:
    """Per row: the cost of the cheapest GPUs for each container, added up."""
    node_tenants = np.broadcast_to(ledger.tenants.sum(axis=1, keepdims=True), ledger.tenants.shape)
    state = GpuArrays(ledger.mem_bytes, ledger.free_bytes, ledger.free_percent, ledger.tenants, node_tenants)
    total = np.zeros(len(ledger.present), np.int64)
    for container in demand.containers:
        found = fit(ledger, container, demand, _ANY_LEVEL)
        costs = np.where(found.fits, cost(state, found.need_bytes, container.core_percent), _TOO_DEAR)
        alone = costs.min(axis=1) if container.gpus == 1 else np.sort(costs, axis=1)[:, : container.gpus].sum(axis=1)
        total += alone
    return total
