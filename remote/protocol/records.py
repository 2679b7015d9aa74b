"""What a BATCH frame carries, one record after another: a code, then its fields.

Handles are numbers that the client chooses, never twice in a session. Records take effect in the order in which they
were sent.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from tessera.remote.protocol import programs
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.programs import Forget, Program, Run
from tessera.remote.protocol.values import Named, Reader, Tag, Value, encode, put_text, slots_of

MAX_DIMENSIONS = 64
MAX_KNOWN = 1 << 16
"""Forms, and layouts, that a session knows at once; a number that is sent again means the newer."""

MAX_KNOWN_BYTES = 32 << 20
"""On the wire, of all that a session has said of forms and of layouts."""

Geometry = tuple[tuple[int, ...], tuple[int, ...]]
"""Sizes and strides."""


class Code(IntEnum):
    FORM = 1
    CALL = 2
    CALL_SYNC = 3
    LAYOUT = 4
    FREE = 5
    READ = 6
    SYNC = 7
    NEW = 8
    SEED = 9
    MEMORY = 10
    GENERATOR = 11
    STATE = 12
    RESTORE = 13
    PROGRAM = 14
    RUN = 15
    FORGET = 16
    SETTING = 17


class Form(NamedTuple):
    """From now on ``number`` stands for a call of ``overload`` with these arguments but for its slots.

    ``schema``: the first 8 bytes of BLAKE2b of the overload's schema as text; the two sides must mean the same.
    """

    number: int
    overload: str
    schema: int
    args: list[Value]
    kwargs: list[Value]


class Layout(NamedTuple):
    """From now on ``number`` stands for outputs of these sizes and strides; ``None``: the operator gives none."""

    number: int
    outputs: tuple[Geometry | None, ...]


class Call(NamedTuple):
    """``first``: the handle of the first output, the next one's is one more.

    ``layout``: how the outputs have to lie, 0 where the client does not know. ``request``: 0, or answer the outputs'
    descriptions when it is done.
    """

    form: int
    layout: int
    first: int
    tensors: tuple[int, ...]
    floats: tuple[float, ...]
    request: int = 0


class Free(NamedTuple):
    handles: tuple[int, ...]


class Read(NamedTuple):
    """Answer ``request`` with the elements, in the order of a contiguous tensor."""

    request: int
    handle: int


class Sync(NamedTuple):
    """Answer ``request`` when everything before is done, with the first error since the last answer."""

    request: int


class New(NamedTuple):
    """A contiguous tensor whose bytes follow in UPLOAD frames."""

    handle: int
    dtype: str
    sizes: tuple[int, ...]


class Seed(NamedTuple):
    """The session's generator starts anew."""

    seed: int


class Memory(NamedTuple):
    """Answer ``request`` with the bytes that the session holds, and the most that it held at once."""

    request: int


class Generator(NamedTuple):
    """Makes a generator, or starts it anew. A call takes it where it takes a tensor, by its handle."""

    handle: int
    seed: int


class State(NamedTuple):
    """``tensor`` becomes the state of ``generator``; 0: of the session's own."""

    generator: int
    tensor: int


class Restore(NamedTuple):
    """``generator`` goes on from the state in ``tensor``."""

    generator: int
    tensor: int


class Setting(NamedTuple):
    """From now on the setting ``number`` has the value at this place among those that are allowed."""

    number: int
    value: int


Plain = Form | Call | Layout | Free | Read | Sync | New | Seed | Memory | Generator | State | Restore | Setting
Record = Plain | Program | Run | Forget
Known = Form | Layout | Program | Setting
"""What a session goes on to know."""
_KNOWN = (Form, Layout, Program, Setting)

_FORM, _CALL, _REQUEST, _PAIR = (struct.Struct(form) for form in ("<IQ", "<IIQ", "<Q", "<QQ"))
_CALL_SYNC = struct.Struct("<IIQQ")
_COUNT, _LAYOUT, _SETTING = struct.Struct("<I"), struct.Struct("<IH"), struct.Struct("<BB")
_ABSENT = 0xFF
_SINGLE: dict[Callable[..., Record], Code] = {Sync: Code.SYNC, Seed: Code.SEED, Memory: Code.MEMORY}
_DOUBLE: dict[Callable[..., Record], Code] = {
    Read: Code.READ, Generator: Code.GENERATOR, State: Code.STATE, Restore: Code.RESTORE,
}  # fmt: skip


def call_struct(code: Code, tensors: int, floats: int) -> struct.Struct:
    """A whole record of a call: code, form, layout, first output, [request,] handles, floats."""
    request = "Q" if code is Code.CALL_SYNC else ""
    return struct.Struct(f"<BIIQ{request}{tensors}Q{floats}d")


