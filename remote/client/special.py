"""Operators that are more than a call on the executor: they cross between machines, or change what a tensor is here."""

from typing import Any

import torch

from tessera.remote.client import attention, embeddings, packed, recurrent, sparse
from tessera.remote.client.device import Device, Special
from tessera.remote.client.inference import seen
from tessera.remote.client.resizing import become, resized
from tessera.remote.client.specs import Spec
from tessera.remote.client.tensor import DEVICE, RemoteTensor

aten = torch.ops.aten
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def _to_copy(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    (tensor,) = args
    target = kwargs.get("device")
    away = isinstance(tensor, RemoteTensor)
    if away and (target is None or target.type == DEVICE):
        return device.call(function, args, kwargs)
    rest = {name: kwargs[name] for name in ("dtype", "memory_format") if kwargs.get(name) is not None}
    if away:
        return device.download(tensor).to(device=target, **rest)
    there = device.upload(tensor)
    return device.call(function, (there,), rest) if rest else there


def _copy_(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    target, source, *_ = args
    if not isinstance(target, RemoteTensor):
        return target.copy_(device.download(source))
    if not isinstance(source, RemoteTensor):
        source = device.upload(source)
    return device.call(function, (target, source), {})


def _copy_from(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    source, target, *_ = args
    return _copy_(device, aten.copy_.default, (target, source), {})


def _each_copied(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    """Each by itself, if any is on this machine."""
    targets, sources, *_ = args
    if all(isinstance(tensor, RemoteTensor) for tensor in (*targets, *sources)):
        return device.call(function, args, kwargs)
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
    return None


def _as_many_stored(device: Device, function: Any, args: Args, kwargs: Kwargs) -> bool:
    one, other = (tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in args)
    return bool(one == other)


def _scalar(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    return device.download(args[0]).item()


def _alias(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    handle = args[0]._handle
    return seen(args[0], lambda: RemoteTensor.of(handle, handle.spec))


def _equal(device: Device, function: Any, args: Args, kwargs: Kwargs) -> bool:
    one, other = args
    if one.shape != other.shape:
        return False
    return bool(_all(device, device.call(aten.eq.Tensor, (one, other), {})))


def _allclose(device: Device, function: Any, args: Args, kwargs: Kwargs) -> bool:
    return bool(_all(device, aten.isclose.default(*args, **kwargs)))


def _all(device: Device, tensor: Any) -> Any:
    return device.download(device.call(aten.all.default, (tensor,), {})).item()


def _instead(other: Any) -> Special:
    """Another operator in its place."""
    return lambda device, function, args, kwargs: device.call(other, args, kwargs)


def _seen_anew(view: Any) -> Special:
    """What changes how a tensor lies, in place: it becomes a view of what it was."""

    def change(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
        tensor = args[0]
        return become(tensor, device.call(view, args, kwargs))

    return change


def _resize_(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, wanted = args[:2]
    sizes = wanted.shape if isinstance(wanted, torch.Tensor) else wanted
    format_ = kwargs.get("memory_format") or torch.contiguous_format
    like = torch.empty(list(sizes), device="meta", memory_format=format_)
    spec: Spec = tensor._spec
    return resized(device, tensor, Spec(tuple(sizes), like.stride(), spec.dtype, spec.offset))


def _set_(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, other = args
    if not isinstance(other, RemoteTensor) or other.dtype != tensor.dtype:
        raise RuntimeError(f"set_: found {other.dtype} on {other.device}; allowed: {tensor.dtype} on the remote device")
    return become(tensor, other)


def _gradient(at: int) -> Special:
    """Of an embedding: sparse, if the argument at this place says so."""

    def gradient(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
        return embeddings.gradient(function, args) if args[at] else device.call(function, args, kwargs)

    return gradient


def _no_sparse(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    raise NotImplementedError(f"{function}: not supported on a remote device; Tensor.cpu() has a copy that can")


def _within(tensor: Any, indices: Any) -> list[Any]:
    return [None if at is None else at.clamp(0, size - 1) for at, size in zip(indices, tensor.shape, strict=False)]


def _masked_index(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, mask, indices, fill = args
    return aten.index.Tensor(tensor, _within(tensor, indices)).masked_fill(mask.logical_not(), fill)


def _masked_put(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, mask, indices, values = args
    values = values.masked_fill(mask.logical_not(), 0)
    return aten.index_put.default(tensor, _within(tensor, indices), values, True)


# A conjugate or a negative is made, not marked: the mark would be on the executor only.
SPECIAL: dict[Any, Special] = {
    aten._to_copy.default: _to_copy,
    aten.copy_.default: _copy_,
    aten._copy_from.default: _copy_from,
    aten._foreach_copy_.default: _each_copied,
    aten._local_scalar_dense.default: _scalar,
    aten.item.default: _scalar,
    aten.detach.default: _alias,
    aten.alias.default: _alias,
    aten.lift_fresh.default: _alias,
    aten.scaled_dot_product_attention.default: attention.whole,
    aten.equal.default: _equal,
    aten.allclose.default: _allclose,
    aten._conj.default: _instead(aten.conj_physical.default),
    aten._neg_view.default: _instead(aten.neg.default),
    aten.is_same_size.default: lambda device, function, args, kwargs: args[0].shape == args[1].shape,
    aten._has_same_storage_numel.default: _as_many_stored,
    aten._nested_tensor_from_mask_left_aligned.default: lambda *_: False,  # an encoder takes its other way
    aten._pack_padded_sequence.default: packed.pack,
    aten._thnn_fused_lstm_cell.default: recurrent.lstm,
    aten._thnn_fused_lstm_cell_backward_impl.default: recurrent.lstm_backward,
    aten._thnn_fused_gru_cell.default: recurrent.gru,
    aten._thnn_fused_gru_cell_backward.default: recurrent.gru_backward,
    aten.squeeze_.default: _seen_anew(aten.squeeze.default),
    aten.squeeze_.dim: _seen_anew(aten.squeeze.dim),
    aten.squeeze_.dims: _seen_anew(aten.squeeze.dims),
    aten.unsqueeze_.default: _seen_anew(aten.unsqueeze.default),
    aten.transpose_.default: _seen_anew(aten.transpose.int),
    aten.t_.default: _seen_anew(aten.t.default),
    aten.as_strided_.default: _seen_anew(aten.as_strided.default),
    aten._has_compatible_shallow_copy_type.default: lambda device, function, args, kwargs: True,
    aten.resize_.default: _resize_,
    aten.resize_as_.default: _resize_,
    aten.set_.source_Tensor: _set_,
    aten.embedding_backward.default: _gradient(5),
    aten._embedding_bag_backward.default: _gradient(9),
    aten.embedding_sparse_backward.default: lambda device, function, *args: embeddings.gradient(function, args[0]),
    aten._sparse_coo_tensor_with_dims_and_tensors.default: lambda *args: sparse.made(*args[2][2:]),
    aten._to_sparse.default: _no_sparse,
    aten._to_sparse.sparse_dim: _no_sparse,
    aten._sparse_coo_tensor_unsafe.default: lambda *args: sparse.made(args[2][2], *args[2][:2]),
    # Without the check of indices that these leave out, a program could read its executor's memory.
    aten._unsafe_index.Tensor: _instead(aten.index.Tensor),
    aten._unsafe_index_put.default: _instead(aten.index_put.default),
    aten._unsafe_masked_index.default: _masked_index,
    aten._unsafe_masked_index_put_accumulate.default: _masked_put,
}
