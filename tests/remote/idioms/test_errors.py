"""Errors: of shapes at once, of the executor where a value is waited for, in backward where it was called."""

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch


def out_of_range(device):
    """An operator that only the executor finds to be wrong."""
    return torch.ones(3, 2, device=device)[torch.tensor([0, 9], device=device)]


def usable(device):
    return torch.ones(2, device=device).sum().item() == 2


def test_a_wrong_shape_is_an_error_at_once(cuda):
    with pytest.raises(RuntimeError, match=r"mat1 and mat2|must match|a and b"):
        torch.ones(2, 3, device=cuda) @ torch.ones(2, 3, device=cuda)
    assert usable(cuda)


def test_an_error_of_the_executor_comes_with_the_next_value(cuda):
    wrong = out_of_range(cuda)
    poisoned = wrong * 2 + 1
    with pytest.raises(IndexError, match="out of"):
        poisoned.sum().item()
    assert usable(cuda)


def test_it_comes_with_synchronize_too_and_only_once(cuda):
    held = out_of_range(cuda)
    with pytest.raises(IndexError, match="out of"):
        torch.cuda.synchronize()
    torch.cuda.synchronize()
    with pytest.raises(IndexError, match="out of"):
        held.cpu()


def test_an_exception_of_torchs_own_is_the_same_here(cuda):
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        torch.linalg.inv(torch.zeros(2, 2, device=cuda)).cpu()
    assert usable(cuda)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2


def test_an_error_inside_backward_is_raised_by_backward(cuda):
    class Wrong(Doubled):
        @staticmethod
        def backward(ctx, grad):
            return grad @ torch.ones(7, 7, device=cuda)

    x = torch.ones(2, 3, device=cuda, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2|must match|a and b"):
        Wrong.apply(x).sum().backward()
    assert usable(cuda) and x.grad is None


def test_an_error_of_python_inside_backward(cuda):
    class Wrong(Doubled):
        @staticmethod
        def backward(ctx, grad):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Wrong.apply(torch.ones(2, device=cuda, requires_grad=True)).sum().backward()
    assert usable(cuda)


def raises(*_):
    raise ZeroDivisionError("mine")


@pytest.mark.parametrize("where", ["tensor", "leaf", "accumulated", "module", "module before"])
def test_a_hook_that_raises(cuda, where):
    model, x = nn.Linear(2, 2).to(cuda), torch.ones(1, 2, device=cuda, requires_grad=True)
    out = model(x)
    {
        "tensor": out.register_hook, "leaf": model.weight.register_hook,
        "accumulated": model.weight.register_post_accumulate_grad_hook, "module": model.register_full_backward_hook,
        "module before": model.register_full_backward_pre_hook,
    }[where](raises)  # fmt: skip
    with pytest.raises(ZeroDivisionError, match="mine"):
        (model(x) if where.startswith("module") else out).sum().backward()
    assert usable(cuda)


def test_hooks_of_saved_tensors_that_raise(cuda):
    x = torch.ones(2, device=cuda, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, raises):
        y = x * x
    with pytest.raises(ZeroDivisionError, match="mine"):
        y.sum().backward()
    assert usable(cuda)


def test_more_than_64_bits_are_refused_in_a_sentence(cuda):
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        torch.ones(1, dtype=torch.int64, device=cuda) + (1 << 70)
    assert usable(cuda)


def test_an_operator_that_is_not_torchs_own(cuda):
    @torch.library.custom_op("tessera_tests::doubled", mutates_args=())
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    assert doubled(torch.ones(2, device=cuda)).tolist() == [2, 2]
    torch.library.define("tessera_tests::nowhere", "(Tensor x) -> Tensor")
    with pytest.raises(NotImplementedError, match="tessera_tests::nowhere"):
        torch.ops.tessera_tests.nowhere(torch.ones(2, device=cuda))


def test_growing_in_place_is_refused_in_a_sentence(cuda):
    with pytest.raises(NotImplementedError, match="that would grow to"):
        torch.ones(2, device=cuda).resize_(5)


def test_layouts_that_the_device_does_not_have_are_refused_in_a_sentence(cuda):
    with pytest.raises((NotImplementedError, RuntimeError), match=r"layout|[Ss]parse"):
        torch.eye(2).to_sparse_csr().to(cuda)
    with pytest.raises(NotImplementedError, match=r"aten.mm.default: not supported on sparse tensors"):
        torch.eye(2).to_sparse().to(cuda) @ torch.eye(2, device=cuda)
