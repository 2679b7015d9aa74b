"""The fused cells of LSTM and GRU, which torch chooses for any device but the CPU, in operators that every device has.

The workspace is what the backward pass needs: of an LSTM the gates, of a GRU reset, update, new, hidden and what of the
hidden state went into new.
"""

from typing import Any

import torch

from tessera.remote.client.device import Device


def lstm(
    device: Device, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``_thnn_fused_lstm_cell``: hidden, cell and workspace."""
    gates, cell = _summed(*args[:2], *args[3:]), args[2]
    i, f, g, o = gates.chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    after = f * cell + i * g
    return o * after.tanh(), after, torch.cat((i, f, g, o), 1)


def lstm_backward(device: Device, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """``_thnn_fused_lstm_cell_backward_impl``: of the gates, the cell and the bias."""
    grad_hidden, grad_cell, before, after, workspace, has_bias = args
    i, f, g, o = workspace.chunk(4, 1)
    squashed = after.tanh()
    grad_out = grad_hidden if grad_hidden is not None else torch.zeros_like(after)
    grad_after = grad_out * o * (1 - squashed * squashed)
    if grad_cell is not None:
        grad_after = grad_after + grad_cell
    grads = (
        grad_after * g * i * (1 - i), grad_after * before * f * (1 - f), grad_after * i * (1 - g * g),
        grad_out * squashed * o * (1 - o),
    )  # fmt: skip
    gates = torch.cat(grads, 1)
    return gates, grad_after * f, gates.sum(0) if has_bias else None


def gru(
    device: Device, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``_thnn_fused_gru_cell``: hidden and workspace."""
    into, of_hidden, hidden, *biases = args
    into, of_hidden = _biased(into, biases[:1]), _biased(of_hidden, biases[1:])
    ir, iz, inew = into.chunk(3, 1)
    hr, hz, hnew = of_hidden.chunk(3, 1)
    reset, update = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    new = (inew + reset * hnew).tanh()
    return new + update * (hidden - new), torch.cat((reset, update, new, hidden, hnew), 1)


def gru_backward(device: Device, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """``_thnn_fused_gru_cell_backward``: of both gates, the hidden state and both biases."""
    grad, workspace, has_bias = args
    reset, update, new, hidden, hnew = workspace.chunk(5, 1)
    grad_update = grad * (hidden - new) * update * (1 - update)
    grad_new = grad * (1 - update) * (1 - new * new)
    grad_reset = grad_new * hnew * reset * (1 - reset)
    into = torch.cat((grad_reset, grad_update, grad_new), 1)
    of_hidden = torch.cat((grad_reset, grad_update, grad_new * reset), 1)
    biases = (into.sum(0), of_hidden.sum(0)) if has_bias else (None, None)
    return into, of_hidden, grad * update, *biases


def _summed(into: torch.Tensor, of_hidden: torch.Tensor, *biases: torch.Tensor | None) -> torch.Tensor:
    return _biased(into + of_hidden, biases)


def _biased(gates: torch.Tensor, biases: Any) -> torch.Tensor:
    for bias in biases:
        gates = gates if bias is None else gates + bias
    return gates
