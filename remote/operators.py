"""Operators of our own, which both sides know. Each is for every kind of device, and stands on the executor's list.

Attention is one operator, forward and backward: torch itself takes it apart for a device that is not built in. The
executor's torch chooses the kernel; the backward pass computes forward once more, so that nothing of one kind of device
has to be kept. So are ``linear`` and its gradients, which torch takes apart into copies of a lower precision, views and
products.
"""

from typing import Any

import torch

from tessera.remote.generator_states import STATE_BYTES, own_generator, put_state

_library = torch.library.Library("tessera", "DEF")
_ARGUMENTS = "Tensor query, Tensor key, Tensor value, Tensor? attn_mask, bool is_causal, float? scale, bool enable_gqa"
_library.define(f"attention({_ARGUMENTS}) -> Tensor")
_library.define(f"attention_backward(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
_library.define(f"dropped_attention({_ARGUMENTS}, float dropout_p) -> (Tensor, Tensor)")
_library.define(
    f"dropped_attention_backward(Tensor grad, {_ARGUMENTS}, float dropout_p, Tensor drawn) -> (Tensor, Tensor, Tensor)"
)
attention = torch.ops.tessera.attention.default
attention_backward = torch.ops.tessera.attention_backward.default
dropped_attention = torch.ops.tessera.dropped_attention.default
dropped_attention_backward = torch.ops.tessera.dropped_attention_backward.default

_library.define("linear(Tensor input, Tensor weight, Tensor? bias, ScalarType? dtype) -> Tensor")
_library.define(
    "linear_backward(Tensor grad, Tensor? input, Tensor? weight, bool[3] wanted, ScalarType input_dtype,"
    " ScalarType weight_dtype) -> (Tensor, Tensor, Tensor)"
)
linear, linear_backward = torch.ops.tessera.linear.default, torch.ops.tessera.linear_backward.default

NAMES = frozenset(
    f"tessera::{name}{direction}"
    for name in ("attention", "dropped_attention", "linear")
    for direction in ("", "_backward")
)


def _forward(
    query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: Any, enable_gqa: bool, dropout_p: float = 0.0
) -> Any:
    return torch.ops.aten.scaled_dot_product_attention.default(
        query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _learning(query: Any, key: Any, value: Any, *rest: Any) -> tuple[list[Any], Any]:
    """Inputs with gradients, and what is made of them."""
    inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    with torch.enable_grad():
        return inputs, _forward(*inputs, *rest)


def _backward(grad: Any, *given: Any) -> Any:
    inputs, made = _learning(*given)
    return torch.autograd.grad(made, inputs, grad)


def _dropped(query: Any, *rest: Any) -> Any:
    """And, in this machine's memory, the state of the generator before it drew. Computed as the backward pass does once
    more: which kernel is chosen, and with it what is drawn, may depend on what learns."""
    drawn = torch.zeros(STATE_BYTES, dtype=torch.uint8)
    state = own_generator(query.device).get_state()
    drawn[: len(state)] = state
    _, made = _learning(query, *rest)
    return made.detach(), drawn


def _dropped_backward(grad: Any, query: Any, *rest: Any) -> Any:
    """Draws once more what was drawn then."""
    *given, drawn = rest
    generator = own_generator(query.device)
    now = generator.get_state()
    put_state(generator, drawn.cpu()[: len(now)])
    try:
        return _backward(grad, query, *given)
    finally:
        generator.set_state(now)


def _meta(query: Any, key: Any, value: Any, *rest: Any) -> Any:
    """Fused kernels write the heads of a word side by side."""
    made = _forward(query, key, value, *rest)
    return made if made.dim() != 4 else made.transpose(1, 2).contiguous().transpose(1, 2)


def _meta_dropped(query: Any, *rest: Any) -> Any:
    return _meta(query, *rest), query.new_empty(STATE_BYTES, dtype=torch.uint8)


def _meta_backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any) -> Any:
    return tuple(torch.empty_like(tensor) for tensor in (query, key, value))


def gradients_of_linear(
    grad: Any, input: Any, weight: Any, wanted: Any, input_dtype: torch.dtype, weight_dtype: torch.dtype
) -> tuple[Any, Any, Any]:
    """Of its input, its weight and its bias, ``None`` where it is not wanted: as torch's own, to the bit. ``input`` is
    looked at for the weight's only, and ``weight`` for the input's."""
    rows = grad.flatten(0, -2)
    return (
        rows.mm(weight.to(grad.dtype)).view(*grad.shape[:-1], weight.shape[1]).to(input_dtype) if wanted[0] else None,
        rows.t().mm(input.flatten(0, -2).to(grad.dtype)).to(weight_dtype) if wanted[1] else None,
        rows.sum(0).to(weight_dtype) if wanted[2] else None,
    )


def _linear(input: Any, weight: Any, bias: Any, dtype: torch.dtype | None) -> Any:
    return torch.ops.aten.linear.default(input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def _linear_backward(grad: Any, *rest: Any) -> tuple[Any, ...]:
    """An empty tensor where none is wanted."""
    return tuple(grad.new_empty(0) if one is None else one for one in gradients_of_linear(grad, *rest))


_library.impl("linear", _linear, "CompositeExplicitAutograd")
_library.impl("linear_backward", _linear_backward, "CompositeExplicitAutograd")
_library.impl("attention", _forward, "CompositeExplicitAutograd")
_library.impl("attention", _meta, "Meta")
_library.impl("attention_backward", _backward, "CompositeExplicitAutograd")
_library.impl("attention_backward", _meta_backward, "Meta")
_library.impl("dropped_attention", _dropped, "CompositeExplicitAutograd")
_library.impl("dropped_attention", _meta_dropped, "Meta")
_library.impl("dropped_attention_backward", _dropped_backward, "CompositeExplicitAutograd")
_library.impl("dropped_attention_backward", _meta_backward, "Meta")
