"""``torch.profiler`` records this machine only; CUDA's own recorder would find no driver here."""

import functools
import warnings
from typing import Any

import torch


def patch() -> None:
    """For the life of the process."""
    torch.autograd.profiler.profile.__init__ = _without_device(torch.autograd.profiler.profile.__init__)


def _without_device(function: Any) -> Any:
    @functools.wraps(function)
    def initialize(self: Any, enabled: bool = True, *, use_device: Any = None, **options: Any) -> None:
        if enabled and use_device == "cuda":
            warnings.warn("torch.profiler: of a remote device only what this machine does is recorded", stacklevel=2)
            use_device, options["use_cpu"] = None, True
        function(self, enabled, use_device=use_device, **options)

    return initialize
