"""Light hosts: the objects of thousands of GPU nodes without their processes.

A ``LightHost`` is a ``Host`` whose Node, GPUNode and, if wanted, bound pods are put straight into the simulated API
server's store, as a real node would have published them. One ``LightKubelet`` for all of them marks bound pods as
Running and lets deleted ones go; nothing is executed and no driver is asked.
"""

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from tessera.kube.convert import gpu_node_object
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpus import Gpu, GpuNode
from tessera.simulator.apiserver.store import Change, Store
from tessera.simulator.hosts import HostPlan, Prepared
from tessera.simulator.workload import View

Plain = dict[str, Any]
GIB = 1 << 30
CPU_PER_GPU, MEMORY_PER_GPU_GIB = 16, 128
PODS_PER_NODE = 250
"""What the kubelet admits on one node."""
POD_MEM_BYTES, POD_CORE_PERCENT = 2 * GIB, 3
"""The slice of a pod that is there from the start: 31 of them fit a GPU."""
NAMESPACE = "default"
_NO_IDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


@dataclass(frozen=True, slots=True)
class Shape:
    """The GPUs of every light host, and how many bound pods it starts with."""

    model: str = "NVIDIA H100 80GB HBM3"
    mem_bytes: int = 80 * GIB
    pods: int = 0


def gpu_node(plan: HostPlan, shape: Shape) -> GpuNode:
    """The GPUs of a host: two NUMA nodes, all GPUs linked. UUIDs follow from names, so a run can be repeated."""
    uuids = [f"GPU-{uuid.uuid5(_NO_IDS, f'{plan.name}.{index}')}" for index in range(len(plan.models))]
    return GpuNode(plan.name, tuple(_gpu(index, uuids, shape) for index in range(len(uuids))))


def _gpu(index: int, uuids: list[str], shape: Shape) -> Gpu:
    return Gpu(
        uuid=uuids[index],
        model=shape.model,
        mem_bytes=shape.mem_bytes,
        total_bytes=shape.mem_bytes,
        sm_count=132,
        compute_capability="9.0",
        numa_node=int(2 * index >= len(uuids) > 1),
        nvlink_peers=tuple(uuid for uuid in uuids if uuid != uuids[index]),
    )


def node_object(plan: HostPlan, shape: Shape, stamp: str) -> Plain:
    """The Node as kubelet and device plugin would have made it."""
    gpus = len(plan.models)
    capacity = {
        "cpu": str(CPU_PER_GPU * max(gpus, 1)),
        "memory": f"{MEMORY_PER_GPU_GIB * max(gpus, 1)}Gi",
        "ephemeral-storage": "1Ti",
        "pods": str(PODS_PER_NODE),
        names.SLICE: str(gpus * names.SLOTS_PER_GPU),
        names.GPU_MEM: str(gpus * shape.mem_bytes),
        names.GPU_CORE: str(100 * gpus),
        names.GPU: str(gpus),
    }
    labels = {"kubernetes.io/hostname": plan.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": plan.name, "uid": _uid(plan.name), "creationTimestamp": stamp, "labels": labels},
        "spec": {},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]},
    }


def gpu_node_plain(node: GpuNode, allocated: dict[str, int], at: datetime) -> Plain:
    """The GPUNode as the device plugin would have published it."""
    found: Plain = msgspec.to_builtins(gpu_node_object(node, allocated, at))
    found["metadata"] |= {"uid": _uid(f"gpunode.{node.name}"), "creationTimestamp": _stamp(at)}
    return found


def bound_pod(node: GpuNode, index: int, stamp: str) -> Plain:
    """The ``index``-th pod of a host, bound and running, with a slice on one of its GPUs in turn."""
    name, gpu = f"{node.name}-{index}", node.gpus[index % len(node.gpus)]
    share = Share(gpu.uuid, POD_MEM_BYTES, POD_CORE_PERCENT)
    pod = pod_object(name, POD_MEM_BYTES, POD_CORE_PERCENT, stamp)
    pod["metadata"]["annotations"] = {names.ASSIGNMENT: encode(Assignment((("main", (share,)),)))}
    pod["spec"]["nodeName"] = node.name
    pod["status"] = running(("main",), stamp)
    return pod


