"""Tensors from this machine's memory to the executor's and back."""

import ctypes

import torch

from tessera.remote.client.specs import Spec
from tessera.remote.protocol import records


def dense_order(tensor: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """A contiguous copy with the dimensions in the order of their strides, and how to permute it back.

    So what is channels-last here is channels-last there. Raises ``NotImplementedError`` for what has no strides.
    """
    if tensor.layout is not torch.strided:
        raise NotImplementedError(f"layout: found {tensor.layout}; allowed: torch.strided")
    dims = sorted(range(tensor.dim()), key=lambda dim: (-tensor.stride(dim), dim))
    back = tuple(dims.index(dim) for dim in range(tensor.dim()))
    return tensor.permute(dims).contiguous(), back


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor; it must live as long as the view."""
    if not tensor.numel():
        return memoryview(b"")
    whole = ctypes.c_ubyte * (tensor.numel() * tensor.element_size())
    return memoryview(whole.from_address(tensor.data_ptr())).cast("B")


def new_record(handle: int, tensor: torch.Tensor) -> records.New:
    return records.New(handle, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def tensor_of(data: bytearray, spec: Spec) -> torch.Tensor:
    """A tensor of this machine from its bytes, with the strides that it had."""
    if not data:
        return torch.empty_strided(spec.sizes, spec.strides, dtype=spec.dtype)
    found = torch.frombuffer(data, dtype=spec.dtype).reshape(spec.sizes)
    if found.stride() == spec.strides or not _dense(spec):
        return found
    return torch.empty_strided(spec.sizes, spec.strides, dtype=spec.dtype).copy_(found)


def _dense(spec: Spec) -> bool:
    expected = 1
    for stride, size in sorted(zip(spec.strides, spec.sizes, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
