"""The ``Cluster`` and ``NodePods`` ports over ``tessera.kube``."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from tessera.device_plugin.cluster import ClusterError, Environment, NodePod
from tessera.kube import wire
from tessera.kube.convert import gpu_node_object, pod_of
from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.events import EventRecorder, reference
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Change, Deleted, Reflector, Replaced, Upserted
from tessera.kube.resources import GPU_NODES, NODES, PODS, RESOURCE_SLICES, Plain
from tessera.model.gpus import GpuNode
from tessera.model.pods import Pod

FIELD_MANAGER = "tessera-device-plugin"
_OUTSIDE = (ApiError, UnknownOutcome, Unreachable)


def now_utc() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class KubeCluster:
    """One node's view of the API server."""

    def __init__(
        self, gateway: Gateway, events: EventRecorder, node: str, now: Callable[[], datetime] = now_utc
    ) -> None:
        self._gateway = gateway
        self._events = events
        self._node = node
        self._now = now

    async def pod(self, namespace: str, name: str) -> NodePod | None:
        try:
            found = await self._gateway.find(PODS, name, namespace=namespace)
        except _OUTSIDE as error:
            raise ClusterError(str(error)) from error
        return None if found is None else node_pod(found)

    async def end_pod(self, pod: Pod) -> None:
        try:
            await self._gateway.remove(PODS, pod.name, namespace=pod.namespace, uid=pod.uid)
        except _OUTSIDE as error:
            raise ClusterError(str(error)) from error

    def tell(self, pod: Pod, reason: str, text: str, *, warning: bool = False) -> None:
        meta = wire.ObjectMeta(name=pod.name, namespace=pod.namespace, uid=pod.uid)
        regarding = reference(PODS, wire.Pod(metadata=meta))
        self._events.record(regarding, "Warning" if warning else "Normal", reason, text)

    async def node_resources(self) -> tuple[dict[str, str], dict[str, str]]:
        try:
            node = await self._gateway.get(NODES, self._node)
        except _OUTSIDE as error:
            raise ClusterError(str(error)) from error
        status = node.status
        return _texts(status.capacity), _texts(status.allocatable)

    async def set_node_resources(self, values: Mapping[str, str | None]) -> None:
        patch = {"status": {"capacity": dict(values), "allocatable": dict(values)}}
        try:
            await self._gateway.merge_patch(NODES, self._node, patch, subresource="status")
        except _OUTSIDE as error:
            raise ClusterError(str(error)) from error

    async def resource_slices(self) -> list[Plain]:
        try:
            return await self._gateway.list(RESOURCE_SLICES, field_selector=f"spec.nodeName={self._node}")
        except ApiError as error:
            if error.not_found:
                return []
            raise ClusterError(f"ResourceSlices of other drivers: {error}") from error
        except (UnknownOutcome, Unreachable) as error:
            raise ClusterError(str(error)) from error

    async def publish(self, node: GpuNode, allocated: Mapping[str, int]) -> None:
        body = gpu_node_object(node, allocated, self._now())
        try:
            try:
                await self._apply(body)
            except ApiError as error:
                if not error.not_found:
                    raise
                await self._create()
                await self._apply(body)
        except _OUTSIDE as error:
            raise ClusterError(str(error)) from error

    async def _apply(self, body: wire.GpuNode) -> None:
        await self._gateway.apply(GPU_NODES, body, field_manager=FIELD_MANAGER, subresource="status")

    async def _create(self) -> None:
        try:
            await self._gateway.create(GPU_NODES, wire.GpuNode(metadata=wire.ObjectMeta(name=self._node)))
        except ApiError as error:
            if not error.already_exists:
                raise


class WatchedPods:
    """The pods of one node, kept by a reflector with ``spec.nodeName`` as its field selector."""

    def __init__(self, gateway: Gateway, node: str) -> None:
        self._pods: dict[str, NodePod] = {}
        self._changed = asyncio.Event()
        self._reflector = Reflector(gateway, PODS, self._take, field_selector=f"spec.nodeName={node}")

    @property
    def synced(self) -> bool:
        return self._reflector.synced

    async def run(self) -> None:
        """Follows the pods for ever."""
        await self._reflector.run()

    def all(self) -> list[NodePod]:
        return list(self._pods.values())

    def by_uid(self, uid: str) -> NodePod | None:
        return self._pods.get(uid)

    async def changed(self) -> None:
        await self._changed.wait()

    def _take(self, change: Change[wire.Pod]) -> None:
        match change:
            case Replaced(objects):
                self._pods = {pod.metadata.uid: node_pod(pod) for pod in objects}
            case Upserted(pod):
                self._pods[pod.metadata.uid] = node_pod(pod)
            case Deleted(pod):
                self._pods.pop(pod.metadata.uid, None)
        self._changed.set()
        self._changed = asyncio.Event()


class WatchedNode:
    """Tells when this node's object changes; the figures themselves are read live."""

    def __init__(self, gateway: Gateway, node: str) -> None:
        self._changed = asyncio.Event()
        self._reflector = Reflector(gateway, NODES, self._take, field_selector=f"metadata.name={node}")

    async def run(self) -> None:
        """Follows the node for ever."""
        await self._reflector.run()

    async def changed(self) -> None:
        """Returns at the next change."""
        await self._changed.wait()

    def _take(self, change: Change[wire.Node]) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def node_pod(pod: wire.Pod) -> NodePod:
    """The pod, with its containers' IDs and environments."""
    statuses = [*pod.status.container_statuses, *pod.status.init_container_statuses]
    ids = {s.name: s.container_id.rpartition("//")[2] for s in statuses if s.container_id}
    containers = [*pod.spec.init_containers, *pod.spec.containers]
    return NodePod(pod_of(pod), ids, {container.name: _environment(container) for container in containers})


def _environment(container: wire.Container) -> Environment:
    own = tuple((item.name, None if item.value_from else item.value) for item in container.env)
    return Environment(container.image, own, tuple(source.prefix for source in container.env_from))


def _texts(quantities: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in quantities.items()}
