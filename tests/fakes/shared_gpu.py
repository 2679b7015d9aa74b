"""A GPU in simulated time whose clients pay for their launches as the shim does.

The GPU runs one process at a time and goes round after each slice of 2 ms, as it does without MPS. A kernel of ``w``
warps takes ``wave_ns`` for every 64 warps a multiprocessor. A client keeps its queue full as far as its money lets it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STEP_NS = 1_000_000
_QUANTUM_STEPS = 2
_BURST_NS = 20_000_000
_WARPS_AN_SM = 64


@dataclass(slots=True)
class Client:
    """``warps`` of each of its kernels; ``wave_ns``: how long a wave of them takes. ``depth``: launches queued."""

    id: str
    warps: int
    wave_ns: int
    depth: int = 256
    active: bool = True
    price: int = 0
    queued: int = 0
    begun_ns: int = 0
    turn_ns: int = 0
    ran_ns: int = 0

    def launch(self, now_ns: int, step_ns: int) -> None:
        """Queues what may be launched until ``now_ns + step_ns``."""
        cost_ns = self.warps * self.price >> 16
        while self.active and self.queued < self.depth:
            turn = max(self.turn_ns, now_ns - _BURST_NS)
            if self.price and turn > now_ns + step_ns:
                return
            self.turn_ns = turn + cost_ns
            self.queued += 1

    def run(self, sms: int, ns: int) -> int:
        """Works off the queue for up to ``ns``; answers the time it took."""
        kernel_ns = max(1, -(-self.warps // (sms * _WARPS_AN_SM))) * self.wave_ns
        left = ns
        while self.queued and left:
            part = min(kernel_ns - self.begun_ns, left)
            self.begun_ns += part
            left -= part
            if self.begun_ns == kernel_ns:
                self.queued, self.begun_ns = self.queued - 1, 0
        self.ran_ns += ns - left
        return ns - left


@dataclass(slots=True)
class SharedGpu:
    """``read`` answers what NVML would: whole percents of the time since the last reading, a little off."""

    sms: int
    clients: Sequence[Client]
    seed: int = 0
    now_ns: int = 0
    _next: int = 0
    _steps: int = 0
    _read_at: int = 0
    _before: dict[str, int] = field(default_factory=dict)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def step(self) -> None:
        """One millisecond."""
        for client in self.clients:
            client.launch(self.now_ns, STEP_NS)
        left = STEP_NS
        for _ in self.clients:
            client = self.clients[self._next % len(self.clients)]
            left -= client.run(self.sms, left)
            if left or self._steps >= _QUANTUM_STEPS - 1:
                self._next, self._steps = self._next + 1, 0
            else:
                self._steps += 1
            if not left:
                break
        self.now_ns += STEP_NS

    def read(self) -> Mapping[str, float]:
        """Percent of the time since the last reading, by client."""
        period = self.now_ns - self._read_at
        out = {}
        for client in self.clients:
            exact = 100 * (client.ran_ns - self._before.get(client.id, 0)) / period
            noisy = exact + self._random.gauss(0, 0.7) if exact else 0.0
            out[client.id] = float(min(max(round(noisy), 0), 100))
            self._before[client.id] = client.ran_ns
        self._read_at = self.now_ns
        return out
