"""Workloads with other shares of fractions, of pods over several GPUs and of pods bound to models.

| variant      | fractions | several GPUs | bound to models | without GPU | CPU and memory | memory of its own |
|--------------|-----------|--------------|-----------------|-------------|----------------|-------------------|
| fractions70  | 70 %      | 5 %          | 0 %             | 13 %        | x 1            | no                |
| multigpu30   | 20 %      | 30 %         | 0 %             | 10 %        | x 1            | no                |
| modelbound25 | 30 %      | 10 %         | 25 %            | 13 %        | x 1            | no                |
| smallcpu     | 30 %      | 10 %         | 0 %             | 20 %        | x 0.4          | no                |
| mixed        | 45 %      | 20 %         | 15 %            | 25 %        | x 1            | no                |
| memory       | 40 %      | 10 %         | 5 %             | 13 %        | x 1            | yes               |

Fractions and several GPUs are shares of the GPUs asked for, the rest is asked for as single whole GPUs; bound to models
is a share of the GPU pods, without GPU one of all pods. Memory of its own: fractions name ``gpu_mem_mib``, drawn
whatever their share of the compute is. All in the mean: every pod is drawn by itself.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tessera.simulator.replay.openb import WHOLE, Shape, TraceNode

DEMAND = 0.98
"""GPUs that a variant's pods ask for over the GPUs there are; that of the production trace."""
_TRIES = 50


class Kind(StrEnum):
    """What a pod asks of GPUs."""

    NONE = "none"
    FRACTION = "fraction"
    WHOLE = "whole"
    SEVERAL = "several"


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table, in percent; ``size_percent`` is the factor of CPU and host memory."""

    name: str
    fractions: int
    several: int
    bound: int
    without: int
    size_percent: int = 100
    memory: bool = False


VARIANTS = (
    Variant("fractions70", 70, 5, 0, 13),
    Variant("multigpu30", 20, 30, 0, 10),
    Variant("modelbound25", 30, 10, 25, 13),
    Variant("smallcpu", 30, 10, 0, 20, size_percent=40),
    Variant("mixed", 45, 20, 15, 25),
    Variant("memory", 40, 10, 5, 13, memory=True),
)

Source = Callable[[random.Random, Kind], Shape]
"""Draws a pod of a kind, bound to no model."""


def kind_of(shape: Shape) -> Kind:
    """The kind that ``shape`` is of."""
    if not shape.num_gpu:
        return Kind.NONE
    if shape.num_gpu > 1:
        return Kind.SEVERAL
    return Kind.FRACTION if shape.gpu_milli < WHOLE else Kind.WHOLE


def draw(variant: Variant, nodes: Sequence[TraceNode], source: Source, seed: int) -> list[Shape]:
    """Pods of ``variant`` that ask for about ``DEMAND`` of the GPUs of ``nodes``; each fits on some empty node."""
    chance = random.Random(f"{seed}:{variant.name}")
    limit = DEMAND * WHOLE * sum(node.gpus for node in nodes)
    kinds, weights = _weights(variant, source, seed)
    pods: list[Shape] = []
    asked = 0
    while asked < limit:
        pods.append(_drawn(variant, nodes, source, chance, chance.choices(kinds, weights)[0]))
        asked += pods[-1].milli
    for _ in range(round(len(pods) * variant.without / (100 - variant.without))):
        pods.append(_drawn(variant, nodes, source, chance, Kind.NONE))
    chance.shuffle(pods)
    return pods


def _weights(variant: Variant, source: Source, seed: int) -> tuple[list[Kind], list[float]]:
    """How often each kind is drawn, so that its pods ask together for its share of the GPUs."""
    chance = random.Random(seed)
    shares = {
        Kind.FRACTION: variant.fractions,
        Kind.SEVERAL: variant.several,
        Kind.WHOLE: 100 - variant.fractions - variant.several,
    }
    means = {kind: sum(source(chance, kind).milli for _ in range(2000)) / 2000 for kind in shares}
    return list(shares), [share / means[kind] for kind, share in shares.items()]


def _drawn(variant: Variant, nodes: Sequence[TraceNode], source: Source, chance: random.Random, kind: Kind) -> Shape:
    """A pod that some node holds: where chance finds none, the last one drawn, made as small as it takes."""
    for _ in range(_TRIES):
        shape = _resized(source(chance, kind), variant.size_percent)
        if kind is not Kind.NONE and chance.randrange(100) < variant.bound:
            shape = replace(shape, models=_models(nodes, chance))
        if kind is Kind.FRACTION and variant.memory:
            shape = replace(shape, gpu_mem_mib=1024 * chance.choice((1, 2, 3, 4, 6, 8, 12, 16, 24)))
        if any(shape.held_by(node) for node in nodes):
            return shape
    most = max(node.gpus for node in nodes)
    return Shape(1000, 1024, min(shape.num_gpu, most), shape.gpu_milli)


def _resized(shape: Shape, percent: int) -> Shape:
    if percent == 100:
        return shape
    cpu, memory = shape.cpu_milli * percent // 100, shape.memory_mib * percent // 100
    return replace(shape, cpu_milli=max(cpu, 100), memory_mib=max(memory, 128))


def _models(nodes: Sequence[TraceNode], chance: random.Random) -> tuple[str, ...]:
    """One model, or now and then two, those with many GPUs more often."""
    gpus = [node.gpus for node in nodes]
    count = 2 if chance.random() < 0.2 else 1
    return tuple(sorted({node.model for node in chance.choices(nodes, gpus, k=count)}))
