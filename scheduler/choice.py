"""The exact GPUs of one node for all containers of a pod.

A search over the node's GPUs in the order of the policy's cost, largest demand first: the first solution is the
greedy one, and where greed fails on several containers the search goes back. GPUs that lie close together are tried
first, in a short search of its own (``topology``); what that does not solve is searched as if there were no links.
GPUs that would not hold a slice together (``model.spans``) are tried for it nowhere.
Bounded, so that no pod can hold up the scheduler; a node that is not solved within the bound is refused, never
over-committed.
"""

from collections.abc import Iterator
from itertools import chain, combinations, islice

import numpy as np

from tessera.model.assignment import Assignment, Share
from tessera.model.demands import ContainerDemand, PodDemand, by_size
from tessera.model.ledger import Ints, Ledger
from tessera.scheduler.fit import fit
from tessera.scheduler.policy import Policy
from tessera.scheduler.policy.arrays import GpuArrays
from tessera.scheduler.topology import Places, close_choices, least_gpus

STEPS = 2_000
"""How many placements of one container a search may try."""
CLOSE_STEPS = 64
"""How many more it may try before, for GPUs that lie close together; never more than a quarter of its steps."""


def choose(
    ledger: Ledger, node: str, demand: PodDemand, policy: Policy, level: int, steps: int = STEPS
) -> Assignment | None:
    """The shares for every container of ``demand`` on ``node``, or ``None`` if they do not fit together."""
    row = ledger.row(node)
    if row is None:
        return None
    if len(demand.containers) == 1 and demand.containers[0].gpus == 1:
        return _one(ledger, row, demand, policy, level)
    return _Search(ledger, row, demand, policy, level, steps).run()


def _one(ledger: Ledger, row: int, demand: PodDemand, policy: Policy, level: int) -> Assignment | None:
    """What the search would find for one share of one GPU, where there is nothing to search."""
    (container,) = demand.containers
    found = fit(ledger, container, demand, level, slice(row, row + 1))
    columns = np.flatnonzero(found.fits[0])
    if not len(columns):
        return None
    tenants = ledger.tenants[row]
    on_node = np.full_like(tenants, tenants.sum())
    state = GpuArrays(ledger.mem_bytes[row], ledger.free_bytes[row], ledger.free_percent[row], tenants, on_node)
    costs = policy.gpu_costs(state, found.need_bytes[0], container.core_percent)[columns]
    best = columns[costs == costs.min()].tolist()
    if len(best) > 1:
        places = Places(ledger.island[row].tolist(), ledger.numa[row].tolist(), (tenants == 0).tolist())
        (best,) = islice(close_choices(places, columns.tolist(), costs.tolist(), 1, 1), 1)
    gpu = ledger.gpu_at(row, best[0])
    share = Share(gpu.uuid, container.mem_on(gpu), container.core_percent, container.whole)
    return Assignment(((container.container, (share,)),), demand.domain)


def cheapest_spans(span: Ints, columns: Ints, costs: Ints, gpus: int) -> list[Ints]:
    """The parts of ``columns`` of one span each with at least ``gpus``, those first whose cheapest cost least together.

    ``span`` and ``costs`` are those of all columns.
    """
    parts = [columns[span[columns] == label] for label in np.unique(span[columns])]
    able = [part for part in parts if len(part) >= gpus]
    return sorted(able, key=lambda part: int(np.sort(costs[part])[:gpus].sum()))


