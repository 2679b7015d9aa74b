"""Registers the remote device with torch: its name, its module, and kernels for what has no tensor to start from."""

import atexit
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tessera.remote.client import accelerator, attention, autocast, backward, compiling, ctc, linear, resizing, settings
from tessera.remote.client.device import Device
from tessera.remote.client.generators import RemoteGenerator
from tessera.remote.client.module import RemoteModule
from tessera.remote.client.session import Session
from tessera.remote.client.sparse_tensor import SparseTensor
from tessera.remote.client.special import SPECIAL
from tessera.remote.client.tensor import DEVICE, RemoteTensor

_FACTORIES = (
    "arange", "arange.start", "arange.start_step", "eye", "eye.m", "linspace", "linspace.Tensor_Tensor",
    "linspace.Tensor_Scalar", "linspace.Scalar_Tensor", "logspace", "normal.float_float", "randperm",
    "randperm.generator", "range", "range.step", "tril_indices", "triu_indices",
)  # fmt: skip
"""Those that torch makes of an empty tensor which it then lets grow."""

_libraries: list[torch.library.Library] = []
"""Kernels are registered for as long as these live."""


def register(open_session: Callable[[], Session]) -> RemoteModule:
    """Makes ``tessera`` a device of torch. Nothing is connected before its first use."""
    device = Device(open_session, SPECIAL)
    module = RemoteModule(device)
    RemoteTensor.remote = SparseTensor.remote = RemoteGenerator.remote = device
    _setup_privateuseone_for_python_backend(DEVICE, backend_module=module)
    RemoteGenerator.shown = torch.device(DEVICE, 0)
    _kernels(device)
    _optimizers()
    _tracing()
    backward.patch()
    compiling.patch()
    ctc.patch()
    resizing.patch()
    settings.patch(device.settings_changed)
    accelerator.install(module)
    _parameters()
    atexit.register(device.close)
    os.register_at_fork(after_in_child=device.forked)
    return module


def _kernels(device: Device) -> None:
    factories = torch.library.Library("aten", "IMPL")
    factories.impl("empty.memory_format", _empty(device), "PrivateUse1")
    factories.impl("empty_strided", _empty_strided(device), "PrivateUse1")
    for name in _FACTORIES:
        factories.impl(name, _factory(device, name), "PrivateUse1")
    factories.impl("_copy_from", lambda *args: device.run(torch.ops.aten._copy_from.default, args, {}), "PrivateUse1")
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(lambda function, *args, **kwargs: device.run(function, args, kwargs), "PrivateUse1")
    _libraries.extend((factories, rest, attention.library(), linear.library(), *autocast.libraries()))


def _factory(device: Device, name: str) -> Callable[..., Any]:
    base, _, overload = name.partition(".")
    function = getattr(getattr(torch.ops.aten, base), overload or "default")

    def make(*args: Any, **kwargs: Any) -> Any:
        kwargs["device"] = torch.device(DEVICE, 0)
        return device.run(function, args, kwargs)

    return make


def _empty(device: Device) -> Callable[..., RemoteTensor]:
    def empty(size: Any, dtype: Any = None, layout: Any = None, device_: Any = None, pin_memory: Any = None,
              memory_format: Any = None, **kwargs: Any) -> RemoteTensor:  # fmt: skip
        kwargs = {"dtype": kwargs.get("dtype", dtype), "device": torch.device(DEVICE, 0),
                  "memory_format": kwargs.get("memory_format", memory_format)}  # fmt: skip
        kwargs["dtype"] = kwargs["dtype"] or torch.get_default_dtype()
        made: RemoteTensor = device.call(torch.ops.aten.empty.memory_format, (list(size),), kwargs)
        return made

    return empty


def _empty_strided(device: Device) -> Callable[..., RemoteTensor]:
    def empty_strided(size: Any, stride: Any, dtype: Any = None, *_: Any, **kwargs: Any) -> RemoteTensor:
        options = {"dtype": kwargs.get("dtype", dtype) or torch.get_default_dtype(), "device": torch.device(DEVICE, 0)}
        made: RemoteTensor = device.call(torch.ops.aten.empty_strided.default, (list(size), list(stride)), options)
        return made

    return empty_strided


def _parameters() -> None:
    """A parameter stays the same object when its module moves, as on a GPU: an optimizer may hold it already.

    torch does so by swapping what two tensors are, and refuses where one is weakly referred to, as an LSTM's are; such
    a reference goes on to name the object that it named.
    """
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.utils.weakref = SimpleNamespace(getweakrefs=lambda tensor: [])


def _tracing() -> None:
    """``make_fx``, and ``linearize`` by it, record the operators of a program, not what is done here to send them."""
    from torch.fx.experimental import proxy_tensor

    proxy_tensor.HANDLED_TYPES = (*proxy_tensor.HANDLED_TYPES, RemoteTensor)


def _optimizers() -> None:
    """One call for all parameters where an optimizer can."""
    from torch.optim import optimizer
    from torch.utils import _foreach_utils

    for supported in (optimizer._foreach_supported_types, _foreach_utils._foreach_supported_types):
        if RemoteTensor not in supported:
            supported.append(RemoteTensor)
