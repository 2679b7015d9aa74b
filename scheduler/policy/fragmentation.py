"""Fragmentation-aware placement: take the node where the pod costs the pods still to come the least.

score(node) = a [V(before) - V(after)] - (1 - l) (0.4 p g + 0.15 q c / k) + l [F(before) - F(after)]
              - sum over kinds j of c_j [slots_j(before) - slots_j(after)] + d_j [later_j(before) - later_j(after)]
              - 50 [nobody uses a GPU of the node]

l      how many pods leave for each that arrives: 0 while a cluster fills, 1 in steady state; a = 1 - 0.7 l. A cluster
       that fills has to use every crumb; where pods leave, room comes back by itself, and what counts is that it comes
       back in one piece
V      what stays idle on the node, in thousandths of a GPU, once 16 random streams of 32 pods with GPUs drawn from the
       expected mix have been offered to it, on average: a look-ahead
F      the fragmentation measure of Weng et al. (FGD, USENIX ATC 2023; module ``fgd``), about V's first step
slots  how many pods of a kind the node holds by itself. c_j = a_j s_j [0.1 x^2 / (1 + x^2) + 3 l [j asks for several
       GPUs] x]: x is how many pods that ask for the same GPUs would come, were all that is idle asked for in the
       expected mix, over half a slot more than the cluster has for the kind; a_j thousandths of a GPU a pod, s_j the
       kind's share of those pods: room for large pods is kept where it comes back only when others leave
later  how many pods of a kind that asks for several GPUs the node will hold once each share of a GPU that somebody has
       of it was given back with a chance of 1/e: a node with few pods is soon an empty one, if nobody else is put
       there. d_j = l a_j x / (1 + x), once for all kinds that ask for the same GPUs. A c_j or d_j up to 2 counts as 0
p, q   prices of the node's GPU and CPU, the dual variables of spreading the demand that would fill all that is idle
       over the nodes that can take it (``kernels.prices``): they keep scarce models and scarce CPU for their users
       while a cluster fills. In steady state they made pods wait longer
g, c   the pod's GPU and CPU, thousandths; k the cluster's cores for each GPU

l in c_j and d_j is that of the moment, elsewhere that of when the mix was last learnt. At most 48 nodes are weighed
exactly for one pod: a remembered fall of V and F, or the most that there can be, decides which (``kernels.scores``).
Equal nodes go by a fixed, seeded order. Within a node the GPU with the least left over is taken, as in ``pack``.
"""

import numpy as np

from tessera.model.demands import PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.policy import kernels, pack
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.policy.kernels import Floats, Weights
from tessera.scheduler.policy.standing import Standing
from tessera.scheduler.policy.workload import Workload

_GPU_PRICE, _CPU_PRICE, _UNTOUCHED = 0.4, 0.15, 50.0
_LESS_AHEAD = 0.7
"""How much less V counts in steady state."""
_REFRESHES = 48
"""How many nodes are weighed exactly for one pod, at most."""
_PRICE_STEPS = 3


def weights(leaving: float, cpu_per_gpu: float) -> Weights:
    """What each part of the score counts, ``leaving`` (l) 0..1; ``cpu_per_gpu`` (k) in thousandths, as ``Standing``."""
    filling = 1.0 - leaving
    return Weights(
        1.0 - _LESS_AHEAD * leaving,
        leaving,
        filling * _GPU_PRICE,
        filling * _CPU_PRICE,
        _UNTOUCHED,
        cpu_per_gpu,
        _REFRESHES,
    )


class Fragmentation:
    """See the module. Prices move once for every sixth of the nodes' number of arrivals."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload = workload
        self._standing = Standing(workload, seed)
        self._priced = 0

    def gpu_costs(self, gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
        return pack.cost(gpus, need_bytes, need_percent)

    def node_scores(
        self, ledger: Ledger, need: HostNeed, demand: PodDemand | None, candidates: Bools, ties: Floats
    ) -> Floats:
        """See ``Policy``."""
        standing, rows = self._standing, len(ledger.rows())
        anew = standing.bring_up_to_date(ledger, ties)
        due = self._workload.arrived // max(rows // 6, 1)
        if anew or due != self._priced:
            self._priced = due
            kernels.prices(standing.nodes, standing.mix, standing.memory, standing.cpu_per_gpu, _PRICE_STEPS)
        kernels.scarcity(
            standing.mix, standing.totals, standing.idle, self._workload.leaving, standing.cost, standing.later
        )
        asked, amount = standing.asked(ledger, need, demand)
        out = np.empty(len(ties))
        shape, family = standing.shape_of(asked)
        kernels.scores(
            standing.nodes,
            standing.mix,
            asked,
            standing.memory,
            standing.cost,
            standing.later,
            weights(standing.leaving, standing.cpu_per_gpu),
            shape,
            family,
            amount,
            candidates,
            standing.epoch,
            out,
        )
        return out
