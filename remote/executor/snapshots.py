"""What a session holds, written to a stream and read from one: a storage once, tensors as what sees them."""

from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.executor.forms import constant
from tessera.remote.executor.interpreter import Interpreter
from tessera.remote.executor.overloads import RefusedOperator
from tessera.remote.executor.store import Restored, kind_of
from tessera.remote.executor.uploads import PartlyUploaded
from tessera.remote.protocol import snapshot
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import MAX_PAYLOAD, Kind
from tessera.remote.protocol.link import WINDOW_BYTES, WINDOW_FRAMES, Inbox, Numbered, Outbox
from tessera.remote.protocol.snapshot import Flag
from tessera.remote.protocol.streams import Stream, read_frame
from tessera.remote.protocol.values import Named, Tag

Frozen = tuple[int, int, list[Numbered]]
"""As a ``Peer`` tells it."""
_STAGED_BYTES = 32 << 20
"""So much of a device's memory is in the machine's at once."""
_RECORD_BYTES = 1 << 12
"""More than any record of a tensor takes."""


def size_of(interpreter: Interpreter, frozen: Frozen) -> int:
    """The most bytes that ``write`` will write."""
    known = sum(len(record) + 16 for record in interpreter.batches.known())
    kept = sum(len(numbered.payload) + 64 for numbered in frozen[2])
    states = sum(len(state) + 64 for _, state in interpreter.generators.states())
    data = interpreter.store.used_bytes + interpreter.store.used_bytes // 4096
    upload = interpreter.upload.received if interpreter.upload else 0
    return known + kept + states + data + upload + _RECORD_BYTES * (len(interpreter.store) + 64)


def write(interpreter: Interpreter, frozen: Frozen, stream: Stream) -> None:
    """Raises ``OSError`` where the stream ends, and ``RefusedOperator`` for a tensor that cannot be moved."""
    writer = snapshot.Writer(stream.sendall)
    taken, acknowledged, kept = frozen
    errors = _Errors(writer)
    for record in interpreter.batches.known():
        writer.put(snapshot.Known(record))
    pending = errors.number(interpreter.error)
    writer.put(snapshot.Numbers(taken, acknowledged, interpreter.store.peak_bytes, pending))
    for handle, state in interpreter.generators.states():
        writer.put(snapshot.Generator(handle, state))
    _write_tensors(interpreter, writer)
    for handle, error in interpreter.store.poisoned():
        writer.put(snapshot.Poison(errors.number(error), (handle,)))
    if interpreter.upload is not None:
        handle, dtype, sizes, why, received, data = interpreter.upload.state()
        writer.put(snapshot.Upload(handle, dtype, sizes, errors.number(why), received))
        writer.data(data)
    for numbered in kept:
        writer.put(snapshot.Kept(numbered.kind, len(numbered.payload)))
        writer.data(memoryview(numbered.payload))
    writer.put(snapshot.End())


class _Errors:
    """Each error once, however many handles it poisons."""

    def __init__(self, writer: snapshot.Writer) -> None:
        self._writer = writer
        self._numbers: dict[int, int] = {}

    def number(self, error: BaseException | None) -> int:
        if error is None:
            return snapshot.NO_ERROR
        if id(error) not in self._numbers:
            self._numbers[id(error)] = len(self._numbers) + 1
            self._writer.put(snapshot.Error(self._numbers[id(error)], kind_of(error), str(error)))
        return self._numbers[id(error)]


def _write_tensors(interpreter: Interpreter, writer: snapshot.Writer) -> None:
    numbers: dict[int, int] = {}
    for handle, tensor in interpreter.store.tensors():
        if tensor.layout is not torch.strided:
            raise RefusedOperator(f"tensor: found layout {tensor.layout}; allowed to move: torch.strided")
        flags = _flags(tensor)
        number = 0
        if not flags & Flag.ZERO:
            storage = tensor.untyped_storage()
            if storage._cdata not in numbers:
                numbers[storage._cdata] = len(numbers)
                _write_storage(writer, numbers[storage._cdata], storage)
            number = numbers[storage._cdata]
        dtype, sizes = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        writer.put(
            snapshot.Tensor(handle, number, flags, dtype, tensor.storage_offset(), sizes, tuple(tensor.stride()))
        )


