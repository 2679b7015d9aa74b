"""How a tensor lies in memory, and what an operator makes of tensors that lie so: torch's meta tensors tell."""

from typing import Any, NamedTuple

import torch


class Spec(NamedTuple):
    """Sizes, strides and offset in elements."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    offset: int = 0

    @property
    def extent(self) -> int:
        """How many elements of its storage it reaches over, from the storage's beginning."""
        last = sum((size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True))
        return self.offset + last + 1 if 0 not in self.sizes else self.offset

    def meta(self) -> torch.Tensor:
        """A tensor of this kind without memory."""
        whole = torch.empty(self.extent, dtype=self.dtype, device="meta")
        return whole.as_strided(self.sizes, self.strides, self.offset)


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
