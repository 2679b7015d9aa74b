"""``torch.compile`` makes nothing for a remote device: what it is given runs as it is, with a warning."""

import functools
import warnings
from typing import Any

import torch


def patch() -> None:
    """For the life of the process."""
    torch.compile = _as_it_is(torch.compile)


def _as_it_is(function: Any) -> Any:
    @functools.wraps(function)
    def compile_(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("disable"):
            warnings.warn(
                "torch.compile: runs as it is, operator by operator, where a remote device is in use; "
                "tessera.remote.capture(module) makes one program of a forward pass",
                stacklevel=2,
            )
        return function(*args, **{**kwargs, "disable": True})

    return compile_
