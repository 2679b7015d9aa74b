"""Which pods come, and when: shuffled and topped up for inflation, at random times for churn.

All chance comes from one seed through ``random.Random``, whose sequence does not depend on platform or version.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tessera.simulator.replay.openb import Shape, Trace


def inflated(trace: Trace, capacity_milli: int, factor: Fraction, seed: int) -> list[Shape]:
    """The trace's pods in random order, made to ask for ``factor`` times the GPUs there are.

    With less, pods of the list are drawn again, with replacement, until the next would pass it; with more, random pods
    are taken out. The protocol of Weng et al., "Beware of Fragmentation", USENIX ATC 2023.
    """
    chance = random.Random(seed)
    pods = list(trace.shapes)
    chance.shuffle(pods)
    limit, asked = int(factor * capacity_milli), trace.milli
    while asked > limit:
        asked -= pods.pop(chance.randrange(len(pods))).milli
    if trace.milli > limit:
        return pods
    while True:
        shape = trace.shapes[chance.randrange(len(trace.shapes))]
        if asked + shape.milli > limit:
            return pods
        asked += shape.milli
        pods.append(shape)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A pod that comes at ``at`` and runs for ``life`` once it is placed; in mean lifetimes."""

    at: float
    shape: Shape
    life: float


def poisson(shapes: Sequence[Shape], capacity_milli: int, load: Fraction, count: int, seed: int) -> Iterator[Arrival]:
    """``count`` pods drawn from ``shapes`` with replacement, at exponential intervals, with exponential lifetimes.

    The rate is such that the GPUs asked for at any time are ``load`` times the capacity in the mean.
    """
    chance = random.Random(seed)
    mean = sum(shape.milli for shape in shapes) / len(shapes)
    rate, now = float(load) * capacity_milli / mean, 0.0
    for _ in range(count):
        now += chance.expovariate(rate)
        yield Arrival(now, shapes[chance.randrange(len(shapes))], chance.expovariate(1.0))
