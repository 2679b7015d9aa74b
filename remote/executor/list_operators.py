"""Writes the list of operators for the torch that is installed: ``python -m tessera.remote.executor.list_operators``.

Listed is an overload of aten that takes and gives tensors, numbers and torch's constants, and does not match what is
known to read or write memory by unchecked arguments, to reach outside the session, or to belong to another device.
"""

import re
from typing import Any

import torch

from tessera.remote.executor.overloads import list_of

_TYPES = re.compile(
    r"((Optional|List)\[)*(Tensor|int|float|bool|complex|number|SymInt|ScalarType|Layout|Device|MemoryFormat|Generator)\]*"
)
_WORDS = {
    "div.Tensor_mode", "div_.Tensor_mode", "div.Scalar_mode", "div_.Scalar_mode", "_foreach_norm.Scalar", "gelu",
    "gelu_", "gelu_backward", "index_reduce", "index_reduce_", "scatter.reduce", "scatter_.reduce",
    "scatter.value_reduce", "scatter_.value_reduce", "scatter_reduce.two", "scatter_reduce_.two", "searchsorted.Tensor",
    "searchsorted.Scalar", "linalg_qr", "linalg_lstsq", "linalg_norm.ord_str", "linalg_matrix_norm.str_ord",
    "_linalg_svd", "linalg_svd", "_linalg_eigh", "linalg_eigh", "linalg_eigvalsh", "meshgrid.indexing",
    "linalg_cond.p_str", "nuclear_norm", "segment_reduce", "_linalg_check_errors",
    "_segment_reduce_backward", "_linalg_eigvals", "pad", "fft_fft", "fft_ifft",
}  # fmt: skip
"""Overloads that take a word of a fixed set, which torch checks itself."""
_DENIED = re.compile(
    r"_unsafe_index|masked_index|tensor_unsafe|from_file|quantize|qint|_nested|nested_|cudnn|miopen|mkldnn|_mps|_fw_|sparse_coo"
    r"|_backward_hook|record_stream|pin_memory|set_(\.|$)|resize|_print|fbgemm|_thnn|_cslt|_weight_int|_dyn_quant"
    r"|per_sample_weights|lift|_cufft|_assert|_test_|_nccl|_transform_bias|_has_compatible|_triton|_standard_gamma_grad_"
    r"|_slow_conv2d_backward|_sparse_broadcast|_make_per|_fake_quant|fake_quantize|_pack_padded|_pad_packed"
)


def names() -> list[str]:
    """The overloads, sorted."""
    found = {schema.name + (f".{schema.overload_name}" if schema.overload_name else "") for schema in _schemas()}
    return sorted(name for name in found if not _DENIED.search(name))


def _schemas() -> list[Any]:
    schemas = torch._C._jit_get_all_schemas()
    return [schema for schema in schemas if schema.name.startswith("aten::") and _plain(schema) and _callable(schema)]


def _plain(schema: Any) -> bool:
    name = schema.name.removeprefix("aten::") + (f".{schema.overload_name}" if schema.overload_name else "")
    types = [str(argument.type) for argument in schema.arguments]
    if name in _WORDS:
        types = [kind for kind in types if kind not in ("str", "Optional[str]")]
    results = [str(result.type) for result in schema.returns]
    tensors = all("Tensor" in kind for kind in results) and any("Tensor" in kind for kind in [*types, *results])
    return tensors and all(_TYPES.fullmatch(kind) for kind in types)


def _callable(schema: Any) -> bool:
    packet = getattr(torch.ops.aten, schema.name.removeprefix("aten::"), None)
    return packet is not None and (schema.overload_name or "default") in packet.overloads()


if __name__ == "__main__":
    list_of(torch.__version__).write_text("\n".join(names()) + "\n")
