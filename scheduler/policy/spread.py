"""Worst fit: the GPU with the most left over after the share, so that neighbours are few.

cost = 10,000 for each share on the GPU + 10 for each on its node - left over in thousandths of its memory
"""

import numpy as np

from tessera.model.ledger import Ints
from tessera.scheduler.policy.arrays import GpuArrays


def cost(gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
    """See ``Policy``."""
    left = 1000 * (gpus.free_bytes - need_bytes) // np.maximum(gpus.mem_bytes, 1)
    out: Ints = 10_000 * gpus.tenants + 10 * gpus.node_tenants - left
    return out
