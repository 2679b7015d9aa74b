"""Turns of slices whose compute MPS holds."""

import pytest

from tessera.node_agent.enforcement.pacing import FREE, PERIOD_US, Claim
from tessera.node_agent.enforcement.throttling import throttled, throttles

STEADY = Claim("steady", 50)
BURST = Claim("burst", 30, 60, "burstable")
SPARE = Claim("spare", 20, 0, "best-effort")
SILENT = Claim("silent", 0)


def percent(claims, wanting):
    """What each gets of the GPU: the percentage that it starts with, in its part of the time."""
    starts = {"steady": 50, "burst": 60, "spare": 100, "silent": 100}
    found = throttles(claims, wanting)
    return {id_: starts[id_] * (turn.length_us or PERIOD_US) / PERIOD_US for id_, turn in found.items()}


def test_guaranteed_slices_are_left_to_mps():
    assert throttles([STEADY, Claim("other", 50)], {"steady", "other"}) == {"steady": FREE, "other": FREE}
    assert throttles([STEADY, BURST, SPARE], {"steady", "burst", "spare"})["steady"] == FREE


def test_nobody_is_throttled_where_nobody_asks_for_compute():
    assert throttles([SILENT, Claim("b", 0, 0, "best-effort")], {"silent", "b"}) == {"silent": FREE, "b": FREE}
    assert not throttled([SILENT])
    assert not throttled([STEADY])
    assert throttled([STEADY, SILENT]) and throttled([BURST])


def test_a_burstable_slice_has_its_limit_while_the_neighbours_are_idle_and_its_request_beside_them():
    assert throttles([STEADY, BURST], {"burst"})["burst"] == FREE
    other = Claim("other", 70)
    assert percent([Claim("steady", 70), BURST], {"steady", "burst"})["burst"] == pytest.approx(30, abs=0.01)
    assert throttles([other, BURST], {"other"})["burst"].length_us == PERIOD_US // 2, "its request, for when it begins"


def test_between_them_a_burstable_slice_has_what_is_left():
    assert percent([STEADY, BURST], {"steady", "burst"})["burst"] == pytest.approx(50, abs=0.01)


def test_best_effort_has_the_rest_and_is_throttled_first():
    assert percent([STEADY, SPARE], {"steady", "spare"})["spare"] == pytest.approx(50, abs=0.01)
    found = percent([STEADY, BURST, SPARE], {"steady", "burst", "spare"})
    assert found["burst"] > 30
    assert found["spare"] < found["burst"]
    assert throttles([STEADY, SPARE], {"spare"})["spare"] == FREE


@pytest.mark.parametrize("busy", [(), ("steady",), ("steady", "burst"), ("steady", "burst", "spare", "silent")])
def test_a_turn_is_never_longer_than_a_period_nor_empty(busy):
    for turn in throttles([STEADY, BURST, SPARE, SILENT], set(busy)).values():
        assert turn == FREE or (turn.start_us == 0 < turn.length_us < PERIOD_US)
