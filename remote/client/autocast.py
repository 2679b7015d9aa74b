"""Autocast on the remote device: which operators compute in the lower precision, and which in float32, as on a GPU."""

from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.client import linear
from tessera.remote.client.tensor import DEVICE

_LOWER = (
    "_convolution", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv1d.padding",
    "conv2d", "conv2d.padding", "conv3d", "conv3d.padding", "conv_tbc", "conv_transpose1d", "conv_transpose2d.input",
    "conv_transpose3d.input", "convolution", "gru_cell", "linalg_multi_dot", "linalg_vecdot", "lstm_cell",
    "matmul", "mm", "mv", "prelu", "rnn_relu_cell", "rnn_tanh_cell", "scaled_dot_product_attention",
)  # fmt: skip
_FLOAT32 = (
    "acos", "asin", "binary_cross_entropy_with_logits", "cdist", "cosh", "cosine_embedding_loss", "cosine_similarity",
    "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm", "hinge_embedding_loss", "huber_loss", "kl_div",
    "l1_loss", "layer_norm", "log", "log10", "log1p", "log2", "log_softmax.int", "logsumexp", "margin_ranking_loss",
    "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "nll_loss", "nll_loss2d", "norm.Scalar",
    "norm.ScalarOpt_dim", "pdist", "poisson_nll_loss", "pow.Scalar", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "prod",
    "prod.dim_int", "reciprocal", "renorm", "rsqrt", "sinh", "smooth_l1_loss", "soft_margin_loss", "softmax.int",
    "softplus", "sum", "sum.dim_IntList", "tan", "triplet_margin_loss",
)  # fmt: skip
_CAST = (torch.float16, torch.bfloat16, torch.float32)
_ABOVE = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def libraries() -> tuple[torch.library.Library, ...]:
    """Register the kernels for as long as they live."""
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    for name in _LOWER:
        aten.impl(name, _kernel(name, lambda: torch.get_autocast_dtype(DEVICE)), "AutocastPrivateUse1")
    aten.impl("linear", _linear, "AutocastPrivateUse1")
    for name in _FLOAT32:
        aten.impl(name, _kernel(name, lambda: torch.float32), "AutocastPrivateUse1")
    return rest, aten


def _kernel(name: str, dtype: Callable[[], torch.dtype]) -> Callable[..., Any]:
    base, _, overload = name.partition(".")
    function = getattr(getattr(torch.ops.aten, base), overload or "default")

    def cast(*args: Any, **kwargs: Any) -> Any:
        wanted = dtype()
        with torch._C._ExcludeDispatchKeyGuard(_ABOVE):
            return function(*_cast(args, wanted), **{key: _cast(value, wanted) for key, value in kwargs.items()})

    return cast


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """The copies of a lower precision are the executor's, where they can be."""
    wanted = torch.get_autocast_dtype(DEVICE)
    with torch._C._ExcludeDispatchKeyGuard(_ABOVE):
        if all(value is None or value.dtype in _CAST for value in (input, weight, bias)):
            made = linear.lowered(input, weight, bias, wanted)
            if made is not None:
                return made
        return torch.ops.aten.linear.default(*_cast((input, weight, bias), wanted))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.dtype in _CAST and value.dtype is not dtype else value
    if isinstance(value, list | tuple):
        return type(value)(_cast(item, dtype) for item in value)
    return value
