"""Writes of one turn of the loop leave together, in their order, and none is lost at the end."""

import asyncio

from tessera.joined_writes import _AT_MOST, Joining


class Sink(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 7)})
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_what_is_written_in_one_turn_leaves_in_one_piece() -> None:
    sink = Sink()
    joining = Joining(sink, asyncio.get_running_loop())
    joining.write(b"head ")
    joining.write(b"body")
    assert sink.pieces == []
    await asyncio.sleep(0)
    assert sink.pieces == [b"head body"]
    joining.write(b"next")
    await asyncio.sleep(0)
    assert sink.pieces == [b"head body", b"next"]


async def test_a_large_write_leaves_at_once_after_what_waited() -> None:
    sink = Sink()
    joining = Joining(sink, asyncio.get_running_loop())
    joining.write(b"head ")
    joining.write(b"x" * _AT_MOST)
    assert sink.pieces == [b"head " + b"x" * _AT_MOST]
    await asyncio.sleep(0)
    assert len(sink.pieces) == 1


async def test_closing_writes_what_waits_and_a_closed_transport_gets_nothing() -> None:
    sink = Sink()
    joining = Joining(sink, asyncio.get_running_loop())
    joining.write(b"last")
    joining.close()
    assert (sink.pieces, sink.closed) == ([b"last"], True)
    joining.write(b"late")
    await asyncio.sleep(0)
    assert sink.pieces == [b"last"]


async def test_everything_else_is_the_transports_own() -> None:
    assert Joining(Sink(), asyncio.get_running_loop()).get_extra_info("peername") == ("10.0.0.1", 7)
