"""The next step of a lease: each transition, and what is done again after an end between any two steps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tessera.model.assignment import Share
from tessera.model.gpu_leases import Attach, GpuLease, Phase, Slice
from tessera.model.gpu_leases import Client as Owner
from tessera.remote.controller.deciding import UNBOUND_S, Times, next_step
from tessera.remote.controller.records import Client, Executor, Heard, Record, Status, executor_name
from tessera.remote.controller.steps import Create, Delete, Drop, Free, Part, Step, Wait, Write

KNOWN = GpuLease("default", "train-1", "lease-uid", Owner("train", "pod-uid", "main", "cpu"), "gpu", Share("GPU-1", 1))
NAME = executor_name("lease-uid", 1)
START, AGAIN = Attach("slot-1"), Attach("slot-1", "c0ffee")
UP = Executor(NAME, "uid-1", "lease-uid", endpoint="10.0.0.1:7443")
WHERE = Slice(KNOWN.node, KNOWN.share)
SERVES = {"uid-1": Heard(1)}


def record(
    *, deleting: bool = False, held: bool = True, attach: Attach | None = None, target: Slice | None = None,
    **status: Any,
) -> Record:  # fmt: skip
    return Record(replace(KNOWN, deleting=deleting, target=target), "7", held, attach, Status(**status))


def step(
    found: Record, *executors: Executor, client: Client = Client.BOUND, heard: Mapping[str, Heard] = {},
    age_s: float = 0, pause_s: float = 0, move_pause_s: float = 0, moving_s: float = 0, unheard_s: float = 0,
    word_s: float = 0, overdue: bool = False,
) -> Step:  # fmt: skip
    times = Times(age_s, pause_s, move_pause_s, moving_s, unheard_s, word_s, overdue)
    return next_step(found, executors, client, heard, times)


def test_a_bound_pod_has_its_executor_named_before_it_is_made() -> None:
    assert step(record()) == Write(Status(epoch=1, executor=NAME))
    named = record(epoch=1, executor=NAME)
    assert step(named) == Create(NAME, 1, WHERE)
    assert step(named) == Create(NAME, 1, WHERE), (
        "a creation whose answer was lost is asked for again, by the same name"
    )


def test_a_standing_leases_pod_has_its_time_too() -> None:
    found = record(epoch=1, executor=NAME, executor_uid="uid-1", phase=Phase.DETACHED)
    standing = replace(found, known=replace(found.known, standing=True, wanted=found.known.size))
    assert step(standing, UP, client=Client.UNBOUND, age_s=UNBOUND_S - 1) == Wait(1.0)
    assert step(standing, UP, client=Client.UNBOUND, age_s=UNBOUND_S) == Part()
    assert step(standing, UP, client=Client.GONE) == Part()


def test_a_start_before_the_first_executor_is_its_own() -> None:
    assert step(record(attach=START)) == Write(Status(epoch=1, attached=START, executor=NAME))


def test_an_executor_is_remembered_and_waited_for() -> None:
    named = record(epoch=1, executor=NAME)
    assert step(named, UP) == Write(replace(named.status, executor_uid="uid-1"))
    seen = record(epoch=1, executor=NAME, executor_uid="uid-1")
    assert step(seen, UP) == Wait()
    waits = replace(UP, waits="executor: no image")
    assert step(seen, waits) == Write(replace(seen.status, message="executor: no image"))
    assert step(record(epoch=1, executor=NAME, executor_uid="uid-1", message="executor: no image"), waits) == Wait()


@pytest.mark.parametrize(("attached", "phase"), [(None, Phase.READY), (START, Phase.ACTIVE)])
def test_it_serves_once_the_gate_says_so(attached: Attach | None, phase: Phase) -> None:
    seen = record(attach=attached, epoch=1, attached=attached, executor=NAME, executor_uid="uid-1", message="m")
    serving = replace(seen.status, phase=phase, endpoint=UP.endpoint, message="")
    assert step(seen, UP, heard=SERVES) == Write(serving)
    assert step(replace(seen, status=serving), UP, heard=SERVES) == Wait()
    assert step(replace(seen, status=serving), UP) == Wait(), "a new controller has not heard the gate yet"
    assert step(seen, replace(UP, endpoint=""), heard=SERVES) == Wait()


@pytest.mark.parametrize("heard", [{"uid-1": Heard(1)}, {"uid-0": Heard(2)}, {}])
def test_what_serves_another_epoch_or_was_another_pod_does_not_count(heard: dict[str, Heard]) -> None:
    started = record(attach=START, epoch=2, attached=START, executor=NAME, executor_uid="uid-1")
    assert step(started, UP, heard=heard) == Wait()


def test_a_new_start_ends_what_was_served_before_it_serves() -> None:
    active = record(
        attach=AGAIN, phase=Phase.ACTIVE, epoch=2, attached=START, executor=NAME, executor_uid="uid-1",
        endpoint=UP.endpoint,
    )  # fmt: skip
    taken = step(active, UP, heard={"uid-1": Heard(2)})
    assert isinstance(taken, Write)
    status = taken.status
    assert (status.phase, status.epoch, status.attached, status.endpoint) == (Phase.RESERVED, 3, AGAIN, "")
    assert step(replace(active, status=status), UP, heard={"uid-1": Heard(2)}) == Wait()
    back = step(replace(active, status=status), UP, heard={"uid-1": Heard(3)})
    assert isinstance(back, Write) and (back.status.phase, back.status.epoch) == (Phase.ACTIVE, 3)


LOST = [
    pytest.param((), "is gone", id="gone"),
    pytest.param((replace(UP, deleting=True),), "is being deleted", id="deleting"),
    pytest.param((replace(UP, fault="container gate ended with status 1"),), "container gate ended", id="ended"),
    pytest.param((replace(UP, uid="uid-9"),), "another pod has its name", id="another"),
]


@pytest.mark.parametrize(("executors", "why"), LOST)
def test_an_executor_that_serves_no_more_is_lost(executors: tuple[Executor, ...], why: str) -> None:
    active = record(
        attach=START, phase=Phase.ACTIVE, epoch=2, attached=START, executor=NAME, executor_uid="uid-1",
        endpoint=UP.endpoint,
    )  # fmt: skip
    taken = step(active, *executors, heard={"uid-1": Heard(2)})
    assert isinstance(taken, Write) and why in taken.status.message
    assert taken.status == replace(
        active.status, phase=Phase.LOST, executor="", executor_uid="", endpoint="", message=taken.status.message
    )


def test_the_next_executor_is_made_when_the_room_of_the_former_is_free() -> None:
    lost = record(attach=START, phase=Phase.LOST, epoch=2, attached=START, message="gone")
    ended = replace(UP, fault="ended")
    assert step(lost, ended) == Delete(ended)
    assert step(lost, replace(ended, deleting=True)) == Wait()
    assert step(lost, pause_s=4.0) == Wait(4.0), "one that ends at once is not made again at once"
    following = executor_name("lease-uid", 3)
    assert step(lost) == Write(replace(lost.status, epoch=3, executor=following))
    named = record(attach=START, phase=Phase.LOST, epoch=3, attached=START, executor=following)
    assert step(named) == Create(following, 3, WHERE)


def test_an_executor_that_nobody_asked_for_goes() -> None:
    other = Executor("executor-lease-uid-0", "uid-0", "lease-uid")
    active = record(phase=Phase.READY, epoch=1, executor=NAME, executor_uid="uid-1", endpoint=UP.endpoint)
    assert step(active, UP, other) == Delete(other)
    assert step(active, UP, replace(other, deleting=True)) == Wait()


def test_a_pod_that_is_not_bound_is_waited_for_a_while() -> None:
    assert step(record(), client=Client.UNBOUND, age_s=15.0) == Wait(UNBOUND_S - 15.0)
    over = step(record(), client=Client.UNBOUND, age_s=UNBOUND_S)
    assert isinstance(over, Write) and over.status.phase is Phase.RELEASED
    assert "was not bound" in over.status.message


def test_a_pod_that_is_gone_leaves_nothing_in_this_order() -> None:
    status = Status(Phase.ACTIVE, 2, START, NAME, "uid-1", UP.endpoint)
    active = Record(KNOWN, "7", True, START, status)
    first = step(active, UP, client=Client.GONE, heard={"uid-1": Heard(2)})
    released = replace(status, phase=Phase.RELEASED, endpoint="", message="pod train has ended")
    assert first == Write(released), "the gate hears of it first"
    assert step(replace(active, status=released), UP) == Drop()
    going = replace(active, known=replace(KNOWN, deleting=True), status=released)
    assert step(going, UP) == Delete(UP)
    assert step(going, replace(UP, deleting=True)) == Wait(), "the finalizer holds the lease, and its room"
    assert step(going) == Free()
    assert step(replace(going, held=False)) == Wait()


def test_a_lease_that_somebody_deletes_goes_the_same_way() -> None:
    going = record(deleting=True, phase=Phase.ACTIVE, epoch=1, executor=NAME, executor_uid="uid-1")
    taken = step(going, UP, heard=SERVES)
    assert isinstance(taken, Write) and taken.status.phase is Phase.RELEASED
    assert step(replace(going, status=taken.status), UP) == Delete(UP)


def test_a_released_lease_does_not_come_back() -> None:
    released = record(phase=Phase.RELEASED, epoch=1, executor=NAME)
    assert step(released, client=Client.BOUND) == Drop()
