"""The nodes worth a look when a pod needs victims, the most promising first: bounds over all nodes at once. Pure.

A node stays only if its GPUs would hold the pod with all pods up to some priority gone. The lowest such priority comes
first, and nodes on which no budget would be broken come before all others; within each step the order is by an
estimate of how few pods would have to leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tessera.model.demands import ContainerDemand
from tessera.model.ledger import Bools, Ints
from tessera.scheduler.budgets import left
from tessera.scheduler.fit import Fit
from tessera.scheduler.holders import Shares
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.ranking import fits_of
from tessera.scheduler.victims import Case

_NOBODY = -(1 << 40)
"""Below every priority: what ends already is enough."""
_MANY = 1 << 20
"""More victims than a node has pods."""


@dataclass(frozen=True, slots=True)
class Step:
    """Nodes to be looked at together. ``breaks``: whether budgets would be broken there as far as is known."""

    nodes: list[str]
    breaks: bool


def shortlist(case: Case, offered: Bools) -> Iterator[Step]:
    """Steps of nodes among ``offered`` (by row), the least costly first; no node comes twice."""
    base = Hypothesis(case.ledger)
    told = (case.holders.nodes_of(holder) for holder in case.holders.preempted_for(case.pod.uid))
    case.clear(base, case.holders.departing().union({claim.node for claim in case.claims}, *told))
    shares = case.holders.shares()
    lower = _lower(case, shares)
    kept = _covered(case, shares) if case.budgets else np.zeros_like(lower)
    seen = np.zeros_like(offered)
    for movable, breaks in ((lower & ~kept, False), (lower, True)) if kept.any() else ((lower, False),):
        yield from _steps(case, base, shares, movable, offered, seen, breaks)


def _steps(
    case: Case, base: Hypothesis, shares: Shares, movable: Bools, offered: Bools, seen: Bools, breaks: bool
) -> Iterator[Step]:
    levels = np.r_[_NOBODY, np.unique(shares.priority[movable])]
    first, last = 0, len(levels)
    while first < last:  # what fits with the lower ones gone fits with more of them gone
        middle = (first + last) // 2
        gone = movable & (shares.priority <= levels[middle])
        if (offered & _without(case, base, shares, gone)[0]).any():
            last = middle
        else:
            first = middle + 1
    for level in levels[first:]:
        gone = movable & (shares.priority <= level)
        holds, fits = _without(case, base, shares, gone)
        rows = np.flatnonzero(offered & holds & ~seen)
        if len(rows):
            seen[rows] = True
            count = _estimate(case, base, shares, gone, fits)[rows]
            names = [case.ledger.names[row] for row in rows[np.argsort(count, kind="stable")].tolist()]
            yield Step([name for name in names if name], breaks)


def _lower(case: Case, shares: Shares) -> Bools:
    below: Bools = shares.stays & (shares.priority < case.pod.priority) & ~_told(case, shares)
    return below


def _told(case: Case, shares: Shares) -> Bools:
    """Per share: whether its holder was told to give way to the pod already."""
    if not case.holders.preempted_for(case.pod.uid):
        return np.zeros_like(shares.stays)
    return np.array([holder.preempted_for == case.pod.uid for holder in shares.holders], np.bool_)[shares.holder]


def _cleared(case: Case, state: Hypothesis, shares: Shares, gone: Bools) -> Bools:
    """Per GPU: whether nobody of another trust domain stays there or on its MPS group, as far as holders tell."""
    others = shares.stays & ~gone & ~shares.whole & ~_told(case, shares)
    others &= shares.domain != state.number_of(case.demand.domain)
    left = np.zeros(state.present.shape, np.bool_)
    left[shares.row[others], state.group[shares.row[others], shares.column[others]]] = True
    return ~np.take_along_axis(left, state.group, axis=1)


def _covered(case: Case, shares: Shares) -> Bools:
    """Per share: whether its holder's departure alone breaks a budget."""
    spent = [budget for budget in case.budgets if left(budget, case.lately) < 1]
    found = [any(budget.covers(holder) for budget in spent) for holder in shares.holders]
    return np.array(found, np.bool_)[shares.holder] if found else np.zeros(0, np.bool_)


def _without(case: Case, base: Hypothesis, shares: Shares, gone: Bools) -> tuple[Bools, list[Fit]]:
    """Per row: whether its GPUs hold each container once those shares are gone; how each container meets them."""
    state = Hypothesis(base)
    rows, columns = shares.row[gone], shares.column[gone]
    np.add.at(state.free_bytes, (rows, columns), shares.mem_bytes[gone])
    np.add.at(state.free_percent, (rows, columns), shares.percent[gone])
    np.subtract.at(state.tenants, (rows, columns), 1)
    if state.separate:
        state.domain[_cleared(case, state, shares, gone)] = 0
    whole = gone & shares.whole
    state.exclusive[shares.row[whole], shares.column[whole]] = False
    fits = fits_of(state, case.demand, case.level)
    out = np.ones(len(state.present), np.bool_)
    for container, found in zip(case.demand.containers, fits, strict=True):
        out &= found.at_once(found.fits) >= container.gpus
    return out, fits


def _estimate(case: Case, base: Hypothesis, shares: Shares, gone: Bools, fits: list[Fit]) -> Ints:
    """Per row: about how many pods must leave, the largest first on each GPU."""
    now = fits_of(base, case.demand, case.level)
    total = np.zeros(len(base.present), np.int64)
    for container, then, before in zip(case.demand.containers, fits, now, strict=True):
        counts = np.where(before.fits, 0, _counts(base, shares, gone, container, then))
        counts = np.where(then.fits, counts, _MANY)
        total += np.sort(counts, axis=1)[:, : container.gpus].sum(axis=1)
    return total


def _counts(base: Hypothesis, shares: Shares, gone: Bools, container: ContainerDemand, found: Fit) -> Ints:
    """Per GPU: how many of its tenants must leave for one share of the container, the largest first."""
    width = base.present.shape[1]
    cell, mem, percent = (shares.row * width + shares.column)[gone], shares.mem_bytes[gone], shares.percent[gone]
    order = np.lexsort((-mem, cell))
    cell, mem, percent = cell[order], mem[order], percent[order]
    counts = np.full(base.present.size, _MANY, np.int64)
    if not len(cell):
        return counts.reshape(base.present.shape)
    first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
    length = np.diff(np.r_[first, len(cell)])
    start = np.repeat(first, length)
    rank = np.arange(len(cell)) - start + 1
    freed = np.cumsum(mem) - np.repeat(np.cumsum(mem)[first] - mem[first], length)
    eased = np.cumsum(percent) - np.repeat(np.cumsum(percent)[first] - percent[first], length)
    enough = base.free_bytes.ravel()[cell] + freed >= found.need_bytes.ravel()[cell]
    enough &= base.free_percent.ravel()[cell] + eased >= container.core_percent
    if container.whole:
        enough &= rank == np.repeat(length, length)
    np.minimum.at(counts, cell[enough], rank[enough])
    return counts.reshape(base.present.shape)
