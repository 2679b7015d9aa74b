"""Hooks of the backward pass that raise: see ``backward``. What each returns then is what torch refuses by itself.

A hook that is registered with a node of the graph cannot be reached from Python, and must not raise.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import graph
from torch.utils import hooks

from tessera.remote.client.kept import keep_or_raise

Hook = Callable[..., Any]


def patch() -> None:
    """Those of tensors, of modules and of saved tensors."""
    torch.Tensor.register_hook = _registering(torch.Tensor.register_hook)
    torch.Tensor.register_post_accumulate_grad_hook = _registering(torch.Tensor.register_post_accumulate_grad_hook)
    hooks.BackwardHook.__init__ = _of_module(hooks.BackwardHook.__init__)
    graph.saved_tensors_hooks.__init__ = _of_saved(graph.saved_tensors_hooks.__init__)


def _careful(hook: Hook, refused: Hook) -> Hook:
    @functools.wraps(hook, updated=())
    def careful(*args: Any) -> Any:
        try:
            return hook(*args)
        except Exception as error:
            keep_or_raise(error)
            return refused(*args)

    return careful


def _registering(register: Hook) -> Hook:
    @functools.wraps(register)
    def registering(self: torch.Tensor, hook: Hook) -> Any:
        return register(self, _careful(hook, _misshapen))

    return registering


def _of_module(initialize: Hook) -> Hook:
    @functools.wraps(initialize)
    def of_module(self: Any, module: Any, user_hooks: Any, user_pre_hooks: Any) -> None:
        after = [_careful(hook, lambda _, grads, *__: tuple(map(_misshapen, grads))) for hook in user_hooks]
        before = [_careful(hook, lambda _, grads: tuple(map(_misshapen, grads))) for hook in user_pre_hooks]
        initialize(self, module, after, before)

    return of_module


def _of_saved(initialize: Hook) -> Hook:
    @functools.wraps(initialize)
    def of_saved(self: Any, pack_hook: Hook, unpack_hook: Hook) -> None:
        initialize(self, pack_hook, _careful(unpack_hook, lambda _: None))

    return of_saved


def _misshapen(grad: Any) -> Any:
    return None if grad is None else torch.empty(*grad.shape, 2, device="meta")
