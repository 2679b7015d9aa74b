"""A pod, as far as slices are concerned."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as default
from enum import StrEnum

from tessera.model import names
from tessera.model.hosts import NOTHING, HostNeed


class Kind(StrEnum):
    """What a container is within its pod."""

    APP = "app"
    SIDECAR = "sidecar"
    INIT = "init"
    EPHEMERAL = "ephemeral"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container's name, place in the manifest (``spec.containers[main]``) and resources as written."""

    name: str
    field: str
    kind: Kind = Kind.APP
    limits: Mapping[str, str] = default(default_factory=dict)
    requests: Mapping[str, str] = default(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pod:
    """What the scheduler reads of a pod.

    ``resources`` are the pod-level ones, where slices are not allowed; ``host`` is what it needs of CPU and memory;
    ``nominated`` is the node on which room is being made for it. ``started`` is RFC 3339 in UTC, empty before that;
    ``grace_s`` is how long it may take to end once ``deleting``; ``preempted``: it gives way to another, whose UID is
    ``preempted_for`` if we chose it. ``owner`` is the UID of its controller, ``account`` its service account.
    """

    namespace: str
    name: str
    uid: str
    containers: tuple[ContainerSpec, ...] = ()
    annotations: Mapping[str, str] = default(default_factory=dict)
    node: str = ""
    phase: str = "Pending"
    deleting: bool = False
    priority: int = 0
    may_preempt: bool = True
    scheduler: str = ""
    resources: Mapping[str, str] = default(default_factory=dict)
    host: HostNeed = NOTHING
    nominated: str = ""
    labels: Mapping[str, str] = default(default_factory=dict)
    started: str = ""
    grace_s: int = 0
    preempted_for: str = ""
    preempted: bool = False
    owner: str = ""
    account: str = ""

    @property
    def ended(self) -> bool:
        """Whether all containers have stopped for good, so that the room is free."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def lease(self) -> str:
        """NAMESPACE/NAME of the GPULease that it serves as an executor; empty if it is none."""
        return self.annotations.get(names.LEASE, "")

    @property
    def lease_slice(self) -> str:
        """Which slice an executor is to have of its lease: ``target`` for the one that it moves to; empty: its own."""
        return self.annotations.get(names.LEASE_SLICE, "")
