"""What each container uses of each GPU, against what it was given. Pure.

A container that holds a slice and uses a GPU that it was not given has a limit of 0 there. Processes of no pod, and of
pods that hold no slice here, are only reported: they are not ours to judge. Whole GPUs and MIG devices have no limit.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tessera.node_agent.cgroups import Container
from tessera.node_agent.nvml import GpuProcess
from tessera.node_agent.processes import Process
from tessera.node_agent.slices import Slice


@dataclass(frozen=True, slots=True)
class Client:
    """A process on a GPU and what it uses there; ``None``: the driver does not tell."""

    process: Process
    used_bytes: int | None
    mps: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """One container on one GPU. ``used_bytes`` sums what is known; ``blind``: something is not.

    ``best_effort``: all its slices are.
    """

    container: Container
    gpu_uuid: str
    used_bytes: int
    limit_bytes: int
    clients: tuple[Client, ...]
    slices: tuple[str, ...]
    blind: bool = False
    best_effort: bool = False

    @property
    def over(self) -> bool:
        return self.used_bytes > self.limit_bytes


@dataclass(frozen=True, slots=True)
class Accounts:
    """``usages`` of containers with slices; ``foreign``: GPU processes of no pod, or of a pod without a slice."""

    usages: tuple[Usage, ...]
    foreign: tuple[GpuProcess, ...]


_NO_LIMIT = 1 << 62

NameOf = Callable[[Container], str | None]


def account(
    found: Iterable[GpuProcess], processes: Mapping[int, Process], slices: Iterable[Slice], name_of: NameOf
) -> Accounts:
    """``processes``: those that still live, by id. ``name_of``: a container's name in its pod, if known yet."""
    by_pod: dict[str, list[Slice]] = defaultdict(list)
    for item in slices:
        by_pod[item.pod_uid].append(item)
    groups: dict[tuple[Container, str], list[Client]] = defaultdict(list)
    foreign = []
    for one in found:
        process = processes.get(one.pid)
        if process is None or process.container is None or process.container.pod_uid not in by_pod:
            foreign.append(one)
        else:
            groups[process.container, one.gpu_uuid].append(Client(process, one.used_bytes, one.mps))
    usages = (_usage(*key, clients, by_pod[key[0].pod_uid], name_of(key[0])) for key, clients in groups.items())
    return Accounts(tuple(usages), tuple(foreign))


def _usage(container: Container, uuid: str, clients: list[Client], slices: list[Slice], name: str | None) -> Usage:
    """Until the container's name is known it may use what any of its pod's containers may: nobody is ended in error."""
    own = [item for item in slices if name is None or item.container == name]
    limits = [_limit(item, uuid) for item in own]
    ids = tuple(item.id for item in own)
    used = sum(client.used_bytes or 0 for client in clients)
    blind = any(client.used_bytes is None for client in clients)
    best_effort = bool(own) and all(item.qos == "best-effort" for item in own)
    return Usage(container, uuid, used, max(limits, default=0), tuple(clients), ids, blind, best_effort)


def _limit(item: Slice, uuid: str) -> int:
    found = next((share for share in item.shares if share.uuid == uuid), None)
    if found is None:
        return 0
    return _NO_LIMIT if found.whole else found.mem_bytes
