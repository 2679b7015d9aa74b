"""A slice on another node for one container of a pod: who it is for, where it is, how far it has come.

The API server's object is the only truth. The room is held by the lease from the moment it is written until a pod on
the GPU's node, its executor, is bound with that very share; from then on the executor's assignment holds it.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from tessera.model.assignment import Share

_TARGET = "/target"
_NAME_LENGTH = 200
"""Characters of the pod's name that a lease's keeps; 253 are allowed, of which the digest takes 11."""


class Phase(StrEnum):
    RESERVED = "Reserved"
    """The room is kept; there is no executor that serves yet."""
    READY = "Ready"
    """An executor serves; the container may start."""
    ACTIVE = "Active"
    """The container was started with it."""
    DETACHED = "Detached"
    """An executor serves, and no container uses it."""
    MIGRATING = "Migrating"
    """The session is on its way to another executor."""
    LOST = "Lost"
    """The executor is gone, and with it the session; another is made."""
    RELEASED = "Released"
    """Nobody needs it any more; it goes when its executor is gone."""


SERVING = frozenset({Phase.READY, Phase.ACTIVE})
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


@dataclass(frozen=True, slots=True)
class GpuLease:
    """``share`` of a GPU of ``node`` for ``client``; ``domain`` is the trust domain that it was placed in.

    ``target`` is the slice that it moves to, kept beside the first until it is moved there; ``wanted`` is the size that
    its users ask for.
    """

    namespace: str
    name: str
    uid: str
    client: Client
    node: str
    share: Share
    domain: str = ""
    phase: Phase = Phase.RESERVED
    epoch: int = 0
    deleting: bool = False
    target: Slice | None = None
    wanted: Size | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

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
        return f"{self.client.pod_uid}/{self.client.container}"

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
