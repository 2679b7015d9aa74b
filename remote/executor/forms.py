"""A form with its slots filled in: the arguments of a call."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from tessera.remote.executor.overloads import Overload, RefusedOperator
from tessera.remote.protocol.values import Named, Slot, Tag, Value

Fill = Callable[[Iterator[Any], Iterator[float]], Any]

_CONSTANTS = {"ScalarType": Tag.DTYPE, "Layout": Tag.LAYOUT, "MemoryFormat": Tag.MEMORY_FORMAT}
_KINDS = {Tag.DTYPE: torch.dtype, Tag.LAYOUT: torch.layout, Tag.MEMORY_FORMAT: torch.memory_format}


class Form:
    """Calls ``overload`` with these arguments; ``device`` stands where the client named one. Raises
    ``RefusedOperator``."""

    def __init__(self, overload: Overload, args: list[Value], kwargs: list[Value], device: torch.device) -> None:
        _check(overload.function, args, kwargs)
        self.overload = overload
        self._args = [_filler(value, device) for value in args]
        self._kwargs = {
            str(name): _filler(value, device) for name, value in zip(kwargs[::2], kwargs[1::2], strict=True)
        }

    def __call__(self, tensors: Iterator[Any], floats: Iterator[float]) -> Any:
        args = [fill(tensors, floats) for fill in self._args]
        return self.overload.function(*args, **{name: fill(tensors, floats) for name, fill in self._kwargs.items()})


def _check(function: Any, args: list[Value], kwargs: list[Value]) -> None:
    """torch takes numbers for its constants, and believes them: some end the process. So does it for devices."""
    arguments = function._schema.arguments
    given = {argument.name: value for argument, value in zip(arguments, args, strict=False)}
    given.update(zip(map(str, kwargs[::2]), kwargs[1::2], strict=True))
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


def _filler(value: Value, device: torch.device) -> Fill:
    match value:
        case Slot.TENSOR:
            return lambda tensors, _: next(tensors)
        case Slot.FLOAT:
            return lambda _, floats: next(floats)
        case Slot.DEVICE:
            return lambda *_: device
        case Slot.GENERATOR:
            return lambda *_: None
        case Named():
            found = constant(value)
            return lambda *_: found
        case list() if _plain(value):
            return lambda *_: value
        case list():
            fillers = [_filler(item, device) for item in value]
            return lambda tensors, floats: [fill(tensors, floats) for fill in fillers]
        case _:
            return lambda *_: value


def _plain(values: list[Any]) -> bool:
    return all(item is None or isinstance(item, int | float | complex | str) for item in values)
