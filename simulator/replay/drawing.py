"""Hosts and pods drawn from distributions of this project's own, in the rough proportions of clusters in production.

Nothing is fitted to a trace: sizes that people write (halves, quarters, round cores) and a tail of odd ones.
"""

import random
from collections.abc import Sequence

from tessera.simulator.replay.openb import WHOLE, Shape, Trace, TraceNode
from tessera.simulator.replay.variants import Kind, Source, kind_of

_HOSTS = (
    (35, TraceNode("", 96_000, 1_048_576, 8, "A100", 80 * 1024)),
    (25, TraceNode("", 48_000, 196_608, 4, "L4", 24 * 1024)),
    (20, TraceNode("", 32_000, 131_072, 2, "T4", 16 * 1024)),
    (10, TraceNode("", 192_000, 2_097_152, 8, "H100", 80 * 1024)),
    (10, TraceNode("", 16_000, 65_536, 1, "A10", 24 * 1024)),
)
"""Kinds of hosts with their weights."""
_FRACTIONS = (100, 200, 250, 300, 400, 500, 600, 750, 800)
_SEVERAL = ((2, 50), (4, 30), (8, 20))
_CORES = ((1, 15), (2, 20), (4, 25), (6, 10), (8, 15), (12, 10), (16, 5))
_MIB_PER_CORE = (2048, 4096, 4096, 8192)


def hosts(count: int, seed: int) -> list[TraceNode]:
    """``count`` hosts, the first ones of each kind once as far as they go."""
    chance = random.Random(f"{seed}:hosts")
    weights, kinds = [weight for weight, _ in _HOSTS], [kind for _, kind in _HOSTS]
    drawn = [*kinds[:count], *chance.choices(kinds, weights, k=max(0, count - len(kinds)))]
    chance.shuffle(drawn)
    return [
        TraceNode(f"host-{index:04}", kind.cpu_milli, kind.memory_mib, kind.gpus, kind.model, kind.gpu_mem_mib)
        for index, kind in enumerate(drawn)
    ]


def pod(chance: random.Random, kind: Kind) -> Shape:
    """A pod of ``kind``; a ``Source``."""
    gpus, milli = 1, WHOLE
    if kind is Kind.NONE:
        gpus, milli = 0, 0
    elif kind is Kind.FRACTION:
        milli = chance.choice(_FRACTIONS) if chance.random() < 0.7 else 10 * chance.randrange(5, 96)
    elif kind is Kind.SEVERAL:
        gpus = chance.choices([size for size, _ in _SEVERAL], [weight for _, weight in _SEVERAL])[0]
    cores = chance.choices([size for size, _ in _CORES], [weight for _, weight in _CORES])[0]
    cpu = max(1, gpus) * cores * 1000
    return Shape(cpu, cpu // 1000 * chance.choice(_MIB_PER_CORE), gpus, milli)


def like(trace: Trace) -> Source:
    """Pods drawn from a trace by their kind, with replacement; a kind that it has not is drawn as ``pod`` does."""
    by_kind: dict[Kind, list[Shape]] = {kind: [] for kind in Kind}
    for shape in trace.shapes:
        free = Shape(shape.cpu_milli, shape.memory_mib, shape.num_gpu, shape.gpu_milli)
        by_kind[kind_of(shape)].append(free)

    def source(chance: random.Random, kind: Kind) -> Shape:
        found: Sequence[Shape] = by_kind[kind]
        return found[chance.randrange(len(found))] if found else pod(chance, kind)

    return source
