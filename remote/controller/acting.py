"""One step, carried out: a write to the API server, fenced by what was read."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from tessera.kube import wire
from tessera.kube.convert import lease_reference
from tessera.kube.errors import ApiError
from tessera.kube.events import EventRecorder
from tessera.kube.finalizers import hold, let_go
from tessera.kube.gateway import Gateway
from tessera.kube.lease_use import part
from tessera.kube.resources import GPU_LEASES, GPU_NODES, PODS, untyped
from tessera.model import names
from tessera.model.gpu_leases import SERVING, Phase
from tessera.remote.controller.pods import Options, executor_pod
from tessera.remote.controller.reading import (
    ENDED,
    MESSAGE,
    emptying_patch,
    executor_of,
    leases_of,
    settling_patch,
    status_patch,
)
from tessera.remote.controller.records import Client, Executor, Record, Status
from tessera.remote.controller.steps import Create, Delete, Drop, Empty, Free, Hold, Part, Settle, Step, Write

log = structlog.get_logger()


class Acting:
    """Reads live what a step may rest on, and carries steps out. Raises as the gateway does."""

    def __init__(
        self, gateway: Gateway, options: Options, recorder: EventRecorder, now: Callable[[], datetime]
    ) -> None:
        self._gateway, self._options, self._recorder, self._now = gateway, options, recorder, now

    async def client(self, record: Record) -> Client:
        """The client's pod as it is now."""
        return _state(record, await self._client_pod(record))

    async def executors(self, record: Record) -> list[Executor]:
        """Those of a lease as they are now."""
        selector = f"{names.LEASE_UID}={record.known.uid}"
        pods = await self._gateway.list(PODS, namespace=self._options.namespace, label_selector=selector)
        return [executor_of(pod, self._options.port) for pod in pods]

    async def leased(self, executor: Executor) -> bool:
        """Whether the lease of an executor is there."""
        namespace, _, name = executor.lease.partition("/")
        if not namespace or not name:
            return False
        found = await self._gateway.find(GPU_LEASES, name, namespace=namespace)
        return found is not None and found.metadata.uid == executor.lease_uid

    async def carry_out(self, record: Record, step: Step) -> None:
        match step:
            case Write(status):
                await self._write(record, status)
            case Create():
                await self._create(record, step)
            case Settle():
                await self._change(record, settling_patch(record))
                log.info("lease moved", lease=record.known.key, slice=record.known.target)
            case Empty():
                await self._empty(record)
            case Hold():
                await self._hold(record)
            case Part():
                await self._part(record)
            case Delete(executor):
                if await self._is_as_read(record):
                    await self.end(executor)
            case Drop():
                await self._drop(record)
            case Free():
                await self._free(record)

    async def end(self, executor: Executor) -> None:
        """That very pod; none of that UID is as good."""
        log.info("executor deleted", executor=executor.name, uid=executor.uid)
        await self._gateway.remove(PODS, executor.name, namespace=self._options.namespace, uid=executor.uid)

    async def _is_as_read(self, record: Record) -> bool:
        """A deletion is not fenced by the lease: a new leader may see executors sooner than what they were made for."""
        found = await self._read(record)
        return found is not None and found.metadata.resource_version == record.version

    async def _read(self, record: Record) -> wire.GpuLease | None:
        """That very lease as it is now."""
        found = await self._gateway.find(GPU_LEASES, record.known.name, namespace=record.known.namespace)
        return found if found is not None and found.metadata.uid == record.known.uid else None

    async def _write(self, record: Record, status: Status) -> None:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        patch = status_patch(record, status, self._options.namespace, stamp)
        where = {"namespace": record.known.namespace, "subresource": "status"}
        await self._gateway.merge_patch(untyped(GPU_LEASES), record.known.name, patch, **where)
        log.info("lease", lease=record.known.key, phase=status.phase, epoch=status.epoch, message=status.message)
        if status.phase is not record.status.phase:
            self._tell(record, status)

    async def _change(self, record: Record, patch: dict[str, Any]) -> None:
        lease = record.known
        await self._gateway.merge_patch(untyped(GPU_LEASES), lease.name, patch, namespace=lease.namespace)

    async def _empty(self, record: Record) -> None:
        if not await self._left_behind(record):
            await self._change(record, emptying_patch(record))
            log.info("lease stopped", lease=record.known.key)

    async def _hold(self, record: Record) -> None:
        found = await self._read(record)
        if found is not None:
            await hold(self._gateway, found)

    async def _part(self, record: Record) -> None:
        lease = record.known
        meta = wire.ObjectMeta(
            namespace=lease.namespace, name=lease.name, uid=lease.uid, resource_version=record.version
        )  # fmt: skip
        await part(self._gateway, meta)
        log.info("lease has no client", lease=lease.key, pod=lease.user)

    async def _create(self, record: Record, step: Create) -> None:
        pod = None if record.known.standing else await self._client_pod(record)
        if not record.known.standing and _state(record, pod) is not Client.BOUND:
            return
        host = await self._gateway.find(GPU_NODES, step.where.node)
        made = executor_pod(record, step, pod, host.metadata.uid if host else "", self._options)
        try:
            await self._gateway.create(untyped(PODS), made)
            log.info("executor made", lease=record.known.key, executor=step.name, node=step.where.node)
        except ApiError as error:
            if error.already_exists:
                return
            if not error.temporary:
                await self._say(record, f"executor {step.name} is not taken: {error.message}"[:MESSAGE])
            raise

    async def _say(self, record: Record, message: str) -> None:
        """To who waits for the lease."""
        if message != record.status.message:
            await self._write(record, replace(record.status, message=message))

    async def _drop(self, record: Record) -> None:
        lease = record.known
        await self._gateway.remove(GPU_LEASES, lease.name, namespace=lease.namespace, uid=lease.uid)

    async def _free(self, record: Record) -> None:
        if not await self._left_behind(record) and (lease := await self._read(record)) is not None:
            await let_go(self._gateway, lease)

    async def _left_behind(self, record: Record) -> bool:
        """Whether there is an executor of which the watch has not told yet; it is asked to end."""
        found = await self.executors(record)
        for executor in found:
            await self.end(executor)
        return bool(found)

    async def _client_pod(self, record: Record) -> wire.Pod | None:
        client = record.known.client
        if client is None:
            return None
        pod = await self._gateway.find(PODS, client.pod, namespace=record.known.namespace)
        return pod if pod is not None and pod.metadata.uid == client.pod_uid else None

    def _tell(self, record: Record, status: Status) -> None:
        about = lease_reference(record.known)
        node = replace(record, status=status).served.node
        where = f"{record.known.key} on {node}, epoch {status.epoch}"
        if record.known.client:
            where = f"container {record.known.client.container}: {where}"
        if status.phase is Phase.LOST:
            self._recorder.record(about, "Warning", "SliceLost", f"{where}: {status.message}")
        elif status.phase in SERVING and record.status.phase is Phase.MIGRATING:
            if status.moved:
                self._recorder.record(about, "Normal", "SliceMoved", f"{where}, at {status.endpoint}")
            else:
                self._recorder.record(about, "Warning", "SliceStays", f"{where}: {status.message}")
        elif status.phase in SERVING and (record.status.phase not in SERVING or record.status.client != status.client):
            self._recorder.record(about, "Normal", "SliceServed", f"{where}, at {status.endpoint}")


def _state(record: Record, pod: wire.Pod | None) -> Client:
    if record.known.client is None:
        return Client.NONE
    if pod is None or pod.status.phase in ENDED:
        return Client.GONE
    return Client.BOUND if pod.spec.node_name and record.known.name in leases_of(pod) else Client.UNBOUND
