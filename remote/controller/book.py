"""What the watches have told: leases, executors, clients; and what gates have said of their executors."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from tessera.kube import wire
from tessera.kube.reflector import Change, Deleted, Replaced, Upserted
from tessera.remote.controller.reading import ClientPod, executor_of, record_of
from tessera.remote.controller.records import Executor, Heard, Record

log = structlog.get_logger()


class Book:
    """``touched`` hears the key of each lease of which something has changed. ``port``: of the gates."""

    def __init__(self, port: int, touched: Callable[[str], None]) -> None:
        self._port, self._touched = port, touched
        self._leases: dict[str, Record] = {}
        self._keys: dict[str, str] = {}
        self._executors: dict[str, Executor] = {}
        self._serving: dict[str, dict[str, Executor]] = {}
        self._clients: dict[str, ClientPod] = {}
        self._heard: dict[str, Heard] = {}
        self._changed: dict[str, asyncio.Event] = {}

    # What is known

    def lease(self, key: str) -> Record | None:
        return self._leases.get(key)

    def by_uid(self, lease_uid: str) -> Record | None:
        """The lease of this UID."""
        return self._leases.get(self._keys.get(lease_uid, ""))

    def leases(self) -> Iterable[Record]:
        return self._leases.values()

    def executor(self, uid: str) -> Executor | None:
        return self._executors.get(uid)

    def executors(self) -> Iterable[Executor]:
        return self._executors.values()

    def executors_of(self, lease_uid: str) -> list[Executor]:
        return list(self._serving.get(lease_uid, {}).values())

    def bound(self, record: Record) -> bool:
        """Whether the watch has shown the client's pod bound with the lease, and no end of it."""
        client = self._clients.get(record.known.pod_uid)
        return client is not None and not client.ended and record.known.name in client.leases

    def heard(self, lease_uid: str) -> Mapping[str, Heard]:
        """What the gates of its executors have said last, by the UIDs of their pods."""
        return {uid: self._heard[uid] for uid in self._serving.get(lease_uid, {}) if uid in self._heard}

    def news(self, lease_uid: str) -> asyncio.Event:
        """Set at the next change of a lease."""
        return self._changed.setdefault(lease_uid, asyncio.Event())

    # What is told

    def hear(self, executor: Executor, heard: Heard) -> None:
        """Its gate says so."""
        if executor.uid in self._executors:
            self._heard[executor.uid] = heard
            self._touch(executor.lease_uid)

    def take_lease(self, change: Change[wire.GpuLease]) -> None:
        match change:
            case Replaced(objects):
                found = {f"{o.metadata.namespace}/{o.metadata.name}" for o in objects}
                for key in [key for key in self._leases if key not in found]:
                    self._forget(key)
                for each in objects:
                    self._keep(each)
            case Upserted(each):
                self._keep(each)
            case Deleted(each):
                self._forget(f"{each.metadata.namespace}/{each.metadata.name}")

    def take_executor(self, change: Change[wire.Pod]) -> None:
        match change:
            case Replaced(objects):
                uids = {pod.metadata.uid for pod in objects}
                for found in [found for found in self._executors.values() if found.uid not in uids]:
                    self._drop(found)
                for pod in objects:
                    self._hold(executor_of(pod, self._port))
            case Upserted(pod):
                self._hold(executor_of(pod, self._port))
            case Deleted(pod):
                self._drop(executor_of(pod, self._port))

    def take_client(self, change: Change[ClientPod]) -> None:
        """Of all pods, those with slices elsewhere."""
        match change:
            case Replaced(objects):
                before = self._clients
                self._clients = {client.uid: client for client in objects if client.leases}
                for client in {**before, **self._clients}.values():
                    self._touch_client(client)
            case Upserted(client):
                if client.leases:
                    self._clients[client.uid] = client
                    self._touch_client(client)
            case Deleted(client):
                if known := self._clients.pop(client.uid, None):
                    self._touch_client(known)

    def _keep(self, found: wire.GpuLease) -> None:
        try:
            record = record_of(found)
        except ValueError as error:
            log.warning("GPULease passed over", lease=found.metadata.name, error=str(error))
            return
        key, known = record.known.key, self._leases.get(record.known.key)
        if known is not None and known.known.uid != record.known.uid:
            self._forget(key)
        self._leases[key], self._keys[record.known.uid] = record, key
        self._touch(record.known.uid)

    def _forget(self, key: str) -> None:
        if record := self._leases.pop(key, None):
            uid = record.known.uid
            self._keys.pop(uid, None)
            self._touched(key)
            self._wake(uid)

    def _hold(self, executor: Executor) -> None:
        self._executors[executor.uid] = executor
        self._serving.setdefault(executor.lease_uid, {})[executor.uid] = executor
        self._touch(executor.lease_uid)

    def _drop(self, executor: Executor) -> None:
        self._executors.pop(executor.uid, None)
        self._heard.pop(executor.uid, None)
        others = self._serving.get(executor.lease_uid, {})
        others.pop(executor.uid, None)
        if not others:
            self._serving.pop(executor.lease_uid, None)
        self._touch(executor.lease_uid)

    def _touch_client(self, client: ClientPod) -> None:
        for name in client.leases:
            self._touched(f"{client.namespace}/{name}")

    def _touch(self, lease_uid: str) -> None:
        if key := self._keys.get(lease_uid):
            self._touched(key)
        self._wake(lease_uid)

    def _wake(self, lease_uid: str) -> None:
        if event := self._changed.pop(lease_uid, None):
            event.set()
