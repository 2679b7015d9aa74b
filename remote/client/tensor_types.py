"""``torch.cuda.FloatTensor`` and its like, by which programs name device and dtype at once."""

import functools
from typing import Any

import torch

from tessera.remote.client.tensor import DEVICE, RemoteTensor

_PREFIX = "torch.cuda."


class _Named(type):
    """A type that is a name: calling it makes tensors, ``isinstance`` asks for their device and dtype."""

    dtype: torch.dtype
    here: Any

    def __call__(cls, *args: Any, **kwargs: Any) -> torch.Tensor:
        made: torch.Tensor = cls.here(*args, **kwargs)
        return made.to(torch.device(DEVICE, 0))

    def __instancecheck__(cls, tensor: Any) -> bool:
        return isinstance(tensor, RemoteTensor) and tensor.dtype == cls.dtype


def patch() -> None:
    """For the life of the process."""
    for name, kind in _types().items():
        setattr(torch.cuda, name, kind)
    torch.Tensor.type = _typed(torch.Tensor.type)
    torch.set_default_tensor_type = _default(torch.set_default_tensor_type)


def _types() -> dict[str, _Named]:
    names = [name for name in vars(torch.cuda) if name.endswith("Tensor") and hasattr(torch, name)]
    return {name: _type(name) for name in names}


def _type(name: str) -> _Named:
    here = getattr(torch, name)
    return _Named(name, (), {"__module__": "torch.cuda", "here": here, "dtype": here.dtype, "is_cuda": True})


def _of(wanted: Any) -> _Named | None:
    """The type that is meant."""
    if isinstance(wanted, str) and wanted.startswith(_PREFIX):
        wanted = getattr(torch.cuda, wanted.removeprefix(_PREFIX), wanted)
    return wanted if isinstance(wanted, _Named) else None


def _typed(function: Any) -> Any:
    @functools.wraps(function)
    def type_(self: torch.Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if kind := _of(dtype):
            return self.to(torch.device(DEVICE, 0), kind.dtype)
        found = function(self, dtype, *args, **kwargs)
        return found.replace(f"torch.{DEVICE}.", _PREFIX) if isinstance(found, str) else found

    return type_


def _default(function: Any) -> Any:
    by_type = False

    @functools.wraps(function)
    def set_default_tensor_type(wanted: Any) -> None:
        nonlocal by_type
        if kind := _of(wanted):
            torch.set_default_dtype(kind.dtype)
            torch.set_default_device(torch.device(DEVICE, 0))
            by_type = True
            return
        if by_type:  # else a default device is the program's own
            torch.set_default_device(None)
            by_type = False
        function(wanted)

    return set_default_tensor_type
