"""Runs torch's operators on the remote device."""

import builtins
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from tessera.remote.client import custom_operators, inference, kept, sparse
from tessera.remote.client.arguments import Call, Pattern, taken_apart
from tessera.remote.client.connect import blocking
from tessera.remote.client.handles import Deferred, Handle, View, first_number, numbers_of
from tessera.remote.client.local_arguments import LocalArgumentError, brought
from tessera.remote.client.plans import Plan, Plans, Resized, fresh_of, tree_of
from tessera.remote.client.recording import Recording
from tessera.remote.client.resizing import resized
from tessera.remote.client.session import Session
from tessera.remote.client.settings import Settings
from tessera.remote.client.sparse_tensor import SparseTensor
from tessera.remote.client.specs import Spec
from tessera.remote.client.tensor import RemoteTensor
from tessera.remote.client.transfers import bytes_of, dense_order, new_record, tensor_of
from tessera.remote.protocol import records, replies
from tessera.remote.protocol.records import Code
from tessera.remote.protocol.schemas import is_view
from tessera.remote.settings import DEFAULT_DTYPE

Special = Callable[["Device", Any, tuple[Any, ...], dict[str, Any]], Any]
"""What is done in place of sending a call."""
_CALL, _CALL_SYNC = int(Code.CALL), int(Code.CALL_SYNC)
_TORCHS = {kind.__name__: kind for kind in (torch.OutOfMemoryError, torch.linalg.LinAlgError)}
"""Exceptions by the name that an executor tells."""
_SENT = frozenset({"aten", "tessera"})
"""Namespaces whose operators the executor has."""


