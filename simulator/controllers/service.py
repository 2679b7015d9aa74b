"""The controllers' loop: watches workloads and pods, and carries out what ``workloads`` and ``jobs`` say.

An owner whose creations are not yet visible in the watch is left alone until they are (or ten seconds have passed), so
that nothing is made twice.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from tessera.kube.errors import ApiError, KubeError, UnknownOutcome
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Change, Deleted, Reflector, Replaced, Upserted
from tessera.kube.resources import DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS, Resource
from tessera.simulator.controllers.actions import POD, Action, Create, Delete, Patch, deleting, owner_of
from tessera.simulator.controllers.jobs import job
from tessera.simulator.controllers.workloads import deployment, replica_set, stateful_set

log = structlog.get_logger()

Plain = dict[str, Any]
Key = tuple[str, str]
"""Kind and UID."""
PATIENCE_S = 10.0
RETRY_S = 0.5

PLANS: dict[str, tuple[Resource[Plain], Callable[[Plain, Sequence[Plain]], list[Action]]]] = {
    "Deployment": (DEPLOYMENTS, deployment),
    "ReplicaSet": (REPLICA_SETS, replica_set),
    "StatefulSet": (STATEFUL_SETS, stateful_set),
    "Job": (JOBS, job),
}


class Controllers:
    """Run ``run`` as a task; it returns only when cancelled."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway, self._clock = gateway, clock
        self._objects: dict[str, dict[str, Plain]] = {}
        self._children: dict[str, set[tuple[str, str]]] = {}
        self._expected: dict[str, tuple[set[str], float]] = {}
        self._dirty: set[Key] = set()
        self._changed = asyncio.Event()
        resources = {**{kind: resource for kind, (resource, _) in PLANS.items()}, "Pod": POD}
        self._reflectors = [Reflector(gateway, resources[kind], self._sink(kind)) for kind in resources]

    async def run(self) -> None:
        """For ever."""
        tasks = [asyncio.create_task(reflector.run()) for reflector in self._reflectors]
        tasks.append(asyncio.create_task(self._loop()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _loop(self) -> None:
        for reflector in self._reflectors:
            await reflector.wait_synced()
        while True:
            await self._changed.wait()
            self._changed.clear()
            dirty, self._dirty = self._dirty, set()
            for kind, uid in sorted(dirty):
                await self._reconcile(kind, uid)

    async def _reconcile(self, kind: str, uid: str) -> None:
        obj = self._objects.get(kind, {}).get(uid)
        if obj is None or deleting(obj):
            for child_kind, child in self._children_of(uid):
                if not deleting(child):
                    await self._do(uid, Delete(POD if child_kind == "Pod" else PLANS[child_kind][0], child))
            return
        if self._waits(uid):
            self._later(kind, uid)
            return
        _, plan = PLANS[kind]
        children = sorted((child for _, child in self._children_of(uid)), key=lambda c: str(c["metadata"]["name"]))
        for action in plan(obj, children):
            if not await self._do(uid, action):
                self._later(kind, uid)

    async def _do(self, uid: str, action: Action) -> bool:
        meta = action.object["metadata"]
        namespace = meta["namespace"]
        try:
            match action:
                case Create(resource, obj):
                    made = await self._gateway.create(resource, obj, namespace=namespace)
                    known, _ = self._expected.get(uid, (set(), 0.0))
                    self._expected[uid] = ({*known, made["metadata"]["uid"]}, self._clock() + PATIENCE_S)
                case Delete(resource, _):
                    await self._gateway.delete(resource, meta["name"], namespace=namespace, uid=meta["uid"])
                case Patch(resource, _, patch, subresource):
                    await self._gateway.merge_patch(
                        resource, meta["name"], patch, namespace=namespace, subresource=subresource
                    )
        except UnknownOutcome:
            self._expected[uid] = ({"whatever was made"}, self._clock() + PATIENCE_S)
            return False
        except ApiError as error:
            if error.not_found or error.conflict or error.already_exists:
                return True
            log.warning("controller refused", object=meta.get("name", meta.get("generateName")), error=str(error))
            return False
        except KubeError as error:
            log.warning("controller put off", error=str(error))
            return False
        return True

    def _waits(self, uid: str) -> bool:
        """Whether something this owner made has not been seen yet."""
        expected, deadline = self._expected.get(uid, (set(), 0.0))
        unseen = {child for child in expected if not any(child == seen for _, seen in self._children.get(uid, ()))}
        if unseen and self._clock() < deadline:
            return True
        self._expected.pop(uid, None)
        return False

    def _later(self, kind: str, uid: str) -> None:
        def again() -> None:
            self._dirty.add((kind, uid))
            self._changed.set()

        asyncio.get_running_loop().call_later(RETRY_S, again)

    def _children_of(self, uid: str) -> Iterator[tuple[str, Plain]]:
        for kind, child in list(self._children.get(uid, ())):
            found = self._objects.get(kind, {}).get(child)
            if found is not None:
                yield kind, found

    def _sink(self, kind: str) -> Callable[[Change[Plain]], None]:
        def sink(change: Change[Plain]) -> None:
            match change:
                case Replaced(objects):
                    present = {obj["metadata"]["uid"] for obj in objects}
                    for uid in [uid for uid in self._objects.get(kind, {}) if uid not in present]:
                        self._forget(kind, self._objects[kind][uid])
                    for obj in objects:
                        self._note(kind, obj)
                case Upserted(obj):
                    self._note(kind, obj)
                case Deleted(obj):
                    self._forget(kind, obj)
            self._changed.set()

        return sink

    def _note(self, kind: str, obj: Plain) -> None:
        uid = obj["metadata"]["uid"]
        self._objects.setdefault(kind, {})[uid] = obj
        if kind in PLANS:
            self._dirty.add((kind, uid))
        if owner := owner_of(obj):
            self._children.setdefault(owner[2], set()).add((kind, uid))
            self._touch(owner)

    def _forget(self, kind: str, obj: Plain) -> None:
        uid = obj["metadata"]["uid"]
        self._objects.get(kind, {}).pop(uid, None)
        if kind in PLANS:
            self._dirty.add((kind, uid))
        if owner := owner_of(obj):
            self._touch(owner)
            self._children.get(owner[2], set()).discard((kind, uid))
            self._expected.get(owner[2], (set(), 0.0))[0].discard(uid)

    def _touch(self, owner: tuple[str, str, str]) -> None:
        kind, _, uid = owner
        if kind in PLANS:
            self._dirty.add((kind, uid))
