"""Levels 1 and 2: MPS, with a memory limit for each client, and a share of the multiprocessors or a partition of them.

Limits hold for each client, not for a container: the sum is the watcher's. A slice over several GPUs is held where one
daemon serves them all (``mps_groups``), else it is watched. The two levels are two limiters, ``exclusive``: a GPU is
served in one mode at a time, and goes from one to the other when no slice is held there.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tessera.model.gpus import LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.looks import LOOK_S, Looks
from tessera.node_agent.enforcement.mps_control import MpsControl
from tessera.node_agent.enforcement.mps_environment import PIPE_IN_CONTAINER
from tessera.node_agent.enforcement.mps_folders import Folders
from tessera.node_agent.enforcement.mps_groups import Group, name_of
from tessera.node_agent.enforcement.mps_left_over import LeftOver
from tessera.node_agent.enforcement.mps_modes import PERCENTAGES, Mode, Served
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.port import Edits, EnforcementError, Finding, Incident, Mount
from tessera.node_agent.slices import Slice

Partition = Callable[[tuple[Group, ...]], Mapping[str, Group]]
"""The group of each GPU, given those that must stay as they are."""

ANSWER_S = 3.0
TRY_AGAIN_S = 600.0
"""Between two tries of a mode that does not work on a GPU: each stops the daemon of the mode below."""


class Mps:
    """``answer_s``: how long the control program may take to answer; ``look_s``: how long an ``observe`` waits for a
    group. ``node``: its slices are those of this level.

    A group is made when one of its GPUs is looked at first, and then stays as it is. Groups of an earlier run stay
    where a slice lies on their GPUs; the other daemons of that run are stopped.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        partition: Partition,
        node: Node,
        *,
        mode: Mode = PERCENTAGES,
        answer_s: float = ANSWER_S,
        look_s: float = LOOK_S,
    ) -> None:
        self.level, self._mode = mode.level, mode
        self._program, self._folders, self._partition = program, Folders(folder), partition
        self._node, self._answer_s = node, answer_s
        self._rivals: tuple[Mps, ...] = ()
        self._given_up: set[str] = set()
        self._put_off: dict[str, tuple[float, Finding]] = {}
        self._groups: dict[Group, Served] = {}
        self._held: set[str] = set()
        self._left_over, self._looks = LeftOver(self._folders), Looks(look_s)
        self._adopt()

    def group_of(self, uuid: str) -> Group:
        """The GPUs that share a daemon with this one, itself included."""
        return self._partition(tuple(self._groups)).get(uuid, (uuid,))

    def group_name(self, uuid: str) -> str:
        """Names the group of a GPU; empty for one that is a group by itself."""
        group = self.group_of(uuid)
        return name_of(group) if len(group) > 1 else ""

    def serves(self, uuid: str) -> bool:
        """Whether a daemon may run that has this GPU."""
        return any(uuid in group for group in self._groups) or self._left_over.on(uuid)

    def takes(self, item: Slice) -> bool:
        """One daemon has to serve all of its GPUs."""
        return len({self.group_of(share.uuid) for share in item.shares}) == 1

    async def detect(self, uuid: str) -> Finding:
        uuids = self.group_of(uuid)
        if lacking := self._mode.lacks(self._node.driver()):
            return Finding(LEVEL_NONE if self._slices_on(uuids) else LEVEL_WATCH, lacking)
        until, before = self._put_off.get(uuid, (0.0, None))
        if before and self._node.clock() < until:
            return before
        if obstacle := await self._take(uuids):
            return Finding(LEVEL_WATCH, obstacle)
        group = self._group(uuids)
        await self._left_over.stop(group.uuids)
        found = await group.detect(uuid)
        if found.level == LEVEL_WATCH and any(rival.level < self.level for rival in self._rivals):
            self._put_off[uuid] = self._node.clock() + TRY_AGAIN_S, found
        return found

    async def prepare(self, item: Slice) -> Edits:
        if not self.takes(item):
            return Edits(LEVEL_WATCH)
        uuids = self.group_of(item.shares[0].uuid)
        if given := self._given_up.intersection(uuids):
            raise EnforcementError(f"GPU {min(given)} is no longer held at level {self.level}")
        group = self._group(uuids)
        self._held.add(item.id)
        environment = await group.admit(item)
        pipe, shm = Mount(str(group.control.pipe), PIPE_IN_CONTAINER), group.control.shm
        shared = (await shm.admit(item, group.slices),) if shm else ()
        return Edits(self.level, environment, (pipe, *shared))

    async def observe(self) -> tuple[Incident, ...]:
        return await self._looks.round({uuids: group.observe for uuids, group in self._groups.items()})

    async def look_after_shm(self) -> tuple[Incident, ...]:
        """Keeps what the containers of a group share at /dev/shm; whom it is to be told that they share it."""
        groups = [(group, group.control.shm) for group in self._groups.values()]
        found = [incident for group, shm in groups if shm for incident in await shm.look(group.uuids[0], group.slices)]
        return tuple(found)

    async def terminate(self, uuid: str, pid: int) -> bool:
        group = self._groups.get(self.group_of(uuid))
        return await group.terminate(pid) if group else False

    def holds(self, slice_id: str) -> bool:
        """Whether a slice is to run under MPS, be it that it cannot now."""
        return slice_id in self._held

    def clients_of(self, uuid: str) -> frozenset[int] | None:
        """The clients of a GPU's daemon at the last ``observe``: nobody where there is no daemon; ``None``: it did not
        answer, or was in trouble."""
        group = self._groups.get(self.group_of(uuid))
        if group and group.gone:
            return frozenset()
        return group.clients if group and not group.trouble else None

    async def release(self, item: Slice) -> None:
        self._held.discard(item.id)
        for group in {self.group_of(share.uuid) for share in item.shares}:
            if served := self._groups.get(group):
                await served.apply()
                if served.control.shm:
                    await served.control.shm.release(served.slices)

    async def close(self) -> None:
        """Daemons outlive the agent: containers depend on them. Only those without a slice are stopped."""
        await self._looks.close()
        for group in self._groups.values():
            if not group.slices:
                await group.control.stop()

    def broken(self, uuid: str) -> str:
        group = self._groups.get(self.group_of(uuid))
        return group.trouble if group else ""

    async def leave(self, uuid: str) -> str:
        return await self._give_up({self.group_of(uuid)}) if self.serves(uuid) else ""

    async def _yield(self, uuids: Group, level: int) -> str:
        """Gives GPUs to the limiter of ``level``, unless this one is higher and works there."""
        groups = {self.group_of(uuid) for uuid in uuids}
        for group in groups:
            served = self._groups.get(group)
            if served and served.worked and self.level > level:
                return f"GPU {', '.join(group)} has level {self.level}"
        return await self._give_up(groups)

    async def _give_up(self, groups: set[Group]) -> str:
        """Stops serving; why that cannot be, or empty."""
        for group in groups:
            if self._slices_on(group):
                return f"slices lie on GPU {', '.join(group)} that are held at level {self.level}"
        # Before anything is waited for: nobody is admitted here from now on.
        self._given_up.update(*groups)
        for group in groups:
            if not (await self._stop(group) and await self._left_over.stop(group, also_same=True)):
                self._given_up.difference_update(*groups)
                return f"the MPS daemon of GPU {', '.join(group)} at level {self.level} does not stop"
        return ""

    async def _stop(self, group: Group) -> bool:
        served = self._groups.get(group)
        if served is None:
            return True
        served.retire()
        stopped = await served.control.stop()
        served.retire(stopped)
        if stopped:
            self._groups.pop(group, None)
            self._folders.forget(group)
        return stopped

    async def _take(self, uuids: Group) -> str:
        for rival in self._rivals:
            if obstacle := await rival._yield(uuids, self.level):
                return obstacle
        self._given_up.difference_update(uuids)
        return ""

    def _slices_on(self, uuids: Group) -> bool:
        shares = (share for item in self._node.slices() for share in item.shares)
        return any(share.uuid in uuids and not share.whole for share in shares)

    def _group(self, uuids: Group) -> Served:
        if uuids not in self._groups:
            self._groups[uuids] = self._served(uuids)
            self._folders.record(uuids)
        return self._groups[uuids]

    def _served(self, uuids: Group) -> Served:
        return self._mode.serve(self._program, self._folders.of(uuids), uuids, self._answer_s, self._node)

    def _adopt(self) -> None:
        used = {share.uuid for item in self._node.slices() for share in item.shares if not share.whole}
        for uuids in self._folders.recorded():
            if used.intersection(uuids) and not set(uuids) & {uuid for group in self._groups for uuid in group}:
                self._groups[uuids] = self._served(uuids)
            else:
                folder = self._folders.of(uuids)
                shm = self._node.shm_of(folder)
                self._left_over.add(uuids, MpsControl(self._program, folder, uuids, self._answer_s, shm))


def exclusive(*limiters: Mps) -> None:
    """Tells each of the others: a GPU is served by one of them."""
    for limiter in limiters:
        limiter._rivals = tuple(other for other in limiters if other is not limiter)
