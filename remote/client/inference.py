"""``torch.inference_mode``: what differs there."""

from collections.abc import Callable
from typing import Any

import torch


def seen(base: torch.Tensor, view: Callable[[], Any]) -> Any:
    """Makes a view, or several: like its base, it is for inference only or not."""
    if not torch.is_inference_mode_enabled() or base.is_inference():
        return view()
    with torch.inference_mode(False):
        return view()


def is_composite(function: Any) -> bool:
    """Whether torch takes it apart, but not in inference."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"))


def taken_apart(device: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """So of what may be a view or a copy, it is known which."""
    return function.decompose(*args, **kwargs)
