"""Which pods' going could let a waiting pod in: quick necessary conditions, before anything is tried.

Container by container and GPU by GPU, without regard to which containers compete for the same GPU; what passes here
is tried in full, what does not pass cannot work.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.model.charges import Charge, Totals
from tessera.model.demands import PodDemand
from tessera.model.ledger import Bools, Ledger
from tessera.scheduler.drain import shares_of
from tessera.scheduler.earmark import NEVER, lacks
from tessera.scheduler.fit import Fit, fit


@dataclass(frozen=True, slots=True)
class _Gpu:
    """A GPU as it is now, and what one container needs of it; ``possible``: it would hold the container empty.

    Not ``open``: another trust domain has slices there, or on its MPS group. ``span``: that of the ledger, where the
    container has to lie within one.
    """

    possible: bool
    open: bool
    fits: bool
    need_bytes: int
    free_bytes: int
    free_percent: int
    tenants: int
    exclusive: bool
    span: int


class Screen:
    """The ledger as it was when this was made, seen by one demand."""

    def __init__(self, ledger: Ledger, demand: PodDemand, totals: Totals, level: int) -> None:
        self._ledger, self._demand, self._totals = ledger, demand, totals
        self._fits = [fit(ledger, c, demand, level) for c in demand.containers]
        self._gpus: dict[int, list[list[_Gpu]]] = {}

    def rows(self, offered: Bools) -> list[int]:
        """Rows of ``offered`` that would hold the pod if they were empty, those that lack least first."""
        total = np.zeros(len(offered), np.int64)
        for container, found in zip(self._demand.containers, self._fits, strict=True):
            lack = np.sort(lacks(self._ledger, container, found), axis=1)
            short = found.at_once(found.possible) < container.gpus
            total += np.where(short, NEVER, lack[:, : container.gpus].sum(axis=1))
        rows = np.flatnonzero(offered & (total < NEVER))
        return [int(row) for row in rows[np.argsort(total[rows], kind="stable")]]

    def reachable(self, moves: int) -> Bools:
        """Per row: whether so many moves could clear enough GPUs, as far as the number of their tenants tells."""
        out = np.ones(len(self._ledger.present), np.bool_)
        for container, found in zip(self._demand.containers, self._fits, strict=True):
            if container.whole:
                clear = found.possible & (self._ledger.tenants <= moves)
                out &= clear.sum(axis=1) >= container.gpus
        return out

    def enough(self, row: int, charges: Sequence[Charge]) -> bool:
        """Whether each container would find its GPUs without ``charges``, and the kubelet's sums allow it."""
        ledger, totals = self._ledger, self._totals
        if ledger.node_mem[row] + sum(c.totals.mem_bytes for c in charges) < totals.mem_bytes:
            return False
        if ledger.node_core[row] + sum(c.totals.core_percent for c in charges) < totals.core_percent:
            return False
        freed = self._freed(charges)
        return all(self._container(index, row, freed) for index in range(len(self._fits)))

    def _freed(self, charges: Sequence[Charge]) -> dict[int, list[int]]:
        """By column: bytes, percent points, tenants and exclusive tenants that go."""
        freed: dict[int, list[int]] = {}
        for charge in charges:
            columns = self._ledger.columns(charge.node)
            for share in shares_of(charge):
                column = columns.get(share.uuid)
                if column is not None:
                    sums = freed.setdefault(column, [0, 0, 0, 0])
                    sums[0] += share.mem_bytes
                    sums[1] += share.core_percent
                    sums[2] += 1
                    sums[3] += share.whole
        return freed

    def _container(self, index: int, row: int, freed: dict[int, list[int]]) -> bool:
        container, found = self._demand.containers[index], self._row(row)[index]
        counts = Counter(gpu.span for gpu in found if gpu.fits)
        closed = (column for column, gpu in enumerate(found) if not gpu.open)  # who leaves may free the group elsewhere
        for column in {**freed, **dict.fromkeys(closed)}:
            mem, percent, tenants, alone = freed.get(column, (0, 0, 0, 0))
            gpu = found[column]
            if gpu.fits or not gpu.possible or (gpu.exclusive and not alone):
                continue
            if container.whole and gpu.tenants > tenants:
                continue
            room = gpu.free_bytes + mem >= gpu.need_bytes and gpu.free_percent + percent >= container.core_percent
            counts[gpu.span] += room
        return max(counts.values(), default=0) >= container.gpus

    def _row(self, row: int) -> list[list[_Gpu]]:
        if row not in self._gpus:
            self._gpus[row] = [self._of(found, row) for found in self._fits]
        return self._gpus[row]

    def _of(self, found: Fit, row: int) -> list[_Gpu]:
        ledger = self._ledger
        span = np.zeros_like(ledger.tenants) if found.span is None else found.span
        arrays = (found.possible, found.open, found.fits, found.need_bytes, ledger.free_bytes, ledger.free_percent,
                  ledger.tenants, ledger.exclusive, span)  # fmt: skip
        return [_Gpu(*values) for values in zip(*(array[row].tolist() for array in arrays), strict=True)]
