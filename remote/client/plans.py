"""How calls of one operator with arguments of one kind are sent and what they make: worked out once, then looked up."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tessera.remote.client.arguments import Pattern, for_each, wire_value, with_metas
from tessera.remote.client.specs import Spec, flat, spec_of
from tessera.remote.protocol import records
from tessera.remote.protocol.programs import Forget
from tessera.remote.protocol.schemas import is_argument, is_view, name_of, schema_number
from tessera.remote.settings import DEFAULT_DTYPE, SETTINGS

_SYNCHRONOUS = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
_ASKED = {
    torch.ops.aten.native_batch_norm.default, torch.ops.aten._native_batch_norm_legit.default,
    torch.ops.aten._native_batch_norm_legit.no_stats, torch.ops.aten._native_batch_norm_legit_no_training.default,
    torch.ops.aten._batch_norm_no_update.default, torch.ops.aten._batch_norm_with_update.default,
    torch.ops.aten.convolution.default, torch.ops.aten._embedding_bag.default,
    torch.ops.aten._embedding_bag_forward_only.default, torch.ops.aten._transformer_encoder_layer_fwd.default,
}  # fmt: skip
"""Each kind of device gives these in sizes, or in an order in memory, of its own, or some torch does not predict them:
the executor is asked once a call."""


class Resized(Exception):
    """The call would give an argument another size: the tensor at ``at`` among its tensors becomes ``spec``."""

    def __init__(self, at: int, spec: Spec) -> None:
        super().__init__(at, spec)
        self.at, self.spec = at, spec


@dataclass(frozen=True, slots=True)
class Plan:
    """``outputs``: the new tensors, ``None`` where the operator gives none.

    ``tree``: what the operator returns, with the number of an output in each place, or the name or (negative, from -1)
    position of the argument that it returns. ``one``: the output, where that is all. ``waits``: only the executor knows
    the outputs, for a call that is ``asked`` the first time only. ``age``: that of the ``Plans`` in which its numbers
    mean what they say.
    """

    pattern: Pattern
    age: int
    form: int
    layout: int
    pack: Callable[..., bytes]
    outputs: tuple[Spec | None, ...]
    tree: Any
    one: Spec | None
    view: bool
    waits: bool
    asked: bool = False


class Plans:
    """``send`` queues a packed record. Numbers of forms and layouts are used again when they run out.

    ``lock`` is held from asking whether a plan is ``current`` until its call is queued.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.lock = threading.RLock()
        self._by_dtype: dict[int, dict[Any, Plan]] = {}
        self.known: dict[Any, Plan] = {}
        """Of this default dtype."""
        self.age = 0
        self._forms: dict[Any, int] = {}
        self._layouts: dict[Any, int] = {}
        self.programs: dict[int, int] = {}
        """That the executor knows: the bytes of each, by its number."""
        self._program_numbers = itertools.count()
        self.default_dtype(SETTINGS[DEFAULT_DTYPE].place())

    def get(self, pattern: Pattern) -> Plan:
        """By one thread at a time: a number is that of one form. Raises what the operator raises for such arguments,
        and ``Resized``."""
        with self.lock:
            if plan := self.known.get(pattern.key):
                return plan
            plans = sum(map(len, self._by_dtype.values()))
            if max(plans, len(self._forms), len(self._layouts)) >= records.MAX_KNOWN - 1:
                self._renew()
            plan = self.known[pattern.key] = self._make(pattern)
            return plan

    def _renew(self) -> None:
        """Numbers begin anew; before they do, the programs that name them are forgotten."""
        self.age += 1
        for number in list(self.programs):
            self._send(records.packed(Forget(number)))
        for plans in self._by_dtype.values():
            plans.clear()
        for known in (self._forms, self._layouts, self.programs):
            known.clear()

    def default_dtype(self, place: int) -> None:
        """From now on it is the one at this place among its settings: calls of the same form may give others."""
        self.known = self._by_dtype.setdefault(place, {})

    def program_number(self) -> int:
        """One that no other program had."""
        return next(self._program_numbers)

    def current(self, plan: Plan) -> Plan:
        """The plan in its place whose numbers the executor knows now."""
        return plan if plan.age == self.age else self.get(plan.pattern)

    def learn(self, plan: Plan, outputs: tuple[Spec | None, ...], tree: Any) -> Plan:
        """What the executor made of a call that is asked once: how later ones are sent."""
        pattern = plan.pattern
        with self.lock:
            learnt = self.known[pattern.key] = self._plan(pattern, outputs, tree, waits=False)
            return learnt

    def _make(self, pattern: Pattern) -> Plan:
        function = pattern.function
        asked = function in _ASKED
        # Indexed by numbers, not by a mask, a result has sizes that are known.
        known = _SYNCHRONOUS.isdisjoint(function.tags) or function is torch.ops.aten.index.Tensor
        if known and not asked:
            with contextlib.suppress(NotImplementedError):
                return self._plan(pattern, *_predict(pattern), waits=False)
        return self._plan(pattern, (), None, waits=True, asked=asked)

    def _plan(
        self, pattern: Pattern, outputs: tuple[Spec | None, ...], tree: Any, *, waits: bool, asked: bool = False
    ) -> Plan:
        code = records.Code.CALL_SYNC if waits else records.Code.CALL
        form, layout = self._form(pattern), 0 if waits else self._layout(outputs)
        pack = records.call_struct(code, pattern.handles, pattern.floats).pack
        one = outputs[0] if tree == 0 and len(outputs) == 1 else None
        view = is_view(pattern.function)
        return Plan(pattern, self.age, form, layout, pack, outputs, tree, one, view, waits, asked)

    def _form(self, pattern: Pattern) -> int:
        function = pattern.function
        slots = for_each(function)
        args = [wire_value(value, slots=slots) for value in pattern.args]
        kwargs = [item for name, value in pattern.kwargs.items() for item in (name, wire_value(value, slots=slots))]
        key = (function, repr(args), repr(kwargs))
        if key not in self._forms:
            number, out = len(self._forms), bytearray()
            records.put_form(records.Form(number, name_of(function), schema_number(function), args, kwargs), out)
            self._send(bytes(out))
            self._forms[key] = number
        return self._forms[key]

    def _layout(self, outputs: tuple[Spec | None, ...]) -> int:
        geometries = tuple(None if spec is None else (spec.sizes, spec.strides) for spec in outputs)
        if geometries not in self._layouts:
            number, out = len(self._layouts) + 1, bytearray()
            records.put(records.Layout(number, geometries), out)
            self._send(bytes(out))
            self._layouts[geometries] = number
        return self._layouts[geometries]


