"""Two sides that both send, over connections that are cut anywhere: every frame comes once, in order, and none is lost.

That the windows are kept is asserted by the receiving side, which ends the session where they are not.
"""

import threading
import time
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.streams import shut
from tests.property.remote.two_sides import MARK, PATIENCE_S, Side, connection, send_all

SIZES = st.lists(st.integers(0, 900), max_size=40)
SENDERS = st.lists(SIZES, max_size=3)
CUTS = st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 6000)), max_size=6)
WINDOW = st.sampled_from([(1, 1000), (500, 3), (4000, 1000), (64 << 10, 200)])


def in_order(came: list[bytes], sent: list[list[int]]) -> bool:
    """Each sender's frames are there once, whole, and in its order."""
    found: list[list[tuple[int, int]]] = [[] for _ in sent]
    for payload in came:
        sender, number = MARK.unpack_from(payload)
        found[sender].append((number, len(payload) - MARK.size))
    return found == [list(enumerate(sizes)) for sizes in sent]


def meet(one: Side, other: Side, budgets: tuple[int | None, int | None], enough: tuple[int, int]) -> None:
    """A connection until it is cut, or until all has come."""
    ends, reached = connection(*budgets), (one.peer.received, other.peer.received)
    readers = one.read(ends[0], reached[1]), other.read(ends[1], reached[0])
    assert settles(lambda: not all(map(threading.Thread.is_alive, readers)) or came_all(one, other, enough))
    shut(ends[0])
    for reader in readers:
        reader.join(PATIENCE_S)
        assert not reader.is_alive()


def came_all(one: Side, other: Side, enough: tuple[int, int]) -> bool:
    return (len(one.came), len(other.came)) == enough


def settles(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


@settings(deadline=None, max_examples=60)
@given(ours=SENDERS, theirs=SENDERS, cuts=CUTS, window=WINDOW, kept=st.booleans())
def test_every_frame_comes_once_and_in_order(
    ours: list[list[int]], theirs: list[list[int]], cuts: list[tuple[int, int]], window: tuple[int, int], kept: bool
) -> None:
    one, other = Side(*window, kept=False), Side(*window, kept=kept)
    enough = sum(map(len, theirs)), sum(map(len, ours))
    try:
        threads = [send_all(one, Kind.BATCH, number, sizes) for number, sizes in enumerate(ours)]
        threads += [send_all(other, Kind.REPLY, number, sizes) for number, sizes in enumerate(theirs)]
        for budgets in (*cuts, (None, None)):
            meet(one, other, budgets, enough)
        assert one.error is None and other.error is None
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert in_order(other.came, ours) and in_order(one.came, theirs)
    finally:
        one.end()
        other.end()
