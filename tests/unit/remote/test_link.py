"""Numbers, windows and acknowledgements, without a connection."""

import pytest

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, parse_header
from tessera.remote.protocol.link import ACK_FRAMES, Inbox, Outbox


def filled(count: int, **windows: int) -> Outbox:
    outbox = Outbox(**windows)
    for number in range(count):
        assert outbox.put(Kind.BATCH, bytes([number])) == number + 1
    return outbox


def test_what_is_acknowledged_is_let_go_and_gives_room() -> None:
    outbox = filled(3, window_frames=3)
    assert outbox.full
    outbox.acknowledge(2)
    assert not outbox.full and (outbox.acknowledged, outbox.last) == (2, 3)
    outbox.acknowledge(1)
    assert outbox.acknowledged == 2
    outbox.acknowledge(3)
    assert outbox.put(Kind.BATCH, b"") == 4


def test_a_window_of_bytes_is_full_with_the_frame_that_reaches_it() -> None:
    outbox = Outbox(window_bytes=10)
    outbox.put(Kind.UPLOAD, bytes(9))
    assert not outbox.full
    outbox.put(Kind.UPLOAD, bytes(100))
    assert outbox.full
    outbox.acknowledge(2)
    assert not outbox.full


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    with pytest.raises(ProtocolError, match="acknowledged: found 4; allowed: up to 3, the last frame sent"):
        filled(3).acknowledge(4)


@pytest.mark.parametrize("number", [1, 4])
def test_a_connection_goes_on_between_what_was_acknowledged_and_what_was_sent(number: int) -> None:
    outbox = filled(3)
    outbox.acknowledge(2)
    for allowed in (2, 3):
        outbox.check_received(allowed)
    with pytest.raises(ProtocolError, match=f"received: found {number}; allowed: 2 to 3"):
        outbox.check_received(number)


def test_what_was_received_stays_in_the_window_until_it_is_acknowledged() -> None:
    outbox = filled(3, window_frames=3)
    following = outbox.following(2)
    assert following is not None and (following.number, following.payload) == (3, b"\x02") and outbox.full
    assert outbox.following(3) is None
    outbox.acknowledge(2)
    first = outbox.following(0)
    assert first is not None and first.number == 3


def test_a_frame_carries_its_number_and_the_acknowledgement() -> None:
    numbered = filled(1).following(0)
    assert numbered is not None
    data = numbered.framed(7)
    assert parse_header(data) == (1, Kind.BATCH, 1, 7) and data[HEADER.size :] == b"\0"


def test_each_number_is_accepted_once_and_none_is_left_out() -> None:
    inbox = Inbox()
    assert [inbox.accept(number, 0) for number in (1, 2, 2, 1, 3)] == [True, True, False, False, True]
    with pytest.raises(ProtocolError, match="sequence number: found 5; allowed: up to 4"):
        inbox.accept(5, 0)


def test_who_sends_beyond_the_window_breaks_the_protocol() -> None:
    inbox = Inbox(window_bytes=10)
    inbox.accept(1, 9)
    inbox.accept(2, 1)
    with pytest.raises(ProtocolError, match="frame 3: found it while 2 frames with 10 bytes are not acknowledged"):
        inbox.accept(3, 0)
    inbox.take(9)
    assert inbox.accept(3, 0)
    frames = Inbox(window_frames=1)
    frames.accept(1, 0)
    with pytest.raises(ProtocolError, match="allowed: below 1 frames"):
        frames.accept(2, 0)


def test_an_acknowledgement_is_due_for_many_frames_for_many_bytes_and_for_a_full_window() -> None:
    many, large, narrow = Inbox(), Inbox(), Inbox(window_frames=2)
    for _ in range(ACK_FRAMES - 1):
        many.take(0)
    assert not many.due
    many.take(0)
    assert many.due and many.acknowledge() == ACK_FRAMES and not many.due
    large.take(4 << 20)
    narrow.take(0)
    assert large.due and not narrow.due
    narrow.take(0)
    assert narrow.due


def test_what_a_broken_connection_may_have_lost_is_due_again() -> None:
    inbox = Inbox(window_frames=2)
    inbox.take(0)
    inbox.take(0)
    inbox.acknowledge()
    inbox.forget()
    assert inbox.due and inbox.acknowledge() == 2
