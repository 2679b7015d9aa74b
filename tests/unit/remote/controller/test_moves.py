"""A lease that moves: each transition, and what brings the sessions back to where they were, or to their end."""

from dataclasses import replace
from typing import Any

import pytest

from tessera.model.assignment import Share
from tessera.model.gpu_leases import Phase, Slice
from tessera.remote.controller.handovers import state_of
from tessera.remote.controller.moving import READY_S, silenced
from tessera.remote.controller.pauses import HEAR_S, MOVE, WORD_S, Pauses
from tessera.remote.controller.reading import settling_patch
from tessera.remote.controller.records import Client, Executor, Heard, Record, executor_name
from tessera.remote.controller.steps import Create, Delete, Settle, Wait, Write
from tests.unit.remote.controller.test_steps import AGAIN, NAME, START, UP, WHERE, record, step

TARGET = Slice("other", Share("GPU-2", 2))
NEXT = executor_name("lease-uid", 3)
COMING = Executor(NEXT, "uid-2", "lease-uid", endpoint="10.0.0.2:7443", node="other")
SERVING = {"uid-1": Heard(2)}
TICKET = Heard(about=3, ticket="t")


def active(**more: Any) -> Record:
    fields: dict[str, Any] = {
        "attach": START, "target": TARGET, "phase": Phase.ACTIVE, "epoch": 2, "attached": START, "executor": NAME,
        "executor_uid": "uid-1", "endpoint": UP.endpoint, **more,
    }  # fmt: skip
    return record(**fields)


def moving(**more: Any) -> Record:
    return active(phase=Phase.MIGRATING, next=NEXT, next_uid="uid-2", **more)


def test_the_next_executor_is_named_then_made_in_the_target_then_seen() -> None:
    named = replace(active().status, phase=Phase.MIGRATING, next=NEXT)
    assert step(active(), UP, heard=SERVING) == Write(named)
    begun = active(phase=Phase.MIGRATING, next=NEXT)
    assert step(begun, UP, heard=SERVING) == Create(NEXT, 3, TARGET, target=True)
    assert step(begun, UP, COMING, heard=SERVING) == Write(replace(named, next_uid="uid-2"))
    assert step(moving(), UP, COMING, heard=SERVING) == Wait()
    waits = replace(COMING, waits="executor: no image")
    assert step(moving(), UP, waits) == Write(replace(moving().status, message="executor: no image"))


def test_a_new_controller_goes_on_with_a_serving_lease_before_it_has_heard_the_gates() -> None:
    assert step(moving(), UP, COMING) == Wait()


def test_the_sessions_are_brought_once_there_is_a_ticket() -> None:
    def told(executor: Executor, found: Record, heard: dict[str, Heard]) -> Any:
        return state_of(executor, found, COMING if found.status.next else None, heard, 4)

    coming = told(COMING, moving(), {})
    assert not coming.serving and (coming.arrive.epoch, coming.arrive.limit_bytes, coming.arrive.sessions) == (3, 2, 4)
    source = told(UP, moving(), {"uid-2": TICKET})
    assert source.serving and source.epoch == 2
    assert (source.leave.epoch, source.leave.ticket, source.leave.endpoint) == (3, "t", COMING.endpoint)
    for found, heard in [
        (moving(), {}),
        (moving(), {"uid-2": replace(TICKET, about=2)}),
        (moving(attach=AGAIN), {"uid-2": TICKET}),
        (moving(target=None), {"uid-2": TICKET}),
    ]:
        assert not told(UP, found, heard).HasField("leave")
    moved = record(**{**ARRIVED, "target": TARGET})
    assert told(COMING, moved, {}).serving and told(COMING, moved, {}).limit_bytes == 2, "what its own slice has"
    former = told(UP, moved, {})
    assert not former.serving and (former.elsewhere.epoch, former.elsewhere.endpoint) == (3, COMING.endpoint)
    lost = told(UP, active(phase=Phase.LOST, executor="", executor_uid="", endpoint=""), {})
    assert not lost.serving and not lost.HasField("elsewhere")


ARRIVED: dict[str, Any] = {
    "attach": START, "phase": Phase.ACTIVE, "epoch": 3, "attached": START, "executor": NEXT, "executor_uid": "uid-2",
    "endpoint": COMING.endpoint, "next": NEXT, "next_uid": "uid-2",
}  # fmt: skip


