"""Which nodes can hold a pod, and in which order a policy would take them."""

from zlib import crc32

import numpy as np

from tessera.model.charges import Totals
from tessera.model.demands import PodDemand
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.choice import choose
from tessera.scheduler.fit import Fit, fit
from tessera.scheduler.policy import Policy
from tessera.scheduler.policy.arrays import GpuArrays

_NEVER = np.iinfo(np.int64).max // 1_000


def fits_of(ledger: Ledger, demand: PodDemand, level: int) -> list[Fit]:
    """One ``Fit`` for each container of ``demand``."""
    return [fit(ledger, container, demand.preferences, level) for container in demand.containers]


def feasible(ledger: Ledger, demand: PodDemand, totals: Totals, fits: list[Fit], policy: Policy, level: int) -> Bools:
    """Per row: whether the node holds the whole pod now."""
    out = ledger.room_of(totals)
    for container, found in zip(demand.containers, fits, strict=True):
        out = out & (found.fits.sum(axis=1) >= container.gpus)
    if len(demand.containers) > 1:
        for row in np.flatnonzero(out):
            out[row] = choose(ledger, ledger.names[row], demand, policy, level) is not None
    return out


def node_costs(ledger: Ledger, demand: PodDemand, fits: list[Fit], policy: Policy) -> Ints:
    """Per row: the policy's cost of the cheapest GPUs for each container, added up."""
    node_tenants = np.broadcast_to(ledger.tenants.sum(axis=1, keepdims=True), ledger.tenants.shape)
    state = GpuArrays(ledger.mem_bytes, ledger.free_bytes, ledger.free_percent, ledger.tenants, node_tenants)
    total = np.zeros(len(ledger.present), np.int64)
    for container, found in zip(demand.containers, fits, strict=True):
        costs = np.where(found.fits, policy(state, found.need_bytes, container.core_percent), _NEVER)
        total += np.sort(costs, axis=1)[:, : container.gpus].sum(axis=1)
    return total


def order(ledger: Ledger, rows: Ints, costs: Ints, seed: int) -> list[str]:
    """Names of ``rows``, cheapest first; equal costs in an order that only the names and ``seed`` decide."""
    ranked = sorted((int(costs[row]), _tie(ledger.names[row], seed), ledger.names[row]) for row in rows)
    return [name for _, _, name in ranked]


def _tie(name: str, seed: int) -> int:
    return crc32(f"{seed}:{name}".encode())
