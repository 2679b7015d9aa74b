"""A session on its way to another executor: PART frames of records, each a code and its fields. Pure.

``Storage``, ``Upload`` and ``Kept`` announce bytes: these follow in PART frames of their own, before any other record.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import CHUNK_BYTES, Kind, pack_header
from tessera.remote.protocol.records import MAX_DIMENSIONS
from tessera.remote.protocol.values import Reader, put_text

PART_BYTES = 64 << 10
"""Records are sent when there are so many bytes of them."""
POISONED_AT_ONCE = 8192
NO_ERROR = 0


class Code(IntEnum):
    KNOWN = 1
    NUMBERS = 2
    ERROR = 3
    GENERATOR = 4
    STORAGE = 5
    TENSOR = 6
    POISON = 7
    UPLOAD = 8
    KEPT = 9
    END = 10


class Flag(IntEnum):
    CONJUGATE = 1
    NEGATIVE = 2
    ZERO = 4
    """It has no memory: all its elements are 0."""


class Known(NamedTuple):
    """A FORM, LAYOUT or PROGRAM of a BATCH, as it was said."""

    record: bytes


class Numbers(NamedTuple):
    """``taken``: the client's last frame that took effect; ``acknowledged``: the executor's last that the client took.

    ``peak``: the most bytes that were held; ``pending``: the error that the next answer tells.
    """

    taken: int
    acknowledged: int
    peak: int
    pending: int


class Error(NamedTuple):
    """``number`` from 1; ``NO_ERROR`` stands for none."""

    number: int
    kind: str
    text: str


class Generator(NamedTuple):
    """0: the session's own."""

    handle: int
    state: bytes


class Storage(NamedTuple):
    """``number`` from 0, in order; ``host``: 1 for one in the machine's memory and not the device's."""

    number: int
    host: int
    size: int


class Tensor(NamedTuple):
    """``flags`` of ``Flag``; ``offset``, sizes and strides in elements."""

    handle: int
    storage: int
    flags: int
    dtype: str
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Poison(NamedTuple):
    error: int
    handles: tuple[int, ...]


class Upload(NamedTuple):
    """A tensor of which ``received`` bytes have come. One with an error has none of them."""

    handle: int
    dtype: str
    sizes: tuple[int, ...]
    error: int
    received: int


class Kept(NamedTuple):
    """The executor's next frame that the client has not acknowledged, of ``size`` bytes."""

    kind: int
    size: int


class End(NamedTuple):
    """Nothing follows."""


Record = Known | Numbers | Error | Generator | Storage | Tensor | Poison | Upload | Kept | End

_NUMBERS, _STORAGE, _TENSOR = struct.Struct("<QQQI"), struct.Struct("<IBQ"), struct.Struct("<QIBQ")
_ONE, _HANDLE, _KEPT, _POISON, _UPLOADED = (struct.Struct(form) for form in ("<I", "<Q", "<BI", "<II", "<IQ"))


def _bytes_after(record: Record) -> int:
    match record:
        case Storage(_, _, size) | Kept(_, size):
            return size
        case Upload(_, _, _, error, received):
            return 0 if error else received
        case _:
            return 0


class Writer:
    """``send`` gets whole frames, in order."""

    def __init__(self, send: Callable[[bytes | memoryview], None]) -> None:
        self._send = send
        self._out = bytearray()

    def put(self, record: Record) -> None:
        _put(record, self._out)
        if len(self._out) >= PART_BYTES or isinstance(record, End):
            self.flush()

    def flush(self) -> None:
        if self._out:
            self._send(pack_header(Kind.PART, len(self._out)) + self._out)
            self._out.clear()

    def data(self, data: memoryview) -> None:
        """Of the bytes that the last record announced, the next."""
        self.flush()
        for at in range(0, len(data), CHUNK_BYTES):
            piece = data[at : at + CHUNK_BYTES]
            self._send(pack_header(Kind.PART, len(piece)))
            self._send(piece)


