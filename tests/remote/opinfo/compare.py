"""One operator of PyTorch's OpInfo database on the remote device against the same on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_leaves, tree_map

SAMPLES = 5
"""Of each operator, at most so many; all of them have to agree."""
UNDEFINED = frozenset({
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided", "resize_",
    "resize_as_",
})  # fmt: skip
"""Operators that leave memory as it was found: sizes, strides and dtype are compared."""

ARGUMENTS_STAY = frozenset({"tensor_split"})
"""Operators whose indices are on this machine whatever the device, as for a GPU."""


@dataclass
class Outcome:
    """``forward`` and ``gradient``: how many samples were compared; the errors: what the first that differs says."""

    name: str
    forward: int = 0
    gradient: int = 0
    forward_error: str = ""
    gradient_error: str = ""


def full_name(op: Any) -> str:
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


@lru_cache(maxsize=1)
def operators() -> dict[str, Any]:
    """Those of the database that take float32."""
    return {full_name(op): op for op in op_db if op.supports_dtype(torch.float32, "cpu")}


def compare(op: Any, device: str) -> Outcome:
    outcome = Outcome(full_name(op))
    for sample in _samples(op):
        _forward(op, sample, device, outcome)
        if outcome.forward_error:
            break
        if op.supports_autograd and op.name not in UNDEFINED:
            _gradient(op, sample, device, outcome)
    return outcome


def _samples(op: Any) -> Iterator[Any]:
    """Only those that this machine computes itself."""
    torch.manual_seed(1)
    samples = op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd)
    for sample in islice(samples, SAMPLES):
        try:
            _called(op, sample, "cpu")
        except Exception:
            continue
        yield sample


def _called(op: Any, sample: Any, device: str) -> tuple[list[torch.Tensor], Any]:
    """The tensors that it was given, and what it gave."""
    given = _to((sample.input, sample.args, sample.kwargs), device)
    if op.name in ARGUMENTS_STAY:
        given = given[0], _to(sample.args, "cpu"), given[2]
    torch.manual_seed(0)
    made = op.op(given[0], *given[1], **given[2])
    return [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)], made


def _forward(op: Any, sample: Any, device: str, outcome: Outcome) -> None:
    expected = tree_leaves(_called(op, sample, "cpu")[1])
    try:
        found = tree_leaves(_called(op, sample, device)[1])
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _same(one, other, op.name not in UNDEFINED, 1e-4)
    except Exception as error:
        outcome.forward_error = _text(error)
    outcome.forward += 1


def _gradient(op: Any, sample: Any, device: str, outcome: Outcome) -> None:
    try:
        expected = _gradients(*_called(op, sample, "cpu"))
    except Exception:
        return
    if expected is None or outcome.gradient_error:
        return
    try:
        found = _gradients(*_called(op, sample, device))
        assert found is not None
        for one, other in zip(found, expected, strict=True):
            _same(one, other, True, 1e-3)
    except Exception as error:
        outcome.gradient_error = _text(error)
    outcome.gradient += 1


def _gradients(given: list[torch.Tensor], made: Any) -> tuple[torch.Tensor | None, ...] | None:
    wanted = [tensor for tensor in given if tensor.requires_grad]
    results = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not wanted or not results:
        return None
    squares = [(leaf * leaf.conj()).real if leaf.is_complex() else leaf * leaf for leaf in results]
    return torch.autograd.grad(sum(square.sum() for square in squares), wanted, allow_unused=True)


def _same(found: Any, expected: Any, values: bool, tolerance: float) -> None:
    if not isinstance(expected, torch.Tensor):
        assert found == expected, f"found {found}, expected {expected}"
        return
    assert isinstance(found, torch.Tensor), f"found {found}"
    kind = found.shape, found.dtype
    assert kind == (expected.shape, expected.dtype), f"found {kind}, expected {expected.shape}, {expected.dtype}"
    if values:
        found, expected = found.detach().cpu().resolve_conj(), expected.detach().resolve_conj()
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=tolerance, atol=tolerance)


def _to(values: Any, device: str) -> Any:
    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().clone().to(device).requires_grad_(value.requires_grad)
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "cpu"):
            return torch.device(device)
        return value

    return tree_map(moved, values)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:240]