class Device:
    """One session's, made by ``open_session`` at the first use. ``special``: by operator."""

    def __init__(self, open_session: Callable[[], Session], special: Mapping[Any, Special]) -> None:
        self._open, self._special = open_session, special
        self._ways: dict[int, tuple[Special | None, Any]] = {}
        self._session: Session | None = None
        self.seed_value: int = torch.initial_seed() % (1 << 64)
        self._settings = Settings()
        self._plans: Plans | None = None
        self._opening = threading.RLock()
        self._recording: Recording | None = None
        self._one_recording = threading.Lock()
        self.in_child = False
        """Whether this process was forked from one that had used the device."""
        self._blocking = False

    @property
    def connected(self) -> bool:
        return self._session is not None

    @property
    def session(self) -> Session:
        """Raises ``ConnectError``."""
        if self.in_child:
            raise RuntimeError("the remote device cannot be used in a forked process; start processes by 'spawn'")
        return self._session or self._opened()

    def _opened(self) -> Session:
        """The first use, by whichever thread; the seed goes before anything that another sends."""
        with self._opening:
            if self._session is None:
                self._blocking = blocking()
                session = self._open()
                first: list[records.Record] = [records.Seed(self.seed_value), *self._settings.changed()]
                for record in first:
                    session.put(records.packed(record))
                self._plans = Plans(session.put)
                self._session = session
            return self._session

    @property
    def plans(self) -> Plans:
        """Raises ``ConnectError``."""
        if self._plans is None:
            self.session  # noqa: B018
        assert self._plans is not None
        return self._plans

    @contextlib.contextmanager
    def recorded(self) -> Iterator[Recording]:
        """What this thread sends meanwhile; one at a time."""
        with self._one_recording:
            self._recording = Recording()
            try:
                yield self._recording
            finally:
                self._recording = None

    def launched(self) -> None:
        """Waits after what was sent, if each operator is to be waited for."""
        if self._blocking:
            self.synchronize()

    def close(self) -> None:
        """Ends the session, if there is one."""
        if self._session is not None:
            self._session.close()

    def forked(self) -> None:
        """This process is a copy: the session is its parent's."""
        self.in_child, self._session = self._session is not None or self.in_child, None

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operator, whatever its arguments."""
        try:
            special, _ = self._ways.get(id(function)) or self._way(function)
            return self.call(function, args, kwargs) if special is None else special(self, function, args, kwargs)
        except Exception as error:
            return _raised(error)

    def run_sparse(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operator, with a sparse tensor among its arguments."""
        try:
            return sparse.run(function, args, kwargs)
        except Exception as error:
            return _raised(error)

    def _way(self, function: Any) -> tuple[Special | None, Any]:
        """Kept by the operator's identity, and the operator with it: to hash one takes Python's time."""
        other = None if function.namespace in _SENT else custom_operators.run
        if other is None and is_view(function) and inference.is_composite(function):
            other = inference.taken_apart
        way = self._ways[id(function)] = self._special.get(function, other), function
        return way

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operator, on the executor."""
        session, plans = self._session or self.session, self._plans
        assert plans is not None
        try:
            call = taken_apart(function, args, kwargs)
        except LocalArgumentError:
            if any(isinstance(one, SparseTensor) for one in tensors_of([*args, *kwargs.values()])):
                return sparse.run(function, args, kwargs)
            args, kwargs = brought(self.upload, function, args, kwargs)
            call = taken_apart(function, args, kwargs)
        plan = plans.known.get(call.key)
        if plan is None:
            try:
                plan = plans.get(Pattern(call, args, kwargs))
            except Resized as wanted:
                resized(self, tensors_of([*args, *kwargs.values()])[wanted.at], wanted.spec)
                return self.call(function, args, kwargs)
        if plan.waits:
            return self._waited(call, plan, args, kwargs)
        if plan.view and torch.is_inference_mode_enabled():
            return inference.seen(args[0], lambda: self._made(session, call, plan, args, kwargs))
        return self._made(session, call, plan, args, kwargs)

    def _made(self, session: Session, call: Call, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Mostly one tensor, and with no detour."""
        spec = plan.one
        if plan.view:
            if spec is None:
                return _grown(plan.tree, _tensors(self._deferred(session, call, plan)), args, kwargs)
            return RemoteTensor.of(Handle(session, 0, spec, View(self._send, call, plan, call.handles[0])), spec)
        first = first_number()
        self._send(call, plan, first)
        if spec is not None:
            handle = Handle(session, first, spec)
            self.launched()
            return RemoteTensor.of(handle, spec)
        handles = [Handle(session, number, spec) for number, spec in enumerate(plan.outputs, first)]
        self.launched()
        return _grown(plan.tree, _tensors(handles), args, kwargs)

    def _send(self, call: Call, plan: Plan, first: int) -> None:
        """The numbers of the plan may mean something else by now, also because an argument had to be made."""
        session, plans = self._session or self.session, self._plans
        assert plans is not None
        numbers = numbers_of(call.handles)
        with plans.lock:
            if plan.age != plans.age:
                plan = plans.current(plan)
            session.put(plan.pack(_CALL, plan.form, plan.layout, first, *numbers, *call.floats))
        if (recording := self._recording) is not None:
            recording.sent(call, plan, first)

    def _deferred(self, session: Session, call: Call, plan: Plan) -> list[Handle]:
        deferred = Deferred(session, functools.partial(self._send, call, plan), call.handles[0])
        return [deferred.output(spec) for spec in plan.outputs]

    def _waited(self, call: Call, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first, session, plans, function = first_number(), self.session, self._plans, plan.pattern.function
        assert plans is not None
        numbers = numbers_of(call.handles)
        with plans.lock:
            form = plans.current(plan).form
            asked = session.asked(
                lambda request: plan.pack(_CALL_SYNC, form, 0, first, request, *numbers, *call.floats)
            )
        reply = _told(session.answer(asked))[0]
        assert isinstance(reply, replies.Outputs)
        specs = [_spec(output) for output in reply.outputs]
        outputs = _tensors([Handle(session, number, spec) for number, spec in enumerate(specs, first)])
        returns = function._schema.returns
        result = tuple(outputs) if len(returns) > 1 else outputs[0] if outputs else None
        tree = tree_of(function, result, fresh_of(function, result))
        recording = self._recording
        if plan.asked:
            learnt = plans.learn(plan, tuple(specs), tree)
            if recording is not None:
                recording.sent(call, learnt, first)
        elif recording is not None:
            recording.waited(plan)
        return _grown(tree, outputs, args, kwargs)

    def upload(self, tensor: torch.Tensor) -> RemoteTensor:
        """A copy of a tensor of this machine."""
        ordered, back = dense_order(tensor.detach().resolve_conj().resolve_neg())
        number = first_number()
        self.session.upload(new_record(number, ordered), bytes_of(ordered))
        if (recording := self._recording) is not None:
            recording.uploaded(number)
        spec = Spec(tuple(ordered.shape), ordered.stride(), ordered.dtype)
        made = RemoteTensor.of(Handle(self.session, number, spec), spec)
        if back == tuple(range(tensor.dim())):
            return made
        permuted: RemoteTensor = self.call(torch.ops.aten.permute.default, (made, list(back)), {})
        return permuted

    def download(self, tensor: RemoteTensor) -> torch.Tensor:
        """A copy in this machine's memory; waits for all that was asked for before."""
        return tensor_of(self._bytes(tensor._handle), tensor._spec)

    def downloaded(self, handle: Handle, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of one dimension of which only the executor knows the length."""
        return torch.frombuffer(self._bytes(handle), dtype=dtype)

    def _bytes(self, handle: Handle) -> bytearray:
        if (recording := self._recording) is not None:
            recording.read()
        number = handle.number
        return self._ask(lambda request: records.packed(records.Read(request, number)))[1]

    def memory(self) -> replies.Memory:
        """What the session holds, and held at most."""
        reply, _ = self._ask(lambda request: records.packed(records.Memory(request)))
        assert isinstance(reply, replies.Memory)
        return reply

    def synchronize(self) -> None:
        """Waits for all that was asked for; raises the first error of it."""
        self._ask(lambda request: records.packed(records.Sync(request)))

    def put(self, record: records.Record) -> None:
        """Anything but a form and a call."""
        self.session.put(records.packed(record))

    def seed(self, seed: int) -> None:
        """Starts the device's generator anew."""
        self.seed_value = seed % (1 << 64)
        if self._session is not None:
            self.put(records.Seed(self.seed_value))

    def settings_changed(self) -> None:
        """Some of torch's, perhaps: the executor is told."""
        with self._opening:
            if self._session is None:
                return
        if (recording := self._recording) is not None:
            recording.changed()
        with self.plans.lock:
            for record in self._settings.changed():
                if record.number == DEFAULT_DTYPE:
                    self.plans.default_dtype(record.value)
                self.put(record)

    def _ask(self, record: Callable[[int], bytes]) -> tuple[replies.Reply, bytearray]:
        return _told(self.session.ask(record))


def _raised(error: Exception) -> Any:
    """Raises it, or keeps it where it must not leave its operator."""
    task = kept.running()
    if task < 0:
        raise error
    return kept.keep(task, error)


def _told(answer: tuple[replies.Reply, bytearray]) -> tuple[replies.Reply, bytearray]:
    """Raises the error that the answer tells of."""
    if isinstance(answer[0], replies.Failed):
        raise _exception(answer[0])
    return answer


def _tensors(handles: list[Handle]) -> list[RemoteTensor | None]:
    """``None`` for a place that the operator leaves empty."""
    return [None if handle.spec is None else RemoteTensor.of(handle, handle.spec) for handle in handles]


def _grown(tree: Any, outputs: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if tree is None:
        return None
    if isinstance(tree, int):
        return outputs[tree] if tree >= 0 else args[-1 - tree]
    if isinstance(tree, str):
        return kwargs[tree]
    grown = [_grown(branch, outputs, args, kwargs) for branch in tree]
    return tuple(grown) if isinstance(tree, tuple) else grown


def tensors_of(values: Any) -> list[Any]:
    """In the order in which a ``Call`` meets them."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _spec(output: replies.Output) -> Spec | None:
    return Spec(output.sizes, output.strides, getattr(torch, output.dtype)) if output.dtype else None


def _exception(failed: replies.Failed) -> Exception:
    """The same exception here, if it is one of torch's or Python's own."""
    kind = _TORCHS.get(failed.kind) or getattr(builtins, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    return kind(failed.text)
