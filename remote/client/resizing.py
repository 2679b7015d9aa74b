"""Tensors that become another: ``.data =``, ``set_``, ``resize_``, and results written to a tensor of another size."""

from typing import Any

import torch

from tessera.remote.client.specs import Spec
from tessera.remote.client.tensor import DEVICE, RemoteTensor, alike, attributes_of

_DATA = torch._C.TensorBase.data
aten = torch.ops.aten


def become(tensor: RemoteTensor, other: RemoteTensor) -> RemoteTensor:
    """From now on ``tensor`` is what ``other`` is, and shares its memory."""
    _DATA.__set__(tensor, other)
    tensor._handle = other._handle
    return tensor


def resized(device: Any, tensor: RemoteTensor, wanted: Spec) -> RemoteTensor:
    """Raises ``NotImplementedError`` for what would have to grow in place, with all views of it."""
    spec = tensor._spec
    if wanted.extent <= spec.extent:
        sizes, strides = list(wanted.sizes), list(wanted.strides)
        return become(tensor, device.call(aten.as_strided.default, (tensor, sizes, strides, wanted.offset), {}))
    if 0 not in spec.sizes:
        raise NotImplementedError(
            f"resize: found a tensor of sizes {spec.sizes} that would grow to {wanted.sizes}; "
            "allowed on a remote device: to become smaller, and to grow from empty"
        )
    options = {"dtype": spec.dtype, "device": torch.device(DEVICE, 0)}
    made = device.call(aten.empty_strided.default, (list(wanted.sizes), list(wanted.strides)), options)
    return become(tensor, made)


def patch() -> None:
    """``.data =`` between any two tensors."""
    torch.Tensor.data = property(_DATA.__get__, _set_data, doc=_DATA.__doc__)


def _set_data(tensor: torch.Tensor, data: torch.Tensor) -> None:
    ours, its = isinstance(tensor, RemoteTensor), isinstance(data, RemoteTensor)
    if ours and its:
        become(tensor, data)
    elif ours is not its:
        _cross_over(tensor, data)
    else:
        _DATA.__set__(tensor, data)


def _cross_over(tensor: torch.Tensor, data: torch.Tensor) -> None:
    """From one kind of device to the other: the two swap what they are; what is no part of the data stays."""
    grad, made, attributes = tensor.grad, alike(tensor, data.detach()), attributes_of(tensor)
    tensor.grad = None
    torch.utils.swap_tensors(tensor, made)
    vars(tensor).update(attributes)
    if grad is not None and grad.device == tensor.device:
        tensor.grad = grad
