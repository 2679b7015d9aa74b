"""The arguments of a call, taken apart: what tells one kind of call from another, and what changes from call to call.

In the key a tensor stands by its ``Spec`` and a float by its type, since a value that changes at every step (a learning
rate's correction) would never be found again. Floats in lists decide on sizes and stand by their value, but for those
of one operator for many tensors; so do those of a call without tensors such as ``arange``.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch

from tessera.remote.client.generators import handle_of
from tessera.remote.client.handles import Handle
from tessera.remote.client.local_arguments import LocalArgumentError
from tessera.remote.client.specs import Spec
from tessera.remote.client.tensor import RemoteTensor
from tessera.remote.protocol.values import Named, Slot, Tag, Value

_INTS = frozenset({int})
_NAMED = {torch.dtype: Tag.DTYPE, torch.layout: Tag.LAYOUT, torch.memory_format: Tag.MEMORY_FORMAT}


class Call:
    """``key``: what calls of one kind have in common; ``handles`` of tensors and generators, and ``floats``: what fills
    its slots.

    In the key the operator stands by its identity, whose hash is not Python's to compute: who keeps a key keeps the
    operator.
    """

    __slots__ = ("floats", "function", "handles", "key")
    key: tuple[Any, ...]

    def __init__(self, function: Any) -> None:
        self.function = function
        self.handles: list[Handle] = []
        self.floats: list[float] = []


class Remote:
    """A tensor in a ``Pattern``."""

    __slots__ = ("spec",)

    def __init__(self, spec: Spec) -> None:
        self.spec = spec


class Pattern:
    """What calls of one kind have in common.

    ``args`` and ``kwargs`` hold a ``Remote`` in the place of each tensor, and the session's device for any other.
    """

    __slots__ = ("args", "floats", "function", "handles", "key", "kwargs")

    def __init__(self, call: Call, args: Any, kwargs: dict[str, Any]) -> None:
        self.key, self.function = call.key, call.function
        self.handles, self.floats = len(call.handles), len(call.floats)
        specs = (handle.spec for handle in call.handles if handle.spec is not None)
        self.args = [_pattern(value, specs) for value in args]
        self.kwargs = {name: _pattern(value, specs) for name, value in kwargs.items()}


def taken_apart(function: Any, args: Any, kwargs: dict[str, Any]) -> Call:
    """Every operator passes here: what calls mostly have is told apart first. Raises ``LocalArgumentError``."""
    call = Call(function)
    parts: list[Any] = [id(function)]
    for value in args:
        kind = type(value)
        if kind is RemoteTensor:
            handle = value._handle
            parts.append(handle.spec)
            call.handles.append(handle)
        elif kind is int or value is None:
            parts.append(value)
        elif kind is list and _INTS.issuperset(map(type, value)):
            parts.append((list, len(value)))
            parts += value
        else:
            _take(value, parts, call)
    for name, value in kwargs.items():
        parts.append(name)
        _take(value, parts, call)
    if not call.handles:
        parts.extend(call.floats)
    call.key = tuple(parts)
    return call


def _take(value: Any, parts: list[Any], call: Call) -> None:
    if type(value) is float:
        parts.append(float)
        call.floats.append(value)
    else:
        _take_inner(value, parts, call)


def _take_inner(value: Any, parts: list[Any], call: Call) -> None:
    kind = type(value)
    if kind is int or value is None:
        parts.append(value)
    elif kind is list or kind is tuple:
        parts.append((list, len(value)))
        take = _take if for_each(call.function) else _take_inner
        for item in value:
            take(item, parts, call)
    elif isinstance(value, torch.Tensor):
        if not isinstance(value, RemoteTensor):
            raise LocalArgumentError
        handle = value._handle
        parts.append(handle.spec)
        call.handles.append(handle)
    elif kind is torch.device:
        parts.append(Slot.DEVICE)
    elif isinstance(value, torch.Generator):
        parts.append(torch.Generator)
        call.handles.append(handle_of(value))
    else:
        parts.append((kind, value))


def _pattern(value: Any, specs: Iterator[Spec]) -> Any:
    if isinstance(value, torch.Tensor):
        return Remote(next(specs))
    if isinstance(value, list | tuple):
        return [_pattern(item, specs) for item in value]
    if isinstance(value, torch.device):
        return Slot.DEVICE
    return Slot.GENERATOR if isinstance(value, torch.Generator) else value


@functools.cache
def for_each(function: Any) -> bool:
    """Whether lists are of what stands alone elsewhere: one tensor or number for each call that it is made of."""
    return bool(function.__name__.startswith("_foreach_"))


def wire_value(value: Any, *, slots: bool, top: bool = True) -> Value:
    """``slots``: floats in lists are slots too. Raises ``ValueError`` for what cannot be sent."""
    if isinstance(value, Remote) or value is Slot.GENERATOR:
        return Slot.TENSOR
    if (top or slots) and type(value) is float:
        return Slot.FLOAT
    if isinstance(value, list):
        return [wire_value(item, slots=slots, top=False) for item in value]
    tag = _NAMED.get(type(value))
    if tag is not None:
        return Named(tag, str(value).removeprefix("torch."))
    return value  # type: ignore[no-any-return]


def with_metas(pattern: Pattern) -> tuple[list[Any], dict[str, Any], list[tuple[torch.Tensor, Spec]]]:
    """The arguments with a tensor without memory for each tensor, and these with what they were."""
    metas: list[tuple[torch.Tensor, Spec]] = []

    def of(value: Any) -> Any:
        if isinstance(value, Remote):
            metas.append((value.spec.meta(), value.spec))
            return metas[-1][0]
        if isinstance(value, list):
            return [of(item) for item in value]
        if value is Slot.DEVICE:
            return torch.device("meta")
        return None if value is Slot.GENERATOR else value

    args = [of(value) for value in pattern.args]
    return args, {name: of(value) for name, value in pattern.kwargs.items()}, metas
