"""What the agent knows, for Prometheus; read at each scrape. Base units; limit and used are separate series."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tessera.node_agent.gpus import Gpus
from tessera.node_agent.slices import SliceStore
from tessera.node_agent.unshimmed import Unshimmed
from tessera.node_agent.watcher import Watcher

_HOLDER = ("namespace", "pod", "container", "slice", "gpu")


class AgentCollector(Collector):
    """The prepared slices, their use, and the GPUs of one node."""

    def __init__(self, gpus: Gpus, store: SliceStore, watcher: Watcher, unshimmed: Unshimmed) -> None:
        self._gpus, self._store, self._watcher, self._unshimmed = gpus, store, watcher, unshimmed

    def collect(self) -> Iterator[Metric]:
        yield from self._of_gpus()
        yield from self._of_slices()
        ended = CounterMetricFamily(
            "tessera_over_limit_steps", "Steps taken against containers over their limit", labels=("step",)
        )
        for step, count in tuple(self._watcher.ended.items()):
            ended.add_metric((step,), count)
        yield ended
        foreign = GaugeMetricFamily("tessera_foreign_gpu_processes", "GPU processes of no pod with a slice")
        foreign.add_metric((), len(self._watcher.accounts.foreign))
        yield foreign
        bare = GaugeMetricFamily("tessera_unshimmed_gpu_processes", "GPU processes of slices that run without the shim")
        bare.add_metric((), self._unshimmed.count)
        yield bare

    def _of_gpus(self) -> Iterable[Metric]:
        labels = ("gpu", "model")
        healthy = GaugeMetricFamily("tessera_gpu_healthy", "1 if the GPU can be used", labels=labels)
        level = GaugeMetricFamily("tessera_gpu_enforcement_level", "Enforcement level, -1 to 3", labels=labels)
        memory = GaugeMetricFamily("tessera_gpu_memory_bytes", "Memory that may be given to slices", labels=labels)
        blind = GaugeMetricFamily("tessera_gpu_blind", "1 if memory of its processes is not told", labels=labels)
        for gpu in tuple(self._gpus.now.values()):
            names = (gpu.uuid, gpu.model)
            healthy.add_metric(names, gpu.health.healthy)
            level.add_metric(names, gpu.level)
            memory.add_metric(names, gpu.mem_bytes)
            blind.add_metric(names, gpu.uuid in self._watcher.blind)
        return healthy, level, memory, blind

    def _of_slices(self) -> Iterable[Metric]:
        limit = GaugeMetricFamily("tessera_slice_memory_limit_bytes", "Memory that a slice may use", labels=_HOLDER)
        used = GaugeMetricFamily("tessera_slice_memory_used_bytes", "Memory that a slice uses", labels=_HOLDER)
        core = GaugeMetricFamily("tessera_slice_core_limit_percent", "Compute share; 0: no cap", labels=_HOLDER)
        in_use = {(i, u.gpu_uuid): u.used_bytes for u in self._watcher.accounts.usages for i in u.slices}
        for item in self._store:
            for share in item.shares:
                names = (item.namespace, item.pod, item.container, item.id, share.uuid)
                limit.add_metric(names, share.mem_bytes)
                core.add_metric(names, share.core_percent)
                used.add_metric(names, in_use.get((item.id, share.uuid), 0))
        return limit, used, core


class MetricsServer:
    """Serves /metrics from a thread of its own between ``start`` and ``stop``."""

    def __init__(self, collector: Collector, host: str, port: int) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._host, self._port = host, port
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Raises ``OSError`` if the address is taken."""
        server, thread = start_http_server(self._port, self._host, self._registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop = stop

    def stop(self) -> None:
        self._stop()
