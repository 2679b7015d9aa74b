"""Churn: pods come, wait, run and leave.

Whoever comes is tried at once, unless ``WINDOW`` wait before it. When a pod leaves, the first ``WINDOW`` of the queue
are tried in their order, and whoever fits is placed (first in, first out, with backfill). One that failed before can
only fit where room has come free since, so it is offered that node alone; one that enters the window is offered all.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from tessera.simulator.replay.arrivals import Arrival
from tessera.simulator.replay.cluster import Cluster, Placed
from tessera.simulator.replay.openb import Shape

WINDOW = 300
"""How many of those who wait are tried."""


@dataclass(slots=True)
class Means:
    """Averages over the second half of the arrivals, each sampled when its pod has come and been tried."""

    capacity_milli: int
    samples: int = 0
    _allocated: int = 0
    _queue: int = 0

    def sample(self, allocated_milli: int, queue_milli: int) -> None:
        self.samples += 1
        self._allocated += allocated_milli
        self._queue += queue_milli

    @property
    def allocated_percent(self) -> float:
        return 100 * self._allocated / self.samples / self.capacity_milli

    @property
    def queue_percent(self) -> float:
        return 100 * self._queue / self.samples / self.capacity_milli


@dataclass(slots=True)
class _Waiting:
    arrival: Arrival
    tried: bool = False


class Churn:
    """A cluster with a queue before it. ``queue_milli``: the thousandths of GPUs that those who wait ask for."""

    def __init__(self, cluster: Cluster) -> None:
        self.queue_milli = 0
        self._cluster = cluster
        self._queue: dict[int, _Waiting] = {}
        self._numbers = 0
        self._ends: list[tuple[float, int, Placed]] = []

    def come(self, arrival: Arrival) -> None:
        """A pod comes; those whose time was up before it leave first."""
        while self._ends and self._ends[0][0] <= arrival.at:
            self._leave()
        self._numbers += 1
        waiting = self._queue[self._numbers] = _Waiting(arrival)
        self.queue_milli += arrival.shape.milli
        if len(self._queue) <= WINDOW:
            self._try(self._numbers, waiting, arrival.at, None, set())

    @property
    def waiting(self) -> list[Shape]:
        """What those who wait ask for, in their order."""
        return [each.arrival.shape for each in self._queue.values()]

    def _leave(self) -> None:
        now, _, placed = heapq.heappop(self._ends)
        self._cluster.leave(placed)
        failed: set[Shape] = set()
        for number, waiting in list(islice(self._queue.items(), WINDOW)):
            self._try(number, waiting, now, placed.row, failed)

    def _try(self, number: int, waiting: _Waiting, now: float, row: int | None, failed: set[Shape]) -> None:
        """``failed``: what cannot fit at this moment any more, since others of the same shape did not."""
        shape, uid = waiting.arrival.shape, f"pod-{number}"
        if shape in failed:
            waiting.tried = True
            return
        if row is not None and waiting.tried:
            placed = self._cluster.arrive_on(uid, shape, row)
        else:
            placed, waiting.tried = self._cluster.arrive(uid, shape), True
        if placed is None:
            failed.add(shape)
            return
        del self._queue[number]
        self.queue_milli -= shape.milli
        heapq.heappush(self._ends, (now + waiting.arrival.life, number, placed))


def churn(cluster: Cluster, arrivals: Iterable[Arrival], count: int, told: Callable[[int], None]) -> Means:
    """Plays ``count`` ``arrivals``; ``told`` hears how many have come."""
    queue, means = Churn(cluster), Means(cluster.capacity_milli)
    for index, arrival in enumerate(arrivals):
        queue.come(arrival)
        if 2 * index >= count:
            means.sample(cluster.allocated_milli, queue.queue_milli)
        told(index + 1)
    return means
