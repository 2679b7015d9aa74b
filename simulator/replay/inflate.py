"""Inflation: pods come one at a time and none leaves, until they ask for more GPUs than there are.

A pod that fits nowhere is dropped and counted; one that fits is placed. The figures are those of Weng et al., "Beware
of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.openb import Shape

CHECKPOINTS = (80, 95, 100, 130)
"""Arrived GPUs in percent of all, where the allocated GPUs are read."""


@dataclass(slots=True)
class Course:
    """What was measured on the way.

    ``allocated_percent`` at X is the mean over the arrivals after which the arrived percentage rounds to X. Where no
    arrival does, because the cluster is so small that one pod jumps over X, it is what stood before that pod.
    """

    capacity_milli: int
    factor: Fraction
    arrived_milli: int = 0
    failed_at_100: int = 0
    first_failure_percent: float | None = None
    _sums: dict[int, list[int]] = field(default_factory=lambda: {x: [0, 0] for x in CHECKPOINTS})
    _below: dict[int, int] = field(default_factory=lambda: dict.fromkeys(CHECKPOINTS, 0))

    def record(self, shape: Shape, allocated_milli: int, *, placed: bool) -> None:
        """One pod came; ``allocated_milli`` is what stands after it."""
        self.arrived_milli += shape.milli
        if not placed:
            if self.first_failure_percent is None:
                self.first_failure_percent = 100 * self.arrived_milli / self.capacity_milli
            if self.arrived_milli <= self.capacity_milli:
                self.failed_at_100 += 1
        percent = (200 * self.arrived_milli + self.capacity_milli) // (2 * self.capacity_milli)
        if percent in self._sums:
            self._sums[percent][0] += allocated_milli
            self._sums[percent][1] += 1
        for checkpoint in CHECKPOINTS:
            if percent < checkpoint:
                self._below[checkpoint] = allocated_milli

    def allocated_percent(self) -> dict[str, float | None]:
        """By checkpoint; ``None`` for those beyond the factor."""
        return {str(x): self._allocated(x) if x <= 100 * self.factor else None for x in CHECKPOINTS}

    def _allocated(self, checkpoint: int) -> float:
        total, count = self._sums[checkpoint]
        return 100 * (total / count if count else self._below[checkpoint]) / self.capacity_milli


def inflate(cluster: Cluster, pods: Sequence[Shape], factor: Fraction, told: Callable[[int], None]) -> Course:
    """Plays ``pods``; ``told`` hears how many have come."""
    course = Course(cluster.capacity_milli, factor)
    for index, shape in enumerate(pods):
        uid = f"pod-{index}"
        placed = cluster.arrive(uid, shape)
        if placed is None:
            cluster.drop(uid)
        course.record(shape, cluster.allocated_milli, placed=placed is not None)
        told(index + 1)
    return course
