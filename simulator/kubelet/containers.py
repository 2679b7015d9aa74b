"""Containers and the runtime that holds them: containerd's part. It outlives the kubelet."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Plain = dict[str, Any]


@dataclass(frozen=True)
class SimContainer:
    """A container as it was created: the pod's own environment with the CDI edits laid over it.

    ``id`` is 64 hex digits; ``start`` counts from 0 and grows with each restart.
    """

    id: str
    pod: Plain
    spec: Plain
    start: int
    env: Mapping[str, str]
    mounts: Sequence[Plain] = ()
    device_nodes: Sequence[Plain] = ()
    hooks: Sequence[Plain] = ()
    cdi_devices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The container's name in its pod."""
        return str(self.spec["name"])

    @property
    def pod_uid(self) -> str:
        """The pod's UID."""
        return str(self.pod["metadata"]["uid"])


class RunningContainer(Protocol):
    """A started container."""

    async def wait(self) -> int:
        """Returns its exit code when it has ended; may be asked by several and more than once."""

    async def stop(self, grace_s: float) -> None:
        """Asks it to end, and ends it after ``grace_s``."""


class ContainerRuntime(Protocol):
    """What runs inside the containers."""

    async def start(self, container: SimContainer) -> RunningContainer:
        """Starts it; an exception is a failed start, tried again by the kubelet."""


class IdleContainer:
    """Runs until it is stopped; ``exit`` ends it as if its program had ended."""

    def __init__(self) -> None:
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def exit(self, code: int) -> None:
        """Ends it with this exit code."""
        if not self._code.done():
            self._code.set_result(code)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def stop(self, grace_s: float) -> None:
        self.exit(137 if grace_s == 0 else 143)


class IdleRuntime:
    """Containers that do nothing. ``started`` keeps every one in order, ``running`` by ID."""

    def __init__(self) -> None:
        self.started: list[SimContainer] = []
        self.running: dict[str, IdleContainer] = {}

    async def start(self, container: SimContainer) -> RunningContainer:
        self.started.append(container)
        self.running[container.id] = IdleContainer()
        return self.running[container.id]


@dataclass
class _Record:
    container: SimContainer
    handle: RunningContainer
    code: int | None = None
    waiter: asyncio.Task[None] | None = field(default=None, repr=False)


class Containerd:
    """All containers of a host. A restarted kubelet finds here what still runs."""

    def __init__(self, runtime: ContainerRuntime, new_id: Callable[[], str] = lambda: secrets.token_hex(32)) -> None:
        self._runtime = runtime
        self._new_id = new_id
        self._records: dict[str, _Record] = {}

    def new_id(self) -> str:
        """An ID for a container to be created."""
        return self._new_id()

    async def start(self, container: SimContainer) -> None:
        """Creates and starts a container."""
        record = _Record(container, await self._runtime.start(container))
        self._records[container.id] = record
        record.waiter = asyncio.create_task(self._await_end(record))

    def all(self) -> list[SimContainer]:
        """Every container that is not forgotten, running or ended."""
        return [record.container for record in self._records.values()]

    def newest(self, pod_uid: str, name: str) -> SimContainer | None:
        """The newest container of this name, running or ended."""
        found = [r.container for r in self._records.values() if r.container.pod_uid == pod_uid]
        return max((c for c in found if c.name == name), key=lambda c: c.start, default=None)

    def exit_code(self, container_id: str) -> int | None:
        """How it ended, or ``None`` while it runs."""
        record = self._records.get(container_id)
        return record.code if record else 137

    def running(self, pod_uid: str, name: str) -> bool:
        """Whether a container of this name runs."""
        newest = self.newest(pod_uid, name)
        return newest is not None and self.exit_code(newest.id) is None

    async def wait(self, container_id: str) -> int:
        """Its exit code, when it has ended."""
        record = self._records[container_id]
        if record.waiter:
            await asyncio.shield(record.waiter)
        return record.code if record.code is not None else 137

    async def stop_pod(self, pod_uid: str, grace_s: float) -> None:
        """Stops all containers of a pod and returns when they have ended."""
        alive = [r for r in self._records.values() if r.container.pod_uid == pod_uid and r.code is None]
        await asyncio.gather(*(record.handle.stop(grace_s) for record in alive))
        for record in alive:
            await self.wait(record.container.id)

    def forget_pod(self, pod_uid: str) -> None:
        """Removes the ended containers of a pod."""
        for record in [r for r in self._records.values() if r.container.pod_uid == pod_uid]:
            if record.code is not None:
                del self._records[record.container.id]

    async def close(self) -> None:
        """Ends everything: the host is switched off."""
        for uid in {record.container.pod_uid for record in self._records.values()}:
            await self.stop_pod(uid, 0)

    async def _await_end(self, record: _Record) -> None:
        record.code = await record.handle.wait()