def pod_object(name: str, mem_bytes: int, core_percent: int, stamp: str) -> Plain:
    """A pod that asks for a slice, as the webhook leaves it, not bound yet."""
    slices = {names.GPU_MEM: str(mem_bytes), names.GPU_CORE: str(core_percent), names.SLICE: "1"}
    asked = {"cpu": "100m", "memory": "256Mi", **slices}
    container = {"name": "main", "image": "app:1", "resources": {"limits": slices, "requests": asked}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": _uid(f"pod.{name}"), "creationTimestamp": stamp},
        "spec": {"schedulerName": names.SCHEDULER, "restartPolicy": "Always", "containers": [container]},
        "status": {"phase": "Pending"},
    }


def running(containers: Iterable[str], stamp: str) -> Plain:
    """The status of a pod whose containers all run."""
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "Ready")]
    state = {"running": {"startedAt": stamp}}
    statuses = [{"name": name, "ready": True, "restartCount": 0, "state": state} for name in containers]
    return {"phase": "Running", "startTime": stamp, "conditions": conditions, "containerStatuses": statuses}


class LightHost:
    """A ``Host`` that is only objects in ``store``."""

    def __init__(self, plan: HostPlan, shape: Shape, store: Store) -> None:
        self._plan, self._shape, self._store = plan, shape, store

    @property
    def plan(self) -> HostPlan:
        return self._plan

    async def start(self) -> None:
        at = datetime.now(UTC)
        node, stamp = gpu_node(self._plan, self._shape), _stamp(at)
        pods = [bound_pod(node, index, stamp) for index in range(self._shape.pods)] if node.gpus else []
        allocated: dict[str, int] = {}
        for index, _ in enumerate(pods):
            uuid = node.gpus[index % len(node.gpus)].uuid
            allocated[uuid] = allocated.get(uuid, 0) + POD_MEM_BYTES
        self._store.put("nodes", node_object(self._plan, self._shape, stamp))
        self._store.put("gpunodes", gpu_node_plain(node, allocated, at))
        for pod in pods:
            self._store.put("pods", pod)

    async def failed(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """There is nothing to end: the store goes with the API server."""

    def views(self) -> Iterable[View]:
        return ()

    def records(self) -> Iterable[Prepared]:
        return ()


class LightKubelet:
    """Follows ``store``: a pod that is bound runs, a bound pod whose deletion was asked for is gone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._touched: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def run(self) -> None:
        """For ever; a pod is changed in a step of its own, after the write that called for it."""
        unlisten = self._store.listen(self._heard)
        try:
            while True:
                self._bring_about(*await self._touched.get())
        finally:
            unlisten()

    def _heard(self, change: Change) -> None:
        if change.plural == "pods" and change.type != "DELETED" and _due(change.entry.object):
            meta = change.entry.object["metadata"]
            self._touched.put_nowait((meta["namespace"], meta["name"]))

    def _bring_about(self, namespace: str, name: str) -> None:
        entry = self._store.entry("pods", namespace, name)
        if entry is None or not _due(entry.object):
            return
        pod = entry.object
        if pod["metadata"].get("deletionTimestamp"):
            self._store.remove("pods", namespace, name)
            return
        containers = [container["name"] for container in pod["spec"].get("containers") or ()]
        status = {**(pod.get("status") or {}), **running(containers, _stamp(datetime.now(UTC)))}
        self._store.put("pods", {**pod, "status": status})


def _due(pod: Plain) -> bool:
    """Whether the kubelet has something to do: start a bound pod, or let go of one whose deletion was asked for."""
    if not pod["spec"].get("nodeName"):
        return False
    return bool(pod["metadata"].get("deletionTimestamp")) or (pod.get("status") or {}).get("phase") == "Pending"


def _uid(text: str) -> str:
    return str(uuid.uuid5(_NO_IDS, text))


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