def put_form(form: Form, out: bytearray) -> None:
    """Raises ``ValueError`` for arguments that have no form on the wire."""
    made = bytearray([Code.FORM]) + _FORM.pack(form.number, form.schema)
    put_text(form.overload, made)
    encode(form.args, made)
    encode(form.kwargs, made)
    out += made


def put(record: Record, out: bytearray) -> None:
    """Any but a form, a call and a run."""
    match record:
        case Program():
            out.append(Code.PROGRAM)
            programs.put_program(record, out)
        case Forget(number):
            out.append(Code.FORGET)
            out += _COUNT.pack(number)
        case Layout(number, outputs):
            out.append(Code.LAYOUT)
            out += _LAYOUT.pack(number, len(outputs))
            for output in outputs:
                _put_output(output, out)
        case Free(handles):
            out.append(Code.FREE)
            out += struct.pack(f"<I{len(handles)}Q", len(handles), *handles)
        case Read() | Generator() | State() | Restore():
            out.append(_DOUBLE[type(record)])
            out += _PAIR.pack(*record)
        case Sync(number) | Seed(number) | Memory(number):
            out.append(_SINGLE[type(record)])
            out += _REQUEST.pack(number)
        case Setting():
            out.append(Code.SETTING)
            out += _SETTING.pack(*record)
        case New(handle, dtype, sizes):
            out.append(Code.NEW)
            out += _REQUEST.pack(handle)
            encode(Named(Tag.DTYPE, dtype), out)
            _put_sizes(sizes, out)


def _put_output(output: Geometry | None, out: bytearray) -> None:
    if output is None:
        out.append(_ABSENT)
    else:
        sizes, strides = output
        out += struct.pack(f"<B{2 * len(sizes)}q", len(sizes), *sizes, *strides)


def packed(record: Record) -> bytes:
    """Alone, as ``put`` takes it."""
    out = bytearray()
    put(record, out)
    return bytes(out)


def _put_sizes(sizes: tuple[int, ...], out: bytearray) -> None:
    out += struct.pack(f"<B{len(sizes)}q", len(sizes), *sizes)


class Batches:
    """Reads batches of one session: it knows the forms, layouts and programs that came before."""

    def __init__(self) -> None:
        self._shapes: dict[int, tuple[int, int, struct.Struct]] = {}
        self._outputs: dict[int, int] = {}
        self._inputs: dict[int, int] = {}
        self._named: dict[int, frozenset[tuple[type[Known], int]]] = {}
        self._known: dict[tuple[type[Known], int], bytes] = {}
        self._all_bytes = self._program_bytes = 0
        self._readers: dict[int, Callable[[Reader], Record]] = {
            **_READERS,
            Code.FORM: self._form, Code.CALL: self._call, Code.CALL_SYNC: self._call_sync, Code.FORGET: self._forget,
            Code.PROGRAM: lambda reader: programs.program(reader, self._shape),
            Code.RUN: lambda reader: programs.run(reader, self._inputs_of),
        }  # fmt: skip

    def read(self, payload: bytes | memoryview) -> Iterator[Record]:
        """The records of a batch. Raises ``ProtocolError`` at the first that is malformed."""
        reader = Reader(payload)
        while reader.left:
            before = reader.left
            code = reader.byte()
            read = self._readers.get(code)
            if read is None:
                raise ProtocolError(f"record code: found {code}; allowed: 1 to {len(self._readers)}")
            record = read(reader)
            if isinstance(record, _KNOWN):
                self._keep(record, bytes(payload[len(payload) - before : len(payload) - reader.left]))
            yield record

    def known(self) -> list[bytes]:
        """All forms, layouts, programs and settings of a session, as records, each after those that it names."""
        return list(self._known.values())

    def _keep(self, record: Known, said: bytes) -> None:
        what = type(record), record.number
        more = len(said) - len(self._known.pop(what, b""))
        self._known[what] = said
        if isinstance(record, Program):
            self._program_bytes += more
            self._learn(record)
            return
        self._all_bytes += more
        if self._all_bytes > MAX_KNOWN_BYTES:
            raise ProtocolError(f"forms and layouts: found {self._all_bytes} bytes; allowed: up to {MAX_KNOWN_BYTES}")
        if any(what in named for named in self._named.values()):
            raise ProtocolError(f"{what[0].__name__.lower()}: found {record.number} again, which a program names")
        if isinstance(record, Layout):
            self._outputs[record.number] = len(record.outputs)

    def _learn(self, program: Program) -> None:
        names = [((Form, node.form), (Layout, node.layout)) for node in program.nodes]
        self._inputs[program.number] = program.inputs
        self._named[program.number] = frozenset(name for pair in names for name in pair)
        if len(self._named) > programs.MAX_PROGRAMS or self._program_bytes > programs.MAX_PROGRAM_BYTES:
            found = f"{len(self._named)} of {self._program_bytes} bytes"
            allowed = f"up to {programs.MAX_PROGRAMS} of {programs.MAX_PROGRAM_BYTES}"
            raise ProtocolError(f"programs: found {found}; allowed: {allowed}")

    def _forget(self, reader: Reader) -> Forget:
        (number,) = reader.unpack(_COUNT)
        self._program_bytes -= len(self._known.pop((Program, number), b""))
        self._inputs.pop(number, None)
        self._named.pop(number, None)
        return Forget(number)

    def _shape(self, form: int, layout: int) -> tuple[int, struct.Struct, int]:
        """Of a program's call."""
        if form not in self._shapes or layout not in self._outputs:
            raise ProtocolError(f"program: found form {form} with layout {layout}, which were not both sent")
        tensors, floats, _ = self._shapes[form]
        return tensors, programs.slots_struct(tensors, floats), self._outputs[layout]

    def _inputs_of(self, program: int) -> int:
        if program not in self._inputs:
            raise ProtocolError(f"run: found program {program}, which is not known")
        return self._inputs[program]

    def _form(self, reader: Reader) -> Form:
        number, schema = reader.unpack(_FORM)
        overload, args, kwargs = reader.text(), reader.value(), reader.value()
        if not isinstance(args, list) or not isinstance(kwargs, list) or len(kwargs) % 2:
            raise ProtocolError("form: found arguments that are no list of values and no list of names and values")
        if not all(isinstance(name, str) for name in kwargs[::2]):
            raise ProtocolError("form: found a keyword that is no text")
        tensors, floats = slots_of([*args, *kwargs])
        self._shapes[_known(number)] = tensors, floats, struct.Struct(f"<{tensors}Q{floats}d")
        return Form(number, overload, schema, args, kwargs)

    def _call(self, reader: Reader) -> Call:
        return self._slots(reader, *reader.unpack(_CALL))

    def _call_sync(self, reader: Reader) -> Call:
        return self._slots(reader, *reader.unpack(_CALL_SYNC))

    def _slots(self, reader: Reader, form: int, layout: int, first: int, request: int = 0) -> Call:
        shape = self._shapes.get(form)
        if shape is None:
            raise ProtocolError(f"call: found form {form}, which was not sent")
        tensors, _, slots = shape
        values = reader.unpack(slots)
        return Call(form, layout, first, values[:tensors], values[tensors:], request)


