"""Frames: a header of 24 bytes, then the payload.

``payload bytes u32 | kind u8 | zero u8 | zero u16 | sequence u64 | acknowledged u64``, little-endian. Both sides number
what must not be lost, from 1; 0 is for frames that a new connection says anew. ``acknowledged`` is the last number that
the sender of the frame has received.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from tessera.remote.protocol.errors import ProtocolError

HEADER = struct.Struct("<IBBHQQ")
CHUNK_BYTES = 1 << 20
"""The most bytes of a tensor in one frame."""
MAX_PAYLOAD = CHUNK_BYTES + 64
MAX_GREETING = 16 << 10
"""The payload of the first frame, from somebody who is not known yet."""


class Kind(IntEnum):
    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    ACK = 4
    BATCH = 5
    UPLOAD = 6
    REPLY = 7
    DATA = 8
    BYE = 9
    REDIRECT = 10
    MOVE = 11
    MOVED = 12
    PART = 13


SEQUENCED = frozenset({Kind.BATCH, Kind.UPLOAD, Kind.REPLY, Kind.DATA})
_GREETINGS = frozenset({Kind.HELLO, Kind.WELCOME, Kind.REFUSED, Kind.REDIRECT, Kind.MOVE, Kind.MOVED})


class Header(NamedTuple):
    payload_bytes: int
    kind: Kind
    sequence: int
    acknowledged: int


def pack_header(kind: Kind, payload_bytes: int, sequence: int = 0, acknowledged: int = 0) -> bytes:
    return HEADER.pack(payload_bytes, kind, 0, 0, sequence, acknowledged)


def parse_header(data: bytes | bytearray | memoryview) -> Header:
    """The header in the first 24 bytes. Raises ``ProtocolError``."""
    payload_bytes, code, zero, zeros, sequence, acknowledged = HEADER.unpack_from(data)
    try:
        kind = Kind(code)
    except ValueError:
        raise ProtocolError(f"frame kind: found {code}; allowed: 1 to {max(Kind)}") from None
    if zero or zeros:
        raise ProtocolError(f"frame header: found {zero} and {zeros} in the reserved fields; allowed: 0")
    allowed = MAX_GREETING if kind in _GREETINGS else MAX_PAYLOAD
    if payload_bytes > allowed:
        raise ProtocolError(f"{kind.name} frame: found {payload_bytes} bytes; allowed: up to {allowed}")
    if (sequence > 0) is not (kind in SEQUENCED):
        wanted = "above 0" if kind in SEQUENCED else "0"
        raise ProtocolError(f"{kind.name} frame: found sequence number {sequence}; allowed: {wanted}")
    return Header(payload_bytes, kind, sequence, acknowledged)
