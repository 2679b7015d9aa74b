"""What the controller knows of a lease and of its executors. Pure."""

from dataclasses import dataclass
from enum import Enum, auto

from tessera.model.gpu_leases import Attach, GpuLease, Phase

SERVING = frozenset({Phase.READY, Phase.ACTIVE})


@dataclass(frozen=True, slots=True)
class Status:
    """What the controller writes of a lease. ``executor``: the pod that serves it or is to; empty where there is none.

    ``executor_uid`` is empty until that pod was seen, ``endpoint`` while it does not serve.
    """

    phase: Phase = Phase.RESERVED
    epoch: int = 0
    attached: Attach | None = None
    executor: str = ""
    executor_uid: str = ""
    endpoint: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A GPULease. ``version``: for a fenced write; ``held``: it has the finalizer that waits for its executor."""

    known: GpuLease
    version: str
    held: bool = True
    attach: Attach | None = None
    status: Status = Status()


@dataclass(frozen=True, slots=True)
class Executor:
    """A pod on the GPU's node. ``lease``: NAMESPACE/NAME of the GPULease that it serves.

    ``endpoint``: ``HOST:PORT`` of its gate, empty before it has an address. ``fault``: why it serves no more;
    ``waits``: why it does not run yet.
    """

    name: str
    uid: str
    lease_uid: str
    lease: str = ""
    endpoint: str = ""
    deleting: bool = False
    fault: str = ""
    waits: str = ""


class Client(Enum):
    """The pod that a slice is for."""

    BOUND = auto()
    """It has a node, and its assignment names the lease."""
    UNBOUND = auto()
    """It is there, and not bound with the lease."""
    GONE = auto()
    """It has ended, or there is none of that UID."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a gate has said: the executor ``uid`` serves ``epoch``."""

    uid: str
    epoch: int


def executor_name(lease_uid: str, epoch: int) -> str:
    """The name of the executor that is made in ``epoch``; no other lease and no other epoch has it."""
    return f"executor-{lease_uid}-{epoch}"
