"""What the executor answers: REPLY frames, and DATA frames with the bytes of a tensor that was read.

``request u64 | code u8`` begins each. DATA carries the request and the bytes; the REPLY to a READ comes before them and
tells how many there are.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.records import MAX_DIMENSIONS
from tessera.remote.protocol.values import Reader, put_text

_HEAD, _BYTES, _COUNT, _PAIR = (struct.Struct(form) for form in ("<QB", "<Q", "<H", "<QQ"))
DATA_HEAD = struct.Struct("<Q")


class Answer(IntEnum):
    DONE = 1
    BYTES = 2
    OUTPUTS = 3
    FAILED = 4
    MEMORY = 5


class Output(NamedTuple):
    """A tensor as the executor made it; ``dtype`` is empty where the operator gave none."""

    dtype: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Done(NamedTuple):
    request: int


class Bytes(NamedTuple):
    """So many bytes follow in DATA frames."""

    request: int
    size: int


class Outputs(NamedTuple):
    request: int
    outputs: tuple[Output, ...]


class Failed(NamedTuple):
    """``kind``: the exception's name where the client has the same, such as ``OutOfMemoryError``."""

    request: int
    kind: str
    text: str


class Memory(NamedTuple):
    """Bytes that the session holds, and the most that it held at once."""

    request: int
    used: int
    peak: int


Reply = Done | Bytes | Outputs | Failed | Memory


def encode(reply: Reply) -> bytes:
    out = bytearray()
    match reply:
        case Done(request):
            out += _HEAD.pack(request, Answer.DONE)
        case Bytes(request, size):
            out += _HEAD.pack(request, Answer.BYTES) + _BYTES.pack(size)
        case Outputs(request, outputs):
            out += _HEAD.pack(request, Answer.OUTPUTS) + _COUNT.pack(len(outputs))
            for output in outputs:
                put_text(output.dtype, out)
                numbers = (*output.sizes, *output.strides)
                out += struct.pack(f"<B{len(numbers)}q", len(output.sizes), *numbers)
        case Memory(request, used, peak):
            out += _HEAD.pack(request, Answer.MEMORY) + _PAIR.pack(used, peak)
        case Failed(request, kind, text):
            out += _HEAD.pack(request, Answer.FAILED)
            put_text(kind, out)
            put_text(text[:8192], out)
    return bytes(out)


def decode(payload: bytes | memoryview) -> Reply:
    """Raises ``ProtocolError``."""
    reader = Reader(payload)
    request, code = reader.unpack(_HEAD)
    reply = _body(request, code, reader)
    if reader.left:
        raise ProtocolError(f"reply: found {reader.left} bytes after its end")
    return reply


def decode_data(payload: bytes) -> tuple[int, memoryview]:
    """The request of a DATA frame and its bytes. Raises ``ProtocolError``."""
    reader = Reader(payload)
    (request,) = reader.unpack(DATA_HEAD)
    return request, reader.take(reader.left)


def _body(request: int, code: int, reader: Reader) -> Reply:
    match code:
        case Answer.DONE:
            return Done(request)
        case Answer.BYTES:
            return Bytes(request, *reader.unpack(_BYTES))
        case Answer.OUTPUTS:
            (count,) = reader.unpack(_COUNT)
            return Outputs(request, tuple(_output(reader) for _ in range(count)))
        case Answer.MEMORY:
            return Memory(request, *reader.unpack(_PAIR))
        case Answer.FAILED:
            return Failed(request, reader.text(), reader.text())
        case _:
            raise ProtocolError(f"reply code: found {code}; allowed: 1 to {max(Answer)}")


def _output(reader: Reader) -> Output:
    dtype, dimensions = reader.text(), reader.take(1)[0]
    if dimensions > MAX_DIMENSIONS:
        raise ProtocolError(f"output: found {dimensions} dimensions; allowed: up to {MAX_DIMENSIONS}")
    numbers = struct.unpack(f"<{2 * dimensions}q", reader.take(16 * dimensions))
    return Output(dtype, numbers[:dimensions], numbers[dimensions:])
