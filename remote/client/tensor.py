"""A tensor on the remote device: no memory here, only what it is and which one it is there."""

import functools
from typing import Any

import torch

from tessera.remote.client.addresses import RemoteStorage, address_of
from tessera.remote.client.handles import Handle
from tessera.remote.client.specs import Spec

DEVICE = "tessera"
"""What the device is called without the alias."""
_make = torch.Tensor._make_wrapper_subclass


@functools.lru_cache(maxsize=1)
def _device() -> torch.device:
    """torch takes the name once it is registered."""
    return torch.device(DEVICE, 0)


class RemoteTensor(torch.Tensor):
    """Autograd, hooks and views are torch's own; operators go to the device of ``remote``."""

    _handle: Handle
    remote: Any = None
    """Runs operators: set once the device is there."""

    @staticmethod
    def of(handle: Handle, spec: Spec) -> "RemoteTensor":
        """``spec``: the handle's."""
        made: RemoteTensor = _make(
            RemoteTensor, spec.sizes, spec.strides, spec.offset, dtype=spec.dtype, device=_device()
        )
        made._handle = handle
        return made

    @property
    def _spec(self) -> Spec:
        spec = self._handle.spec
        assert spec is not None
        return spec

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return RemoteTensor.remote.run(function, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        shown = repr(self.detach().cpu())
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"{shown[:-1]}, device='{self.device}'{grad})"

    def data_ptr(self) -> int:
        return address_of(self._handle)

    def untyped_storage(self) -> RemoteStorage:
        return RemoteStorage.of(self._handle)

    @property
    def __cuda_array_interface__(self) -> Any:
        raise AttributeError("__cuda_array_interface__: the tensor's memory is on a remote device")

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError(
            "__dlpack__: the tensor's memory is on a remote device; Tensor.cpu() copies it to this machine"
        )

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. "
                "Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return self.detach().cpu().numpy(force=True)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def as_subclass(self, cls: type) -> Any:
        raise NotImplementedError(f"Tensor.as_subclass({cls.__name__}): not supported on a remote device")

    def share_memory_(self) -> "RemoteTensor":
        return self

    def is_shared(self) -> bool:
        return True

    def record_stream(self, stream: Any) -> None:
        return

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        here = alike(self, self.detach().cpu())
        vars(here).update(attributes_of(self))
        here.untyped_storage().comes_from = self.device
        return here.__reduce_ex__(protocol)

    def __copy__(self) -> "RemoteTensor":
        """Another of the same memory."""
        copied: RemoteTensor = alike(self, self.detach())
        copied.__dict__.update(attributes_of(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> "RemoteTensor":
        if not self.is_leaf:
            raise RuntimeError("deepcopy: found a tensor that is the result of others; allowed: those of the user")
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        copied: RemoteTensor = alike(self, self.detach().clone())
        memo[id(self)] = copied
        if self.grad is not None and not isinstance(self, torch.nn.Parameter):
            copied.grad = self.grad.__deepcopy__(memo)
        return copied


def alike(tensor: torch.Tensor, data: torch.Tensor) -> Any:
    """``data`` as what ``tensor`` is: a parameter, or a tensor that requires gradients or not."""
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(data, tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad)


def attributes_of(tensor: torch.Tensor) -> dict[str, Any]:
    """That programs gave it."""
    return {name: value for name, value in vars(tensor).items() if name not in ("_handle", "_is_param")}
