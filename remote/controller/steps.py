"""The steps that a lease takes. Each is one write to the API server."""

from dataclasses import dataclass

from tessera.model.gpu_leases import Slice
from tessera.remote.controller.records import Executor, Status


@dataclass(frozen=True, slots=True)
class Write:
    """The lease's status becomes this."""

    status: Status


@dataclass(frozen=True, slots=True)
class Create:
    """The executor of this name is made, which is to have ``where``."""

    name: str
    epoch: int
    where: Slice
    target: bool = False
    """Whether that is the slice that the lease moves to."""


@dataclass(frozen=True, slots=True)
class Delete:
    """That very executor is asked to end."""

    executor: Executor


@dataclass(frozen=True, slots=True)
class Settle:
    """The slice that the lease moves to becomes its slice."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease that users have made is not to go before its executor is gone."""


@dataclass(frozen=True, slots=True)
class Part:
    """A standing lease has no client any more."""


@dataclass(frozen=True, slots=True)
class Empty:
    """A stopped lease gives its room back."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The lease is asked to go; its finalizer holds it until its executors are gone."""


@dataclass(frozen=True, slots=True)
class Free:
    """No executor is left: the finalizer is removed."""


@dataclass(frozen=True, slots=True)
class Wait:
    """For news, but no longer than so many seconds."""

    seconds: float | None = None


Step = Write | Create | Delete | Settle | Hold | Part | Empty | Drop | Free | Wait
