"""Tensors of this machine among those of the device: taken where CUDA takes them, refused where it refuses them."""

import pytest
import torch

pytestmark = pytest.mark.torch

REFUSED = "Expected all tensors to be on the same device, but got .* is on cpu, different from other tensors on cuda:0"


@pytest.mark.parametrize("name", ["add", "mm", "cat", "where", "embedding", "index_select", "stack", "batch_norm"])
def test_of_two_devices_is_refused(cuda, name):
    here, there, index = torch.ones(2, 2), torch.ones(2, 2, device=cuda), torch.tensor([0, 1])
    program = {
        "add": lambda: there + here,
        "mm": lambda: here @ there,
        "cat": lambda: torch.cat([there, here]),
        "where": lambda: torch.where(there > 0, here, there),
        "embedding": lambda: torch.nn.functional.embedding(index, there),
        "index_select": lambda: there.index_select(0, index),
        "stack": lambda: torch.stack([here, there]),
        "batch_norm": lambda: torch.nn.functional.batch_norm(there, torch.zeros(2), torch.ones(2), training=True),
    }[name]
    with pytest.raises(RuntimeError, match=REFUSED):
        program()


@pytest.mark.parametrize("name", ["in place", "out", "scalar in place", "for each"])
def test_nothing_here_is_written_by_what_is_refused(cuda, name):
    here, there = torch.ones(2), torch.ones(2, device=cuda)
    scalar, other = torch.tensor(1.0), torch.tensor(1.0, device=cuda)
    program = {
        "in place": lambda: here.add_(there),
        "out": lambda: torch.add(there, there, out=here),
        "scalar in place": lambda: scalar.add_(other),
        "for each": lambda: torch._foreach_add_([here], [there]),
    }[name]
    with pytest.raises(RuntimeError, match=REFUSED):
        program()
    assert here.tolist() == [1.0, 1.0] and scalar.item() == 1.0


def test_scalars_of_this_machine_are_taken(same):
    def program(device):
        x = torch.arange(6.0, device=device).view(2, 3)
        half = torch.tensor(0.5)
        return (
            x * half,
            half + x,
            torch.where(x > 2, half, x),
            x.mul_(half),
            x.clamp(min=half),
            x.masked_fill(x > 1, half),
        )

    same(program)


def test_indices_of_this_machine_are_taken(same):
    def program(device):
        x = torch.arange(12.0, device=device).view(3, 4)
        rows, mask = torch.tensor([2, 0]), torch.tensor([True, False, True])
        taken = x[rows], x[mask], x[rows, torch.tensor([1, 1])], x[:, torch.tensor([3])]
        x[rows] = 7.0
        x[mask] = torch.zeros(2, 4, device=device)
        x.index_put_((rows,), torch.ones(2, 4, device=device), accumulate=True)
        return *taken, x

    same(program)


def test_copies_go_either_way(same):
    def program(device):
        x, here = torch.arange(3.0, device=device), torch.zeros(3)
        here.copy_(x)
        x.copy_(torch.ones(3))
        lists = [torch.zeros(2, device=device), torch.zeros(1)]
        torch._foreach_copy_(lists, [torch.ones(2), torch.ones(1, device=device)])
        return x, here, *lists

    same(program)


def test_a_wrong_one_leaves_the_device_usable(cuda):
    x = torch.ones(2, device=cuda)
    with pytest.raises(RuntimeError, match=REFUSED):
        x + torch.ones(2)
    assert (x + 1).sum().item() == 4
