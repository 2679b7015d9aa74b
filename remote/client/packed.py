"""``pack_padded_sequence``: the lengths, and how many sequences each step has, stay on this machine, as with CUDA."""

from typing import Any

import torch

from tessera.remote.client.device import Device


def pack(
    device: Device, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``_pack_padded_sequence``: the steps of all sequences, (sum of lengths, *), and the sequences of each step."""
    padded, lengths, batch_first = args
    steps, batch = padded.shape[:2][:: -1 if batch_first else 1]
    _check(lengths, batch, steps)
    there = torch.arange(int(lengths[0])).unsqueeze(1) < lengths
    step, sequence = there.nonzero(as_tuple=True)
    first, second = (sequence, step) if batch_first else (step, sequence)
    rows = padded.reshape(-1, *padded.shape[2:])
    at = first * padded.shape[1] + second
    return rows.index_select(0, at.to(padded.device)), there.sum(1)


def _check(lengths: Any, batch: int, steps: int) -> None:
    """Raises ``RuntimeError``, as torch does."""
    if lengths.device.type != "cpu" or lengths.dtype != torch.int64 or lengths.dim() != 1:
        raise RuntimeError(
            "'lengths' argument should be a 1D CPU int64 tensor, "
            f"but got {lengths.dim()}D {lengths.device.type} {lengths.dtype} tensor"
        )
    if len(lengths) != batch or not batch:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size {batch}, but got {len(lengths)}")
    if int(lengths[-1]) <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element that is <= 0")
    if bool((lengths[1:] > lengths[:-1]).any()):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True")
    if int(lengths[0]) > steps:
        raise RuntimeError(f"Expected each length to be at most {steps}, but got {int(lengths[0])}")
