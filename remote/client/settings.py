"""Settings of this process that the executor is to have too: each change is sent in its place among the operators."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.protocol.records import Setting
from tessera.remote.settings import SETTINGS

_SETTERS = (
    "_set_default_dtype", "_set_default_tensor_type", "_set_deterministic_algorithms",
    "_set_deterministic_fill_uninitialized_memory", "_set_float32_matmul_precision", "_set_cublas_allow_tf32",
    "_set_cudnn_allow_tf32", "_set_cudnn_deterministic", "_set_cudnn_benchmark", "_set_fp32_precision_setter",
)  # fmt: skip
"""Of ``torch._C``: all ways of setting one go through these,"""

_PROPERTIES = ("allow_tf32", "deterministic", "benchmark", "fp32_precision")
"""and through these of ``torch.backends.cudnn``, which hold their setters."""


class Settings:
    """What the executor has of them."""

    def __init__(self) -> None:
        self._sent = dict.fromkeys(SETTINGS, 0)

    def changed(self) -> list[Setting]:
        """Those that it is to be told, and is taken to know from now on."""
        found = []
        for number, setting in SETTINGS.items():
            if (place := setting.place()) != self._sent[number]:
                self._sent[number] = place
                found.append(Setting(number, place))
        return found


def patch(changed: Callable[[], None]) -> None:
    """For the life of the process. ``changed`` is called after each that is set."""
    for name in _SETTERS:
        if hasattr(torch._C, name):
            setattr(torch._C, name, _then(getattr(torch._C, name), changed))
    for name in _PROPERTIES:
        if held := vars(type(torch.backends.cudnn)).get(name):
            held.setter = _then(held.setter, changed)


def _then(function: Any, changed: Callable[[], None]) -> Any:
    @functools.wraps(function)
    def put(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        changed()
        return result

    return put
