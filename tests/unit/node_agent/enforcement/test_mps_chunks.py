"""Percentages to whole chunks."""

import pytest

from tessera.node_agent.enforcement.mps_chunks import COMMON, own_chunks

H100 = 16


def shared_out(percents, total=H100):
    """The chunks of slices that come one after the other."""
    found = []
    for place, percent in enumerate(percents):
        found.append(own_chunks(percent, total, sum(found), 100 - sum(percents[: place + 1])))
    return found


@pytest.mark.parametrize(
    ("percents", "chunks"),
    [
        ([30], [5]),
        ([50, 50], [8, 7]),
        ([25, 25, 25, 25], [4, 4, 4, 3]),
        ([33, 33, 33], [5, 5, 5]),
        ([1], [1]),
        ([100], [15]),
        ([10] * 10, [2, 1, 2, 1, 2, 1, 2, 1, 2, 1]),
    ],
)
def test_what_was_asked_for_as_long_as_the_rest_is_served(percents, chunks):
    assert shared_out(percents) == chunks


def test_one_that_no_chunk_is_left_for_gets_none():
    assert shared_out([99, 1]) == [15, 0]
    assert own_chunks(50, 1, 0, 50) == 0


def test_chunks_that_somebody_still_has_are_not_given_twice():
    assert own_chunks(50, H100, 12, 50) == 0
    assert own_chunks(50, H100, H100, 0) == 0


def test_the_common_chunk_is_never_given_away():
    assert sum(shared_out([7] * 14)) <= H100 - COMMON
