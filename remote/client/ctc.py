"""``ctc_loss`` with lengths on this machine, which CUDA takes.

Torch would divide by them as if they were on the device.
"""

import functools
from typing import Any

import torch

from tessera.remote.client import scripts
from tessera.remote.client.tensor import RemoteTensor


def patch() -> None:
    """For the life of the process."""
    scripts.replace("ctc_loss", _with_numbers)


def _with_numbers(function: Any) -> Any:
    @functools.wraps(function)
    def ctc_loss(
        log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *rest: Any, **named: Any
    ) -> Any:
        lengths = (input_lengths, target_lengths)
        if isinstance(log_probs, RemoteTensor) and all(type(one) is torch.Tensor for one in lengths):
            lengths = tuple(one.tolist() for one in lengths)
        return function(log_probs, targets, *lengths, *rest, **named)

    return ctc_loss
