"""Settings of torch's process that change what operators give: their names on the wire, and where torch keeps them.

A client's are its executor's too. On the wire a value is its place among the allowed ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Setting(NamedTuple):
    """``allowed``: torch's own default is the first. ``get`` and ``put`` are torch's."""

    name: str
    allowed: tuple[Any, ...]
    get: Callable[[], Any]
    put: Callable[[Any], None]

    def place(self) -> int:
        """Of the value that it has in this process."""
        return self.allowed.index(self.get())


def _both(name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return getattr(torch._C, f"_get_{name}"), getattr(torch._C, f"_set_{name}")


def _tf32(kind: str) -> bool:
    """By whichever of torch's ways it was allowed."""
    return bool(torch._C._get_fp32_precision_getter("cuda", kind) == "tf32")


def _put_matmul_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")


_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

SETTINGS: Mapping[int, Setting] = dict(enumerate((
    Setting("default dtype", _FLOATS, torch.get_default_dtype, torch.set_default_dtype),
    Setting("deterministic", (0, 1, 2), torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Setting("filled memory", (True, False), *_both("deterministic_fill_uninitialized_memory")),
    Setting("cuBLAS TF32", (False, True), lambda: _tf32("matmul"), _put_matmul_tf32),
    Setting("cuDNN TF32", (True, False), lambda: _tf32("conv") and _tf32("rnn"), torch._C._set_cudnn_allow_tf32),
    Setting("cuDNN deterministic", (False, True), *_both("cudnn_deterministic")),
    Setting("cuDNN benchmark", (False, True), *_both("cudnn_benchmark")),
), 1))  # fmt: skip
"""By their numbers on the wire."""

DEFAULT_DTYPE = 1
