"""What is done with sparse tensors: gradients of embeddings, added up and given to optimizers.

All in operators on their parts, so that the executor has no sparse tensors.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.client.sparse_tensor import SparseTensor
from tessera.remote.client.tensor import DEVICE, RemoteTensor

aten = torch.ops.aten
prim = torch.ops.prim
_EACH = "aten::_foreach_"


def run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator with a sparse tensor among its arguments."""
    way = _WAYS.get(function)
    if way is None and (name := function._schema.name).startswith(_EACH):
        return _each(name.removeprefix(_EACH), args, kwargs)
    if way is None:
        raise NotImplementedError(f"{function}: not supported on sparse tensors of a remote device")
    return way(*args, **kwargs)


def _each(name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operator for many tensors: each by itself, as CUDA does where any is sparse."""
    rests = ([one[at] if isinstance(one, list | tuple) else one for one in args[1:]] for at in range(len(args[0])))
    results = [getattr(tensor, name)(*rest, **kwargs) for tensor, rest in zip(args[0], rests, strict=True)]
    return None if name.endswith("_") else results


def made(size: Any, indices: Any, values: Any, is_coalesced: bool | None = None) -> SparseTensor:
    """``torch.sparse_coo_tensor``."""
    return SparseTensor.of(indices, values, size, coalesced=bool(is_coalesced))


def _with(tensor: SparseTensor, what: RemoteTensor) -> SparseTensor:
    """The same places with other elements."""
    return SparseTensor.of(tensor.where, what, tensor.shape, coalesced=tensor.coalesced)


def _flat(tensor: SparseTensor) -> torch.Tensor:
    """The place of each element as one number, by rows."""
    sizes = tensor.shape[: len(tensor.where)]
    if len(sizes) == 1:
        return tensor.where[0]
    strides = [math.prod(sizes[at + 1 :]) for at in range(len(sizes))]
    places = (tensor.where[at] * stride for at, stride in enumerate(strides))
    return sum(places, start=torch.zeros_like(tensor.where[0]))


def _rows(tensor: torch.Tensor, sparse: SparseTensor) -> torch.Tensor:
    """A strided tensor of the same sizes, seen with the sparse dimensions as one."""
    return tensor.reshape(-1, *tensor.shape[len(sparse.where) :])


def _coalesce(tensor: SparseTensor) -> SparseTensor:
    """Elements of one place added up, in the order in which they stand."""
    places, at = torch.unique(_flat(tensor), return_inverse=True)
    what = tensor.what.new_zeros((len(places), *tensor.what.shape[1:])).index_add(0, at, tensor.what)
    where = torch.stack(torch.unravel_index(places, tensor.shape[: len(tensor.where)]))
    return SparseTensor.of(where, what, tensor.shape, coalesced=True)


def _changed(tensor: SparseTensor, other: SparseTensor) -> SparseTensor:
    """``tensor`` is ``other`` from now on, as far as it was not before."""
    tensor.where, tensor.what, tensor.coalesced = other.where, other.what, other.coalesced
    return tensor


def _add(one: Any, other: Any, *, alpha: Any = 1) -> Any:
    if not isinstance(one, SparseTensor):
        return _add_(one.to(torch.promote_types(one.dtype, other.dtype), copy=True), other, alpha=alpha)
    if not isinstance(other, SparseTensor):
        raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")
    _check_sizes(one, other)
    what = torch.cat([one.what, other.what * alpha if alpha != 1 else other.what])
    added = SparseTensor.of(torch.cat([one.where, other.where], dim=1), what, one.shape)
    return _coalesce(added) if (one.coalesced and other.coalesced) or len(what) > one.numel() else added


def _check_sizes(one: torch.Tensor, other: torch.Tensor) -> None:
    if one.shape != other.shape:
        found = f"{list(one.shape)} and {list(other.shape)}"
        raise RuntimeError(f"expected tensors of the same size, but got {found}: a sparse one is not broadcast")


def _check_dtype(one: torch.Tensor, other: torch.Tensor) -> None:
    """Whether the sum could be written where ``one`` is."""
    wanted = torch.promote_types(one.dtype, other.dtype)
    if not torch.can_cast(wanted, one.dtype):
        raise RuntimeError(f"result type {wanted} can't be cast to the desired output type {one.dtype}")


def _add_(one: Any, other: Any, *, alpha: Any = 1) -> Any:
    _check_dtype(one, other)
    if isinstance(one, SparseTensor):
        added = _add(one, other, alpha=alpha)
        return _changed(one, _with(added, added.what.to(one.dtype)))
    _check_sizes(one, other)
    if len(other.where) == 1:
        return one.index_add_(0, other.where[0], other.what.to(one.dtype), alpha=alpha)
    return one.index_put_(tuple(other.where), (other.what * alpha).to(one.dtype), accumulate=True)


def _sub(one: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _add(one, other, alpha=-alpha)


def _sub_(one: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _add_(one, other, alpha=-alpha)


def _copy_(one: Any, other: Any, *_: Any) -> SparseTensor:
    if not (isinstance(one, SparseTensor) and isinstance(other, SparseTensor)):
        raise RuntimeError("copy_() between dense and sparse Tensors is not implemented!")
    return _changed(one, _with(other, other.what.to(one.dtype, copy=True)))


def _dense(tensor: SparseTensor, dtype: Any = None, **_: Any) -> torch.Tensor:
    zeros = tensor.what.new_zeros(list(tensor.shape), dtype=dtype)
    dense: torch.Tensor = _add_(zeros, tensor)
    return dense


def _masked(tensor: torch.Tensor, mask: SparseTensor, accumulate_matches: bool = False) -> SparseTensor:
    """Of a strided tensor what stands at the places of ``mask``."""
    _check_sizes(tensor, mask)
    return _with(mask, _rows(tensor, mask).index_select(0, _flat(mask)))


def _to_copy(tensor: SparseTensor, *, device: Any = None, dtype: Any = None, **_: Any) -> Any:
    if device is None or device.type == DEVICE:
        return _with(tensor, tensor.what.to(dtype or tensor.what.dtype, copy=True))
    return tensor.here().to(device=device, dtype=dtype)


def _sum(tensor: SparseTensor, *, dtype: Any = None) -> torch.Tensor:
    return tensor.what.sum(dtype=dtype)


def _norm(tensor: SparseTensor, p: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Of all elements together, to which a place without one adds nothing."""
    if keepdim or (dim and len(dim) < tensor.dim()):
        raise NotImplementedError("norm: over single dimensions not supported on sparse tensors of a remote device")
    elements = (tensor if tensor.coalesced else _coalesce(tensor)).what
    return torch.linalg.vector_norm(elements, 2 if p is None else p, dtype=dtype)


def _part(name: str) -> Callable[[SparseTensor], Any]:
    def part(tensor: SparseTensor) -> Any:
        if not tensor.coalesced:
            raise RuntimeError(f"Cannot get {name} on an uncoalesced tensor, please call .coalesce() first")
        return aten.detach.default(tensor.where if name == "indices" else tensor.what)

    return part


def _zero_(tensor: SparseTensor) -> SparseTensor:
    return _changed(tensor, SparseTensor.of(tensor.where[:, :0], tensor.what[:0], tensor.shape, coalesced=True))


def _coalesced_(tensor: SparseTensor, coalesced: bool) -> SparseTensor:
    tensor.coalesced = coalesced
    return tensor


def _linear(function: Any) -> Callable[..., SparseTensor]:
    """Of each element by itself, also of several of one place."""

    def way(tensor: Any, *rest: Any, **kwargs: Any) -> SparseTensor:
        if not isinstance(tensor, SparseTensor) or not all(_is_scalar(one) for one in rest):
            raise NotImplementedError(f"{function}: on sparse tensors of a remote device with a number only")
        result = function(tensor.what, *rest, **kwargs)
        return tensor if result is tensor.what else _with(tensor, result)

    return way


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float | complex) or (isinstance(value, torch.Tensor) and value.dim() == 0)


