"""``scaled_dot_product_attention`` as one operator of the executor in each direction.

With a mask that learns, under ``torch.func`` and with forward-mode differentiation it is taken apart, as torch does for
any device. As with a GPU's fused kernels, its gradients cannot be differentiated again.
"""

from typing import Any

import torch

from tessera.remote import operators
from tessera.remote.client import transforms

_WHOLE = torch.ops.aten.scaled_dot_product_attention.default


def library() -> torch.library.Library:
    """Registers the kernel for as long as it lives."""
    made = torch.library.Library("aten", "IMPL")
    made.impl("scaled_dot_product_attention", _attention, "AutogradPrivateUse1")
    return made


def whole(device: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Below autograd."""
    rest: tuple[Any, ...] = (None, 0.0, False)
    query, key, value, mask, dropout_p, is_causal = args + rest[len(args) - 3 :]
    given = query, key, value, mask, is_causal, kwargs.get("scale"), kwargs.get("enable_gqa", False)
    if dropout_p:
        return device.call(operators.dropped_attention, (*given, dropout_p), {})[0]
    return device.call(operators.attention, given, {})


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    learns = attn_mask is not None and attn_mask.requires_grad
    if learns or transforms.are_active():
        return _WHOLE.decompose(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if dropout_p:
        return _Dropped.apply(query, key, value, attn_mask, is_causal, scale, enable_gqa, dropout_p)
    return _Attention.apply(query, key, value, attn_mask, is_causal, scale, enable_gqa)


def _once(backward: Any, *args: Any) -> Any:
    """Gradients that have none: who asks for it is told. ``once_differentiable`` tells only where ``grad`` has one."""
    with torch.no_grad():
        found = backward(*args)
    if not torch.is_grad_enabled():
        return found
    refused = torch._C._functions.DelayedError(b"attention: its gradients cannot be differentiated again", len(found))
    return refused(*(gradient.detach().requires_grad_() for gradient in found))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, *rest: Any) -> Any:
        ctx.save_for_backward(query, key, value, mask)
        ctx.rest = rest
        is_causal, scale, enable_gqa = rest
        with torch._C._AutoDispatchBelowAutograd():
            return _WHOLE(query, key, value, mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        found = _once(operators.attention_backward, grad, *ctx.saved_tensors, *ctx.rest)
        return (*found, None, None, None, None)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, *rest: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            made, drawn = operators.dropped_attention(query, key, value, mask, *rest)
        ctx.save_for_backward(query, key, value, mask, drawn)
        ctx.rest = rest
        return made

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        *given, drawn = ctx.saved_tensors
        found = _once(operators.dropped_attention_backward, grad, *given, *ctx.rest, drawn)
        return (*found, None, None, None, None, None)
