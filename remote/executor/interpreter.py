"""Runs the records of one session, in their order, on one device.

An error of an operator poisons what the call should have made; whoever uses that is poisoned too. The first error since
the last answer is what the next answer tells.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from tessera.remote.executor import settings
from tessera.remote.executor.forms import Form, constant
from tessera.remote.executor.generators import Generators
from tessera.remote.executor.overloads import RefusedOperator, find
from tessera.remote.executor.programs import Program
from tessera.remote.executor.quota import Share
from tessera.remote.executor.store import Poisoned, Restored, Store, kind_of
from tessera.remote.executor.uploads import PartlyUploaded
from tessera.remote.protocol import programs, records, replies
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import CHUNK_BYTES, Kind
from tessera.remote.protocol.values import Named, Tag

Answer = Callable[[Kind, bytes], None]
_ONE = (True,)


class Interpreter:
    """``answer`` sends a frame to the client; ``share``: as of a ``Store``."""

    def __init__(self, device: torch.device, limit_bytes: int, answer: Answer, share: Share | None = None) -> None:
        self.store = Store(limit_bytes, share)
        self.device, self._answer = device, answer
        self.generators = Generators(device)
        self.batches = records.Batches()
        self._forms: dict[int, Form | RefusedOperator] = {}
        self._layouts: dict[int, records.Layout] = {}
        self._programs: dict[int, Program] = {}
        self.error: BaseException | None = None
        self.operators = self.failed = 0
        """How many it has run, and how many of them failed."""
        self.upload: PartlyUploaded | None = None

    def take(self, kind: Kind, payload: bytes) -> None:
        """One frame of the client. Raises ``ProtocolError`` for what ends the session."""
        if kind is Kind.UPLOAD:
            self._uploaded(payload)
            return
        if kind is not Kind.BATCH:
            raise ProtocolError(f"frame: found {kind.name} from the client; allowed: BATCH, UPLOAD")
        for record in self.batches.read(payload):
            self._run(record)

    def learn(self, said: bytes) -> None:
        """What a client has said before and the session knows. Raises ``ProtocolError`` for anything else."""
        for record in self.batches.read(said):
            if not isinstance(record, records.Known):
                raise ProtocolError(f"known: found {type(record).__name__}; allowed: FORM, LAYOUT, PROGRAM, SETTING")
            self._run(record)

    def _run(self, record: records.Record) -> None:
        if self.upload is not None:
            raise ProtocolError("record: found one before the bytes of a new tensor have all come")
        match record:
            case records.Call():
                self._call(record)
            case programs.Run(number):
                for call, freed in self._programs[number].calls(record):
                    self._call(call)
                    self.store.drop(freed)
            case records.Free(handles):
                self.store.drop(handles)
                self.generators.drop(handles)
            case records.Form():
                self._forms[record.number] = self._form(record)
            case records.Layout():
                self._layouts[record.number] = record
            case programs.Program():
                self._programs[record.number] = Program(record, self._layouts)
            case programs.Forget(number):
                self._programs.pop(number, None)
            case records.New():
                self._new(record)
            case records.Read(request, handle):
                self._read(request, handle)
            case records.Sync(request):
                self.synchronize()
                self._reply(replies.Done(request))
            case records.Memory(request):
                self._reply(replies.Memory(request, self.store.used_bytes, self.store.peak_bytes))
            case records.Setting():
                settings.take(record)
            case records.Seed(seed):
                torch.manual_seed(seed)
            case records.Generator(handle, seed):
                self.generators.start(handle, seed)
            case records.State() | records.Restore():
                self._generator_state(record)

    def _form(self, record: records.Form) -> Form | RefusedOperator:
        try:
            return Form(find(record.overload, record.schema), record.args, record.kwargs, self.device)
        except RefusedOperator as error:
            return error

    def _call(self, call: records.Call) -> None:
        self.operators += 1
        form = self._forms[call.form]
        if isinstance(form, RefusedOperator):
            self._failed(call, form)
            return
        try:
            made = _fresh(form, self._result(form, call))
            if call.layout:
                made = _laid_out(made, self._layout(call.layout), copies=not form.overload.view)
            for handle, tensor in enumerate(made, call.first):
                if tensor is not None:
                    self.store.put(handle, tensor)
        except Exception as error:
            self._failed(call, error)
            return
        if call.request:
            self._reply(replies.Outputs(call.request, tuple(_description(tensor) for tensor in made)))

    def _result(self, form: Form, call: records.Call) -> Any:
        tensors = self._taken(call.tensors)
        if not form.overload.resizes:
            return form(tensors, call.floats)
        try:
            return form(tensors, call.floats)
        finally:
            self.store.look_again(call.tensors)

    def _taken(self, handles: tuple[int, ...]) -> list[Any]:
        """The tensors, and generators, that a call takes."""
        if not self.generators:
            return self.store.all(handles)
        return [self.generators.get(handle) or self.store.get(handle) for handle in handles]

    def _layout(self, number: int) -> records.Layout:
        found = self._layouts.get(number)
        if found is None:
            raise ProtocolError(f"call: found layout {number}, which was not sent")
        return found

    def _failed(self, call: records.Call, error: BaseException) -> None:
        if isinstance(error, ProtocolError):
            raise error
        if isinstance(error, KeyError):
            raise ProtocolError(f"call: found handle {error}, which is not held") from None
        self.failed += 1
        cause = _cause(error)
        self.error = self.error or cause
        outputs = len(self._layouts[call.layout].outputs) if call.layout in self._layouts else 1
        self.store.poison(range(call.first, call.first + outputs), cause)
        if call.request:
            self._reply(replies.Done(call.request))

    def _generator_state(self, record: records.State | records.Restore) -> None:
        generator, tensor = record
        try:
            if isinstance(record, records.Restore):
                self.generators.restore(generator, self.store.get(tensor))
            else:
                self.store.put(tensor, self.generators.state(generator).to(self.device))
        except KeyError as error:
            raise ProtocolError(f"generator: found handle {error}, which is not held") from None
        except Exception as error:
            self.error = self.error or _cause(error)
            if isinstance(record, records.State):
                self.store.poison((tensor,), self.error)

    def _new(self, record: records.New) -> None:
        try:
            dtype = constant(Named(Tag.DTYPE, record.dtype))
        except RefusedOperator as error:
            raise ProtocolError(f"new tensor: {error}") from None
        if any(size < 0 for size in record.sizes):
            raise ProtocolError(f"new tensor: found sizes {record.sizes}; allowed: from 0")
        self.upload = PartlyUploaded(record.handle, dtype, record.sizes)
        try:
            self.store.check(self.upload.size)
            self.upload.begin()
        except torch.OutOfMemoryError as error:
            self.upload.refuse(error)
        except (MemoryError, OverflowError):
            self.upload.refuse(torch.OutOfMemoryError(f"the host has no room for {self.upload.size} bytes"))
        if not self.upload.left:
            self._arrived(self.upload)

    def _uploaded(self, payload: bytes) -> None:
        upload = self.upload
        if upload is None or len(payload) > upload.left:
            raise ProtocolError(f"upload: found {len(payload)} bytes; allowed: {upload.left if upload else 0}")
        upload.add(payload)
        if not upload.left:
            self._arrived(upload)

    def _arrived(self, upload: PartlyUploaded) -> None:
        self.upload = None
        try:
            self.store.put(upload.handle, upload.tensor().to(self.device))
        except (Restored, RuntimeError, OverflowError) as error:
            self.error = self.error or error
            self.store.poison((upload.handle,), error)

    def _read(self, request: int, handle: int) -> None:
        data = memoryview(b"")
        try:
            data = _bytes_of(self.store.get(handle))
        except KeyError:
            raise ProtocolError(f"read: found handle {handle}, which is not held") from None
        except Exception as error:
            self.error = self.error or _cause(error)
        if self.error is not None:
            self._reply(replies.Done(request))
            return
        self._reply(replies.Bytes(request, len(data)))
        head = replies.DATA_HEAD.pack(request)
        for at in range(0, len(data), CHUNK_BYTES):
            self._answer(Kind.DATA, head + data[at : at + CHUNK_BYTES])

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError as error:
                self.error = self.error or error

    def _reply(self, reply: replies.Reply) -> None:
        """The first error since the last answer stands in place of the answer."""
        error, self.error = self.error, None
        if error is not None:
            reply = replies.Failed(reply.request, kind_of(error), str(error))
        self._answer(Kind.REPLY, replies.encode(reply))


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The elements as of a contiguous tensor in this machine's memory."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor._is_zerotensor():
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
    whole = tensor.cpu().contiguous()
    flat: Any = whole.as_strided((whole.numel(),), (1,))
    return memoryview(flat.view(torch.uint8).numpy()) if whole.numel() else memoryview(b"")


def _cause(error: BaseException) -> BaseException:
    """Of what is poisoned, why."""
    return error.__cause__ if isinstance(error, Poisoned) and error.__cause__ else error


def _fresh(form: Form, result: Any) -> list[torch.Tensor | None]:
    """The tensors that a call made, flat: lists are taken apart, what was passed in is left out."""
    fresh = form.overload.fresh
    if fresh == _ONE and isinstance(result, torch.Tensor):
        return [result]
    returned = result if isinstance(result, tuple) else (result,)
    if len(fresh) == 1:
        returned = (result,)
    return [tensor for value, new in zip(returned, fresh, strict=False) if new for tensor in _flat(value)]


def _flat(value: Any) -> Iterator[torch.Tensor | None]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    elif value is None or isinstance(value, torch.Tensor):
        yield value
    else:
        raise RefusedOperator(f"operator: found a result of type {type(value).__name__}; allowed: tensors")


def _laid_out(made: list[torch.Tensor | None], layout: records.Layout, *, copies: bool) -> list[torch.Tensor | None]:
    """As the client expects them: another order in memory is made the expected one, another size is an error."""
    outputs = layout.outputs
    if len(made) != len(outputs):
        raise RuntimeError(f"found {len(made)} results where the client expects {len(outputs)}")
    if len(made) == 1:
        return [_one_laid_out(made[0], outputs[0], copies)]
    return [_one_laid_out(tensor, expected, copies) for tensor, expected in zip(made, outputs, strict=True)]


def _one_laid_out(tensor: torch.Tensor | None, expected: records.Geometry | None, copies: bool) -> torch.Tensor | None:
    if tensor is None or expected is None:
        return tensor
    sizes, strides = expected
    if tensor.stride() == strides and tensor.shape == sizes:
        return tensor
    if tensor.shape != sizes or not copies:
        found = f"sizes {tuple(tensor.shape)}, strides {tensor.stride()}"
        raise RuntimeError(f"found a result of {found} where the client expects {sizes}, {strides}")
    return torch.empty_strided(sizes, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _description(tensor: torch.Tensor | None) -> replies.Output:
    if tensor is None:
        return replies.Output("", (), ())
    return replies.Output(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.stride())
