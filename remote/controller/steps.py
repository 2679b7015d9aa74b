"""The next step for a lease, from what is stored of it and of its executors. Pure.

One step is one write to the API server. What was done and what was not is seen in the objects alone, so a controller
that ends between any two steps, or whose step was carried out without an answer, goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tessera.model.gpu_leases import Phase
from tessera.remote.controller.records import SERVING, Client, Executor, Record, Served, Status, executor_name

UNBOUND_S = 60.0
"""So long a lease waits for the Binding of its pod."""


@dataclass(frozen=True, slots=True)
class Write:
    """The lease's status becomes this."""

    status: Status


@dataclass(frozen=True, slots=True)
class Create:
    """The executor of this name is made."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Delete:
    """That very executor is asked to end."""

    executor: Executor


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


Step = Write | Create | Delete | Drop | Free | Wait


def next_step(
    record: Record,
    executors: Sequence[Executor],
    client: Client,
    served: Served | None = None,
    *,
    age_s: float = 0.0,
    pause_s: float = 0.0,
) -> Step:
    """``executors``: all that carry the lease's UID. ``age_s``: how long the lease has been known. ``pause_s``: how
    long a new executor is still to be put off, because former ones ended early."""
    if why := _over(record, client, age_s):
        return _wound_up(record, executors, why)
    if client is Client.UNBOUND:
        return Wait(UNBOUND_S - age_s)
    status = record.status
    current = next((found for found in executors if found.name == status.executor), None)
    for other in executors:
        if other is not current and not other.deleting:
            return Delete(other)
    if status.executor and (fault := _fault(status, current)):
        lost = replace(status, phase=Phase.LOST, executor="", executor_uid="", endpoint="", message=fault)
        return Write(lost)
    if not status.executor:
        return _planned(record, bool(executors), pause_s)
    if record.attach != status.attached:
        return Write(_started(record))
    if current is None:
        return Create(status.executor, status.epoch)
    return _told(status, current, served)


def _over(record: Record, client: Client, age_s: float) -> str:
    """Why nobody needs the lease any more; empty if somebody does."""
    pod = record.known.client.pod
    if record.known.deleting or record.status.phase is Phase.RELEASED:
        return record.status.message or "the lease is deleted"
    if client is Client.GONE:
        return f"pod {pod} has ended"
    if client is Client.UNBOUND and age_s >= UNBOUND_S:
        return f"pod {pod} was not bound with this lease within {UNBOUND_S:.0f} s"
    return ""


def _wound_up(record: Record, executors: Sequence[Executor], why: str) -> Step:
    if record.status.phase is not Phase.RELEASED:
        return Write(replace(record.status, phase=Phase.RELEASED, endpoint="", message=why))
    if not record.known.deleting:
        return Drop()
    for executor in executors:
        if not executor.deleting:
            return Delete(executor)
    return Free() if record.held and not executors else Wait()


def _fault(status: Status, current: Executor | None) -> str:
    """Why the executor is lost; empty if it is not. One that was never seen is still to be made."""
    if current is None:
        return f"executor {status.executor} is gone" if status.executor_uid else ""
    if status.executor_uid and current.uid != status.executor_uid:
        return f"executor {status.executor} is gone, and another pod has its name"
    if current.deleting:
        return f"executor {status.executor} is being deleted"
    return current.fault and f"executor {status.executor}: {current.fault}"


def _planned(record: Record, occupied: bool, pause_s: float) -> Step:
    """A new executor, once the room of the former is free again."""
    if occupied:
        return Wait()
    if pause_s > 0:
        return Wait(pause_s)
    status, epoch = record.status, record.status.epoch + 1
    name = executor_name(record.known.uid, epoch)
    return Write(replace(status, epoch=epoch, attached=record.attach, executor=name, executor_uid="", endpoint=""))


def _started(record: Record) -> Status:
    """The container started anew: what serves its former start ends first."""
    status = record.status
    return replace(
        status, phase=Phase.RESERVED, epoch=status.epoch + 1, attached=record.attach, endpoint="",
        message="the executor ends what it served before",
    )  # fmt: skip


def _told(status: Status, current: Executor, served: Served | None) -> Step:
    """What is seen of the executor."""
    if not status.executor_uid:
        return Write(replace(status, executor_uid=current.uid))
    phase = Phase.ACTIVE if status.attached else Phase.READY
    if current.endpoint and served == Served(current.uid, status.epoch):
        serving = replace(status, phase=phase, endpoint=current.endpoint, message="")
        return Wait() if status == serving else Write(serving)
    if status.phase in SERVING or not current.waits or status.message == current.waits:
        return Wait()
    return Write(replace(status, message=current.waits))
