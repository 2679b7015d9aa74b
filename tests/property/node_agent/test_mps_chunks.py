"""Partitions of any slices that the ledger admits."""

from hypothesis import given
from hypothesis import strategies as st

from tessera.node_agent.enforcement.mps_chunks import COMMON, own_chunks


@given(st.integers(2, 64), st.lists(st.integers(1, 100), max_size=40))
def test_they_fit_and_each_has_about_what_it_asked_for(total, percents):
    room, asked, given_out = total - COMMON, 0, 0
    for percent in percents:
        if asked + percent > 100:
            continue
        asked += percent
        chunks = own_chunks(percent, total, given_out, 100 - asked)
        given_out += chunks
        assert percent * room // 100 <= chunks <= -(-percent * total // 100)
        assert given_out <= room


@given(st.integers(1, 64), st.data())
def test_they_fit_also_when_slices_come_and_go(total, data):
    slices = []
    for _ in range(30):
        if slices and data.draw(st.booleans()):
            slices.pop(data.draw(st.integers(0, len(slices) - 1)))
        room = 100 - sum(percent for percent, _ in slices)
        if room:
            percent = data.draw(st.integers(1, room))
            slices.append((percent, own_chunks(percent, total, sum(c for _, c in slices), room - percent)))
        assert sum(chunks for _, chunks in slices) <= max(total - COMMON, 0)
