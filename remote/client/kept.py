"""Exceptions that cannot leave autograd's engine: see ``backward``."""

from typing import Any

import torch

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


def keep_or_raise(error: BaseException) -> None:
    """Returns if the engine is running."""
    if (task := running()) < 0:
        raise error
    keep(task, error)


def first(error: Exception) -> BaseException:
    """The kept one; passes that nest, and those of other threads, are told apart by being over."""
    if not _kept:
        return error
    return _kept.pop(min(_kept))
