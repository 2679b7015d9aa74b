"""What the dashboard shows: GPUs, nodes, pods, leases and totals as plain values.

All amounts are integers, bytes or percent points of one GPU. Every value is frozen, so that two snapshots can be
compared and only what changed is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tessera.model.gpus import GpuCondition


@dataclass(frozen=True, slots=True)
class Tenant:
    """One container's share of one GPU. ``core_percent`` 0 means no cap.

    Of a slice on another node than its pod's this is the container that it is for; ``lease`` is then NAMESPACE/NAME of
    its GPULease, and ``executor`` that of the pod that holds the slice for it, empty while none does. ``pod`` and
    ``container`` are empty where the lease is for no pod now.
    """

    namespace: str
    pod: str
    container: str
    mem_bytes: int
    core_percent: int
    whole: bool
    lease: str = ""
    executor: str = ""


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU and its tenants. ``mem_bytes`` is what the scheduler may give, ``total_bytes`` what the driver reports.

    ``index`` is its place on the node in the driver's order, -1 for a GPU that no node reports. ``evidence``: why it
    has its enforcement level. ``conditions``: what else stands against it.
    """

    uuid: str
    node: str
    index: int
    model: str
    mem_bytes: int
    total_bytes: int
    allocated_bytes: int
    core_percent: int
    tenants: tuple[Tenant, ...]
    healthy: bool
    health_reason: str
    level: int
    evidence: str = ""
    conditions: tuple[GpuCondition, ...] = ()

    @property
    def free_bytes(self) -> int:
        """What could still be given: nothing on an unhealthy GPU, never below zero."""
        return max(0, self.mem_bytes - self.allocated_bytes) if self.healthy else 0

    @property
    def overcommitted(self) -> bool:
        return self.allocated_bytes > self.mem_bytes or self.core_percent > 100


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's GPUs in sum. ``models`` counts them by model; ``level`` is the lowest enforcement level of its GPUs.

    ``client_slots`` is above 0 for a node without GPUs that takes so many containers whose slices are on other nodes;
    ``used_slots`` of them are taken.
    """

    name: str
    models: Mapping[str, int]
    gpus: int
    unhealthy_gpus: int
    mem_bytes: int
    allocated_bytes: int
    core_percent: int
    pods: int
    level: int
    client_slots: int = 0
    used_slots: int = 0


@dataclass(frozen=True, slots=True)
class PodShare:
    """A part of one GPU that a pod holds, over all of its containers.

    ``lease``: NAMESPACE/NAME of the GPULease by which it is on another node, ``node``; both empty for the pod's own.
    """

    uuid: str
    mem_bytes: int
    core_percent: int
    whole: bool
    lease: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod that asks for slices or holds some.

    ``asks`` is one line for a person (``4Gi``, ``2 GPUs x 12Gi, 30%``). ``reason`` is a stable word and ``message`` a
    sentence, both empty unless the pod waits, is refused or has ended. ``gpus`` is empty while it waits and once ended.

    ``leases`` names, as NAMESPACE/NAME, the GPULeases by which its slices are on other nodes. ``serves`` is the one
    that the pod serves as an executor, ``client`` the pod that it is for, empty where there is none.
    """

    namespace: str
    name: str
    uid: str
    phase: str
    node: str
    created: str
    asks: str
    gpus: tuple[PodShare, ...]
    waiting: bool
    reason: str
    message: str
    leases: tuple[str, ...] = ()
    serves: str = ""
    client: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class LeaseSize:
    """What is asked of one GPU; ``core_percent`` 0 means no cap."""

    mem_bytes: int
    core_percent: int


@dataclass(frozen=True, slots=True)
class LeaseRoom:
    """A part of GPU ``uuid`` of ``node`` that a lease keeps."""

    node: str
    uuid: str
    mem_bytes: int
    core_percent: int


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A slice of GPU ``uuid`` of ``node`` for one container of a pod on ``client_node``.

    ``executor`` is NAMESPACE/NAME of the pod that serves it, ``endpoint`` where; both are empty while there is none.
    ``message`` says why the phase. ``ending``: its deletion was asked for.

    ``wanted`` is the size that its users asked for, which stays when it is reached. ``target`` is the slice that it
    moves to, ``next`` NAMESPACE/NAME of the executor there that the sessions go to. ``unmoved`` says why there is no
    target though one is wanted.

    Of a ``standing`` lease, which users made, ``pod``, ``pod_uid``, ``container`` and ``client_node`` are empty while
    no pod uses it, and ``node`` and ``uuid`` while it has no room: none was found yet, or it is ``stopped``.
    """

    namespace: str
    name: str
    uid: str
    pod: str
    pod_uid: str
    container: str
    client_node: str
    node: str
    uuid: str
    mem_bytes: int
    core_percent: int
    phase: str
    epoch: int
    endpoint: str
    executor: str
    message: str
    created: str
    ending: bool = False
    target: LeaseRoom | None = None
    wanted: LeaseSize | None = None
    unmoved: str = ""
    next: str = ""
    standing: bool = False
    stopped: bool = False

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def size(self) -> LeaseSize:
        """What it has now."""
        return LeaseSize(self.mem_bytes, self.core_percent)

    @property
    def asked(self) -> LeaseSize | None:
        """The size that is wanted and that it does not have."""
        return None if self.wanted == self.size else self.wanted

    @property
    def rooms(self) -> tuple[LeaseRoom, ...]:
        """All that is kept for it: its slice, and the one that it moves to."""
        own = LeaseRoom(self.node, self.uuid, self.mem_bytes, self.core_percent) if self.node else None
        return tuple(room for room in (own, self.target) if room)

    @property
    def moves(self) -> bool:
        """Whether it is to become another slice, or to get another size; one without a slice has nothing to leave."""
        return self.target is not None or bool(self.next) or (bool(self.node) and self.asked is not None)


@dataclass(frozen=True, slots=True)
class Totals:
    """The pool in sum. ``largest_free_bytes`` is the largest slice that one GPU could still hold.

    ``nodes`` are those with GPUs. Executors are not among the pods: what they hold is their clients'.
    """

    nodes: int = 0
    gpus: int = 0
    unhealthy_gpus: int = 0
    overcommitted_gpus: int = 0
    idle_gpus: int = 0
    mem_bytes: int = 0
    allocated_bytes: int = 0
    free_bytes: int = 0
    largest_free_bytes: int = 0
    core_percent: int = 0
    pods: int = 0
    running_pods: int = 0
    waiting_pods: int = 0
    leases: int = 0
    client_nodes: int = 0
    client_slots: int = 0
    used_slots: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pool at one moment: GPUs by UUID, nodes by name, pods and leases by ``namespace/name``, in order of keys."""

    gpus: dict[str, GpuState] = field(default_factory=dict)
    nodes: dict[str, NodeState] = field(default_factory=dict)
    pods: dict[str, PodState] = field(default_factory=dict)
    totals: Totals = Totals()
    leases: dict[str, LeaseState] = field(default_factory=dict)
