"""The next step for a lease that moves to another slice. Pure; see ``deciding``.

The next executor is made in the slice that the scheduler keeps beside the first. Its gate gives a ticket, with which
the executor that serves brings it the sessions; once it serves them, which its own gate says, it is the lease's. What
fails before that leaves the sessions where they are, and the next executor ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tessera.model.gpu_leases import SERVING, Phase
from tessera.remote.controller.records import (
    SILENT,
    Executor,
    Heard,
    Record,
    Status,
    executor_name,
    fault_of,
    named,
)
from tessera.remote.controller.steps import Create, Settle, Step, Wait, Write

READY_S = 900.0
"""The next executor gives its ticket within this, or is given up: until then the scheduler touches nothing, whatever
becomes of the slice that was chosen."""


def begun(record: Record, executors: Sequence[Executor], pause_s: float, *, overdue: bool = False) -> Step:
    """The first step towards the target, once a former try has left nothing. What serves nobody is made anew there.

    A former executor elsewhere, on a node that does not answer, may be there for ever: it is in nobody's way. One that
    has to leave its GPU, and whose sessions are ``overdue``, does so without them: it may be its tenant who holds them
    back. For another size nobody loses his sessions.
    """
    status, target = record.status, record.known.target
    assert target is not None
    if overdue and target.size == record.known.size:
        return Write(status.lost(f"its sessions did not move to node {target.node} in time: {status.message}"))
    if status.phase not in SERVING or record.known.client is None:
        message = f"it moves to node {target.node}"
        phase = status.unserved_phase
        return Write(replace(status, phase=phase, executor="", executor_uid="", endpoint="", message=message))
    name = executor_name(record.known.uid, status.epoch + 1)
    others = [found for found in executors if found.name != status.executor]
    if any(found.name == name or found.node in ("", target.node) for found in others):
        return Wait()
    if pause_s > 0:
        return Wait(pause_s)
    return Write(replace(status, phase=Phase.MIGRATING, next=name, next_uid="", message=""))


def next_step(
    record: Record, executors: Sequence[Executor], heard: Mapping[str, Heard], moving_s: float, unheard_s: float,
    word_s: float,
) -> Step:  # fmt: skip
    """Until the sessions are with the next executor, or stay. Times as in ``deciding.Times``."""
    status = record.status
    current = named(executors, status.executor)
    coming = named(executors, status.next)
    if coming is not None and coming.uid == status.next_uid and serves(status, heard.get(coming.uid, SILENT)):
        return Write(_arrived(record, coming))
    failed = _failed(record, current, coming, heard, moving_s)
    if failed is not None and unheard_s > 0 and _may_serve(status, coming, heard):
        return Wait(unheard_s)
    if failed is not None and word_s > 0 and _expects(status, coming, heard):
        return Wait(word_s)
    if failed is not None:
        return Write(failed)
    target = record.known.target
    assert target is not None
    if coming is None:
        return Create(status.next, status.epoch + 1, target, target=True)
    if not status.next_uid:
        return Write(replace(status, next_uid=coming.uid))
    if coming.waits and status.message != coming.waits:
        return Write(replace(status, message=coming.waits))
    return Wait()


def _failed(
    record: Record, current: Executor | None, coming: Executor | None, heard: Mapping[str, Heard], moving_s: float
) -> Status | None:
    """What becomes of a lease whose sessions will not be with the next executor; ``None`` while they may."""
    status = record.status
    if fault := fault_of(status.executor, status.executor_uid, current):
        return status.lost(fault)
    said, ticket = heard.get(status.executor_uid, SILENT), heard.get(status.next_uid, SILENT).ticket
    refused = said.refused if ticket and said.ticket == ticket else ""
    late = f"executor {status.next}: not ready within {READY_S:.0f} s" if moving_s >= READY_S and not ticket else ""
    why = (
        (said.left and said.refused)
        or fault_of(status.next, status.next_uid, coming)
        or _moot(record)
        or refused
        or (not said.left and late)
    )
    if not why:
        return None
    return status.lost(why) if said.left else _stays(record, why)


def silenced(record: Record, executors: Sequence[Executor], heard: Mapping[str, Heard]) -> bool:
    """Whether the executor that serves has ended, or does not know, where its sessions are: the next one may."""
    status = record.status
    said = heard.get(status.executor_uid, SILENT)
    ended = fault_of(status.executor, status.executor_uid, named(executors, status.executor))
    return bool(status.next) and bool(ended or (said.left and said.refused))


def _expects(status: Status, coming: Executor | None, heard: Mapping[str, Heard]) -> bool:
    """Whether the next executor takes the sessions, as its ticket says, and has no fault."""
    if coming is None or fault_of(status.next, status.next_uid, coming):
        return False
    said = heard.get(coming.uid, SILENT)
    return bool(said.ticket) and said.about == status.epoch + 1


def _may_serve(status: Status, coming: Executor | None, heard: Mapping[str, Heard]) -> bool:
    """Whether the next executor may have the sessions already, and has not been heard by this controller."""
    if coming is None or fault_of(status.next, status.next_uid, coming):
        return False
    return bool(status.next_uid and coming.endpoint) and coming.uid not in heard


def settled(record: Record) -> Step:
    """The sessions are there: so is the lease."""
    return Settle() if record.known.target else Write(replace(record.status, next="", next_uid=""))


def serves(status: Status, heard: Heard) -> bool:
    """Whether the next executor has taken the sessions over."""
    return heard.epoch == status.epoch + 1


def _moot(record: Record) -> str:
    if record.known.target is None:
        return "it need not move any more"
    return "the container starts anew" if record.attach != record.status.attached else ""


def _arrived(record: Record, coming: Executor) -> Status:
    status = record.status
    return replace(
        status, phase=record.serving_phase, epoch=status.epoch + 1, executor=coming.name, executor_uid=coming.uid,
        endpoint=coming.endpoint, message="",
    )  # fmt: skip


def _stays(record: Record, why: str) -> Status:
    return replace(record.status, phase=record.serving_phase, next="", next_uid="", message=why)
