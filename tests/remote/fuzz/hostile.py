"""Well-formed calls of listed operators with values that no program means."""

import random
import re
from collections.abc import Iterator
from typing import Any

import torch

from tessera.remote.executor.overloads import allowed
from tessera.remote.protocol import records
from tessera.remote.protocol.schemas import schema_number
from tessera.remote.protocol.values import Named, Slot, Tag, Value

_INTS = [0, 1, -1, 2, 7, -8, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 40, 255]
_FLOATS = [0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan")]
_DTYPES = ["float32", "int64", "bool", "complex64", "float16", "uint8", "bits8", "qint8", "float8_e5m2", "strided"]


def tensors() -> list[tuple[str, tuple[int, ...], bytes]]:
    """Of many kinds, with indices that point nowhere: dtype, sizes, bytes."""
    made = [
        torch.tensor([0, -1, 1 << 40, -(1 << 63), (1 << 63) - 1, 3]), torch.randn(6), torch.randn(2, 3),
        torch.randn(1, 2, 4, 4), torch.full((2, 2), float("nan")), torch.tensor(-(1 << 62)), torch.tensor(3.5),
        torch.empty(0), torch.empty(0, 5), torch.tensor([True, False]), torch.tensor([[9, -9], [1 << 33, 0]]),
        torch.randn(2, 2, dtype=torch.complex64), torch.tensor([1 << 30, -1], dtype=torch.int32),
        torch.tensor([255, 0, 7], dtype=torch.uint8), torch.randn(3, dtype=torch.float16),
    ]  # fmt: skip
    return [
        (
            str(item.dtype).removeprefix("torch."),
            tuple(item.shape),
            bytes(item.contiguous().reshape(-1).view(torch.uint8)),
        )
        for item in made
    ]


def calls(rng: random.Random, count: int, handles: list[int]) -> Iterator[tuple[records.Form, records.Call]]:
    """Each with the form that it needs; the outputs' handles are never used."""
    names = sorted(allowed())
    for number in range(count):
        name = rng.choice(names)
        namespace, _, rest = name.partition("::")
        base, _, overload = rest.partition(".")
        function = getattr(getattr(getattr(torch.ops, namespace), base), overload or "default")
        args, kwargs = _arguments(rng, function)
        form = records.Form(0, name, schema_number(function), args, kwargs)
        slots, floats = records.slots_of([*args, *kwargs])
        filled = tuple(rng.choice(handles) for _ in range(slots)), tuple(rng.choice(_FLOATS) for _ in range(floats))
        yield form, records.Call(0, 0, 1_000_000 + 1000 * number, *filled, request=1)


def _arguments(rng: random.Random, function: Any) -> tuple[list[Value], list[Value]]:
    args: list[Value] = []
    kwargs: list[Value] = []
    for argument in function._schema.arguments:
        # Of some constants torch tells that they are numbers, which it takes too.
        value = _value(rng, str(argument.real_type if rng.random() < 0.9 else argument.type))
        if argument.kwarg_only:
            kwargs += [argument.name, value]
        else:
            args.append(value)
    return args, kwargs


def _value(rng: random.Random, kind: str) -> Value:
    if kind.startswith("Optional"):
        return None if rng.random() < 0.4 else _value(rng, kind[len("Optional[") : -1])
    if kind.startswith("List"):
        return [_value(rng, kind[len("List[") : -1]) for _ in range(rng.choice([0, 1, 2, 2, 3, 4, 70]))]
    return _one(rng, re.sub(r"\W", "", kind))


def _one(rng: random.Random, kind: str) -> Value:
    match kind:
        case "Tensor":
            return Slot.TENSOR
        case "int" | "SymInt":
            return rng.choice(_INTS)
        case "float":
            return Slot.FLOAT
        case "bool":
            return rng.random() < 0.5
        case "number" | "complex":
            return rng.choice([*_INTS, *_FLOATS, complex(float("nan"), 1e300)])
        case "ScalarType":
            return Named(Tag.DTYPE, rng.choice(_DTYPES))
        case "Layout":
            return Named(Tag.LAYOUT, rng.choice(["strided", "sparse_coo", "jagged", "float32"]))
        case "MemoryFormat":
            return Named(Tag.MEMORY_FORMAT, rng.choice(["contiguous_format", "channels_last", "preserve_format"]))
        case "Device":
            return Slot.DEVICE
        case "Generator":
            return Slot.GENERATOR
    return rng.choice(["", "sum", "x" * 1000])
