"""Best fit: the GPU with the least left over after the share, used GPUs before untouched ones, used nodes first.

cost = left over in thousandths of the GPU, memory and compute added, each 0..1000
     + 10,000 if the GPU is untouched + 100,000 if its node is untouched

Best fit by the sum of the remainders is the classic vector heuristic (Panigrahy et al., "Heuristics for Vector Bin
Packing", 2011, the L1 norm).
"""

import numpy as np

from tessera.model.ledger import Ints
from tessera.scheduler.policy.arrays import GpuArrays

_UNTOUCHED_GPU, _UNTOUCHED_NODE = 10_000, 100_000


def cost(gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
    """See ``Policy``."""
    left_bytes = 1000 * (gpus.free_bytes - need_bytes) // np.maximum(gpus.mem_bytes, 1)
    left_percent = 10 * (gpus.free_percent - need_percent)
    untouched = _UNTOUCHED_GPU * (gpus.tenants == 0) + _UNTOUCHED_NODE * (gpus.node_tenants == 0)
    out: Ints = left_bytes + left_percent + untouched
    return out
