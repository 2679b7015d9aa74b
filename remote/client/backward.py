"""Errors in the backward pass.

With a device of Python's, torch ends the process if a Python exception leaves an operator while autograd's engine runs
it: unwinding asks Python for the stream while the exception is still set. So there the exception is kept, the engine is
given something that it refuses by an error of its own, and who called ``backward`` gets the exception that was kept.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import graph

from tessera.remote.client import hooks
from tessera.remote.client.kept import first, keep_or_raise


def patch() -> None:
    """Has torch raise what was kept."""
    engine = graph._engine_run_backward

    @functools.wraps(engine)
    def run_backward(*args: Any, **kwargs: Any) -> Any:
        try:
            return engine(*args, **kwargs)
        except Exception as error:
            raise first(error) from None

    graph._engine_run_backward = run_backward
    torch.autograd._engine_run_backward = run_backward
    torch.autograd.function.BackwardCFunction.apply = _careful(torch.autograd.function.BackwardCFunction.apply)
    hooks.patch()


def _careful(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def backward(self: Any, *args: Any) -> Any:
        try:
            return apply(self, *args)
        except Exception as error:
            keep_or_raise(error)
            return ()

    return backward
