"""Level 1: MPS, with a memory limit and a share of the multiprocessors for each client.

Limits hold for each client, not for a container: the sum is the watcher's. A slice over several GPUs is held where one
daemon serves them all (``mps_groups``), else it is watched.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from tessera.durable import LocalDisk, replace_durably
from tessera.model.gpus import LEVEL_MPS, LEVEL_WATCH
from tessera.node_agent.enforcement.mps_control import MpsControl
from tessera.node_agent.enforcement.mps_environment import PIPE_IN_CONTAINER, environment_of
from tessera.node_agent.enforcement.mps_group import MpsGroup
from tessera.node_agent.enforcement.mps_groups import Group, name_of
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.port import Edits, Finding, Incident, Mount
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

MEMBERS = "gpus"
"""Beside the pipe folder: the UUIDs of the group, one a line."""

Partition = Callable[[tuple[Group, ...]], Mapping[str, Group]]
"""The group of each GPU, given those that must stay as they are."""


class Mps:
    """``answer_s``: how long the control program may take to answer.

    A group is made when one of its GPUs is looked at first, and then stays as it is. Groups of an earlier run stay
    where a slice lies on their GPUs; the other daemons of that run are stopped.
    """

    level = LEVEL_MPS

    def __init__(self, program: str, folder: Path, partition: Partition, node: Node, *, answer_s: float = 3.0) -> None:
        self._program, self._folder, self._partition = program, folder, partition
        self._node, self._answer_s = node, answer_s
        self._groups: dict[Group, MpsGroup] = {}
        self._held: set[str] = set()
        self._left_over: dict[Group, MpsControl] = {}
        self._adopt()

    def group_of(self, uuid: str) -> Group:
        """The GPUs that share a daemon with this one, itself included."""
        return self._partition(tuple(self._groups)).get(uuid, (uuid,))

    async def detect(self, uuid: str) -> Finding:
        group = self._group(self.group_of(uuid))
        await self._stop_left_over(group.uuids)
        return await group.detect(uuid)

    async def prepare(self, item: Slice) -> Edits:
        groups = {self.group_of(share.uuid) for share in item.shares}
        if len(groups) > 1:
            return Edits(LEVEL_WATCH)
        group = self._group(groups.pop())
        await group.admit(item)
        self._held.add(item.id)
        mount = Mount(str(group.control.pipe), PIPE_IN_CONTAINER)
        return Edits(LEVEL_MPS, environment_of(item, group.uuids), (mount,))

    async def observe(self) -> tuple[Incident, ...]:
        # Together: a daemon that hangs must not hold up the looks after the others.
        found = await asyncio.gather(*(group.observe() for group in list(self._groups.values())))
        return tuple(incident for incidents in found for incident in incidents)

    async def terminate(self, uuid: str, pid: int) -> bool:
        group = self._groups.get(self.group_of(uuid))
        return await group.terminate(pid) if group else False

    def holds(self, slice_id: str) -> bool:
        """Whether a slice was prepared with the limits of MPS."""
        return slice_id in self._held

    def clients_of(self, uuid: str) -> frozenset[int] | None:
        """The clients of a GPU's daemon at the last ``observe``; ``None``: it did not answer, or was in trouble."""
        group = self._groups.get(self.group_of(uuid))
        return group.clients if group and not group.trouble else None

    async def release(self, item: Slice) -> None:
        self._held.discard(item.id)
        for group in {self.group_of(share.uuid) for share in item.shares}:
            if group in self._groups:
                await self._groups[group].apply()

    async def close(self) -> None:
        """Daemons outlive the agent: containers depend on them. Only those without a slice are stopped."""
        for group in self._groups.values():
            if not group.slices:
                await group.control.quit()

    def _group(self, uuids: Group) -> MpsGroup:
        if uuids not in self._groups:
            self._groups[uuids] = MpsGroup(uuids, self._control(uuids), self._node)
            self._record(uuids)
        return self._groups[uuids]

    def _control(self, uuids: Group) -> MpsControl:
        return MpsControl(self._program, self._folder / name_of(uuids), uuids, self._answer_s)

    def _record(self, uuids: Group) -> None:
        folder = self._folder / name_of(uuids)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_durably(LocalDisk(), folder / MEMBERS, "".join(f"{uuid}\n" for uuid in uuids).encode())
        except OSError as error:
            log.error("an MPS group is not recorded", gpus=uuids, error=str(error))

    def _adopt(self) -> None:
        used = {share.uuid for item in self._node.slices() for share in item.shares if not share.whole}
        for path in sorted(self._folder.glob(f"*/{MEMBERS}")):
            try:
                uuids = tuple(path.read_text().split())
            except (OSError, UnicodeDecodeError):
                continue
            if path.parent.name != name_of(uuids):
                continue
            if used.intersection(uuids) and not set(uuids) & {uuid for group in self._groups for uuid in group}:
                self._groups[uuids] = MpsGroup(uuids, self._control(uuids), self._node)
            else:
                self._left_over[uuids] = self._control(uuids)

    async def _stop_left_over(self, uuids: Group) -> None:
        """A GPU is never served by two daemons."""
        for other in [group for group in self._left_over if set(group).intersection(uuids)]:
            control = self._left_over.pop(other)
            if other != uuids:
                await control.quit()
