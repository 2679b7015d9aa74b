"""``torch.compile`` makes nothing for a remote device: what it is given runs as it is, with one warning."""

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
        warnings.warn(
            "torch.compile: runs as it is, operator by operator, where a remote device is in use; "
            "tessera.remote.capture(module) makes one program of a forward pass",
            stacklevel=2,
        )
        torch.compiler.set_stance("force_eager")
        return function(*args, **kwargs)

    return compile_
