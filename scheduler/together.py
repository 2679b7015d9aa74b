"""Which nodes hold all containers of a pod together.

Each container by itself is a question to arrays; together they compete for the same GPUs. The policy's greedy choice
is carried out on all nodes at once. Only where greed fails is a node searched, once for all nodes in the same state,
and within a bound for the whole question, so that no pod can hold up the scheduler. A node that is not solved within
the bound is refused, never over-committed; nodes with the most free memory are searched first.
"""

import numpy as np

from tessera.model.demands import PodDemand, by_size
from tessera.model.ledger import Bools, Ints, Ledger
from tessera.scheduler.choice import STEPS, choose
from tessera.scheduler.fit import Fit
from tessera.scheduler.policy import Policy
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.topology import at_once, cheapest_span

_NEVER = 1 << 40
"""Above any policy's cost."""
_SEARCHES = 64
_STEPS_IN_ALL = 4_000


def share_of_steps(searches: int) -> int:
    """How many steps each of so many searches may take, so that one question ends in tenths of a second."""
    return min(STEPS, max(20, _STEPS_IN_ALL // max(searches, 1)))


def together(
    ledger: Ledger, demand: PodDemand, fits: list[Fit], candidates: Bools, policy: Policy, level: int
) -> Bools:
    """Per row: whether a node of ``candidates``, each of which holds every container alone, holds them all."""
    out = np.zeros_like(candidates)
    rows = np.flatnonzero(candidates)
    done = _greedy(ledger, rows, demand, fits, policy)
    out[rows[done]] = True
    groups = _alike(ledger, fits, rows[~done])[:_SEARCHES]
    for group in groups:
        name, steps = ledger.names[group[0]], share_of_steps(len(groups))
        out[group] = choose(ledger, name, demand, policy, level, steps) is not None
    return out


def _greedy(ledger: Ledger, rows: Ints, demand: PodDemand, fits: list[Fit], policy: Policy) -> Bools:
    """Per element of ``rows``: whether taking the cheapest GPUs, container by container, serves them all."""
    mem, free, percent = ledger.mem_bytes[rows], ledger.free_bytes[rows], ledger.free_percent[rows]
    tenants, alone = ledger.tenants[rows], ~ledger.exclusive[rows]
    out = np.ones(len(rows), np.bool_)
    for index in by_size(demand.containers):
        container, need = demand.containers[index], fits[index].need_bytes[rows]
        room = fits[index].usable[rows] & alone & (free >= need) & (percent >= container.core_percent)
        if container.whole:
            room &= tenants == 0
        span = None if (whole := fits[index].span) is None else whole[rows]
        out &= at_once(span, room) >= container.gpus
        on_node = np.broadcast_to(tenants.sum(axis=1, keepdims=True), tenants.shape)
        costs = policy.gpu_costs(GpuArrays(mem, free, percent, tenants, on_node), need, container.core_percent)
        if span is not None:
            room = cheapest_span(span, room, costs, container.gpus)
        taken = room & _cheapest(np.where(room, costs, _NEVER), container.gpus)
        free -= need * taken
        percent -= container.core_percent * taken
        tenants += taken
        if container.whole:
            alone &= ~taken
    return out


def _cheapest(costs: Ints, count: int) -> Bools:
    out = np.zeros(costs.shape, np.bool_)
    np.put_along_axis(out, np.argsort(costs, axis=1, kind="stable")[:, :count], True, axis=1)
    return out


def _alike(ledger: Ledger, fits: list[Fit], rows: Ints) -> list[list[int]]:
    """``rows`` in groups of equal state, those with the most free memory first."""
    arrays = (ledger.mem_bytes, ledger.free_bytes, ledger.free_percent, ledger.tenants, ledger.exclusive)
    bound = [found.span for found in fits if found.span is not None][:1]
    states = np.concatenate([array[rows] for array in (*arrays, *bound, *(found.usable for found in fits))], axis=1)
    groups: dict[bytes, list[int]] = {}
    for index in np.argsort(-ledger.free_bytes[rows].sum(axis=1), kind="stable").tolist():
        groups.setdefault(states[index].tobytes(), []).append(int(rows[index]))
    return list(groups.values())
