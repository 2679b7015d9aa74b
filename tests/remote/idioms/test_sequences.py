"""Sequences of several lengths: packed ones, and the loss of an alignment. Lengths stay on this machine."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

pytestmark = pytest.mark.torch

LENGTHS = torch.tensor([4, 2, 1])


def padded(device, batch_first):
    x = torch.arange(24.0).view(3, 4, 2)
    x = x if batch_first else x.transpose(0, 1)
    return x.to(device).requires_grad_()


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "steps first"])
def test_packed_and_padded_again(same, batch_first):
    def program(device):
        x = padded(device, batch_first)
        packed = pack_padded_sequence(x, LENGTHS, batch_first=batch_first)
        assert packed.batch_sizes.device.type == "cpu" and packed.data.device.type == device
        again, lengths = pad_packed_sequence(packed, batch_first=batch_first)
        (again * torch.arange(2.0, device=device)).sum().backward()
        return packed.data, packed.batch_sizes, again, lengths, x.grad

    same(program)


def test_lengths_in_any_order(same):
    def program(device):
        x = padded(device, batch_first=True)
        packed = pack_padded_sequence(x, LENGTHS.flip(0), batch_first=True, enforce_sorted=False)
        others = pack_sequence([torch.ones(n, 2, device=device) * n for n in (1, 3, 2)], enforce_sorted=False)
        return packed.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices, *others

    same(program)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_recurrent_networks_take_them(same, kind, bidirectional):
    def program(device):
        network = kind(2, 3, batch_first=True, bidirectional=bidirectional).to(device)
        x = padded(device, batch_first=True)
        out, _ = network(pack_padded_sequence(x / 24, LENGTHS, batch_first=True))
        out, _ = pad_packed_sequence(out, batch_first=True)
        out.square().sum().backward()
        return out, x.grad, [parameter.grad for parameter in network.parameters()]

    same(program, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("lengths", "message"), [
    (torch.tensor([1, 2, 3]), "sorted in decreasing order"),
    (torch.tensor([4, 2]), "equal to batch_size"),
    (torch.tensor([4, 2, 0]), "greater than 0"),
    (torch.tensor([[4, 2, 1]]), "1D CPU int64"),
], ids=["rising", "too few", "empty", "two dimensions"])  # fmt: skip
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_wrong_lengths(cuda, device, lengths, message):
    with pytest.raises(RuntimeError, match=message):
        pack_padded_sequence(padded(device, batch_first=True), lengths, batch_first=True)


def test_a_length_beyond_the_steps_is_refused(cuda):
    with pytest.raises(RuntimeError, match="at most 4, but got 5"):
        pack_padded_sequence(padded(cuda, batch_first=True), torch.tensor([5, 2, 1]), batch_first=True)


def test_lengths_on_the_device_are_refused_in_the_same_words(cuda):
    with pytest.raises(RuntimeError, match="'lengths' argument should be a 1D CPU int64 tensor"):
        torch._VF._pack_padded_sequence(padded(cuda, batch_first=True), LENGTHS.to(cuda), True)


@pytest.mark.parametrize("lengths", ["tensors here", "tensors there", "numbers"])
def test_the_loss_of_an_alignment(same, lengths):
    def program(device):
        torch.manual_seed(0)
        x = torch.randn(6, 2, 4).to(device).requires_grad_()
        targets = torch.tensor([[1, 2, 3], [2, 1, 1]], device=device)
        given = [6, 5], [3, 2]
        if lengths != "numbers":
            where = device if lengths == "tensors there" else "cpu"
            given = tuple(torch.tensor(one, device=where) for one in given)
        loss = nn.functional.ctc_loss(x.log_softmax(2), targets, *given)
        loss.backward()
        return loss, x.grad

    same(program, rtol=1e-5, atol=1e-6)


def test_that_loss_in_a_script(cuda):
    scripted = torch.jit.script(nn.CTCLoss())
    x, lengths = torch.zeros(4, 1, 3).log_softmax(2), (torch.tensor([4]), torch.tensor([2]))
    assert scripted(x, torch.tensor([[1, 2]]), *lengths).isfinite()
