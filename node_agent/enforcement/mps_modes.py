"""The two modes of an MPS daemon, of which it has one: percentages (level 1) or static SM partitions (level 2)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tessera.model.gpus import LEVEL_MPS, LEVEL_PARTITION
from tessera.node_agent.enforcement.mps_control import MpsControl
from tessera.node_agent.enforcement.mps_group import MpsGroup
from tessera.node_agent.enforcement.mps_groups import Group
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.mps_partition_group import PartitionGroup
from tessera.node_agent.enforcement.mps_static import StaticControl
from tessera.node_agent.enforcement.port import Finding, Incident
from tessera.node_agent.slices import Slice

STATIC_SINCE = 590


class Served(Protocol):
    """A group of GPUs and its daemon: ``MpsGroup`` and what is like it."""

    @property
    def uuids(self) -> Group: ...
    @property
    def control(self) -> MpsControl: ...
    @property
    def slices(self) -> list[Slice]: ...
    @property
    def trouble(self) -> str: ...
    @property
    def gone(self) -> bool: ...
    @property
    def worked(self) -> bool: ...
    @property
    def clients(self) -> frozenset[int] | None: ...
    async def detect(self, uuid: str) -> Finding: ...
    async def admit(self, item: Slice) -> Mapping[str, str]: ...
    async def apply(self) -> None: ...
    async def observe(self) -> list[Incident]: ...
    def retire(self, retired: bool = True) -> None: ...
    async def terminate(self, pid: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Mode:
    """``serve`` makes a group from the control program, the group's folder, its GPUs, and how long an answer may take;
    ``lacks`` says why a version of the driver does not do."""

    level: int
    serve: Callable[[str, Path, Group, float, Node], Served]
    lacks: Callable[[str], str] = lambda driver: ""


def _percentages(program: str, folder: Path, uuids: Group, answer_s: float, node: Node) -> Served:
    return MpsGroup(uuids, MpsControl(program, folder, uuids, answer_s, node.shm_of(folder)), node)


def _partitions(program: str, folder: Path, uuids: Group, answer_s: float, node: Node) -> Served:
    (uuid,) = uuids
    return PartitionGroup(uuid, StaticControl(program, folder, uuids, answer_s, node.shm_of(folder)), node)


def _too_old(driver: str) -> str:
    major = re.match(r"\d+", driver)
    if major and int(major[0]) >= STATIC_SINCE:
        return ""
    return f"static SM partitions need driver {STATIC_SINCE} or newer; found {driver or 'no version'}"


PERCENTAGES = Mode(LEVEL_MPS, _percentages)
PARTITIONS = Mode(LEVEL_PARTITION, _partitions, _too_old)
