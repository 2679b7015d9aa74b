"""The node's capacity of what the kubelet counts itself: gpu-mem, gpu-core and gpu.

The kubelet keeps what is patched, but zeroes it when it registers anew without a checkpoint, and after a restart it
ends running pods that no longer fit. So the figures are the installed size, sick GPUs included, never below what the
pods that have containers here ask for; health is said in GPUNode only. MIG devices count among ``gpu`` only. A pod that
was bound but has no container yet does not raise them: the kubelet's own sum is the wall that it must pass.
"""

from collections.abc import Iterable, Mapping

import structlog

from tessera.device_plugin.cluster import Cluster, NodePods
from tessera.device_plugin.inventory import Inventory, conflict_of, taken_by
from tessera.model import names
from tessera.model.charges import Totals, totals_of
from tessera.model.gpus import Gpu, sliced_capacity
from tessera.model.pods import Pod
from tessera.model.quantities import QuantityError, parse_quantity

log = structlog.get_logger()


def wanted(gpus: Iterable[Gpu], pods: Iterable[Pod]) -> dict[str, str]:
    """The figures that the node should show beside these started pods; empty for a node without GPUs, where a zero
    would refuse pods whose slices lie elsewhere."""
    installed = list(gpus)
    if not installed:
        return {}
    asked = [totals_of(pod) for pod in pods if not pod.ended]
    mem_bytes, core_percent = sliced_capacity(installed)
    sums = Totals(
        mem_bytes=max(mem_bytes, sum(t.mem_bytes for t in asked)),
        core_percent=max(core_percent, sum(t.core_percent for t in asked)),
        gpus=max(len(installed), sum(t.gpus for t in asked)),
    )
    return {
        names.GPU_MEM: str(sums.mem_bytes),
        names.GPU_CORE: str(sums.core_percent),
        names.GPU: str(sums.gpus),
    }


def differs(want: Mapping[str, str], capacity: Mapping[str, str], allocatable: Mapping[str, str]) -> bool:
    """Whether either side shows another figure; ``80Gi`` and its bytes are the same."""
    return any(not _same(value, shown.get(key)) for key, value in want.items() for shown in (capacity, allocatable))


class Capacity:
    """Re-asserts the figures, and notes on the way whether another plugin or driver offers the same GPUs."""

    def __init__(self, cluster: Cluster, pods: NodePods, inventory: Inventory) -> None:
        self._cluster = cluster
        self._pods = pods
        self._inventory = inventory

    async def assert_now(self) -> None:
        """One look and at most one patch. Raises ``ClusterError``."""
        capacity, allocatable = await self._cluster.node_resources()
        if self._inventory.known and self._pods.synced:
            await self._correct(capacity, allocatable)
        self._inventory.set_conflicts(conflict_of(allocatable), taken_by(await self._cluster.resource_slices()))

    async def _correct(self, capacity: Mapping[str, str], allocatable: Mapping[str, str]) -> None:
        started = [live.pod for live in self._pods.all() if live.container_ids or live.pod.phase == "Running"]
        want = wanted(self._inventory.gpus.values(), started)
        if want and differs(want, capacity, allocatable):
            await self._cluster.set_node_resources(want)
            log.info("node capacity set", **{key.partition("/")[2].replace("-", "_"): v for key, v in want.items()})


def _same(value: str, shown: str | None) -> bool:
    try:
        return shown is not None and parse_quantity(value) == parse_quantity(shown)
    except QuantityError:
        return False
