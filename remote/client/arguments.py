"""The arguments of a call, taken apart: what tells one kind of call from another, and what changes from call to call.

In the key a tensor stands by its ``Spec`` and a float by its type, since a value that changes at every step (a learning
rate's correction) would never be found again. Floats in lists, and those of a call without tensors such as ``arange``,
decide on sizes and stand by their value.
"""

from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.client.generators import handle_of
from tessera.remote.client.handles import Handle
from tessera.remote.client.specs import Spec
from tessera.remote.protocol.values import Named, Slot, Tag, Value

Resolve = Callable[[torch.Tensor], tuple[Spec, Handle]]
"""The spec and handle of a tensor; one of another device is sent first, or refused."""

_NAMED = {torch.dtype: Tag.DTYPE, torch.layout: Tag.LAYOUT, torch.memory_format: Tag.MEMORY_FORMAT}


class Remote:
    """A tensor in the arguments of a ``Call``."""

    __slots__ = ("spec",)

    def __init__(self, spec: Spec) -> None:
        self.spec = spec


class Call:
    """``args`` and ``kwargs`` hold a ``Remote`` in the place of each tensor, and the session's device for any other."""

    __slots__ = ("_parts", "_resolve", "args", "floats", "function", "handles", "key", "kwargs")

    def __init__(self, function: Any, args: Any, kwargs: dict[str, Any], resolve: Resolve) -> None:
        self.function, self._resolve = function, resolve
        self._parts: list[Any] = [function]
        self.handles: list[Handle] = []
        self.floats: list[float] = []
        self.args = [self._top(value) for value in args]
        self.kwargs = {}
        for name, value in kwargs.items():
            self._parts.append(name)
            self.kwargs[name] = self._top(value)
        if not self.handles:
            self._parts.extend(self.floats)
        self.key = tuple(self._parts)

    def _top(self, value: Any) -> Any:
        if type(value) is float:
            self._parts.append(float)
            self.floats.append(value)
            return value
        return self._value(value)

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind is int or value is None:
            self._parts.append(value)
            return value
        if isinstance(value, torch.Tensor):
            spec, handle = self._resolve(value)
            self._parts.append(spec)
            self.handles.append(handle)
            return Remote(spec)
        if kind is list or kind is tuple:
            self._parts.append((list, len(value)))
            return [self._value(item) for item in value]
        if kind is torch.device:
            self._parts.append(Slot.DEVICE)
            return Slot.DEVICE
        if isinstance(value, torch.Generator):
            self._parts.append(torch.Generator)
            self.handles.append(handle_of(value))
            return Slot.GENERATOR
        self._parts.append((kind, value))
        return value


def wire_value(value: Any, *, top: bool = True) -> Value:
    """Raises ``ValueError`` for what cannot be sent."""
    if isinstance(value, Remote) or value is Slot.GENERATOR:
        return Slot.TENSOR
    if top and type(value) is float:
        return Slot.FLOAT
    if isinstance(value, list):
        return [wire_value(item, top=False) for item in value]
    tag = _NAMED.get(type(value))
    if tag is not None:
        return Named(tag, str(value).removeprefix("torch."))
    return value  # type: ignore[no-any-return]


def with_metas(call: Call) -> tuple[list[Any], dict[str, Any], list[tuple[torch.Tensor, Spec]]]:
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

    args = [of(value) for value in call.args]
    return args, {name: of(value) for name, value in call.kwargs.items()}, metas
