"""Placement policies: what it costs to put a share on a GPU.

Each policy is one module of pure functions over numpy arrays of any shape; lower cost is better. The engine adds the
costs of the GPUs that a slice would take on a node, and compares nodes by the sum; ties go by a fixed order of nodes.
"""

from collections.abc import Mapping
from typing import Protocol

from tessera.model.ledger import Ints
from tessera.scheduler.policy import pack, spread
from tessera.scheduler.policy.arrays import GpuArrays


class Policy(Protocol):
    def __call__(self, gpus: GpuArrays, need_bytes: Ints, need_percent: int) -> Ints:
        """The cost of each GPU for a share of ``need_bytes`` (same shape) and ``need_percent`` points."""
        ...


POLICIES: Mapping[str, Policy] = {"pack": pack.cost, "spread": spread.cost}
