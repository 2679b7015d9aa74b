"""The /dev/shm of one MPS group: a tmpfs that its daemon and the containers of its slices share.

It is mounted before the daemon is started, and goes when the daemon is stopped; between, a slice's end only takes away
the files that nobody needs. A daemon and containers with different ones would not work together, so what the daemon
was started with is recorded, and nobody is admitted where it is not the one that is mounted.
"""

import asyncio
import mmap
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from tessera.model.quantities import format_bytes, round_up
from tessera.node_agent.enforcement.mps_reasons import SHM_REPLACED, SHM_SHARED
from tessera.node_agent.enforcement.port import EnforcementError, Incident, Mount
from tessera.node_agent.enforcement.shm_files import ShmUsers, files_in, remove
from tessera.node_agent.enforcement.shm_mounts import Mounts
from tessera.node_agent.enforcement.shm_record import RecordFile
from tessera.node_agent.enforcement.shm_sizes import SHM, OwnShm, size_for
from tessera.node_agent.enforcement.shm_sweep import Sweep
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

OPTIONS = ("rw", "nosuid", "nodev", "noexec", "bind")
SWEEP_EVERY_S = 30.0


class PodUnknown(Exception):
    """The pod was not seen at the API server yet."""


OwnShmOf = Callable[[str, str], OwnShm | None]
"""What a pod, by UID, gives a container of a name at /dev/shm itself. Raises ``PodUnknown``."""


@dataclass(frozen=True, slots=True)
class ShmNode:
    """What all groups of a node need of it. ``base``: bytes; ``restored``: the slices of an earlier run."""

    mounts: Mounts
    base: int
    own_shm: OwnShmOf
    users: ShmUsers
    restored: Collection[str] = ()
    clock: Callable[[], float] = time.monotonic


class GroupShm:
    """``folder``: the group's."""

    def __init__(self, folder: Path, node: ShmNode) -> None:
        self.path = folder / "shm"
        self._node, self._mounts = node, node.mounts
        self._record = RecordFile(folder / "shm.json")
        self._sweep, self._untold = Sweep(), set[str]()
        self._admitted = set(node.restored)
        self._sweep_at = 0.0
        self._turn = asyncio.Lock()

    @property
    def within(self) -> tuple[str, ...]:
        """What stands before the command of the daemon, or of a client outside of containers."""
        return self._mounts.within(self.path)

    async def mount_for_daemon(self) -> None:
        """Before a daemon is started. Raises ``OSError``."""
        async with self._turn:
            await asyncio.to_thread(self._mount)

    async def is_daemons(self) -> bool:
        """Whether what is mounted is what the daemon was started with."""
        try:
            return await asyncio.to_thread(self._is_daemons)
        except OSError as error:
            log.warning("the /dev/shm of an MPS group cannot be looked at", path=str(self.path), error=str(error))
            return False

    async def admit(self, item: Slice, slices: Sequence[Slice]) -> Mount:
        """For the container of ``item``, which is among ``slices`` already. Raises ``EnforcementError``."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._admit, item, slices)
            except OSError as error:
                raise EnforcementError(f"the /dev/shm of its MPS group: {error}") from None
        return Mount(str(self.path), SHM, OPTIONS)

    async def release(self, slices: Sequence[Slice]) -> None:
        """After a slice has gone. What fails is done by a later ``look``."""
        self._sweep_at = 0.0
        await self._keep(slices)

    async def look(self, uuid: str, slices: Sequence[Slice]) -> list[Incident]:
        """Its size, its files, and what containers are to be told, each once."""
        await self._keep(slices)
        return [told for item in slices if item.id in self._untold and (told := self._tell(uuid, item))]

    async def unmount(self) -> None:
        """After the daemon was stopped. Containers that still have it keep it."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._unmount)
            except OSError as error:
                log.warning("the /dev/shm of an MPS group stays mounted", error=str(error))

    async def _keep(self, slices: Sequence[Slice]) -> None:
        async with self._turn:
            try:
                await asyncio.to_thread(self._fit_and_sweep, slices)
            except OSError as error:
                log.warning("the /dev/shm of an MPS group is not kept", path=str(self.path), error=str(error))

    def _mount(self) -> None:
        found, known = self._mounts.device(self.path), self._record.read()
        self._mounts.mount(self.path, self._node.base)
        device = self._mounts.device(self.path)
        if device is None:
            raise OSError(f"{self.path}: no tmpfs is there after it was mounted")
        self._record.write(device, known.daemons if device in (found, known.device) and found is not None else None)

    def _unmount(self) -> None:
        if self._mounts.device(self.path) is not None:
            self._mounts.unmount(self.path)

    def _is_daemons(self) -> bool:
        device = self._mounts.device(self.path)
        return device is not None and device == self._record.read().device

    def _admit(self, item: Slice, slices: Sequence[Slice]) -> None:
        device, known = self._mounts.device(self.path), self._record.read()
        if device is None or device != known.device:
            raise OSError(f"{self.path} is not what the daemon was started with")
        if item.id not in self._admitted:
            files = files_in(self._mounts.seen(self.path))
            if known.daemons is None:
                self._record.write(device, files)
            self._sweep.admit(item.id, files)
            self._untold.add(item.id)
        self._fit(slices)
        self._admitted.add(item.id)

    def _fit_and_sweep(self, slices: Sequence[Slice]) -> None:
        names = {item.id for item in slices}
        self._admitted &= names | set(self._node.restored)
        self._untold &= names
        device = self._mounts.device(self.path)
        if device is None:
            return
        try:
            if self._node.clock() >= self._sweep_at:
                self._sweep_at = self._node.clock() + SWEEP_EVERY_S
                self._remove_unneeded(device, names)
        finally:
            self._fit(slices)

    def _fit(self, slices: Sequence[Slice]) -> None:
        """Never below what is in use."""
        wanted = size_for(self._node.base, filter(None, map(self._own, slices)))
        size = round_up(max(wanted, self._mounts.used(self.path)), mmap.PAGESIZE)
        if size != self._mounts.size(self.path):
            self._mounts.resize(self.path, size)

    def _own(self, item: Slice) -> OwnShm | None:
        """A pod that is not known yet is looked at again."""
        try:
            return self._node.own_shm(item.pod_uid, item.container)
        except PodUnknown:
            return None

    def _remove_unneeded(self, device: int, slices: Collection[str]) -> None:
        folder, daemons = self._mounts.seen(self.path), self._record.read().daemons
        files = files_in(folder)
        if not files or daemons is None:
            return
        uses = self._node.users.look(device, set(files.values()))
        unneeded = self._sweep.unneeded(files, uses, slices, daemons)
        if unneeded and (removed := remove(folder, unneeded)):
            log.info("files of ended containers removed from /dev/shm", path=str(self.path), files=removed)

    def _tell(self, uuid: str, item: Slice) -> Incident | None:
        try:
            own = self._node.own_shm(item.pod_uid, item.container)
        except PodUnknown:
            return None
        self._untold.discard(item.id)
        shared = f"container {item.container}: its /dev/shm is shared with all containers that MPS holds on GPU {uuid}"
        if own is None:
            return Incident(uuid, SHM_SHARED, shared, (item.id,), kind="Normal")
        size = (
            f"and is larger by {format_bytes(own.size_bytes)} for it" if own.size_bytes else "without more room for it"
        )
        text = f"{shared}, {size}; volume {own.volume} is not mounted there"
        return Incident(uuid, SHM_REPLACED, text, (item.id,))
