"""Sparse gradients of embeddings, taken apart into operators of which the last makes a sparse tensor."""

from typing import Any

import torch

aten = torch.ops.aten


def gradient(function: Any, args: Any) -> Any:
    """Of an embedding, or of bags of them."""
    if function is aten._embedding_bag_backward.default:
        grad, indices, offsets, bags, bag_sizes, _, count, scaled, mode, _, *rest = args
        bags = bags if len(bags) else _bags(offsets, len(indices))
        function = aten._embedding_bag_sparse_backward.default
        args = grad, indices, offsets, bags, bag_sizes, count, scaled, mode, *rest
    return function.decompose(*args)


def _bags(offsets: torch.Tensor, count: int) -> torch.Tensor:
    """In which bag each of ``count`` indices is, which a forward pass may not have had to know."""
    starts = offsets.new_zeros(count + 1).index_add_(0, offsets, torch.ones_like(offsets))
    return starts.cumsum(0)[:count] - 1
