"""Tensors of this machine among an operator's arguments: what CUDA takes is sent along, the rest is refused as there.

Nothing is ever written to one: it would be written to its copy.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from tessera.remote.client.tensor import RemoteTensor

Upload = Callable[[torch.Tensor], RemoteTensor]
_INDEXED = frozenset({"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"})
"""Of these CUDA takes indices from the host, of any operator scalars."""


class LocalArgumentError(Exception):
    """There is one; ``brought`` tells what to do."""


def brought(upload: Upload, function: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments, all on the remote device. Raises ``RuntimeError`` with CUDA's words for what it would not take."""
    arguments = function._schema.arguments
    named = {argument.name: argument for argument in arguments}
    indexed = function._schema.name in _INDEXED

    def bring(argument: Any, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [bring(argument, item) for item in value]
        if not isinstance(value, torch.Tensor) or isinstance(value, RemoteTensor):
            return value
        written = argument.alias_info is not None and argument.alias_info.is_write
        taken = value.dim() == 0 or (indexed and argument.name == "indices")
        if written or not taken or value.device.type != "cpu":
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but got {argument.name} is on {value.device}, "
                f"different from other tensors on {_shown(args, kwargs)} (when checking argument in {function})"
            )
        return upload(value)

    rest = {name: bring(named[name], value) for name, value in kwargs.items()}
    return [bring(argument, value) for argument, value in zip(arguments, args, strict=False)], rest


def _shown(*values: Iterable[Any]) -> torch.device | str:
    leaves = torch.utils._pytree.tree_leaves(values)
    return next((leaf.device for leaf in leaves if isinstance(leaf, RemoteTensor)), "the remote device")
