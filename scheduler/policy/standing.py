"""What the policies that weigh a whole node keep between two decisions.

The expected mix, and for each node what was computed for its present state. Nothing here is a fact: all of it can be
dropped at any time and follows again from the ledger and the workload.
"""

from collections import OrderedDict

import numpy as np

from tessera.model.demands import PodDemand, by_size
from tessera.model.hosts import UNKNOWN_HOST, HostNeed
from tessera.model.ledger import Ledger
from tessera.scheduler.policy.kernels import Asked, Floats, Memory, Mix, Nodes, recount
from tessera.scheduler.policy.workload import Workload, mean_size, models_mask, shares

SHAPES = 256
"""How many shapes of pods are remembered, and how many families, which ask for the same of their GPUs."""

Family = tuple[tuple[int, int, int, bool], ...]
"""GPUs, bytes, points and wholeness of each container."""


class _Numbers:
    """Numbers of at most ``SHAPES`` things; the one that was longest not asked for gives its number away."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[object, int] = OrderedDict()

    def of(self, thing: object) -> tuple[int, bool]:
        """The number of ``thing``, and whether it is new."""
        if thing in self._numbers:
            self._numbers.move_to_end(thing)
            return self._numbers[thing], False
        full = len(self._numbers) == SHAPES
        number = self._numbers.popitem(last=False)[1] if full else len(self._numbers)
        self._numbers[thing] = number
        return number, True


class Standing:
    """See the module. ``epoch`` numbers the mix: what was computed under another is void. ``leaving`` is how many pods
    left for each that arrived when it was learnt.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        self.epoch = 0
        self.memory = _memory(np.zeros(0))
        self._workload, self._seed = workload, seed
        self._learnt, self._known = -1, (0, 0)
        self._shapes, self._families = _Numbers(), _Numbers()

    def bring_up_to_date(self, ledger: Ledger, ties: Floats) -> bool:
        """Takes in what has changed in ``ledger``; answers whether the mix was learnt anew.

        It is when pods have come, and when a new model or about twice as many nodes or half as many are there.
        """
        self.nodes = nodes_of(ledger)
        known = len(ledger.models()), len(ledger.rows()).bit_length()
        anew = self._learnt != self._workload.due or self._known != known or len(self.memory.seen) != len(ties)
        if anew:
            self._known = known
            self._learn(ledger, ties)
        if self.memory.tie is not ties:
            self.memory = self.memory._replace(tie=ties)
        self.idle = float(recount(self.nodes, self.mix, self.memory, self.totals))
        return anew

    def shape_of(self, asked: Asked) -> tuple[int, int]:
        """The rows of ``Memory.after`` and of ``Memory.gain`` for such a pod."""
        shares = zip(asked.gpus.tolist(), asked.mem.tolist(), asked.core.tolist(), asked.whole.tolist(), strict=True)
        family = tuple(shares)
        shape, new = self._shapes.of((asked.cpu, asked.memory, family, asked.models))
        if new:
            self.memory.after_of[shape] = 0
        kin, new = self._families.of(family)
        if new:
            self.memory.gain_of[kin] = 0
        return shape, kin

    def asked(self, ledger: Ledger, need: HostNeed, demand: PodDemand | None) -> tuple[Asked, float]:
        """The pod as arrays, and how many thousandths of a GPU it takes."""
        containers = [demand.containers[index] for index in by_size(demand.containers)] if demand else []
        parts = [shares(container, self._size) for container in containers]
        amount = sum((self.mix.by_mem * mem + self.mix.by_core * core for mem, core in parts), 0.0)
        found = Asked(
            need.cpu_milli,
            need.memory_bytes,
            np.array([c.gpus for c in containers], np.int64),
            np.array([c.mem_bytes for c in containers], np.int64),
            np.array([c.core_percent for c in containers], np.int64),
            np.array([c.whole for c in containers], np.bool_),
            models_mask(ledger, demand.preferences.models) if demand else 0,
        )
        return found, amount

    def _learn(self, ledger: Ledger, ties: Floats) -> None:
        self._learnt = self._workload.due
        self.epoch = (self.epoch + 1) % 65536
        self.mix: Mix = self._workload.mix(ledger, self._seed)
        kinds = len(self.mix.cpu)
        self.totals = np.zeros(kinds, np.int64)
        self.cost, self.later = np.zeros(kinds), np.zeros(kinds)
        self.leaving = self._workload.leaving
        self.cpu_per_gpu = _cpu_per_gpu(ledger)
        self._size = mean_size(ledger)
        if len(self.memory.seen) != len(ties):
            self._shapes, self._families = _Numbers(), _Numbers()
            self.memory = _memory(ties)
        rows = len(ties)
        self.memory = self.memory._replace(
            seen=np.zeros(rows, np.int64),
            slots=np.zeros((rows, kinds), np.int64),
            usable=np.zeros((kinds, rows)),
        )


def nodes_of(ledger: Ledger) -> Nodes:
    """The ledger's own arrays, not copies."""
    return Nodes(
        ledger.mem_bytes,
        ledger.free_bytes,
        ledger.free_percent,
        ledger.tenants,
        ledger.model,
        ledger.present,
        ledger.healthy,
        ledger.exclusive,
        ledger.free_cpu,
        ledger.free_memory,
        ledger.version,
        ledger.level,
    )


def nodes_for(ledger: Ledger, demand: PodDemand) -> Nodes:
    """As ``nodes_of``; GPUs of another trust domain count as those that take nobody."""
    nodes = nodes_of(ledger)
    if not ledger.separate or all(container.whole for container in demand.containers):
        return nodes
    return nodes._replace(healthy=ledger.healthy & ledger.open_to(demand.domain))


def _memory(ties: Floats) -> Memory:
    rows = len(ties)
    return Memory(
        seen=np.zeros(rows, np.int64),
        idle=np.zeros(rows),
        slots=np.zeros((rows, 0), np.int64),
        usable=np.zeros((0, rows)),
        valued=np.zeros(rows, np.int64),
        value=np.zeros(rows),
        after_of=np.zeros((SHAPES, rows), np.int64),
        after=np.zeros((SHAPES, rows)),
        gain_of=np.zeros((SHAPES, rows), np.int64),
        gain=np.zeros((SHAPES, rows)),
        gpu_price=np.zeros(rows),
        cpu_price=np.zeros(rows),
        tie=ties,
    )


def _cpu_per_gpu(ledger: Ledger) -> float:
    """Thousandths of a core that the cluster has for each thousandth of a GPU; 1 where no host is known."""
    known = ledger.present.any(axis=1) & (ledger.free_cpu < UNKNOWN_HOST // 2)
    gpus = int(ledger.present[known].sum())
    cores = sum(host.cpu_milli for name, host in ledger.hosts().items() if ledger.row(name) is not None)
    return cores / (1000 * gpus) if gpus and cores else 1.0
