"""Functions of torch that are replaced, of which TorchScript goes on to know what they are."""

from collections.abc import Callable
from typing import Any

import torch
from torch.jit import _builtins


def replace(name: str, wrap: Callable[[Any], Any]) -> None:
    """For the life of the process: ``torch.NAME`` by what ``wrap`` makes of it; scripts mean torch's own."""
    former = getattr(torch, name)
    setattr(torch, name, wrap(former))
    _builtins._register_builtin(getattr(torch, name), _builtins._find_builtin(former))
