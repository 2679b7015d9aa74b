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


def test_the_wall_that_held_must_be_the_one_that_the_row_names():
    held = Outcome(Wall.WATCHER, "ended")
    assert confirm(Wall.WATCHER, held) is held
    for other in set(Wall) - {Wall.WATCHER}:
        with pytest.raises(Escaped, match=f"held by watcher, and the row names {other}"):
            confirm(other, held)


def test_the_first_event_in_time_counts():
    late = Told(EVENT.reason, EVENT.message, 109.0)
    assert in_time((late, EVENT), EVENT.reason, "was ended", 100.0) is EVENT
