"""How many clients of a lease are reviewed, and when."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.remote.controller import turns
from tessera.remote.controller.turns import AT_ONCE, BURST, PER_S, Buckets, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reviewed(found: Turns, uid: str = "a") -> bool:
    with found.turn(uid) as refused:
        return refused is None


def test_a_lease_has_a_burst_and_then_so_many_a_second_and_others_are_not_held_up() -> None:
    clock = Clock()
    found = Turns(1, clock)
    assert [reviewed(found) for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert reviewed(found, "b")
    clock.now += 1 / PER_S
    assert [reviewed(found) for _ in range(2)] == [True, False]
    clock.now += 3600
    assert [reviewed(found) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_all_sessions_of_a_lease_may_come_back_at_once() -> None:
    found = Turns(3 * BURST, Clock())
    assert [reviewed(found) for _ in range(3 * BURST + 1)] == [True] * 3 * BURST + [False]


def test_reviews_at_once_are_bounded_whoever_asks_and_however_one_ends() -> None:
    found = Turns(1, Clock())
    with ExitStack() as held:
        for number in range(AT_ONCE):
            assert held.enter_context(found.turn(f"lease-{number}")) is None
        with found.turn("other") as refused:
            assert refused is not None and refused.reason == "rate" and f"{AT_ONCE} clients" in refused.text
    with pytest.raises(OSError, match="no API server"), found.turn("other"):
        raise OSError("no API server")
    with ExitStack() as held:
        assert all(held.enter_context(found.turn(f"lease-{number}")) is None for number in range(AT_ONCE))


def test_leases_that_came_once_are_forgotten_and_those_that_come_too_often_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_FEW", 8)
    clock = Clock()
    buckets = Buckets(2, 0.001, clock)
    assert [buckets.take("busy") for _ in range(3)] == [True, True, False]
    clock.now += 1
    for number in range(1000):
        clock.now += 0.001
        buckets.take(f"lease-{number}")
        assert not buckets.take("busy")
    clock.now += 1e6
    buckets.take("last")
    assert len(buckets._left) < 2100
    for number in range(3000):
        clock.now += 1e6
        buckets.take(f"later-{number}")
    assert len(buckets._left) <= 2100


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=60))
def test_never_more_than_the_burst_and_what_came_back(comes: list[tuple[str, float]]) -> None:
    clock = Clock()
    buckets, taken = Buckets(4, 2.0, clock), dict[str, list[float]]()
    for key, after in comes:
        clock.now += after
        if buckets.take(key):
            taken.setdefault(key, []).append(clock.now)
    for times in taken.values():
        for first, since in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= 4 + (times[last] - since) * 2.0 + 1e-6
