"""Which nodes can hold a pod, and in which order a policy would take them."""

from functools import lru_cache
from hashlib import blake2b

import numpy as np

from tessera.model.demands import PodDemand
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.fit import Fit, fit
from tessera.scheduler.policy import Policy
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.together import together

_NEVER = 1 << 40
"""Above any policy's cost, and small enough to be added up over all GPUs of a node for all containers of a pod."""


def fits_of(ledger: Ledger, demand: PodDemand, level: int) -> list[Fit]:
    """One ``Fit`` for each container of ``demand``."""
    return [fit(ledger, container, demand.preferences, level) for container in demand.containers]


def feasible(
    ledger: Ledger, demand: PodDemand, fits: list[Fit], candidates: Bools, policy: Policy, level: int
) -> Bools:
    """Per row: whether the node, one of ``candidates``, holds the whole pod now."""
    out = candidates
    for container, found in zip(demand.containers, fits, strict=True):
        out = out & (found.fits.sum(axis=1) >= container.gpus)
    return together(ledger, demand, fits, out, policy, level) if len(demand.containers) > 1 else out


def node_costs(ledger: Ledger, demand: PodDemand, fits: list[Fit], policy: Policy) -> Ints:
    """Per row: the policy's cost of the cheapest GPUs for each container, added up."""
    node_tenants = np.broadcast_to(ledger.tenants.sum(axis=1, keepdims=True), ledger.tenants.shape)
    state = GpuArrays(ledger.mem_bytes, ledger.free_bytes, ledger.free_percent, ledger.tenants, node_tenants)
    total = np.zeros(len(ledger.present), np.int64)
    for container, found in zip(demand.containers, fits, strict=True):
        costs = np.where(found.fits, policy(state, found.need_bytes, container.core_percent), _NEVER)
        alone = costs.min(axis=1) if container.gpus == 1 else np.sort(costs, axis=1)[:, : container.gpus].sum(axis=1)
        total += alone
    return total


def order(ledger: Ledger, rows: Ints, costs: Ints, seed: int) -> list[str]:
    """Names of ``rows``, cheapest first; equal costs in an order that only the names and ``seed`` decide."""
    names = [ledger.names[row] for row in rows.tolist()]
    ties = np.array([_tie(name, seed) for name in names], np.uint64)
    return [names[index] for index in np.lexsort((ties, costs[rows])).tolist()]


@lru_cache(maxsize=1 << 16)
def _tie(name: str, seed: int) -> int:
    return int.from_bytes(blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "big")
