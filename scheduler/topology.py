"""Which of several equally good GPUs of a node lie close together.

Containers with several GPUs, and the containers of one pod, run best where their GPUs reach each other over NVLink (one
*island*), next best under one NUMA node. Pure functions over the columns of one node, and over arrays of all nodes.

The policy comes first: GPUs are exchanged only within a *class* of its costs. For a single GPU a class is one cost,
for several it is ``COST_CLASS`` wide, because a link between GPUs is worth more than a tighter fit on each. What is
named here is a preference: whoever asks must go on to any other combination where it fails.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tessera.model.demands import ContainerDemand
from tessera.model.ledger import Bools, Ints, Ledger

COST_CLASS = 10_000
"""What an untouched GPU costs more in ``pack``, and one share more in ``spread``."""


@dataclass(frozen=True, slots=True)
class Places:
    """One node's GPUs by column: NVLink island, NUMA node (-1: not known), and whether nobody holds a share of it."""

    island: Sequence[int]
    numa: Sequence[int]
    untouched: Sequence[bool]


def close_choices(
    places: Places, columns: Sequence[int], costs: Sequence[int], gpus: int, least: int, taken: Collection[int] = ()
) -> Iterator[tuple[int, ...]]:
    """Ways to take ``gpus`` of ``columns``, the closest first; none is in a higher class of cost than need be.

    ``costs`` are those of ``columns``; ``taken`` are the columns that the pod has already, to be near to; ``least`` is
    how many GPUs the pod needs at the least from here on. At most one for each island and NUMA node, and one more.
    """
    if len(columns) < gpus:
        return
    classes = [cost // COST_CLASS if gpus > 1 else cost for cost in costs]
    cheapest = sorted(range(len(columns)), key=lambda index: (classes[index], costs[index]))
    last = classes[cheapest[gpus - 1]]
    forced = tuple(columns[index] for index in cheapest if classes[index] < last)
    pool = [columns[index] for index in cheapest if classes[index] == last]
    left = gpus - len(forced)
    if len(pool) == left:
        yield forced + tuple(pool)
        return
    at = _Question(places, forced, left, max(least, gpus), taken)
    for island in at.groups(pool, places.island):
        yield forced + _first([*at.groups(island, places.numa), island], left)
    dense = at.densest_first(pool)
    for socket in at.groups(dense, places.numa):
        yield forced + _first([socket], left)
    yield forced + tuple(dense[:left])


def least_gpus(containers: Iterable[ContainerDemand]) -> int:
    """How many GPUs ``containers`` need at the least: whole ones by themselves, slices over the same ones."""
    demands = list(containers)
    shared = max((c.gpus for c in demands if not c.whole), default=0)
    return shared + sum(c.gpus for c in demands if c.whole)


def island_fit(ledger: Ledger, fits: Bools, gpus: int) -> Bools:
    """Per row: whether ``gpus`` of the GPUs that ``fits`` [row, column] lie within one NVLink island."""
    return largest_group(ledger.island, fits) >= gpus


def numa_fit(ledger: Ledger, fits: Bools, gpus: int) -> Bools:
    """Per row: whether ``gpus`` of the GPUs that ``fits`` [row, column] lie within one known NUMA node."""
    return largest_group(ledger.numa, fits) >= gpus


def largest_group(labels: Ints, fits: Bools) -> Ints:
    """Per row: how many of the columns that ``fits`` share one label; -1 labels none. One pass over the arrays."""
    rows, count = len(labels), int(labels.max(initial=-1)) + 1
    if count == 0:
        return np.zeros(rows, np.int64)
    flat = np.arange(rows)[:, None] * count + labels
    sums = np.bincount(flat[fits & (labels >= 0)], minlength=rows * count)
    out: Ints = sums.reshape(rows, count).max(axis=1, initial=0)
    return out


def at_once(span: Ints | None, gpus: Bools) -> Ints:
    """Per row: over how many of ``gpus`` [row, column] one slice could lie; within one ``span``, if any is given."""
    count: Ints = gpus.sum(axis=1)
    return count if span is None else largest_group(span, gpus)


def cheapest_span(span: Ints, gpus: Bools, costs: Ints, count: int) -> Bools:
    """``gpus`` [row, column], but only those of the span in which the cheapest ``count`` cost least together."""
    order = np.lexsort((costs, ~gpus, span))
    sorted_span, passed = np.take_along_axis(span, order, 1), np.take_along_axis(gpus, order, 1)
    place = np.arange(span.shape[1])
    begins = np.ones_like(gpus)
    begins[:, 1:] = sorted_span[:, 1:] != sorted_span[:, :-1]
    rank = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    cheap = passed & (rank < count)
    at = np.nonzero(cheap)[0], sorted_span[cheap]
    sums, found = np.zeros_like(span), np.zeros_like(span)
    np.add.at(sums, at, np.take_along_axis(costs, order, 1)[cheap])
    np.add.at(found, at, 1)
    best = np.where(found < count, np.iinfo(np.int64).max, sums).argmin(axis=1)
    out: Bools = gpus & (span == best[:, None])
    return out


@dataclass(frozen=True, slots=True)
class _Question:
    places: Places
    forced: tuple[int, ...]
    left: int
    least: int
    taken: Collection[int]

    def groups(self, pool: Sequence[int], labels: Sequence[int]) -> list[list[int]]:
        """The parts of ``pool`` under one label that hold what is left to take beside ``forced``, the best first."""
        parts: dict[int, list[int]] = {}
        for column in pool:
            if labels[column] >= 0:
                parts.setdefault(labels[column], []).append(column)
        needed = {labels[column] for column in self.forced}
        able = [label for label, part in parts.items() if len(part) >= self.left and needed <= {label}]
        near = {labels[column] for column in self.taken}
        return [parts[label] for label in sorted(able, key=lambda label: self._rank(label, parts[label], labels, near))]

    def _rank(self, label: int, part: Sequence[int], labels: Sequence[int], near: Collection[int]) -> tuple[int, ...]:
        """Near to what the pod has; room for the rest of it; no whole group broken; least left over; small."""
        all_of_it = [column for column, own in enumerate(labels) if own == label]
        whole = all(self.places.untouched[column] for column in all_of_it)
        over = len(part) - self.left
        room = len(part) + len(self.forced) >= self.least
        return label not in near, not room, whole and over > 0, over, whole, len(all_of_it)

    def densest_first(self, pool: Sequence[int]) -> list[int]:
        """``pool`` by islands: those near to what the pod has, then the fullest, so that few are touched."""
        island = self.places.island
        near = {island[column] for column in (*self.taken, *self.forced)}
        count = {label: sum(island[column] == label for column in pool) for label in {island[c] for c in pool}}
        return sorted(pool, key=lambda column: (island[column] not in near, -count[island[column]]))


def _first(parts: Sequence[Sequence[int]], count: int) -> tuple[int, ...]:
    return tuple(parts[0][:count])
