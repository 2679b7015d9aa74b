"""``cuda`` means the remote device, in every thread of the process: a function mode of torch would hold in one only.

What takes a device takes ``cuda`` for it; what tells a tensor's device says ``cuda``.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.amp import autocast_mode, grad_scaler
from torch.utils import _device

from tessera.remote.client import files, generators, profiling, scripts, tensor_types
from tessera.remote.client.cuda_module import names
from tessera.remote.client.generators import RemoteGenerator
from tessera.remote.client.module import RemoteModule
from tessera.remote.client.sparse_tensor import SparseTensor
from tessera.remote.client.tensor import DEVICE, RemoteTensor

_FUNCTIONS = (
    "arange", "asarray", "as_tensor", "bartlett_window", "blackman_window", "empty", "empty_like", "empty_permuted",
    "empty_strided", "eye", "full", "full_like", "hamming_window", "hann_window", "kaiser_window", "linspace",
    "logspace", "normal", "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
    "randperm", "range", "scalar_tensor", "sparse_coo_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
    "zeros_like",
)  # fmt: skip
_METHODS = ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros")
_CUDA = "cuda"


def mapped(device: Any) -> Any:
    """The device that a program means: the remote one for ``cuda``, in whatever form it names it."""
    if isinstance(device, str) and device.split(":")[0] == _CUDA:
        return torch.device(DEVICE, _index(torch.device(device).index))
    if isinstance(device, torch.device) and device.type == _CUDA:
        return torch.device(DEVICE, _index(device.index))
    if isinstance(device, int) and not isinstance(device, bool):
        return torch.device(DEVICE, _index(device))
    return device


def install(module: RemoteModule) -> None:
    """For the life of the process."""
    _device._device_constructors()  # looked up once, and by what they are now
    for name in _FUNCTIONS:
        scripts.replace(name, _with_device)
    for name in _METHODS:
        setattr(torch.Tensor, name, _with_device(getattr(torch.Tensor, name)))
    torch.Tensor.to = _to(torch.Tensor.to)
    torch.Tensor.cuda = _cuda
    torch.nn.Module.cuda = _module_cuda
    torch.Tensor.pin_memory = lambda self, device=None: self
    for kind in (RemoteTensor, SparseTensor):
        kind.device = property(lambda self: torch.device(_CUDA, 0))
        kind.is_cuda = property(lambda self: True)
    _device.DeviceContext.__init__ = _first_mapped(_device.DeviceContext.__init__)
    autocast_mode.autocast.__init__ = _typed(autocast_mode.autocast.__init__)
    grad_scaler.GradScaler.__init__ = _typed(grad_scaler.GradScaler.__init__)
    for name in ("is_autocast_enabled", "get_autocast_dtype"):
        scripts.replace(name, _of_type)
    torch.get_autocast_gpu_dtype = lambda: torch.get_autocast_dtype(_CUDA)
    # Programs choose cuDNN's own operators where it is there; the executor's torch does so by itself.
    torch.backends.cudnn.is_available = lambda: False
    torch.backends.cudnn.is_acceptable = lambda tensor: False
    torch.backends.cudnn.version = lambda: None
    files.patch(mapped)
    profiling.patch()
    tensor_types.patch()
    torch.Generator = generators.factory(mapped)
    RemoteGenerator.shown = torch.device(_CUDA, 0)
    for name, value in names(module).items():
        _replace(name, value)
    torch.accelerator.current_accelerator = lambda check_available=False: torch.device(_CUDA)
    if torch.distributed.is_available():
        torch.distributed.distributed_c10d._NCCL_AVAILABLE = False


def _replace(name: str, value: Any) -> None:
    """In ``torch.cuda``, and in the module of it where the name comes from, which programs use as well."""
    former = getattr(torch.cuda, name, None)
    for module in (torch.cuda, torch.cuda.graphs, torch.cuda.memory, torch.cuda.random, torch.cuda.streams):
        if module is torch.cuda or vars(module).get(name, value) is former:
            setattr(module, name, value)


def _index(index: int | None) -> int:
    if index not in (None, 0):
        raise RuntimeError(f"CUDA device: found index {index}; allowed: 0, the only one of this slice")
    return 0


def _with_device(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") is not None:
            kwargs["device"] = mapped(kwargs["device"])
        return function(*args, **kwargs)

    return made


def _to(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], str | torch.device | int):
            args = (mapped(args[0]), *args[1:])
        if kwargs.get("device") is not None:
            kwargs["device"] = mapped(kwargs["device"])
        return function(self, *args, **kwargs)

    return to


def _cuda(self: torch.Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Any:
    options = {} if memory_format is None else {"memory_format": memory_format}
    return self.to(mapped(_CUDA if device is None else device), non_blocking=non_blocking, **options)


def _module_cuda(self: torch.nn.Module, device: Any = None) -> torch.nn.Module:
    return self.to(mapped(_CUDA if device is None else device))


def _first_mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def initialize(self: Any, device: Any) -> None:
        function(self, mapped(device))

    return initialize


def _of_type(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a type of device, ``cuda`` if none is named."""

    @functools.wraps(function)
    def asked(device_type: str = _CUDA) -> Any:
        return function(DEVICE if device_type == _CUDA else device_type)

    return asked


def _typed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The first argument is a type of device, such as autocast's."""

    @functools.wraps(function)
    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        args = tuple(DEVICE if value == _CUDA else value for value in args[:1]) + args[1:]
        kwargs = {name: DEVICE if value == _CUDA else value for name, value in kwargs.items()}
        function(self, *args, **kwargs)

    return initialize
