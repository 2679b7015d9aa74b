"""The part of a pod's room that is free already, kept for it until the rest is free as well.

While pods are moved away for a waiting one, each gap would otherwise be filled at once by whoever comes first: by the
pod that was just moved, as a rule.
"""

import numpy as np

from tessera.model.assignment import Assignment, Share
from tessera.model.charges import Charge, Totals
from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.ledger import Ints, Ledger
from tessera.scheduler.fit import Fit, fit, still_held
from tessera.scheduler.topology import cheapest_span

NEVER = 1 << 40
"""What a GPU lacks that could not hold the demand empty."""
_ALL = slice(None)


def part_of(ledger: Ledger, demand: PodDemand, node: str, level: int, aim: Assignment | None = None) -> Charge | None:
    """What is free of the GPUs that ``aim`` names, else of those of ``node`` that lack least of what ``demand`` asks.

    The containers take it one after the other, each within one span where it has to; never more than is free, and
    ``None`` if nothing is. A GPU of another trust domain is taken too: with the room kept there it takes nobody else,
    and is the pod's once those others have gone.
    """
    row = ledger.row(node)
    if row is None:
        return None
    if aim is not None and not still_held(ledger, demand, node, aim, level):
        aim = None
    free, percent = ledger.free_bytes[row].copy(), ledger.free_percent[row].copy()
    shares: list[tuple[str, tuple[Share, ...]]] = []
    for container in demand.containers:
        one = slice(row, row + 1)
        found = fit(ledger, container, demand, level, one)
        taken: list[Share] = []
        for column in _aimed(ledger, node, container, aim) or _nearest(ledger, container, found, one):
            mem = max(0, min(int(free[column]), int(found.need_bytes[0][column])))
            core = max(0, min(int(percent[column]), container.core_percent))
            if (mem or core) and not ledger.exclusive[row, column]:
                taken.append(Share(ledger.gpu_at(row, column).uuid, mem, core))
                free[column] -= mem
                percent[column] -= core
        if taken:
            shares.append((container.container, tuple(taken)))
    return _charge(ledger, row, Assignment(tuple(shares), demand.domain), demand.namespace) if shares else None


def lacks(ledger: Ledger, container: ContainerDemand, found: Fit, rows: slice = _ALL) -> Ints:
    """Per GPU of ``rows``: what it lacks of the demand in thousandths of the GPU, memory and compute added up."""
    mem = np.maximum(ledger.mem_bytes[rows], 1)
    memory = np.maximum(found.need_bytes - ledger.free_bytes[rows], 0) // (mem // 1000 + 1)
    compute = np.maximum(container.core_percent - ledger.free_percent[rows], 0) * 10
    tenants = np.where(found.free_of_tenants & found.open, 0, ledger.tenants[rows])
    return np.where(found.possible, memory + compute + tenants, NEVER)


def _aimed(ledger: Ledger, node: str, container: ContainerDemand, aim: Assignment | None) -> list[int]:
    shares = (aim.of(container.container) if aim else None) or ()
    columns = (ledger.column(node, share.uuid) for share in shares)
    return [column for column in columns if column is not None]


def _nearest(ledger: Ledger, container: ContainerDemand, found: Fit, row: slice) -> list[int]:
    lack, possible = lacks(ledger, container, found, row), found.possible
    if found.span is not None:
        possible = cheapest_span(found.span, possible, lack, container.gpus)
    lack = np.where(possible, lack, NEVER)[0]
    columns = np.argsort(lack, kind="stable")[: container.gpus]
    return [int(column) for column in columns if lack[column] < NEVER]


def _charge(ledger: Ledger, row: int, assignment: Assignment, namespace: str) -> Charge:
    """With as much of the kubelet's sums as there is."""
    mem = min(int(ledger.node_mem[row]), sum(share.mem_bytes for share in assignment.shares))
    core = min(int(ledger.node_core[row]), sum(share.core_percent for share in assignment.shares))
    return Charge(ledger.names[row], Totals(max(mem, 0), max(core, 0)), assignment, namespace)