def _flags(tensor: torch.Tensor) -> int:
    marks = {Flag.CONJUGATE: tensor.is_conj(), Flag.NEGATIVE: tensor.is_neg(), Flag.ZERO: tensor._is_zerotensor()}
    return sum(flag for flag, marked in marks.items() if marked)


def _write_storage(writer: snapshot.Writer, number: int, storage: torch.UntypedStorage) -> None:
    writer.put(snapshot.Storage(number, int(storage.device.type == "cpu"), storage.nbytes()))
    flat = _flat(storage)
    for at in range(0, storage.nbytes(), _STAGED_BYTES):
        writer.data(memoryview(flat[at : at + _STAGED_BYTES].cpu().numpy()))


def _flat(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def restore(interpreter: Interpreter, stream: Stream) -> tuple[Outbox, Inbox]:
    """Raises ``ProtocolError`` for what is no whole snapshot, and ``torch.OutOfMemoryError``."""
    reading, parts = _Restoring(interpreter), snapshot.Parts()
    while not parts.ended:
        frame = read_frame(stream)
        if frame is None:
            raise ProtocolError("snapshot: found its beginning only")
        header, payload = frame
        if header.kind is not Kind.PART:
            raise ProtocolError(f"frame: found {header.kind.name}; allowed: PART")
        for item in parts.read(payload):
            if isinstance(item, memoryview):
                reading.add(item)
            else:
                reading.take(item)
    return reading.link()


class _Restoring:
    """Builds a session up, record by record. What the bytes say is checked before torch hears of it."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._numbers = snapshot.Numbers(0, 0, 0, 0)
        self._storages: list[torch.UntypedStorage] = []
        self._held_bytes = 0
        self._errors: dict[int, Restored | None] = {snapshot.NO_ERROR: None}
        self._kept: list[tuple[Kind, bytes]] = []
        self._kept_bytes = 0
        self._add: Callable[[memoryview], None] | None = None

    def add(self, data: memoryview) -> None:
        assert self._add is not None
        self._add(data)

    def take(self, record: snapshot.Record) -> None:
        interpreter = self._interpreter
        match record:
            case snapshot.Known(data):
                interpreter.learn(data)
            case snapshot.Numbers():
                self._numbers = record
                interpreter.error = self._error(record.pending)
            case snapshot.Error(number, kind, text):
                self._errors[number] = Restored(kind, text)
            case snapshot.Generator(handle, state):
                self._generator(handle, state)
            case snapshot.Storage():
                self._storage(record)
            case snapshot.Tensor():
                self._tensor(record)
            case snapshot.Poison(number, handles):
                error = self._error(number)
                if error is None:
                    raise ProtocolError("poison: found no error")
                interpreter.store.poison(handles, error)
            case snapshot.Upload():
                self._upload(record)
            case snapshot.Kept(kind, size):
                self._keep(kind, size)

    def link(self) -> tuple[Outbox, Inbox]:
        """Both ends of the session's connection, once all has come."""
        self._interpreter.store.peak_bytes = max(self._numbers.peak, self._interpreter.store.used_bytes)
        return Outbox.resumed(self._numbers.acknowledged, self._kept), Inbox.resumed(self._numbers.taken)

    def _error(self, number: int) -> Restored | None:
        if number not in self._errors:
            raise ProtocolError(f"error: found number {number}, which was not sent")
        return self._errors[number]

    def _generator(self, handle: int, state: bytes) -> None:
        generators = self._interpreter.generators
        try:
            if handle:
                generators.start(handle, 0)
            generators.restore(handle, torch.frombuffer(bytearray(state), dtype=torch.uint8))
        except (RuntimeError, ValueError, TypeError) as error:
            raise ProtocolError(f"generator {handle}: found no state of {self._interpreter.device}: {error}") from None

    def _storage(self, record: snapshot.Storage) -> None:
        if record.number != len(self._storages):
            raise ProtocolError(f"storage: found number {record.number}; allowed: {len(self._storages)}")
        self._interpreter.store.check(self._held_bytes + record.size)
        self._held_bytes += record.size
        device = torch.device("cpu") if record.host else self._interpreter.device
        flat = _empty(record.size, device)
        self._storages.append(flat.untyped_storage())
        self._add = _filling(flat)

    def _tensor(self, record: snapshot.Tensor) -> None:
        dtype = _dtype(record.dtype)
        if record.flags & Flag.ZERO:
            zero: Any = torch._efficientzerotensor
            made = zero(record.sizes, dtype=dtype, device=self._interpreter.device)
        else:
            made = self._seen(record, dtype)
        if record.flags & Flag.CONJUGATE:
            made = made.conj()
        if record.flags & Flag.NEGATIVE:
            made = torch._neg_view(made)
        self._interpreter.store.put(record.handle, made)

    def _seen(self, record: snapshot.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if record.storage >= len(self._storages):
            raise ProtocolError(f"tensor: found storage {record.storage}; allowed: below {len(self._storages)}")
        storage = self._storages[record.storage]
        last = sum((size - 1) * stride for size, stride in zip(record.sizes, record.strides, strict=True))
        reach = 0 if 0 in record.sizes else (record.offset + last + 1) * dtype.itemsize
        if reach > storage.nbytes() or record.offset * dtype.itemsize > storage.nbytes():
            raise ProtocolError(f"tensor: found one that reaches {reach} bytes; allowed: {storage.nbytes()}")
        whole = torch.empty(0, dtype=dtype, device=storage.device)
        return whole.set_(storage, record.offset, record.sizes, record.strides)

    def _upload(self, record: snapshot.Upload) -> None:
        self._interpreter.upload = upload = PartlyUploaded(record.handle, _dtype(record.dtype), record.sizes)
        if record.received > upload.size:
            raise ProtocolError(f"upload: found {record.received} bytes; allowed: up to {upload.size}")
        error = self._error(record.error)
        if error is not None:
            upload.refuse(error)
            upload.left -= record.received
            return
        self._interpreter.store.check(upload.size)
        upload.begin()
        self._add = upload.add

    def _keep(self, kind: int, size: int) -> None:
        if kind not in (Kind.REPLY, Kind.DATA) or size > MAX_PAYLOAD:
            raise ProtocolError(f"kept frame: found kind {kind} with {size} bytes; allowed: REPLY, DATA")
        self._kept_bytes += size
        if len(self._kept) >= WINDOW_FRAMES or self._kept_bytes > WINDOW_BYTES + MAX_PAYLOAD:
            allowed = f"{WINDOW_FRAMES} frames and {WINDOW_BYTES} bytes"
            raise ProtocolError(f"kept frames: found more than a window; allowed: {allowed}")
        at, whole = len(self._kept), bytearray()
        self._kept.append((Kind(kind), b""))

        def add(data: memoryview) -> None:
            whole.extend(data)
            self._kept[at] = Kind(kind), bytes(whole) if len(whole) == size else b""

        self._add = add


def _dtype(name: str) -> torch.dtype:
    try:
        found: torch.dtype = constant(Named(Tag.DTYPE, name))
    except RefusedOperator as error:
        raise ProtocolError(f"snapshot: {error}") from None
    return found


def _empty(size: int, device: torch.device) -> torch.Tensor:
    """Raises ``torch.OutOfMemoryError``, also where the machine has no room."""
    try:
        return torch.empty(size, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, OverflowError) as error:
        raise torch.OutOfMemoryError(f"storage: found {size} bytes: {error}") from None


def _filling(flat: torch.Tensor) -> Callable[[memoryview], None]:
    at = 0

    def add(data: memoryview) -> None:
        nonlocal at
        flat[at : at + len(data)].copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        at += len(data)

    return add