def test_it_is_the_leases_once_its_own_gate_says_that_it_serves() -> None:
    serves = {"uid-2": replace(TICKET, epoch=3)}
    arrived = record(**ARRIVED, target=TARGET)
    assert step(moving(message="m"), UP, COMING, heard=serves) == Write(arrived.status)
    assert step(moving(), COMING, heard=serves) == Write(arrived.status), "the former one may have ended by then"
    assert step(moving(attach=AGAIN), UP, COMING, heard=serves) == Write(arrived.status), "a new start comes after it"
    assert step(arrived, UP, COMING, heard=serves) == Settle(), "its room is the lease's before the former's is free"
    here = record(**ARRIVED)
    assert step(here, UP, COMING, heard=serves) == Write(replace(here.status, next="", next_uid=""))
    done = record(**{**ARRIVED, "next": "", "next_uid": ""})
    assert step(done, UP, COMING, heard=serves) == Delete(UP)
    assert step(done, replace(UP, deleting=True), COMING, heard=serves) == Wait()


@pytest.mark.parametrize(
    ("changed", "executors", "heard", "why"),
    [
        pytest.param({"target": None}, (UP, COMING), {}, "need not move", id="withdrawn"),
        pytest.param({"attach": AGAIN}, (UP, COMING), {}, "starts anew", id="restarted"),
        pytest.param({}, (UP,), {}, "is gone", id="gone"),
        pytest.param({}, (UP, replace(COMING, fault="OOM")), {}, "OOM", id="ended"),
        pytest.param({}, (UP, replace(COMING, deleting=True)), {}, "deleted", id="deleting"),
        pytest.param({}, (UP, COMING), {"uid-1": Heard(2, 3, "t", "in use"), "uid-2": TICKET}, "in use", id="refused"),
    ],
)
def test_what_fails_before_leaves_the_sessions_where_they_are(
    changed: dict[str, Any], executors: tuple[Executor, ...], heard: dict[str, Heard], why: str
) -> None:
    taken = step(moving(**changed), *executors, heard=heard)
    assert isinstance(taken, Write) and why in taken.status.message
    assert taken.status == replace(active().status, message=taken.status.message)
    told = replace(moving(**changed), status=taken.status)
    if COMING in executors:
        assert step(told, UP, COMING, heard=heard) == Delete(COMING)


def test_a_refusal_is_of_one_try_and_is_written_until_the_next() -> None:
    old = {"uid-1": Heard(2, 3, "former", "in use"), "uid-2": TICKET}
    assert step(moving(), UP, COMING, heard=old) == Wait()
    stays = active(message="in use")
    assert step(stays, UP, heard=SERVING, move_pause_s=3.0) == Wait(3.0)
    assert step(stays, UP, replace(COMING, deleting=True), heard=SERVING) == Wait(), "the former try is not over"
    tried = step(stays, UP, heard=SERVING)
    assert isinstance(tried, Write) and (tried.status.next, tried.status.message) == (NEXT, "")
    told = step(active(message="in use", target=None), UP, heard=SERVING)
    assert isinstance(told, Write) and told.status.message == "", "it is not wanted any more"


@pytest.mark.parametrize(
    ("executors", "heard", "why"),
    [
        pytest.param((replace(UP, fault="OOM"), COMING), {}, "OOM", id="source ended"),
        pytest.param((COMING,), {}, "is gone", id="source gone"),
        pytest.param((UP, COMING), {"uid-1": Heard(2, 3, "t", "no answer", left=True)}, "no answer", id="undecided"),
        pytest.param((UP,), {"uid-1": Heard(2, 3, "t", left=True)}, "is gone", id="target gone after it took them"),
    ],
)
def test_sessions_that_run_nowhere_are_lost(executors: tuple[Executor, ...], heard: dict[str, Heard], why: str) -> None:
    taken = step(moving(), *executors, heard=heard)
    assert isinstance(taken, Write) and why in taken.status.message
    assert taken.status == moving().status.lost(taken.status.message)


def test_who_has_left_is_waited_for_at_the_other_side_and_serves_nobody_here() -> None:
    left = {"uid-1": Heard(2, 3, "t", left=True), "uid-2": TICKET}
    assert step(moving(), UP, COMING, heard=left) == Wait()
    lost = step(active(), UP, heard=left)
    assert isinstance(lost, Write) and lost.status.phase is Phase.LOST


def test_a_lease_without_an_executor_is_in_the_target_at_once() -> None:
    lost = active(phase=Phase.LOST, executor="", executor_uid="", endpoint="")
    away = replace(UP, deleting=True, node="gpu")
    assert step(lost, away) == Settle()
    known = replace(lost.known, node=TARGET.node, share=TARGET.share, target=None)
    assert isinstance(step(replace(lost, known=known), away), Write), "its room is not that of the new one"
    assert step(replace(lost, known=known), replace(away, node="other")) == Wait()
    assert step(replace(lost, known=known), replace(away, node="")) == Wait()


def test_an_executor_that_serves_nobody_is_made_anew_in_the_target() -> None:
    waits = active(phase=Phase.RESERVED, endpoint="")
    taken = step(waits, UP)
    assert isinstance(taken, Write)
    assert (taken.status.executor, taken.status.phase, taken.status.message) == (
        "", Phase.RESERVED, "it moves to node other",
    )  # fmt: skip
    assert step(replace(waits, status=taken.status), UP) == Delete(UP)


