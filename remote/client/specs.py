"""How a tensor lies in memory, and what an operator makes of tensors that lie so: torch's meta tensors tell."""

import threading
import weakref
from typing import Any

import torch


class Spec:
    """Sizes, strides and offset in elements. There is one for each kind, so that two are equal only if they are one."""

    __slots__ = ("__weakref__", "dtype", "offset", "sizes", "strides")
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    offset: int

    def __new__(cls, sizes: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype, offset: int = 0) -> "Spec":
        kind = sizes, strides, dtype, offset
        with _making:
            if (spec := _made.get(kind)) is None:
                spec = _made[kind] = super().__new__(cls)
                spec.sizes, spec.strides, spec.dtype, spec.offset = kind
        return spec

    @property
    def extent(self) -> int:
        """How many elements of its storage it reaches over, from the storage's beginning."""
        last = sum((size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True))
        return self.offset + last + 1 if 0 not in self.sizes else self.offset

    def meta(self) -> torch.Tensor:
        """A tensor of this kind without memory."""
        whole = torch.empty(self.extent, dtype=self.dtype, device="meta")
        return whole.as_strided(self.sizes, self.strides, self.offset)


_making = threading.RLock()
_made: "weakref.WeakValueDictionary[Any, Spec]" = weakref.WeakValueDictionary()


def spec_of(tensor: torch.Tensor) -> Spec:
    """Raises ``NotImplementedError`` for a tensor without strides, such as a sparse one."""
    if tensor.layout is not torch.strided:
        raise NotImplementedError(f"layout: found {tensor.layout}; allowed: torch.strided")
    return Spec(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.storage_offset())


def flat(value: Any) -> list[Any]:
    """Tensors and ``None`` of an operator's result, lists taken apart."""
    if isinstance(value, list | tuple):
        return [one for item in value for one in flat(item)]
    return [value]
