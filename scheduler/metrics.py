"""What the scheduler says of itself to Prometheus, read from the engine at scrape time."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tessera.reasons import Code
from tessera.scheduler.engine import Engine
from tessera.scheduler.promises import Promise

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters of the verbs, and the ledger's sums."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(engine))
        self.verb_seconds = Histogram(
            "tessera_extender_verb_seconds", "Time to answer kube-scheduler.", ["verb"], registry=self.registry,
            buckets=BUCKETS_S,
        )  # fmt: skip
        self.refusals = Counter(
            "tessera_refusals", "Pods that no node could hold, each time asked.", ["code"], registry=self.registry
        )
        self.moves = Counter(
            "tessera_moves", "Pods moved to let another one in, by outcome.", ["outcome"], registry=self.registry
        )
        self.preemptions = Counter(
            "tessera_preemptions", "Pods for which others were asked to leave.", registry=self.registry
        )
        self.victims = Counter(
            "tessera_preemption_victims", "Pods asked to leave for one of higher priority.", registry=self.registry
        )
        self.relocations = Counter(
            "tessera_relocations", "GPULeases that were to move, by cause and what came of it.", ["cause", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.bindings = Counter("tessera_bindings", "Bindings by outcome.", ["outcome"], registry=self.registry)

    def preempted(self, victims: int) -> None:
        """Counts a pod that was let in by asking so many others to leave."""
        self.preemptions.inc()
        self.victims.inc(victims)

    def binding_ended(self, code: Code | None) -> None:
        """Counts a Binding that was refused for ``code``, or made."""
        self.bindings.labels(code or "Bound").inc()


class _EngineCollector(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        ledger = self._engine.ledger
        memory = GaugeMetricFamily("tessera_gpu_memory_bytes", "GPU memory that may be given.", labels=["state"])
        installed, free = int(ledger.mem_bytes.sum()), int(ledger.free_bytes.sum())
        memory.add_metric(["allocatable"], installed)
        memory.add_metric(["allocated"], installed - free)
        yield memory
        yield GaugeMetricFamily("tessera_gpus", "GPUs published.", value=int(ledger.present.sum()))
        yield GaugeMetricFamily("tessera_gpus_over_committed", "GPUs given twice.", value=len(ledger.over_committed()))
        yield GaugeMetricFamily("tessera_pods_waiting", "Pods that no node can hold.", value=len(self._engine.waiting))
        promises = GaugeMetricFamily("tessera_promises", "Room promised, not yet a fact.", labels=["kind"])
        for kind in Promise:
            count = sum(promised.kind is kind for promised in self._engine.promises().values())
            promises.add_metric([kind], count)
        yield promises
