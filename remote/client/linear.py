"""``linear`` as one operator of the executor in each direction, where torch takes it apart into a product and views,
and under autocast copies of a lower precision.

Under ``torch.func``, with forward-mode differentiation, of complex numbers, of vectors, with a bias of another shape,
and of what is not contiguous, for which torch's ways depend on what learns, it is taken apart, as always.
"""

from typing import Any

import torch

from tessera.remote import operators
from tessera.remote.client import transforms

_WHOLE = torch.ops.aten.linear.default
_below = torch._C._AutoDispatchBelowAutograd


def library() -> torch.library.Library:
    """Registers the kernel for as long as it lives."""
    made = torch.library.Library("aten", "IMPL")
    made.impl("linear", _linear, "AutogradPrivateUse1")
    return made


def lowered(input: Any, weight: Any, bias: Any, dtype: torch.dtype) -> Any:
    """In this precision; ``None`` where it is for the caller to make copies of it."""
    if not _is_whole(input, weight, bias) or (bias is not None and bias.dtype is not weight.dtype):
        return None
    return _made(input, weight, bias, dtype)


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    return _made(input, weight, bias) if _is_whole(input, weight, bias) else _WHOLE.decompose(input, weight, bias)


def _is_whole(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    if transforms.are_active():
        return False
    if input.dim() < 2 or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        return False
    return input.is_contiguous() and weight.is_contiguous() and not input.is_complex()


def _made(input: Any, weight: Any, bias: Any, dtype: torch.dtype | None = None) -> Any:
    learns = input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if learns and torch.is_grad_enabled():
        return _Linear.apply(input, weight, bias, dtype)
    return _called(input, weight, bias, dtype)


def _called(input: Any, weight: Any, bias: Any, dtype: torch.dtype | None) -> Any:
    with _below():
        return _WHOLE(input, weight, bias) if dtype is None else operators.linear(input, weight, bias, dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Any, weight: Any, bias: Any, dtype: torch.dtype | None) -> Any:
        of_input, of_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(input if of_weight else None, weight if of_input else None)
        ctx.dtypes = input.dtype, weight.dtype
        return _called(input, weight, bias, dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        """By operators that can be differentiated again where that is asked for."""
        wanted = ctx.needs_input_grad[:3]
        given = grad, *ctx.saved_tensors, wanted, *ctx.dtypes
        if torch.is_grad_enabled():
            return *operators.gradients_of_linear(*given), None
        found = operators.linear_backward(*given)
        return *(made if asked else None for made, asked in zip(found, wanted, strict=True)), None