def _known(number: int) -> int:
    if number >= MAX_KNOWN:
        raise ProtocolError(f"form or layout: found number {number}; allowed: up to {MAX_KNOWN - 1}")
    return number


def _layout(reader: Reader) -> Layout:
    number, count = reader.unpack(_LAYOUT)
    return Layout(_known(number), tuple(_output(reader) for _ in range(count)))


def _free(reader: Reader) -> Free:
    (count,) = reader.unpack(_COUNT)
    return Free(struct.unpack(f"<{count}Q", reader.take(8 * count)))


def _output(reader: Reader) -> Geometry | None:
    dimensions = reader.byte()
    if dimensions == _ABSENT:
        return None
    if dimensions > MAX_DIMENSIONS:
        raise ProtocolError(f"layout: found {dimensions} dimensions; allowed: up to {MAX_DIMENSIONS}")
    numbers = struct.unpack(f"<{2 * dimensions}q", reader.take(16 * dimensions))
    return numbers[:dimensions], numbers[dimensions:]


def _new(reader: Reader) -> New:
    (handle,) = reader.unpack(_REQUEST)
    dtype = reader.value()
    if not isinstance(dtype, Named) or dtype.tag is not Tag.DTYPE:
        raise ProtocolError("new tensor: found no dtype")
    return New(handle, dtype.name, _sizes(reader))


def _sizes(reader: Reader) -> tuple[int, ...]:
    count = reader.byte()
    if count > MAX_DIMENSIONS:
        raise ProtocolError(f"sizes: found {count}; allowed: up to {MAX_DIMENSIONS}")
    return struct.unpack(f"<{count}q", reader.take(8 * count))


def _of_fields(kind: Callable[..., Record], fields: struct.Struct) -> Callable[[Reader], Record]:
    return lambda reader: kind(*reader.unpack(fields))


_READERS: dict[int, Callable[[Reader], Record]] = {
    **{code: _of_fields(kind, _REQUEST) for kind, code in _SINGLE.items()},
    **{code: _of_fields(kind, _PAIR) for kind, code in _DOUBLE.items()},
    Code.SETTING: _of_fields(Setting, _SETTING), Code.LAYOUT: _layout, Code.FREE: _free, Code.NEW: _new,
}  # fmt: skip
"""Of records that read the same whatever came before."""