def test_the_target_becomes_the_slice_in_one_write() -> None:
    patch = settling_patch(replace(moving(), known=replace(moving().known, domain="team")))
    assert patch["metadata"] == {"uid": "lease-uid", "resourceVersion": "7"}
    assert patch["spec"] == {
        "slice": {
            "node": "other", "gpuUUID": "GPU-2", "memoryBytes": 2, "corePercent": 0, "trustDomain": "team",
        },
        "target": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param({}, id="neither"),
        pytest.param({"uid-1": Heard(2, 3, "t", "no answer", left=True)}, id="the source, which does not know"),
    ],
)
def test_a_new_controller_calls_nothing_lost_before_the_next_executor_could_say_that_it_serves(
    heard: dict[str, Heard],
) -> None:
    for source in ((UP,) if heard else (replace(UP, fault="OOM"),), (replace(UP, deleting=True),), ()):
        assert step(moving(), *source, COMING, heard=heard, unheard_s=3.0) == Wait(3.0)
        lost = step(moving(), *source, COMING, heard=heard)
        assert isinstance(lost, Write) and lost.status.phase is Phase.LOST
        said = {**heard, "uid-2": TICKET}
        lost = step(moving(), *source, COMING, heard=said, unheard_s=3.0)
        assert isinstance(lost, Write) and lost.status.phase is Phase.LOST, "it has been heard, and serves nobody"
    for silent in (replace(COMING, endpoint=""), replace(COMING, fault="OOM"), replace(COMING, uid="uid-3")):
        lost = step(moving(), replace(UP, fault="OOM"), silent, unheard_s=3.0)
        assert isinstance(lost, Write) and lost.status.phase is Phase.LOST, "it will say nothing"


def test_a_next_executor_that_is_never_ready_is_given_up() -> None:
    """The scheduler does not touch the target meanwhile, though its node may be gone."""
    waits = replace(COMING, endpoint="", node="", waits="executor: 0/3 nodes")
    said = moving(message="executor: 0/3 nodes")
    assert step(said, UP, waits, heard=SERVING, moving_s=READY_S - 1) == Wait()
    taken = step(said, UP, waits, heard=SERVING, moving_s=READY_S)
    assert isinstance(taken, Write) and "not ready within 900 s" in taken.status.message
    assert taken.status == replace(active().status, message=taken.status.message)
    assert step(moving(), UP, COMING, heard={"uid-2": TICKET}, moving_s=READY_S) == Wait(), "sessions are on their way"
    left = {"uid-1": Heard(2, 3, "t", left=True)}
    assert step(moving(), UP, COMING, heard=left, moving_s=READY_S) == Wait(), "and here they have come"


def test_a_former_executor_on_a_node_that_does_not_answer_holds_up_no_move() -> None:
    former = Executor(executor_name("lease-uid", 1), "uid-0", "lease-uid", deleting=True, node="away")
    serving, current = active(executor="e", executor_uid="uid-1"), replace(UP, name="e", node="gpu")
    begun = step(serving, current, former, heard=SERVING)
    assert isinstance(begun, Write) and begun.status.next == NEXT
    for there in (replace(former, node=TARGET.node), replace(former, node=""), replace(former, name=NEXT)):
        assert step(serving, current, there, heard=SERVING) == Wait(), "that room, or that name, is not free yet"


def test_who_began_a_move_has_heard_all_of_it() -> None:
    pauses, begun = Pauses(), Write(replace(moving().status, next_uid=""))
    pauses.note(active(), begun, 5)
    assert pauses.moving("lease-uid", NEXT, 7) == (2, -2)
    assert pauses.moving("lease-uid", "", 8) == (0, 0)
    assert pauses.moving("lease-uid", NEXT, 9) == (0, HEAR_S)
    assert pauses.moving("lease-uid", NEXT, 11) == (2, HEAR_S - 2)
    pauses.keep(set())
    assert pauses.moving("lease-uid", NEXT, 12) == (0, HEAR_S)


def test_moves_that_come_to_nothing_are_put_off_longer_each_time() -> None:
    pauses, found = Pauses(), moving()
    assert pauses.move_s(found, 0) <= 0
    for count, wanted in enumerate((5, 10, 20, 40, 80, 160, 320, 600, 600)):
        pauses.note(found, Write(replace(active().status, message="in use")), count)
        assert pauses.move_s(found, count) == wanted
    pauses.note(found, Write(record(**ARRIVED).status), 9)
    assert pauses.move_s(found, 9) <= 0
    assert pauses.start_s("lease-uid", 0) <= 0
    for count, wanted in enumerate((0, 1, 2, 4)):
        pauses.note(found, Create(NAME, 1, TARGET), count)
        pauses.note(found, Create(NAME, 1, TARGET, target=True), count)
        assert pauses.start_s("lease-uid", count) == wanted
    pauses.keep(set())
    assert pauses.start_s("lease-uid", 3) <= 0


