"""The exact GPUs of one node for all containers of a pod.

A search over the node's GPUs in the order of the policy's cost, largest demand first: the first solution is the
greedy one, and where greed fails on several containers the search goes back. Bounded, so that no pod can hold up the
scheduler; a node that is not solved within the bound is refused, never over-committed.
"""

from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np

from tessera.model.assignment import Assignment, Share
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.ledger import Ints, Ledger
from tessera.scheduler.fit import fit
from tessera.scheduler.policy import Policy
from tessera.scheduler.policy.arrays import GpuArrays

_STEPS = 2_000


def choose(ledger: Ledger, node: str, demand: PodDemand, policy: Policy, level: int) -> Assignment | None:
    """The shares for every container of ``demand`` on ``node``, or ``None`` if they do not fit together."""
    row = ledger.row(node)
    return None if row is None else _Search(ledger, row, demand, policy, level).run()


class _Search:
    def __init__(self, ledger: Ledger, row: int, demand: PodDemand, policy: Policy, level: int) -> None:
        self._ledger, self._row, self._policy = ledger, row, policy
        self._free = ledger.free_bytes[row].copy()
        self._percent = ledger.free_percent[row].copy()
        self._tenants = ledger.tenants[row].copy()
        self._alone = ~ledger.exclusive[row]
        fits = [fit(ledger, c, demand.preferences, level) for c in demand.containers]
        self._possible = {c.container: f.possible[row] for c, f in zip(demand.containers, fits, strict=True)}
        self._need = {c.container: f.need_bytes[row] for c, f in zip(demand.containers, fits, strict=True)}
        self._order = sorted(demand.containers, key=lambda c: (-c.whole, -c.gpus, -c.mem_bytes, -c.core_percent))
        self._demand = demand
        self._steps = _STEPS

    def run(self) -> Assignment | None:
        taken: dict[str, tuple[Share, ...]] = {}
        if not self._place(0, taken):
            return None
        return Assignment(tuple((c.container, taken[c.container]) for c in self._demand.containers))

    def _place(self, index: int, taken: dict[str, tuple[Share, ...]]) -> bool:
        if index == len(self._order):
            return True
        container = self._order[index]
        for columns in self._options(container):
            if self._steps <= 0:
                return False
            self._steps -= 1
            taken[container.container] = self._take(container, columns)
            if self._place(index + 1, taken):
                return True
            self._give_back(container, columns)
        return False

    def _options(self, container: ContainerDemand) -> Iterator[tuple[int, ...]]:
        need = self._need[container.container]
        fits = self._possible[container.container] & self._alone & (self._free >= need)
        fits &= self._percent >= container.core_percent
        if container.whole:
            fits &= self._tenants == 0
        columns = np.flatnonzero(fits)
        costs = self._costs(need, container.core_percent)[columns]
        ordered = columns[np.argsort(costs, kind="stable")].tolist()
        return islice(combinations(ordered, container.gpus), _STEPS)

    def _costs(self, need: Ints, percent: int) -> Ints:
        tenants = np.full_like(self._tenants, self._tenants.sum())
        mem = self._ledger.mem_bytes[self._row]
        return self._policy(GpuArrays(mem, self._free, self._percent, self._tenants, tenants), need, percent)

    def _take(self, container: ContainerDemand, columns: tuple[int, ...]) -> tuple[Share, ...]:
        self._move(container, columns, +1)
        gpus = [self._ledger.gpu_at(self._row, column) for column in columns]
        return tuple(Share(g.uuid, container.mem_on(g), container.core_percent, container.whole) for g in gpus)

    def _give_back(self, container: ContainerDemand, columns: tuple[int, ...]) -> None:
        self._move(container, columns, -1)

    def _move(self, container: ContainerDemand, columns: tuple[int, ...], sign: int) -> None:
        at = list(columns)
        self._free[at] -= sign * self._need[container.container][at]
        self._percent[at] -= sign * container.core_percent
        self._tenants[at] += sign
        if container.whole:
            self._alone[at] = sign < 0
