"""The expected mix of pods, learnt from those that arrive: what the policies keep room for.

The last ``WINDOW`` arrivals count alike, however many kinds they are of. A pod with several containers counts as one
kind for each, its CPU and host memory with the first. Rare kinds matter (they are the large ones), so the window is
long; the kinds that ask for most GPU are kept, at most ``KINDS``.
"""

from collections import Counter, deque
from dataclasses import dataclass, replace

import numpy as np

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Ints, Ledger
from tessera.model.placements import Choice
from tessera.scheduler.policy.kernels import Mix

WINDOW = 10_000
KINDS = 128
STREAMS, OFFERS = 16, 32
"""How many random streams of pods a node is offered, and how many pods each has."""
_FIRST = (16, 64, 256)
_THEN = 500
_LATELY = 2_000
"""Over how many arrivals ``leaving`` is averaged."""
_MOST = 1.25
"""What ``leaving`` is remembered as at the most: a cluster that was drained has to learn anew that it fills."""
_ALL_MODELS = (1 << 63) - 1
_NO_GPU = ContainerDemand("", 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Kind:
    """What one container asks for, and of which models of GPU."""

    cpu_milli: int
    memory_bytes: int
    gpus: int
    mem_bytes: int
    core_percent: int
    whole: bool
    models: Choice


class Workload:
    """Counts arrivals. ``due`` grows whenever the mix should be learnt anew: often at first, then every 500."""

    def __init__(self) -> None:
        self._arrived = 0
        self._window: deque[Kind] = deque()
        self._counts: Counter[Kind] = Counter()
        self._leaving = 0.0

    @property
    def arrived(self) -> int:
        """How many pods have arrived."""
        return self._arrived

    @property
    def leaving(self) -> float:
        """How many pods with GPUs leave for each that arrives, lately: 0 while a cluster fills, 1 in steady state."""
        return min(1.0, self._leaving)

    def recall(self, leaving: float) -> None:
        """What it was before a restart. Raises ``ValueError`` for what is none."""
        if not 0 <= leaving <= 1:
            raise ValueError(f"leaving: found {leaving}; allowed: 0 to 1")
        self._leaving = leaving

    @property
    def due(self) -> int:
        """How many times the mix was due so far."""
        return sum(self._arrived >= first for first in _FIRST) + self._arrived // _THEN + (self._arrived > 0)

    def saw(self, need: HostNeed, demand: PodDemand | None) -> None:
        """A pod has arrived, whether or not there is room for it; ``None`` asks for no GPU."""
        self._arrived += 1
        if demand is not None:
            self._leaving -= self._leaving / _LATELY
        models = demand.preferences.models if demand else Choice()
        for index, container in enumerate(demand.containers if demand else (_NO_GPU,)):
            cpu, memory = (need.cpu_milli, need.memory_bytes) if index == 0 else (0, 0)
            self._count(_kind(cpu, memory, container, models))

    def left(self) -> None:
        """A pod with GPUs, which had arrived, has left."""
        self._leaving = min(self._leaving + 1.0 / _LATELY, _MOST)

    def _count(self, kind: Kind) -> None:
        self._window.append(kind)
        self._counts[kind] += 1
        if len(self._window) > WINDOW:
            old = self._window.popleft()
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]

    def mix(self, ledger: Ledger, seed: int) -> Mix:
        """The mix as it is now, in terms of the models and the mean size of the GPUs of ``ledger``."""
        size = mean_size(ledger)
        asking = [kind for kind in self._counts if kind.gpus]
        kinds = sorted(asking, key=lambda kind: -self._counts[kind] * sum(shares(kind, size)))[:KINDS]
        arrived = max(len(self._window), 1)
        weight = np.array([self._counts[kind] / arrived for kind in kinds], np.float64)
        others = sum(count * kind.cpu_milli for kind, count in self._counts.items() if not kind.gpus)
        groups: dict[Kind, int] = {}
        group = [groups.setdefault(replace(kind, cpu_milli=0, memory_bytes=0), len(groups)) for kind in kinds]
        of_mem, of_core = np.array([shares(kind, size) for kind in kinds]).reshape(-1, 2).T
        asked_mem, asked_core = float(weight @ of_mem), float(weight @ of_core)
        total = asked_mem + asked_core
        by_mem = 1000.0 * asked_mem / total if total else 500.0
        return Mix(
            cpu=_ints([kind.cpu_milli for kind in kinds]),
            memory=_ints([kind.memory_bytes for kind in kinds]),
            gpus=_ints([kind.gpus for kind in kinds]),
            mem=_ints([kind.mem_bytes for kind in kinds]),
            core=_ints([kind.core_percent for kind in kinds]),
            whole=np.array([kind.whole for kind in kinds], np.bool_),
            models=_ints([models_mask(ledger, kind.models) for kind in kinds]),
            weight=weight,
            amount=by_mem * of_mem + (1000.0 - by_mem) * of_core,
            group=_ints(group),
            lead=_ints([group.index(number) for number in range(len(groups))]),
            other_cpu=others / arrived,
            streams=_streams(weight, seed),
            by_mem=by_mem,
            by_core=1000.0 - by_mem,
        )


def mean_size(ledger: Ledger) -> float:
    """Bytes of a mean GPU."""
    sizes = ledger.mem_bytes[ledger.present]
    return float(sizes.mean()) if len(sizes) else 1.0


def shares(kind: Kind | ContainerDemand, size: float) -> tuple[float, float]:
    """How many GPUs' worth of memory and of compute a kind takes, of GPUs of ``size`` bytes."""
    if kind.whole:
        return float(kind.gpus), float(kind.gpus)
    core = kind.core_percent / 100
    mem = min(kind.mem_bytes / size, 1.0) if kind.mem_bytes else core
    return kind.gpus * mem, kind.gpus * core


def models_mask(ledger: Ledger, models: Choice) -> int:
    """A bit for each number of a GPU model that is accepted; models beyond the 62nd share the last bit."""
    if models == Choice():
        return _ALL_MODELS
    mask = 0
    for model, number in ledger.models().items():
        if models.admits(model):
            mask |= 1 << min(number, 62)
    return mask


def _kind(cpu: int, memory: int, container: ContainerDemand, models: Choice) -> Kind:
    c = container
    return Kind(cpu, memory, c.gpus, c.mem_bytes, c.core_percent, c.whole, models)


def _ints(values: list[int]) -> Ints:
    return np.array(values, np.int64)


def _streams(weight: "np.typing.NDArray[np.float64]", seed: int) -> Ints:
    """``[STREAMS, OFFERS]`` kinds drawn by ``weight``, the same for every node; each column is stratified."""
    if not len(weight):
        return np.zeros((STREAMS, 0), np.int64)
    draw = np.random.default_rng(seed)
    even = np.array([draw.permutation(STREAMS) for _ in range(OFFERS)]).T
    at = (even + draw.random((STREAMS, OFFERS))) / STREAMS
    drawn: Ints = np.searchsorted(np.cumsum(weight), at * weight.sum()).clip(0, len(weight) - 1).astype(np.int64)
    return drawn
