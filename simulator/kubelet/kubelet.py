"""The simulated kubelet: takes the pods bound to its node, admits them one after the other, runs and ends them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from tessera.kube.connection import Connection
from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Change, Deleted, Reflector, Replaced, Upserted
from tessera.kube.resources import NODES, PODS, untyped
from tessera.simulator.kubelet.containers import Containerd
from tessera.simulator.kubelet.devices import CHECKPOINT, AdmissionError, DeviceTable, Held
from tessera.simulator.kubelet.manifests import containers, ended, init_containers, key_of, limits, misfit, uid_of
from tessera.simulator.kubelet.nodes import NodeStatus
from tessera.simulator.kubelet.plugins import Plugins
from tessera.simulator.kubelet.podresources import PodResourcesServer
from tessera.simulator.kubelet.settings import KubeletSettings
from tessera.simulator.kubelet.starting import Starter
from tessera.simulator.kubelet.statuses import Reporter, now
from tessera.simulator.kubelet.workers import PodWorker

log = structlog.get_logger()

Plain = dict[str, Any]
Sleep = Callable[[float], Awaitable[None]]


class SimKubelet:
    """One node's kubelet. ``stop`` is a ``kill -9``: sockets vanish, containers go on in ``containerd``."""

    def __init__(
        self,
        settings: KubeletSettings,
        connection: Connection,
        containerd: Containerd,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self._connection = connection
        self._containerd = containerd
        self._sleep = sleep

    async def start(self) -> None:
        """Serves its sockets and registers the node. Raises what the API server answers."""
        settings = self.settings
        settings.plugins.mkdir(parents=True, exist_ok=True)
        fresh = not (settings.plugins / CHECKPOINT).exists()
        self._allocatable: dict[str, str] = {}
        self._queue: asyncio.Queue[Change[Plain]] = asyncio.Queue()
        self.workers: dict[str, PodWorker] = {}
        self._rejected: set[str] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self.table = DeviceTable.load(settings.plugins)
        self._gateway = await Gateway(self._connection).__aenter__()
        self.plugins = Plugins(settings.plugins, self._take_devices)
        self.pod_resources = PodResourcesServer(
            settings.pod_resources, self.table, self.active, settings.list_per_s, settings.list_burst
        )
        self._starter = Starter(settings, self.table, self.plugins, self._containerd)
        self._reporter = Reporter(self._gateway, self._sleep)
        self._node = NodeStatus(self._gateway, settings, self._device_counts)
        await self.plugins.start()
        await self.pod_resources.start()
        await self._node.register(fresh=fresh)
        self._begin()

    def _begin(self) -> None:
        name = self.settings.node
        nodes = Reflector(self._gateway, untyped(NODES), self._take_node, field_selector=f"metadata.name={name}")
        pods = Reflector(self._gateway, untyped(PODS), self._queue.put_nowait, field_selector=f"spec.nodeName={name}")
        self._tasks = [asyncio.create_task(work) for work in (nodes.run(), self._node.run(), pods.run(), self._sync())]
        self._nodes = nodes

    async def stop(self) -> None:
        """Dies. What it knew is in the checkpoint and at the API server."""
        for task in [*self._tasks, *self._ends]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._ends, return_exceptions=True)
        await asyncio.gather(*(worker.leave() for worker in self.workers.values()))
        await self._reporter.close()
        await self.plugins.stop()
        await self.pod_resources.stop()
        await self._gateway.__aexit__(None, None, None)

    async def restart(self) -> None:
        """Dies and comes back."""
        await self.stop()
        await self.start()

    def active(self) -> list[Plain]:
        """The pods that count: admitted and not ended."""
        return [worker.pod for worker in self.workers.values() if worker.active]

    def _take_devices(self, resource: str, ids: list[str]) -> None:
        self.table.healthy[resource] = ids
        self._node.changed()

    def _device_counts(self) -> dict[str, int]:
        return {resource: len(ids) for resource, ids in self.table.healthy.items()}

    def _take_node(self, change: Change[Plain]) -> None:
        objects = change.objects if isinstance(change, Replaced) else (change.object,)
        for node in objects:
            allocatable = (node.get("status") or {}).get("allocatable") or {}
            self._allocatable = {key: str(value) for key, value in allocatable.items()}

    async def _sync(self) -> None:
        await self._nodes.wait_synced()
        while True:
            match await self._queue.get():
                case Replaced(objects):
                    present = {uid_of(pod) for pod in objects}
                    for uid in [uid for uid in self.workers if uid not in present]:
                        self._end(self.workers[uid], 0)
                    for pod in sorted(objects, key=lambda p: str(p["metadata"].get("creationTimestamp"))):
                        await self._take(pod)
                case Upserted(pod):
                    await self._take(pod)
                case Deleted(pod):
                    self._rejected.discard(uid_of(pod))
                    if worker := self.workers.get(uid_of(pod)):
                        worker.active = False  # force-deleted: its devices are free while its containers may live
                        self._end(worker, 0)

    async def _take(self, pod: Plain) -> None:
        uid = uid_of(pod)
        deleting = pod["metadata"].get("deletionTimestamp") is not None
        worker = self.workers.get(uid)
        if worker is None and not ended(pod) and uid not in self._rejected and not deleting:
            await self._admit(pod)
        elif worker is not None and deleting and not worker.terminating:
            self._end(worker, float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
        elif worker is None and deleting:
            self._end(self._worker(pod), 0)

    async def _admit(self, pod: Plain) -> None:
        """Devices first, then the sums, as the kubelet's admit handlers stand."""
        others, worker = self.active(), self._worker(pod)
        self.workers[uid_of(pod)] = worker
        try:
            await self._allocate(pod)
            summed = {key: value for key, value in self._allocatable.items() if not self.table.knows(key)}
            refusal = misfit(pod, others, summed)
        except AdmissionError as error:
            text = f"Pod was rejected: Allocate failed due to {error}, which is unexpected"
            refusal = ("UnexpectedAdmissionError", text)
        if refusal is None:
            worker.begin()
            return
        del self.workers[uid_of(pod)]
        self._rejected.add(uid_of(pod))
        reason, message = refusal
        self._reporter.report(pod, {"phase": "Failed", "reason": reason, "message": message, "startTime": now()})

    async def _allocate(self, pod: Plain) -> None:
        """Devices for every container that is not running. Raises ``AdmissionError``."""
        uid = uid_of(pod)
        for container in [*init_containers(pod), *containers(pod)]:
            if self._containerd.running(uid, container["name"]):
                continue
            for resource, count in limits(container).items():
                if count and self.table.knows(resource):
                    await self._allocate_one(uid, container["name"], resource, count)

    async def _allocate_one(self, uid: str, container: str, resource: str, count: int) -> None:
        self.table.drop_inactive(uid_of(pod) for pod in self.active())
        ids = self.table.choose(uid, container, resource, count)
        if not ids:
            return
        endpoint = self.plugins.endpoints.get(resource)
        if endpoint is None:
            raise AdmissionError(f"endpoint for {resource} is not there")
        try:
            answer = await endpoint.allocate(ids)
        except grpc.aio.AioRpcError as error:
            raise AdmissionError(f"rpc error: code = {error.code().name} desc = {error.details()}") from None
        self.table.held.append(Held(uid, container, resource, tuple(ids), answer))
        await asyncio.to_thread(self.table.save, self.settings.plugins)

    def _worker(self, pod: Plain) -> PodWorker:
        return PodWorker(pod, self.settings, self._starter, self._containerd, self._reporter, self._sleep)

    def _end(self, worker: PodWorker, grace_s: float) -> None:
        worker.terminating = True
        task = asyncio.create_task(self._terminate(worker, grace_s))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _terminate(self, worker: PodWorker, grace_s: float) -> None:
        """Ends the containers, then takes the pod out of the API server."""
        await worker.terminate(grace_s)
        self.workers.pop(uid_of(worker.pod), None)
        await self._reporter.settle(worker.pod)
        namespace, name = key_of(worker.pod)
        while True:
            try:
                await self._gateway.delete(
                    untyped(PODS), name, namespace=namespace, uid=uid_of(worker.pod), grace_period_s=0
                )
                return
            except (Unreachable, UnknownOutcome):
                await self._sleep(0.2)
            except ApiError as error:
                if not (error.temporary or error.too_many_requests) or error.conflict:
                    return
                await self._sleep(0.2)
