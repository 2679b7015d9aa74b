"""A slice on another node for one container of a pod: who it is for, where it is, how far it has come.

The API server's object is the only truth. The room is held by the lease from the moment it is written until a pod on
the GPU's node, its executor, is bound with that very share; from then on the executor's assignment holds it.

The scheduler makes a lease for a container that it places, and that lease goes with the container's pod. A *standing*
lease is made by its users. It is served whether or not a pod uses it, and outlives each pod that does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from tessera.model.assignment import Share

_TARGET = "//target"
"""What no other key ends in: a container's name has no slash."""
_NAME_LENGTH = 200
"""Characters of the pod's name that a lease's keeps; 253 are allowed, of which the digest takes 11."""


class Phase(StrEnum):
    PENDING = "Pending"
    """No room has been found for it yet."""
    RESERVED = "Reserved"
    """The room is kept; there is no executor that serves yet."""
    READY = "Ready"
    """An executor serves; the container may start."""
    ACTIVE = "Active"
    """The container was started with it."""
    DETACHED = "Detached"
    """An executor serves, and no pod uses it."""
    MIGRATING = "Migrating"
    """The session is on its way to another executor."""
    LOST = "Lost"
    """The executor is gone, and with it the session; another is made."""
    RELEASED = "Released"
    """Nobody needs it any more; it goes when its executor is gone."""
    STOPPED = "Stopped"
    """Its users have stopped it: it has no executor, and no room once that is gone."""


SERVING = frozenset({Phase.READY, Phase.ACTIVE, Phase.DETACHED})
"""An executor serves, and stays where it is."""


@dataclass(frozen=True, slots=True)
class Client:
    """The container that a slice is for, and the node that it runs on."""

    pod: str
    pod_uid: str
    container: str
    node: str


@dataclass(frozen=True, slots=True)
class Attach:
    """One start of a container: the CDI device that it starts with, and the ID of the container before it."""

    device: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """``share`` of a GPU of ``node``."""

    node: str
    share: Share

    @property
    def size(self) -> "Size":
        """How large it is."""
        return Size(self.share.mem_bytes, self.share.core_percent)


@dataclass(frozen=True, slots=True)
class Size:
    """What is asked of one GPU; ``core_percent`` 0: no cap."""

    mem_bytes: int
    core_percent: int


NOWHERE = Slice("", Share("", 0))
"""Of a lease that has no room."""


@dataclass(frozen=True, slots=True)
class GpuLease:
    """``share`` of a GPU of ``node`` for ``client``; ``domain`` is the trust domain that it was placed in.

    ``target`` is the slice that it moves to, kept beside the first until it is moved there; ``wanted`` is the size that
    its users ask for. Only a ``standing`` one may have no client, have no room, or be ``stopped``, and it alone has
    ``annotations``: those of the contract, which say what a pod's say of a slice.
    """

    namespace: str
    name: str
    uid: str
    client: Client | None
    node: str
    share: Share
    domain: str = ""
    phase: Phase = Phase.RESERVED
    epoch: int = 0
    deleting: bool = False
    target: Slice | None = None
    wanted: Size | None = None
    standing: bool = False
    stopped: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def placed(self) -> bool:
        """Whether it has a slice."""
        return bool(self.node)

    @property
    def free(self) -> bool:
        """Whether a pod may come to use it."""
        return self.standing and self.placed and self.client is None and not (self.stopped or self.deleting)

    @property
    def pod_uid(self) -> str:
        """UID of the pod that it is for; empty without one."""
        return self.client.pod_uid if self.client else ""

    @property
    def user(self) -> str:
        """Who uses it, for people: the pod's name, or its own without one."""
        return self.client.pod if self.client else self.name

    @property
    def used_by(self) -> str:
        """The container that uses it, or its own name without one."""
        return self.client.container if self.client else self.name

    @property
    def what(self) -> str:
        """What it is for: the container that it was made for, or nothing but itself."""
        return self.client.container if self.client and not self.standing else self.name

    @property
    def slice(self) -> Slice:
        """The room that it holds now."""
        return Slice(self.node, self.share)

    @property
    def size(self) -> Size:
        """How large that is."""
        return self.slice.size

    @property
    def hold(self) -> str:
        """Under which key its room is charged while no executor holds it; no pod has such a UID."""
        return f"{self.client.pod_uid}/{self.client.container}" if self.client and not self.standing else self.uid + "/"

    @property
    def target_hold(self) -> str:
        """The same for the room of ``target``."""
        return target_hold_of(self.hold)

    @property
    def server_name(self) -> str:
        """What the certificates of its executors name."""
        return server_name(self.uid)


def target_hold_of(hold: str) -> str:
    """The key of a lease's other room, by that of its first."""
    return f"{hold}{_TARGET}"


def first_hold_of(key: str) -> str:
    """The key of a lease's first room, by that of either."""
    return key.removesuffix(_TARGET)


def lease_name(pod: str, pod_uid: str, container: str) -> str:
    """The name of the one lease of a container; another pod of the same name has another."""
    digest = sha256(f"{pod_uid}/{container}".encode()).hexdigest()[:10]
    return f"{pod[:_NAME_LENGTH].rstrip('-.')}-{digest}"


def server_name(lease_uid: str) -> str:
    """The DNS name in the certificates of a lease's executors; it is never resolved."""
    return f"{lease_uid}.pool.tessera.io"
