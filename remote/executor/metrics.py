"""What an executor says of its sessions, and its gate of who was refused, to Prometheus; read at each scrape."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tessera.remote.executor.meters import Figures

_GAUGES = {
    "memory_bytes": ("Device memory that a session holds", "used_bytes"),
    "memory_peak_bytes": ("The most that it has held", "peak_bytes"),
}
_COUNTERS = {
    "operators": ("Operators that it has run", "operators"),
    "failed_operators": ("Those that failed", "failed"),
    "received_bytes": ("Bytes of frames from its client", "received_bytes"),
    "sent_bytes": ("Bytes of frames to its client", "sent_bytes"),
}


class ExecutorMetrics(Collector):
    """``look``: the sessions now; ``refused``: how many connections, by reason."""

    def __init__(self, look: Callable[[], Sequence[Figures]], refused: Callable[[], Mapping[str, int]]) -> None:
        self._look, self._refused = look, refused

    def collect(self) -> Iterator[Metric]:
        sessions = self._look()
        yield GaugeMetricFamily("tessera_executor_sessions", "Sessions that live", value=len(sessions))
        refusals = CounterMetricFamily("tessera_executor_refusals", "Connections that were refused", labels=["reason"])
        for reason, count in dict(self._refused()).items():
            refusals.add_metric([reason], count)
        yield refusals
        for kind, families in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, (about, field) in families.items():
                family = kind(f"tessera_session_{name}", about, labels=["session"])
                for each in sessions:
                    family.add_metric([each.session], getattr(each, field))
                yield family


def serve_metrics(host: str, port: int, metrics: ExecutorMetrics) -> None:
    """Over HTTP, from a thread of its own, as long as the process lives. Raises ``OSError``."""
    registry = CollectorRegistry()
    registry.register(metrics)
    start_http_server(port, host, registry)
