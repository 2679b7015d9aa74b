"""The pool's sums as Prometheus series, read from the snapshot when they are scraped."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tessera.dashboard.feed import Feed


class PoolCollector(Collector):
    """Reads the feed at scrape: no numbers of its own, so they equal the page's."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def collect(self) -> Iterable[Metric]:
        t = self._feed.snapshot.totals
        gpus = GaugeMetricFamily("tessera_pool_gpus", "GPUs of the pool by state.", labels=["state"])
        gpus.add_metric(["healthy"], t.gpus - t.unhealthy_gpus)
        gpus.add_metric(["unhealthy"], t.unhealthy_gpus)
        yield gpus
        pods = GaugeMetricFamily(
            "tessera_pool_pods", "Pods that ask for slices, by state; executors are none.", labels=["state"]
        )
        pods.add_metric(["running"], t.running_pods)
        pods.add_metric(["waiting"], t.waiting_pods)
        pods.add_metric(["other"], t.pods - t.running_pods - t.waiting_pods)
        yield pods
        slots = GaugeMetricFamily(
            "tessera_pool_client_slots", "Places for containers whose slices are on other nodes.", labels=["state"]
        )
        slots.add_metric(["used"], t.used_slots)
        slots.add_metric(["free"], max(0, t.client_slots - t.used_slots))
        yield slots
        yield GaugeMetricFamily("tessera_pool_nodes", "Nodes with GPUs.", value=t.nodes)
        yield GaugeMetricFamily(
            "tessera_pool_overcommitted_gpus", "GPUs with more given than they have.", value=t.overcommitted_gpus
        )
        yield GaugeMetricFamily("tessera_pool_memory_bytes", "Memory that can be given in slices.", value=t.mem_bytes)
        yield GaugeMetricFamily(
            "tessera_pool_memory_allocated_bytes", "Memory given in slices.", value=t.allocated_bytes
        )
        yield GaugeMetricFamily(
            "tessera_pool_largest_free_bytes", "The largest slice one GPU could still hold.", value=t.largest_free_bytes
        )
        yield GaugeMetricFamily(
            "tessera_dashboard_source_up", "Whether the API server is being followed.",
            value=int(self._feed.source.connected),
        )  # fmt: skip


def registry_of(feed: Feed) -> CollectorRegistry:
    """A registry with the pool's series only."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PoolCollector(feed))
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """The text format of Prometheus."""
    return generate_latest(registry)
