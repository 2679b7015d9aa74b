"""Arguments of operators as bytes: a tag, then the value. Reading is bounded in depth and by the bytes that are there.

Tensors and floats of a call are left out of its form as *slots*: one form serves every call that differs only in them.
"""

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from tessera.remote.protocol.errors import ProtocolError

MAX_DEPTH = 8


class Tag(IntEnum):
    NONE = 0
    TRUE = 1
    FALSE = 2
    INT = 3
    FLOAT = 4
    COMPLEX = 5
    TEXT = 6
    LIST = 7
    DTYPE = 8
    LAYOUT = 9
    MEMORY_FORMAT = 10
    DEVICE = 11
    GENERATOR = 12
    TENSOR_SLOT = 13
    FLOAT_SLOT = 14


class Slot(Enum):
    """What a call fills in; ``DEVICE`` and ``GENERATOR`` are the session's own."""

    TENSOR = Tag.TENSOR_SLOT
    FLOAT = Tag.FLOAT_SLOT
    DEVICE = Tag.DEVICE
    GENERATOR = Tag.GENERATOR


@dataclass(frozen=True, slots=True)
class Named:
    """A constant of the framework by its name, such as the dtype ``float32``; ``tag`` says of which kind."""

    tag: Tag
    name: str


Value = None | bool | int | float | complex | str | Named | Slot | list[Any]

_NAMED = frozenset({Tag.DTYPE, Tag.LAYOUT, Tag.MEMORY_FORMAT})
_SLOTS = {slot.value: slot for slot in Slot}
_TAGS = tuple(Tag)
_CONSTANTS: dict[Tag, Value] = {Tag.NONE: None, Tag.TRUE: True, Tag.FALSE: False, **_SLOTS}
_INT, _FLOAT, _COMPLEX, _COUNT = struct.Struct("<q"), struct.Struct("<d"), struct.Struct("<dd"), struct.Struct("<H")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def encode(value: Value, out: bytearray, depth: int = MAX_DEPTH) -> None:
    """Appends a value. Raises ``ValueError`` for one that has no form on the wire."""
    match value:
        case None | True | False:
            out.append(Tag.NONE if value is None else Tag.TRUE if value else Tag.FALSE)
        case int():
            if not _LEAST <= value <= _MOST:
                raise ValueError(f"integer: found {value}; allowed: 64 bits")
            out.append(Tag.INT)
            out += _INT.pack(value)
        case float():
            out.append(Tag.FLOAT)
            out += _FLOAT.pack(value)
        case complex():
            out.append(Tag.COMPLEX)
            out += _COMPLEX.pack(value.real, value.imag)
        case str():
            out.append(Tag.TEXT)
            put_text(value, out)
        case Slot():
            out.append(value.value)
        case Named(tag, name):
            out.append(tag)
            put_text(name, out)
        case list() | tuple():
            if not depth or len(value) > 0xFFFF:
                raise ValueError(f"list: found {len(value)} values; allowed: up to 65535, lists {MAX_DEPTH} deep")
            out.append(Tag.LIST)
            out += _COUNT.pack(len(value))
            for item in value:
                encode(item, out, depth - 1)
        case _:
            raise ValueError(f"argument: found {type(value).__name__}; allowed: what docs/remote-protocol.md lists")


class Reader:
    """Reads from the front of some bytes; every read raises ``ProtocolError`` where too few are left."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at, self._end = memoryview(data), 0, len(data)

    @property
    def left(self) -> int:
        return self._end - self._at

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack_from(self._data, self._next(form.size))

    def take(self, count: int) -> memoryview:
        at = self._next(count)
        return self._data[at : at + count]

    def byte(self) -> int:
        return self._data[self._next(1)]

    def _next(self, count: int) -> int:
        """Where so many bytes begin; they are read."""
        at = self._at
        if count > self._end - at:
            raise ProtocolError(f"payload: found {self.left} bytes where {count} are announced")
        self._at = at + count
        return at

    def text(self) -> str:
        (count,) = self.unpack(_COUNT)
        try:
            return str(self.take(count), "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("text: found bytes that are not UTF-8") from None

    def value(self, depth: int = MAX_DEPTH) -> Value:
        code = self.byte()
        if code >= len(_TAGS):
            raise ProtocolError(f"value tag: found {code}; allowed: 0 to {len(_TAGS) - 1}")
        tag = _TAGS[code]
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NAMED:
            return Named(tag, self.text())
        if tag is Tag.LIST:
            return self._list(depth)
        return self._number(tag)

    def _list(self, depth: int) -> list[Any]:
        if not depth:
            raise ProtocolError(f"list: found one more than {MAX_DEPTH} deep; allowed: {MAX_DEPTH}")
        (count,) = self.unpack(_COUNT)
        return [self.value(depth - 1) for _ in range(count)]

    def _number(self, tag: Tag) -> Value:
        if tag is Tag.TEXT:
            return self.text()
        if tag is Tag.COMPLEX:
            return complex(*self.unpack(_COMPLEX))
        number: int | float = self.unpack(_INT if tag is Tag.INT else _FLOAT)[0]
        return number


def put_text(text: str, out: bytearray) -> None:
    """Appends UTF-8 with its length before it. Raises ``ValueError`` beyond 65,535 bytes."""
    data = text.encode()
    if len(data) > 0xFFFF:
        raise ValueError(f"text: found {len(data)} bytes; allowed: up to 65535")
    out += _COUNT.pack(len(data))
    out += data


def slots_of(values: list[Any]) -> tuple[int, int]:
    """How many tensors and how many floats a call of this form fills in."""
    tensors = floats = 0
    for value in values:
        if isinstance(value, list):
            more = slots_of(value)
            tensors, floats = tensors + more[0], floats + more[1]
        elif value is Slot.TENSOR:
            tensors += 1
        elif value is Slot.FLOAT:
            floats += 1
    return tensors, floats
