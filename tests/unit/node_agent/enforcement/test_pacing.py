"""Who has which part of a GPU's time. How launches keep to it is shown with the shim's gate in ``tests/native``."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.node_agent.enforcement.pacing import (
    ALWAYS,
    FREE,
    IDLE_PERCENT,
    PERIOD_US,
    Claim,
    Turn,
    encode,
    first_turns,
    shares,
    turns,
)

THIRTY, SEVENTY = Claim("thirty", 30), Claim("seventy", 70)
BURST = Claim("burst", 30, 80, "burstable")
BEST, PLAIN = Claim("best", 50, qos="best-effort"), Claim("plain", 0)


def test_guaranteed_gets_what_was_asked_for_and_no_more():
    assert shares([THIRTY, SEVENTY], {"thirty", "seventy"}) == {"thirty": 30, "seventy": 70}
    assert shares([THIRTY, SEVENTY], {"thirty"}) == {"thirty": 30}


def test_burstable_has_what_others_leave_up_to_its_limit():
    assert shares([BURST], {"burst"}) == {"burst": 80}
    assert shares([BURST, Claim("half", 50)], {"burst", "half"}) == {"burst": 50, "half": 50}
    assert shares([BURST, Claim("half", 50)], {"burst"}) == {"burst": 80}


def test_two_that_burst_share_what_is_left():
    other = Claim("other", 10, 20, "burstable")
    assert shares([BURST, other], {"burst", "other"}) == {"burst": 80, "other": 20}
    assert shares([BURST, other, Claim("half", 50)], {"burst", "other", "half"}) == {
        "burst": 35,
        "other": 15,
        "half": 50,
    }


def test_the_rest_goes_to_those_that_ask_for_nothing():
    assert shares([THIRTY, BEST, PLAIN], {"thirty", "best", "plain"}) == {"thirty": 30, "best": 35, "plain": 35}
    assert shares([THIRTY, PLAIN], {"plain"}) == {"plain": 100}


def test_nobody_stands_still_where_all_of_it_is_asked_for():
    found = shares([THIRTY, SEVENTY, PLAIN], {"thirty", "seventy", "plain"})
    assert found["plain"] == pytest.approx(2, abs=0.1)
    assert found["thirty"] == pytest.approx(30, abs=1)


def test_turns_follow_each_other():
    assert turns([THIRTY, SEVENTY], {"thirty", "seventy"}) == {
        "thirty": Turn(0, 30_000),
        "seventy": Turn(30_000, 70_000),
    }


def test_who_has_all_of_it_never_waits():
    assert turns([THIRTY, PLAIN], {"plain"})["plain"] == ALWAYS


def test_an_idle_slice_keeps_a_short_turn_over_the_others():
    found = turns([THIRTY, SEVENTY], {"seventy"})
    assert found["thirty"] == Turn(0, round(PERIOD_US * IDLE_PERCENT / 100))
    assert found["seventy"] == Turn(0, 70_000)


def test_without_a_claim_to_compute_there_are_no_turns():
    assert turns([PLAIN, Claim("other", 0)], {"plain"}) == {"plain": FREE, "other": FREE}


def test_a_fresh_slice_begins_as_an_idle_one():
    assert first_turns([30, 0, 3]) == {0: Turn(0, 5_000), 2: Turn(0, 3_000)}


def test_the_word_that_the_shim_reads():
    assert encode(FREE) == 0x7E55 << 48
    value = 0x01_2345 << 24 | 0x06_789A
    check = (value ^ value >> 16 ^ value >> 32 ^ 0x7E55) & 0xFFFF
    assert encode(Turn(0x01_2345, 0x06_789A)) == check << 48 | value


CLAIMS = st.lists(
    st.builds(
        lambda percent, more, qos: (percent, min(percent + more, 100), qos),
        st.integers(0, 60),
        st.integers(0, 60),
        st.sampled_from(["guaranteed", "burstable", "best-effort"]),
    ),
    min_size=1,
    max_size=8,
)


@given(CLAIMS, st.data())
def test_turns_of_those_with_work_never_overlap_and_nobody_loses_what_it_asked_for(rows, data):
    claims, sold = [], 0
    for number, (percent, limit, qos) in enumerate(rows):
        room = min(percent, 100 - sold)
        sold += room
        claims.append(Claim(str(number), room, limit if qos == "burstable" else 0, qos))
    wanting = data.draw(st.sets(st.sampled_from([claim.id for claim in claims])))
    found, granted = turns(claims, wanting), shares(claims, wanting)
    assert found.keys() == {claim.id for claim in claims}
    assert sum(granted.values()) <= 100 + 1e-6
    if not sold:
        assert set(found.values()) == {FREE}
        return
    parts = sorted((turn.start_us, turn.start_us + turn.length_us) for id_, turn in found.items() if id_ in wanting)
    assert all(end <= begin + 1 for (_, end), (begin, _) in pairwise(parts))
    assert all(turn.length_us > 0 and turn.start_us + turn.length_us <= PERIOD_US for turn in found.values())
    least = 2.0 * sum(not claim.entitled for claim in claims)
    for claim in claims:
        if claim.id in wanting and claim.entitled:
            assert granted[claim.id] >= claim.percent * 100 / (100 + least) - 1e-6
            assert (
                granted[claim.id] <= max(claim.percent, claim.limit_percent if claim.qos == "burstable" else 0) + 1e-6
            )