def tree_of(function: Any, result: Any, fresh: Sequence[Any]) -> Any:
    """The tree of a ``Plan`` for a result whose new tensors, flat, are ``fresh``."""
    numbers = iter(range(len(fresh)))
    returns = function._schema.returns
    branches = tuple(
        _argument(function, item) if is_argument(item) else _branch(value, numbers)
        for item, value in zip(returns, _values(function, result), strict=True)
    )
    return branches if len(returns) > 1 else branches[0] if branches else None


def _branch(value: Any, numbers: Any) -> Any:
    return [_branch(item, numbers) for item in value] if isinstance(value, list | tuple) else next(numbers)


def _argument(function: Any, item: Any) -> int | str:
    """Which argument it is that the operator returns."""
    for at, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.before_set & item.alias_info.before_set:
            return str(argument.name) if argument.kwarg_only else -1 - at
    raise NotImplementedError(f"{function}: returns what is none of its arguments")


def fresh_of(function: Any, result: Any) -> list[Any]:
    """The new tensors of a result, flat."""
    pairs = zip(function._schema.returns, _values(function, result), strict=True)
    return [one for item, value in pairs if not is_argument(item) for one in flat(value)]


def _values(function: Any, result: Any) -> tuple[Any, ...]:
    """What is returned for each of the schema's returns."""
    count = len(function._schema.returns)
    return tuple(result) if count > 1 else (result,) if count else ()


def _predict(pattern: Pattern) -> tuple[tuple[Spec | None, ...], Any]:
    args, kwargs, metas = with_metas(pattern)
    function = pattern.function
    result = function(*args, **kwargs)
    for at, (meta, spec) in enumerate(metas):
        if (now := spec_of(meta)) != spec:
            raise Resized(at, now)
    fresh = fresh_of(function, result)
    if not all(one is None or isinstance(one, torch.Tensor) for one in fresh):
        raise RuntimeError(f"{function}: found a result that is no tensor; not supported on a remote device")
    outputs = tuple(None if one is None else spec_of(one) for one in fresh)
    return outputs, tree_of(function, result, fresh)