class Parts:
    """Reads the parts of one snapshot; ``ended`` when all have come."""

    def __init__(self) -> None:
        self._left = 0
        self.ended = False

    def read(self, payload: bytes) -> Iterator[Record | memoryview]:
        """Records, and announced bytes as they come. Raises ``ProtocolError``."""
        if self.ended:
            raise ProtocolError("snapshot: found a part after its end")
        if self._left:
            if len(payload) > self._left:
                raise ProtocolError(f"snapshot: found {len(payload)} bytes; allowed: {self._left}")
            self._left -= len(payload)
            yield memoryview(payload)
            return
        reader = Reader(payload)
        while reader.left:
            record = _record(reader)
            self._left, self.ended = _bytes_after(record), isinstance(record, End)
            if (self._left or self.ended) and reader.left:
                raise ProtocolError(f"snapshot: found {reader.left} bytes in the part of {type(record).__name__}")
            yield record


def _put(record: Record, out: bytearray) -> None:
    out.append(Code[type(record).__name__.upper()])
    match record:
        case Known(data):
            out += _ONE.pack(len(data)) + data
        case Numbers():
            out += _NUMBERS.pack(*record)
        case Error(number, kind, text):
            out += _ONE.pack(number)
            put_text(kind, out)
            put_text(text[:8192], out)
        case Generator(handle, state):
            out += _HANDLE.pack(handle) + _ONE.pack(len(state)) + state
        case Storage():
            out += _STORAGE.pack(*record)
        case Tensor(handle, storage, flags, dtype, offset, sizes, strides):
            out += _TENSOR.pack(handle, storage, flags, offset)
            put_text(dtype, out)
            out += struct.pack(f"<B{2 * len(sizes)}q", len(sizes), *sizes, *strides)
        case Poison(error, handles):
            out += _POISON.pack(error, len(handles)) + struct.pack(f"<{len(handles)}Q", *handles)
        case Upload(handle, dtype, sizes, error, received):
            out += _HANDLE.pack(handle)
            put_text(dtype, out)
            out += struct.pack(f"<B{len(sizes)}q", len(sizes), *sizes) + _UPLOADED.pack(error, received)
        case Kept():
            out += _KEPT.pack(*record)


def _record(reader: Reader) -> Record:
    code = reader.take(1)[0]
    match code:
        case Code.KNOWN:
            return Known(_sized(reader))
        case Code.NUMBERS:
            return Numbers(*reader.unpack(_NUMBERS))
        case Code.ERROR:
            (number,) = reader.unpack(_ONE)
            return Error(number, reader.text(), reader.text())
        case Code.GENERATOR:
            (handle,) = reader.unpack(_HANDLE)
            return Generator(handle, _sized(reader))
        case Code.STORAGE:
            return Storage(*reader.unpack(_STORAGE))
        case Code.TENSOR:
            return _tensor(reader)
        case Code.POISON:
            error, count = reader.unpack(_POISON)
            return Poison(error, struct.unpack(f"<{count}Q", reader.take(8 * count)))
        case Code.UPLOAD:
            (handle,) = reader.unpack(_HANDLE)
            return Upload(handle, reader.text(), _integers(reader, _dimensions(reader)), *reader.unpack(_UPLOADED))
        case Code.KEPT:
            return Kept(*reader.unpack(_KEPT))
        case Code.END:
            return End()
        case _:
            raise ProtocolError(f"snapshot code: found {code}; allowed: 1 to {max(Code)}")


def _tensor(reader: Reader) -> Tensor:
    handle, storage, flags, offset = reader.unpack(_TENSOR)
    dtype, count = reader.text(), _dimensions(reader)
    return Tensor(handle, storage, flags, dtype, offset, _integers(reader, count), _integers(reader, count))


def _sized(reader: Reader) -> bytes:
    (size,) = reader.unpack(_ONE)
    return bytes(reader.take(size))


def _dimensions(reader: Reader) -> int:
    count = reader.take(1)[0]
    if count > MAX_DIMENSIONS:
        raise ProtocolError(f"sizes: found {count}; allowed: up to {MAX_DIMENSIONS}")
    return count


def _integers(reader: Reader, count: int) -> tuple[int, ...]:
    """From 0."""
    found: tuple[int, ...] = struct.unpack(f"<{count}q", reader.take(8 * count))
    if any(number < 0 for number in found):
        raise ProtocolError(f"sizes and strides: found {found}; allowed: from 0")
    return found
