"""The next step for a lease, from what is stored of it and of its executors. Pure.

What was done and what was not is seen in the objects alone, so a controller that ends between any two steps, or whose
step was carried out without an answer, goes on where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tessera.model.gpu_leases import SERVING, Phase
from tessera.remote.controller import moving, standing
from tessera.remote.controller.records import (
    SILENT,
    Client,
    Executor,
    Heard,
    Record,
    Status,
    executor_name,
    fault_of,
    named,
)
from tessera.remote.controller.steps import Create, Delete, Drop, Free, Settle, Step, Wait, Write

UNBOUND_S = 60.0
"""So long a lease waits for the Binding of its pod."""
_NOTHING: Mapping[str, Heard] = {}


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds. ``known``: how long the lease has been, with the client that it has, ``moving``: how long it moves.
    ``start``, ``move``: how long a new executor, and a new try to move the sessions, are still to be put off, because
    former ones came to nothing. ``unheard``: how long the gates of a move that another controller began may still be on
    their way to this one; ``word``: how long the next executor's word may still be on its way, once the source can say
    no more. ``overdue``: its sessions should have been in the target long ago."""

    known: float = 0.0
    start: float = 0.0
    move: float = 0.0
    moving: float = 0.0
    unheard: float = 0.0
    word: float = 0.0
    overdue: bool = False


def next_step(
    record: Record,
    executors: Sequence[Executor],
    client: Client,
    heard: Mapping[str, Heard] = _NOTHING,
    times: Times = Times(),
) -> Step:
    """``executors``: all that carry the lease's UID; ``heard``: of their gates, by UID."""
    if client is Client.UNBOUND and record.known.standing and times.known >= UNBOUND_S:
        client = Client.GONE
    if why := _over(record, client, times.known):
        return _wound_up(record, executors, why)
    if record.known.standing and (step := standing.first_step(record, executors, client)):
        return step
    if client is Client.UNBOUND:
        return Wait(UNBOUND_S - times.known)
    status = record.status
    current = named(executors, status.executor)
    if status.moved:
        return moving.settled(record)
    for other in executors:
        if other.name not in (status.executor, status.next) and not other.deleting:
            return Delete(other)
    if status.next:
        return moving.next_step(record, executors, heard, times.moving, times.unheard, times.word)
    if status.executor and (fault := fault_of(status.executor, status.executor_uid, current)):
        return Write(status.lost(fault))
    if not status.executor:
        return Settle() if record.known.target else _planned(record, executors, times.start)
    said = heard.get(status.executor_uid, SILENT)
    if said.left:
        return Write(status.lost(said.refused or f"executor {status.executor}: its sessions have gone"))
    if record.attach != status.attached:
        return Write(_started(record))
    if current is None:
        return Create(status.executor, status.epoch, record.known.slice)
    step = _told(record, current, said)
    if record.known.target and isinstance(step, Wait):
        return moving.begun(record, executors, times.move, overdue=times.overdue)
    return step


def _over(record: Record, client: Client, age_s: float) -> str:
    """Why nobody needs the lease any more; empty if somebody does."""
    pod = record.known.user
    if record.over:
        return record.status.message or "the lease is deleted"
    if record.known.standing:
        return ""
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


def _planned(record: Record, executors: Sequence[Executor], pause_s: float) -> Step:
    """A new executor, once the room of the former is free again."""
    if any(not found.node or found.node == record.known.node for found in executors):
        return Wait()
    if pause_s > 0:
        return Wait(pause_s)
    status, epoch = record.status, record.status.epoch + 1
    name = executor_name(record.known.uid, epoch)
    return Write(
        replace(
            status, phase=status.unserved_phase, epoch=epoch, attached=record.attach, client=record.client,
            executor=name, executor_uid="", endpoint="",
        )
    )  # fmt: skip


def _started(record: Record) -> Status:
    """The container started anew: what serves its former start ends first."""
    status = record.status
    return replace(
        status, phase=Phase.RESERVED, epoch=status.epoch + 1, attached=record.attach, client=record.client,
        endpoint="", message="the executor ends what it served before",
    )  # fmt: skip


def _told(record: Record, current: Executor, heard: Heard) -> Step:
    """What is seen of the executor. Why it could not be left stays written for as long as it is to be left."""
    status = record.status
    if not status.executor_uid:
        return Write(replace(status, executor_uid=current.uid))
    if current.endpoint and heard.epoch == status.epoch:
        message = status.message if status.phase in SERVING and record.known.target else ""
        serving = replace(
            status, phase=record.serving_phase, client=record.client, endpoint=current.endpoint, message=message
        )
        return Wait() if status == serving else Write(serving)
    if status.phase in SERVING or not current.waits or status.message == current.waits:
        return Wait()
    return Write(replace(status, message=current.waits))
