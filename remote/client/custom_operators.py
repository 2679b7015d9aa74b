"""Operators that are not torch's own. The executor has none of them: what is written in others is taken apart here."""

from typing import Any

import torch

_KEY = torch._C.DispatchKey.CompositeExplicitAutograd


def run(device: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """By its implementation for every device. Raises ``NotImplementedError`` where there is none."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeExplicitAutograd"):
        raise NotImplementedError(
            f"operator {function.name()!r}: found one that is not torch's own; allowed on a remote device: "
            "those with an implementation for every device, such as torch.library.custom_op gives"
        )
    return function._op_dk(_KEY, *args, **kwargs)
