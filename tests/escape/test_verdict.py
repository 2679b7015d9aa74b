"""The judge of the escape suite: what it must not let pass."""

import pytest

from tests.escape.verdict import (
    CONTEXT_MIB,
    SLICE_MIB,
    Escaped,
    Outcome,
    Seen,
    Taken,
    Told,
    Wall,
    confirm,
    in_time,
    judge,
    judge_bursts,
)

ROOM = SLICE_MIB - CONTEXT_MIB
FULL = Taken(ROOM, 2, 100.0)
OVER = Taken(4096, 0, 100.0)
EVENT = Told("SliceOverLimit", "container main uses 4Gi of GPU G: its newest process, 7, was ended", 101.0)


def test_a_refusal_at_the_slice_is_the_shims():
    assert judge(Seen(FULL)).wall is Wall.SHIM
    assert judge(Seen(Taken(ROOM - CONTEXT_MIB - 64, 2, 100.0), beside=64)).wall is Wall.SHIM
    assert judge(Seen(Taken(0, 2, 100.0))).wall is Wall.SHIM_CLOSED


def test_a_program_that_was_ended_and_told_of_is_the_watchers():
    outcome = judge(Seen(OVER, ended_at=100.7, told=(EVENT,)))
    assert (outcome.wall, outcome.wall.kind, round(outcome.seconds, 1)) == (Wall.WATCHER, "detected", 0.7)


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (Seen(Taken(ROOM, 0, 100.0)), "allowed: 2"),
        (Seen(Taken(0, 999, 100.0)), "refused with 999 at 640 MiB"),
        (Seen(Taken(0, 0, 100.0)), "refused with 0 at 640 MiB"),
        (Seen(Taken(1984, 2, 100.0)), "allowed: 2688, the slice"),
        (Seen(Taken(64, 2, 100.0), beside=64), "allowed: 2688, the slice"),
        (Seen(OVER, told=(EVENT,)), "lives on"),
        (Seen(OVER, ended_at=102.1, told=(EVENT,)), "4736 MiB for 2.10 s"),
        (Seen(OVER, ended_at=100.7), "no event SliceOverLimit with 'was ended'; found none"),
        (Seen(OVER, ended_at=100.7, told=(Told("WithoutShim", "was ended", 101.0),)), "found WithoutShim"),
        (
            Seen(OVER, ended_at=100.7, told=(Told("SliceOverLimit", "is ended next, then the container", 100.0),)),
            "no event",
        ),
        (Seen(OVER, ended_at=100.7, told=(Told(EVENT.reason, EVENT.message, 103.0),)), "came 3.00 s later"),
        (Seen(Taken(ROOM, 2, 100.0), beside=64), "lives on"),
    ],
)
def test_what_is_not_held_as_it_must_be_has_escaped(seen: Seen, text: str):
    with pytest.raises(Escaped, match=text):
        judge(seen)


def test_bursts_that_are_ended_like_one_that_stays_are_the_watchers():
    outcome = judge_bursts((100.0, 100.75, 101.5), 0.45, 101.7, (EVENT,))
    assert (outcome.wall, round(outcome.seconds, 1)) == (Wall.WATCHER, 1.7)
    assert "ended after 1.10 s over its limit in 3 bursts" in outcome.evidence


@pytest.mark.parametrize(
    ("begun", "ended_at", "told", "text"),
    [
        ((100.0, 100.75), None, (EVENT,), "2 bursts, and it lives on"),
        (tuple(100 + 0.75 * n for n in range(6)), 105.0, (EVENT,), "over its limit for 2.70 s in 6 bursts"),
        ((100.0,), 100.2, (EVENT,), "in its first burst"),
        ((100.0, 100.75), 101.0, (), "no event SliceOverLimit"),
    ],
)
def test_bursts_that_go_on_or_are_none_have_escaped(begun, ended_at, told, text: str):
    with pytest.raises(Escaped, match=text):
        judge_bursts(begun, 0.45, ended_at, told)


def test_the_wall_that_held_must_be_the_one_that_the_row_names():
    held = Outcome(Wall.WATCHER, "ended")
    assert confirm(Wall.WATCHER, held) is held
    for other in set(Wall) - {Wall.WATCHER}:
        with pytest.raises(Escaped, match=f"held by watcher, and the row names {other}"):
            confirm(other, held)


def test_the_first_event_in_time_counts():
    late = Told(EVENT.reason, EVENT.message, 109.0)
    assert in_time((late, EVENT), EVENT.reason, "was ended", 100.0) is EVENT
