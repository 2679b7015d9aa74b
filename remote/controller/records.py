"""What the controller knows of a lease and of its executors. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from tessera.model.gpu_leases import Attach, GpuLease, Phase, Slice


@dataclass(frozen=True, slots=True)
class Status:
    """What the controller writes of a lease. ``executor``: the pod that serves it or is to; empty where there is none.

    ``executor_uid`` is empty until that pod was seen, ``endpoint`` while it does not serve. ``next`` is the executor
    that the sessions are to go to; they are there when it is ``executor`` too, and it stays until the lease's first
    slice is the one that this executor has. ``client``: of a standing lease, UID of the pod that may use the executor,
    or may have used it; none other ever may.
    """

    phase: Phase = Phase.RESERVED
    epoch: int = 0
    attached: Attach | None = None
    executor: str = ""
    executor_uid: str = ""
    endpoint: str = ""
    message: str = ""
    next: str = ""
    next_uid: str = ""
    client: str = ""

    @property
    def moved(self) -> bool:
        """Whether the sessions are with the next executor, and only the lease's slice is not yet the one it has."""
        return bool(self.next) and self.next == self.executor

    @property
    def unserved_phase(self) -> Phase:
        """Of a lease that has room, until an executor serves."""
        return Phase.LOST if self.phase is Phase.LOST else Phase.RESERVED

    def lost(self, message: str) -> "Status":
        """The executor is gone, and with it the sessions."""
        return self._without(Phase.LOST, message)

    def given_up(self, phase: Phase, message: str = "") -> "Status":
        """The executor is to go, and nobody uses it any more.

        The epoch that is next is over with it: an executor that was to begin it may be there still and not be shown
        yet, and who may have used it is another client. None that is made later has its name.
        """
        return replace(self._without(phase, message), epoch=self.epoch + 1, client="", attached=None)

    def _without(self, phase: Phase, message: str) -> "Status":
        """With the executor that the sessions were to go to the epoch is over that it was to begin."""
        begun = bool(self.next) and not self.moved
        return replace(
            self, phase=phase, epoch=self.epoch + begun, executor="", executor_uid="", endpoint="", next="",
            next_uid="", message=message,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """A GPULease. ``version``: for a fenced write; ``held``: it has the finalizer that waits for its executor."""

    known: GpuLease
    version: str
    held: bool = True
    attach: Attach | None = None
    status: Status = Status()

    @property
    def over(self) -> bool:
        """Whether it was ended, and only its end is left to do."""
        return self.known.deleting or self.status.phase is Phase.RELEASED

    @property
    def client(self) -> str:
        """What a status says of who may use the executor: UID of a standing lease's client; others keep theirs."""
        return self.known.pod_uid if self.known.standing else ""

    @property
    def serving_phase(self) -> Phase:
        """While an executor serves."""
        if self.known.client is None:
            return Phase.DETACHED
        return Phase.ACTIVE if self.status.attached else Phase.READY

    @property
    def served(self) -> Slice:
        """The slice of the executor that serves."""
        target = self.known.target
        return target if target and self.status.moved else self.known.slice


@dataclass(frozen=True, slots=True)
class Executor:
    """A pod on the GPU's node. ``lease``: NAMESPACE/NAME of the GPULease that it serves.

    ``endpoint``: ``HOST:PORT`` of its gate, empty before it has an address. ``fault``: why it serves no more;
    ``waits``: why it does not run yet. ``node`` is empty before it has one.
    """

    name: str
    uid: str
    lease_uid: str
    lease: str = ""
    endpoint: str = ""
    deleting: bool = False
    fault: str = ""
    waits: str = ""
    node: str = ""


class Client(Enum):
    """The pod that a slice is for."""

    NONE = auto()
    """There is none: the lease stands by itself."""

    BOUND = auto()
    """It has a node, and its assignment names the lease."""
    UNBOUND = auto()
    """It is there, and not bound with the lease."""
    GONE = auto()
    """It has ended, or there is none of that UID."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the gate of an executor has said last: it serves ``epoch``; 0: none yet.

    Of the move that begins the epoch ``about`` it has said its ``ticket``, if the sessions are to come to it, or why
    they did not leave it with that ticket, ``refused``. ``left``: they do not run there any more, wherever they are.
    """

    epoch: int = 0
    about: int = 0
    ticket: str = ""
    refused: str = ""
    left: bool = False


SILENT = Heard()


def executor_name(lease_uid: str, epoch: int) -> str:
    """The name of the executor that is made in ``epoch``; no other lease and no other epoch has it."""
    return f"executor-{lease_uid}-{epoch}"


def named(executors: Iterable[Executor], name: str) -> Executor | None:
    """The one of this name."""
    return next((found for found in executors if found.name == name), None)


def fault_of(name: str, uid: str, executor: Executor | None) -> str:
    """Why the executor of this name, whose UID is ``uid`` once it was seen, is lost; empty if it is not.

    One that was never seen is still to be made.
    """
    if executor is None:
        return f"executor {name} is gone" if uid else ""
    if uid and executor.uid != uid:
        return f"executor {name} is gone, and another pod has its name"
    if executor.deleting:
        return f"executor {name} is being deleted"
    return executor.fault and f"executor {name}: {executor.fault}"