class _Search:
    def __init__(self, ledger: Ledger, row: int, demand: PodDemand, policy: Policy, level: int, steps: int) -> None:
        self._ledger, self._row, self._policy = ledger, row, policy
        self._free = ledger.free_bytes[row].copy()
        self._percent = ledger.free_percent[row].copy()
        self._tenants = ledger.tenants[row].copy()
        self._alone = ~ledger.exclusive[row]
        rows = slice(row, row + 1)
        fits = [fit(ledger, c, demand, level, rows) for c in demand.containers]
        self._usable = {c.container: f.usable[0] for c, f in zip(demand.containers, fits, strict=True)}
        self._need = {c.container: f.need_bytes[0] for c, f in zip(demand.containers, fits, strict=True)}
        self._order = [demand.containers[index] for index in by_size(demand.containers)]
        self._least = [least_gpus(self._order[index:]) for index in range(len(self._order))]
        self._one_span = {c.container for c in demand.containers if c.in_one_span(level)}
        self._span = ledger.span[row] if self._one_span else np.zeros_like(self._tenants)
        self._island, self._numa = ledger.island[row].tolist(), ledger.numa[row].tolist()
        self._taken: list[int] = []
        self._demand = demand
        self._close, self._steps, self._all_steps = True, min(CLOSE_STEPS, steps // 4), steps
        self._kinds = np.array([ledger.mem_bytes[row], self._span, *self._usable.values()])
        self._hopeless: set[tuple[int, bytes]] = set()

    def run(self) -> Assignment | None:
        taken: dict[str, tuple[Share, ...]] = {}
        if not self._place(0, taken):
            self._close, self._steps = False, self._all_steps
            if not self._place(0, taken):
                return None
        containers = tuple((c.container, taken[c.container]) for c in self._demand.containers)
        return Assignment(containers, self._demand.domain)

    def _place(self, index: int, taken: dict[str, tuple[Share, ...]]) -> bool:
        if index == len(self._order):
            return True
        state = index, self._state()
        if state in self._hopeless:
            return False
        container = self._order[index]
        for columns in self._options(index):
            if self._steps <= 0:
                return False
            self._steps -= 1
            taken[container.container] = self._take(container, columns)
            if self._place(index + 1, taken):
                return True
            self._give_back(container, columns)
        if not self._close:
            self._hopeless.add(state)
        return False

    def _state(self) -> bytes:
        """What is left, whichever of several like GPUs it is left on: what failed on one fails on the others."""
        state = np.array([*self._kinds, self._free, self._percent, self._tenants, self._alone])
        return state[:, np.lexsort(state)].tobytes()

    def _options(self, index: int) -> Iterator[tuple[int, ...]]:
        container = self._order[index]
        need = self._need[container.container]
        fits = self._usable[container.container] & self._alone & (self._free >= need)
        fits &= self._percent >= container.core_percent
        if container.whole:
            fits &= self._tenants == 0
        columns = np.flatnonzero(fits)
        costs = self._costs(need, container.core_percent)
        if container.container not in self._one_span:
            return self._ways(index, columns, costs[columns])
        parts = cheapest_spans(self._span, columns, costs, container.gpus)
        return chain.from_iterable(self._ways(index, part, costs[part]) for part in parts)

    def _ways(self, index: int, columns: Ints, costs: Ints) -> Iterator[tuple[int, ...]]:
        """Ways to serve a container with GPUs of ``columns``, the best first."""
        gpus = self._order[index].gpus
        if self._close:
            places = Places(self._island, self._numa, (self._tenants == 0).tolist())
            least, taken = self._least[index], tuple(self._taken)
            return close_choices(places, columns.tolist(), costs.tolist(), gpus, least, taken)
        return combinations(columns[np.argsort(costs, kind="stable")].tolist(), gpus)

    def _costs(self, need: Ints, percent: int) -> Ints:
        tenants = np.full_like(self._tenants, self._tenants.sum())
        mem = self._ledger.mem_bytes[self._row]
        return self._policy.gpu_costs(GpuArrays(mem, self._free, self._percent, self._tenants, tenants), need, percent)

    def _take(self, container: ContainerDemand, columns: tuple[int, ...]) -> tuple[Share, ...]:
        self._move(container, columns, +1)
        self._taken += columns
        gpus = [self._ledger.gpu_at(self._row, column) for column in columns]
        return tuple(Share(g.uuid, container.mem_on(g), container.core_percent, container.whole) for g in gpus)

    def _give_back(self, container: ContainerDemand, columns: tuple[int, ...]) -> None:
        self._move(container, columns, -1)
        del self._taken[-len(columns) :]

    def _move(self, container: ContainerDemand, columns: tuple[int, ...], sign: int) -> None:
        at = list(columns)
        self._free[at] -= sign * self._need[container.container][at]
        self._percent[at] -= sign * container.core_percent
        self._tenants[at] += sign
        if container.whole:
            self._alone[at] = sign < 0
