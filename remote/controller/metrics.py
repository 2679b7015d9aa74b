"""What the controller says of itself to Prometheus; leases and executors are read at scrape time."""

from collections import Counter as Count
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from tessera.model.gpu_leases import Phase
from tessera.remote.controller.book import Book


class Metrics:
    """``refusals``: calls of gates that were not answered, by call and reason."""

    def __init__(self, book: Book) -> None:
        self.registry = CollectorRegistry()
        self._book = book
        self.refusals = Counter(
            "tessera_pool_refusals", "Calls of gates that were refused", ["call", "reason"], registry=self.registry
        )
        self.signed = Counter(
            "tessera_pool_certificates", "Certificates that were signed for executors", registry=self.registry
        )
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        leases = GaugeMetricFamily("tessera_pool_leases", "Slices on other nodes", labels=["phase"])
        phases = Count(record.status.phase for record in self._book.leases())
        for phase in Phase:
            leases.add_metric([phase.value], phases[phase])
        yield leases
        count = sum(1 for _ in self._book.executors())
        yield GaugeMetricFamily("tessera_pool_executors", "Pods that serve slices", value=count)