def test_another_target_is_tried_at_once() -> None:
    pauses, found = Pauses(), moving()
    failed = Write(replace(active().status, message="in use"))
    for count in range(3):
        pauses.note(found, failed, count)
    assert pauses.move_s(found, 3) > 0
    other = moving(target=replace(TARGET, node="third"))
    assert pauses.move_s(other, 3) <= 0
    pauses.note(other, failed, 3)
    assert pauses.move_s(other, 3) == MOVE[0], "its own tries are counted anew"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (replace(UP, fault="OOM"), {}),
        (replace(UP, deleting=True), {}),
        (None, {}),
        (UP, {"uid-1": Heard(2, 3, "t", "no answer", left=True)}),
    ],
)
def test_who_ends_with_his_last_word_has_moved_if_the_other_side_says_so(
    source: Executor | None, said: dict[str, Heard]
) -> None:
    """The next executor's word that it has the sessions may be a moment later than the news of the source's end."""
    there, heard = [*([source] if source else []), COMING], {**said, "uid-2": TICKET}
    assert silenced(moving(), there, heard) and not silenced(moving(), [UP, COMING], {"uid-2": TICKET})
    assert step(moving(), *there, heard=heard, word_s=2.0) == Wait(2.0)
    arrived = step(moving(), *there, heard={**heard, "uid-2": replace(TICKET, epoch=3)}, word_s=1.0)
    assert isinstance(arrived, Write) and arrived.status.moved
    lost = step(moving(), *there, heard=heard, word_s=0.0)
    assert isinstance(lost, Write) and lost.status.phase is Phase.LOST
    for other in (replace(COMING, fault="OOM"), replace(COMING, uid="uid-3")):
        lost = step(moving(), *there[:-1], other, heard=heard, word_s=2.0)
        assert isinstance(lost, Write) and lost.status.phase is Phase.LOST, "it will say nothing"
    lost = step(moving(), *there, heard=said, word_s=2.0)
    assert isinstance(lost, Write) and lost.status.phase is Phase.LOST, "it has taken none"


def test_the_word_is_waited_for_from_the_end_on() -> None:
    pauses = Pauses()
    assert pauses.word_s("lease-uid", False, 5) == 0
    assert pauses.word_s("lease-uid", True, 6) == WORD_S
    assert pauses.word_s("lease-uid", True, 8) == WORD_S - 2
    assert pauses.word_s("lease-uid", False, 9) == 0
    assert pauses.word_s("lease-uid", True, 20) == WORD_S


def test_a_gpu_that_is_to_be_left_is_left_without_sessions_that_are_overdue() -> None:
    found = active(target=replace(WHERE, node="other"), message="the tenant refuses")
    lost = step(found, UP, heard=SERVING, overdue=True, move_pause_s=60.0)
    assert lost == Write(found.status.lost("its sessions did not move to node other in time: the tenant refuses"))
    larger = active(target=TARGET)
    assert TARGET.size != WHERE.size
    assert step(larger, UP, heard=SERVING, overdue=True, move_pause_s=60.0) == Wait(60.0), (
        "for another size none is lost"
    )


def test_when_sessions_are_overdue() -> None:
    pauses, to_go, stays = Pauses(100.0), active(target=TARGET), active(target=None)
    assert not pauses.overdue(to_go, 0) and not pauses.overdue(to_go, 99)
    assert pauses.overdue(to_go, 100)
    assert not pauses.overdue(stays, 101) and not pauses.overdue(to_go, 102)
    forever = Pauses()
    assert not forever.overdue(to_go, 0) and not forever.overdue(to_go, 1e9)


def test_the_next_executors_name_is_not_given_to_one_that_is_made_later() -> None:
    """It may be there still and not be shown yet, with sessions that have come to it, which were another client's."""
    found = moving()
    stayed = step(found, UP, COMING, heard={**SERVING, "uid-2": TICKET, "uid-1": replace(TICKET, refused="in use")})
    assert isinstance(stayed, Write) and not stayed.status.next
    parted = replace(found.known, client=None, standing=True)
    left, left_later = (
        replace(found, known=parted, status=replace(status, client="pod-uid"))
        for status in (found.status, stayed.status)
    )
    for before, client in ((found, Client.BOUND), (left, Client.NONE), (left_later, Client.NONE)):
        given_up = step(before, COMING, client=client)
        assert isinstance(given_up, Write) and not given_up.status.executor
        later = replace(before, known=replace(before.known, target=None), status=given_up.status)
        planned = step(later, client=client)
        assert isinstance(planned, Write) and planned.status.executor not in ("", NEXT)
