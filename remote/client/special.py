"""Operators that are more than a call on the executor: they cross between machines, or change what a tensor is here."""

from typing import Any

import torch

from tessera.remote.client import recurrent
from tessera.remote.client.device import Device, Special
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


def _scalar(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    return device.download(args[0]).item()


def _alias(device: Device, function: Any, args: Args, kwargs: Kwargs) -> Any:
    return RemoteTensor(args[0]._spec, args[0]._handle)


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
        seen = device.call(view, args, kwargs)
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.Python)):
            function(*args, **kwargs)
        tensor._spec, tensor._handle = seen._spec, seen._handle
        return tensor

    return change


# A conjugate or a negative is made, not marked: the mark would be on the executor only.
SPECIAL: dict[Any, Special] = {
    aten._to_copy.default: _to_copy,
    aten.copy_.default: _copy_,
    aten._copy_from.default: _copy_from,
    aten._local_scalar_dense.default: _scalar,
    aten.item.default: _scalar,
    aten.detach.default: _alias,
    aten.alias.default: _alias,
    aten.lift_fresh.default: _alias,
    aten.equal.default: _equal,
    aten.allclose.default: _allclose,
    aten._conj.default: _instead(aten.conj_physical.default),
    aten._neg_view.default: _instead(aten.neg.default),
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
}
