"""Level 3: the kernel and the driver hold the memory of a container's cgroup, all its processes together.

A container's cgroup is made after its slice is prepared, so a hook that the runtime runs sets the limit there and
leaves a record of which cgroup that is. The pod's cgroup has the sum of the pod's slices.
Compute is had in turns, as at level 0.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_DRIVER, LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.cgroup_records import CgroupRecords
from tessera.node_agent.enforcement.dmem_files import NO_LIMIT, address_of, region_name
from tessera.node_agent.enforcement.dmem_tree import DmemError, DmemTree
from tessera.node_agent.enforcement.hook import NAME, HookProgram
from tessera.node_agent.enforcement.port import Edits, EnforcementError, Finding, Hook, Incident
from tessera.node_agent.slices import Slice

A = TypeVar("A")
T = TypeVar("T")
Wanted = tuple[Path, str, str]
"""A cgroup, a region and the limit in bytes, or ``max``."""


class Driver:
    """``slices``: all that are prepared; ``records``: the folder of ``CgroupRecords``; ``proc``: the host's."""

    level = LEVEL_DRIVER

    def __init__(
        self, tree: DmemTree, hook: HookProgram | None, slices: Callable[[], Iterable[Slice]], records: Path, proc: Path
    ) -> None:
        self._tree, self._hook, self._slices = tree, hook, slices
        self._records, self._proc = CgroupRecords(records, slices), proc
        self._held: dict[str, Slice] = {}
        self._trouble: dict[str, str] = {}
        self._turn = threading.Lock()

    async def detect(self, uuid: str) -> Finding:
        return await asyncio.to_thread(self._in_turn, self._detect, uuid)

    def takes(self, item: Slice) -> bool:
        return True

    def broken(self, uuid: str) -> str:
        return f"limits of slices there are lost: {self._trouble[uuid]}" if uuid in self._trouble else ""

    async def leave(self, uuid: str) -> str:
        """Nothing runs here."""
        return ""

    async def prepare(self, item: Slice) -> Edits:
        self._held[item.id] = item
        return await asyncio.to_thread(self._in_turn, self._prepare, item)

    async def observe(self) -> tuple[Incident, ...]:
        await asyncio.to_thread(self._records.sweep)
        held = tuple(self._held.values())
        found = await asyncio.to_thread(lambda: [(item, *self._in_turn(self._look, item)) for item in held])
        # A slice may have been released meanwhile, and its limits with it.
        found = [(item, changed, failed) for item, changed, failed in found if item.id in self._held]
        trouble = {share.uuid: failed for item, _, failed in found if failed for share in item.shares}
        new = {uuid for uuid in trouble if uuid not in self._trouble}
        over = {uuid for uuid in self._trouble if uuid not in trouble}
        self._trouble = trouble
        return (*_changes(found), *(_lost(uuid, trouble[uuid]) for uuid in sorted(new)), *map(_back, sorted(over)))

    async def terminate(self, uuid: str, pid: int) -> bool:
        return False

    async def release(self, item: Slice) -> None:
        self._held.pop(item.id, None)
        await asyncio.to_thread(self._in_turn, self._release, item)

    async def close(self) -> None:
        """The limits stay: containers run on."""

    def _in_turn(self, work: Callable[[A], T], given: A) -> T:
        """A look must not set again what a release has just taken away; GPUs are tried on one scratch cgroup."""
        with self._turn:
            return work(given)

    def _detect(self, uuid: str) -> Finding:
        if broken := self.broken(uuid):
            return Finding(LEVEL_NONE, broken)
        try:
            if self._hook is None:
                raise EnforcementError("no hook is set")
            evidence = self._tree.check(self._region(uuid))
            self._hook.installed()
        except (DmemError, EnforcementError) as error:
            return Finding(LEVEL_WATCH, str(error))
        return Finding(LEVEL_DRIVER, evidence)

    def _prepare(self, item: Slice) -> Edits:
        pod = self._tree.pod(item.pod_uid)
        if pod is None:
            raise EnforcementError(f"no cgroup of pod {item.pod_uid} below {self._tree.mount}")
        if self._hook is None:
            raise EnforcementError("no hook is set; level 3 needs one")
        try:
            self._tree.enable(pod)
            for wanted in self._of_pod(item, pod):
                self._tree.set_limit(*wanted)
        except DmemError as error:
            raise EnforcementError(str(error)) from None
        limits = [part for share in _held_shares(item) for part in (self._region(share.uuid), str(share.mem_bytes))]
        args = (NAME, str(self._proc), str(self._tree.mount), str(self._records.path(item.id)), *limits)
        return Edits(LEVEL_DRIVER, hooks=(Hook(str(self._hook.installed()), args),))

    def _release(self, item: Slice) -> None:
        self._records.drop(item.id)
        pod = self._tree.pod(item.pod_uid)
        if pod is None:
            return
        try:
            for wanted in self._of_pod(item, pod):
                self._tree.set_limit(*wanted)
        except (OSError, DmemError, EnforcementError):
            return  # the pod is going; if it is not, the next look sets what its other slices need

    def _look(self, item: Slice) -> tuple[str, str]:
        """What had changed and is set again, and what could not be."""
        pod = self._tree.pod(item.pod_uid)
        if pod is None:
            return "", ""
        try:
            missing = self._tree.enable(pod)
            changed = [text for wanted in self._wanted(item, pod) if (text := self._mend(*wanted))]
            lost = [f"dmem was no longer enabled in {', '.join(map(str, missing))}"] if missing else []
            return "; ".join((*lost, *changed)), ""
        except (OSError, DmemError, EnforcementError) as error:
            # Of a container or a pod that has just ended nothing is left to be held.
            return "", str(error) if pod.is_dir() else ""

    def _mend(self, cgroup: Path, region: str, value: str) -> str:
        found = self._tree.limit(cgroup, region)
        if found == value:
            return ""
        try:
            self._tree.set_limit(cgroup, region, value)
        except (OSError, DmemError):
            if not cgroup.is_dir():
                return ""
            raise
        return f"{cgroup} had {found or 'no limit'} of {region} instead of {value}"

    def _wanted(self, item: Slice, pod: Path) -> Iterator[Wanted]:
        yield from self._of_pod(item, pod)
        container = self._container(item)
        if container is not None:
            for share in _held_shares(item):
                yield container, self._region(share.uuid), str(share.mem_bytes)

    def _of_pod(self, item: Slice, pod: Path) -> Iterator[Wanted]:
        """Of each GPU of a slice, what all slices of its pod may have there: also those of another level count."""
        others = [other for other in self._slices() if other.pod_uid == item.pod_uid]
        for share in _held_shares(item):
            total = sum(s.mem_bytes for other in others for s in other.shares if s.uuid == share.uuid)
            yield pod, self._region(share.uuid), str(total) if total else NO_LIMIT

    def _container(self, item: Slice) -> Path | None:
        """The cgroup that the hook left on record, as long as it is there."""
        recorded = self._records.get(item.id)
        path = self._tree.mount / recorded if recorded is not None else None
        return path if path and path.is_dir() else None

    def _region(self, uuid: str) -> str:
        address = address_of(self._proc, uuid)
        if address is None:
            raise EnforcementError(f"the kernel's driver does not list {uuid} in {self._proc}/driver/nvidia/gpus")
        return region_name(address)


def _held_shares(item: Slice) -> list[Share]:
    return [share for share in item.shares if not share.whole]


def _changes(found: Iterable[tuple[Slice, str, str]]) -> Iterator[Incident]:
    for item, changed, _ in found:
        if changed:
            text = f"The limits of slice {item.id} were changed and are set again: {changed}."
            yield Incident(item.shares[0].uuid, "DriverLimitChanged", text, (item.id,))


def _lost(uuid: str, why: str) -> Incident:
    return Incident(uuid, "DriverLimitsLost", f"Limits of slices on GPU {uuid} cannot be set: {why}.")


def _back(uuid: str) -> Incident:
    return Incident(uuid, "DriverLimitsSet", f"The limits of the slices on GPU {uuid} are set again.", kind="Normal")
