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

_kept: dict[int, BaseException] = {}
"""By the engine's number of the pass."""
_NOTHING = object()


def running() -> int:
    """The number of the pass in which this thread runs an operator; -1: none."""
    return int(torch._C._current_graph_task_id())


def keep(task: int, error: BaseException) -> Any:
    """What an operator returns in place of raising ``error``."""
    _kept.setdefault(task, error)
    return _NOTHING


def patch() -> None:
    """Has torch raise what was kept."""
    engine = graph._engine_run_backward

    @functools.wraps(engine)
    def run_backward(*args: Any, **kwargs: Any) -> Any:
        try:
            return engine(*args, **kwargs)
        except RuntimeError as error:
            raise _first(error) from None

    graph._engine_run_backward = run_backward
    torch.autograd._engine_run_backward = run_backward
    torch.autograd.function.BackwardCFunction.apply = _careful(torch.autograd.function.BackwardCFunction.apply)


def _careful(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def backward(self: Any, *args: Any) -> Any:
        try:
            return apply(self, *args)
        except Exception as error:
            if (task := running()) < 0:
                raise
            keep(task, error)
            return ()

    return backward


def _first(error: RuntimeError) -> BaseException:
    """The kept one; passes that nest, and those of other threads, are told apart by being over."""
    if not _kept:
        return error
    return _kept.pop(min(_kept))