_LINEAR = (
    aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar, aten.mul_.Scalar,
    aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar, aten.div_.Scalar,
    aten.neg.default, aten.neg_.default,
)  # fmt: skip
_NORMS = (
    aten.linalg_vector_norm.default, aten.norm.Scalar, aten.norm.ScalarOpt_dim, aten.norm.ScalarOpt_dtype,
    aten.norm.ScalarOpt_dim_dtype,
)  # fmt: skip
_WAYS: dict[Any, Callable[..., Any]] = {
    prim.device.default: lambda tensor: torch.device(DEVICE, 0),
    aten._indices.default: lambda tensor: tensor.where,
    aten._values.default: lambda tensor: tensor.what,
    aten.indices.default: _part("indices"),
    aten.values.default: _part("values"),
    aten.is_coalesced.default: lambda tensor: tensor.coalesced,
    aten.sparse_dim.default: lambda tensor: len(tensor.where),
    aten.dense_dim.default: lambda tensor: tensor.what.dim() - 1,
    aten._nnz.default: lambda tensor: len(tensor.what),
    aten._dimI.default: lambda tensor: len(tensor.where),
    aten._dimV.default: lambda tensor: tensor.what.dim() - 1,
    aten._coalesce.default: _coalesce,
    aten._coalesced_.default: _coalesced_,
    aten.detach.default: lambda tensor: _with(tensor, tensor.what),
    aten.alias.default: lambda tensor: _with(tensor, tensor.what),
    aten.clone.default: lambda tensor, **_: SparseTensor.of(
        tensor.where.clone(), tensor.what.clone(), tensor.shape, coalesced=tensor.coalesced
    ),
    aten._to_copy.default: _to_copy,
    aten._to_dense.default: _dense,
    aten.zero_.default: _zero_,
    aten.sparse_mask.default: _masked,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add_,
    aten.sub.Tensor: _sub,
    aten.sub_.Tensor: _sub_,
    aten.copy_.default: _copy_,
    aten.sum.default: _sum,
    **{each: _linear(each) for each in _LINEAR},
    **dict.fromkeys(_NORMS, _norm),
    aten.frobenius_norm.dim: lambda tensor, dim, keepdim=False: _norm(tensor, 2, dim, keepdim),
}
