"""A form with its slots filled in: the arguments of a call."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from tessera.remote.executor.overloads import Overload, RefusedOperator
from tessera.remote.protocol.values import Named, Slot, Tag, Value, slots_of

Fill = Callable[[Iterator[Any], Iterator[float]], Any]
"""A value that has slots, from the tensors and the floats that are left."""

_CONSTANTS = {"ScalarType": Tag.DTYPE, "Layout": Tag.LAYOUT, "MemoryFormat": Tag.MEMORY_FORMAT}
_KINDS = {Tag.DTYPE: torch.dtype, Tag.LAYOUT: torch.layout, Tag.MEMORY_FORMAT: torch.memory_format}


class Form:
    """Calls ``overload`` with these arguments; ``device`` stands where the client named one. Raises
    ``RefusedOperator``."""

    def __init__(self, overload: Overload, args: list[Value], kwargs: list[Value], device: torch.device) -> None:
        named = dict(zip(map(str, kwargs[::2]), kwargs[1::2], strict=True))
        _check(overload.function, args, named)
        self.overload = overload
        self._args = [_constant(value, device) for value in args]
        self._kwargs = {name: _constant(value, device) for name, value in named.items()}
        self._filled = [(place, fill) for place, value in enumerate(args) if (fill := _filler(value, device))]
        self._named = [(name, fill) for name, value in named.items() if (fill := _filler(value, device))]
        self._bare = not named and all(value is Slot.TENSOR for value in args)

    def __call__(self, tensors: Sequence[Any], floats: Sequence[float]) -> Any:
        if self._bare:
            return self.overload.function(*tensors)
        tensors_left, floats_left = iter(tensors), iter(floats)
        args, kwargs = self._args.copy(), self._kwargs
        for place, fill in self._filled:
            args[place] = fill(tensors_left, floats_left)
        if self._named:
            kwargs = kwargs | {name: fill(tensors_left, floats_left) for name, fill in self._named}
        return self.overload.function(*args, **kwargs)


def _check(function: Any, args: list[Value], named: dict[str, Value]) -> None:
    """torch takes numbers for its constants, and believes them: some end the process. So does it for devices."""
    arguments = function._schema.arguments
    given = {argument.name: value for argument, value in zip(arguments, args, strict=False)} | named
    for argument in arguments:
        kind = str(argument.real_type).removeprefix("Optional[").removesuffix("]")
        value = given.get(argument.name)
        tag = _CONSTANTS.get(kind)
        if value is None or (tag is None and kind != "Device"):
            continue
        if value is not Slot.DEVICE if tag is None else not (isinstance(value, Named) and value.tag is tag):
            allowed = "the session's device" if tag is None else f"a {tag.name.lower()} by its name"
            raise RefusedOperator(f"{function}: {argument.name}: found {value!r}; allowed: {allowed}")


def constant(named: Named) -> Any:
    """A dtype, layout or memory format by its name. Raises ``RefusedOperator``."""
    found = getattr(torch, named.name, None)
    if not isinstance(found, _KINDS[named.tag]):
        raise RefusedOperator(f"{named.tag.name.lower()}: found {named.name!r}; allowed: torch's own")
    return found


def _filler(value: Value, device: torch.device) -> Fill | None:
    """``None``: it has no slots."""
    match value:
        case Slot.TENSOR:
            return lambda tensors, _: next(tensors)
        case Slot.FLOAT:
            return lambda _, floats: next(floats)
        case list() if value and all(item is Slot.TENSOR for item in value):
            count = len(value)
            return lambda tensors, _: list(islice(tensors, count))
        case list() if slots_of(value) != (0, 0):
            items = [(_filler(item, device), _constant(item, device)) for item in value]
            return lambda tensors, floats: [fill(tensors, floats) if fill else found for fill, found in items]
    return None


def _constant(value: Value, device: torch.device) -> Any:
    """What stands for a value that has no slots; for one that has, nothing of use."""
    match value:
        case Slot.DEVICE:
            return device
        case Slot():
            return None
        case Named():
            return constant(value)
        case list():
            return [_constant(item, device) for item in value]
    return value
