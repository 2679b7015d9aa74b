"""``linear`` is one operator on the wire, and gives what it gives on this machine, to the bit."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.remote.server import run

pytestmark = pytest.mark.torch

PROGRAM = """
import torch
from torch.nn.functional import linear
x, weight, bias = (torch.zeros(*size, device="cuda", requires_grad=True) for size in ((2, 3, 4), (5, 4), (5,)))
grad = torch.zeros(2, 3, 5, device="cuda")
counts = [torch.cuda.memory_allocated()]
made = linear(x, weight, bias)
counts.append(torch.cuda.memory_allocated())
torch.autograd.grad(made, (x, weight, bias), grad)
counts.append(torch.cuda.memory_allocated())
with torch.inference_mode():
    linear(x, weight, bias)
counts.append(torch.cuda.memory_allocated())
with torch.no_grad():
    linear(x, weight)
counts.append(torch.cuda.memory_allocated())
with torch.autocast("cuda", torch.bfloat16):
    made = linear(x, weight, bias)
counts.append(torch.cuda.memory_allocated())
torch.autograd.grad(made, (x, weight, bias), grad.to(torch.bfloat16))
counts.append(torch.cuda.memory_allocated())
print([after - before for before, after in zip(counts, counts[1:])])
"""


def test_it_is_one_operator_on_the_wire_in_each_direction():
    """The device of the benchmarks counts the calls that come, and tells them for its memory."""
    command = [sys.executable, "-m", "benchmarks.remote_device", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as device:
        assert device.stdout
        found = run(device.stdout.readline().strip(), PROGRAM)
        device.kill()
    assert found.stdout == "[1, 1, 1, 1, 1, 2]\n", found.stderr


def filled(device, *sizes, learns=True, dtype=torch.float32):
    count = torch.Size(sizes).numel()
    made = torch.arange(count, dtype=torch.float32).reshape(sizes).sin().to(dtype)
    return made.to(device).requires_grad_(learns)


def given(device, rows=(2, 3), bias=True, learns=(True, True, True)):
    x, weight = filled(device, *rows, 4, learns=learns[0]), filled(device, 5, 4, learns=learns[1])
    return x, weight, filled(device, 5, learns=learns[2]) if bias else None


@pytest.mark.parametrize("rows", [(), (3,), (2, 3), (2, 3, 2), (0,)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_gradients(same, rows, bias):
    def product(device):
        inputs = given(device, rows, bias)
        made = functional.linear(*inputs)
        wanted = [one for one in inputs if one is not None]
        return made, torch.autograd.grad(made.square().sum(), wanted), made.stride()

    same(product)


@pytest.mark.parametrize("rows", [(4,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("again", [False, True])
def test_in_a_lower_precision(same, rows, again):
    """As copies of a lower precision give it, which are made here on this processor."""

    def product(device):
        inputs = given(device, rows[:-1])
        if device == "cpu":
            made = functional.linear(*(one.bfloat16() for one in inputs))
        else:
            with torch.autocast(device, torch.bfloat16):
                made = functional.linear(*inputs)
        found = torch.autograd.grad(made.float().sin().sum(), inputs, create_graph=again)
        return made, found, torch.autograd.grad(sum(one.square().sum() for one in found), inputs) if again else ()

    made, gradients, _ = same(product, **({"rtol": 1e-2, "atol": 1e-2} if again else {}))
    assert made.dtype == torch.bfloat16 and {one.dtype for one in gradients} == {torch.float32}


@pytest.mark.parametrize("learns", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
def test_what_does_not_learn_has_no_gradient(same, learns):
    def product(device):
        inputs = given(device, learns=learns)
        functional.linear(*inputs).square().sum().backward()
        return [one.grad for one in inputs]

    assert [one is not None for one in same(product)] == list(learns)


def test_rows_that_do_not_lie_side_by_side(same):
    def product(device):
        x = filled(device, 4, 3, 2).transpose(0, 2)
        _, weight, bias = given(device)
        return functional.linear(x, weight, bias), functional.linear(x[:, 1], weight[:, :].t().t(), bias)

    same(product)


def test_gradients_of_gradients(same):
    def penalty(device):
        inputs = given(device)
        first = torch.autograd.grad(functional.linear(*inputs).sin().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), inputs)

    same(penalty, rtol=1e-5, atol=1e-5)


def test_under_transforms_of_functions(same):
    def transformed(device):
        x, weight, bias = (one.detach() for one in given(device))
        loss = lambda w, row: functional.linear(row, w, bias).square().sum()  # noqa: E731
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
        return each, torch.func.jvp(lambda w: functional.linear(x, w, bias), (weight,), (weight.cos(),))

    same(transformed, rtol=1e-5, atol=1e-5)


def test_forward_mode(same):
    def pushed(device):
        x, weight, bias = (one.detach() for one in given(device))
        with forward_ad.dual_level():
            made = functional.linear(forward_ad.make_dual(x, x.cos()), weight, bias)
            return tuple(forward_ad.unpack_dual(made))

    same(pushed)


def test_complex_numbers(same):
    def product(device):
        x, weight = (one.detach().to(torch.complex64) * (1 + 2j) for one in given(device)[:2])
        weight.requires_grad_()
        made = functional.linear(x, weight)
        return made, torch.autograd.grad(made.abs().sum(), weight)

    same(product, rtol=1e-5, atol=1e-5)


def test_hooks_and_checkpoints(same):
    def trained(device):
        layer = torch.nn.Linear(4, 5)
        with torch.no_grad():
            layer.weight.copy_(filled("cpu", 5, 4)), layer.bias.zero_()
        layer = layer.to(device)
        layer.weight.register_hook(lambda grad: 2 * grad)
        x = filled(device, 2, 3, 4)
        checkpoint(layer, x, use_reentrant=False).square().sum().backward()
        return x.grad, layer.weight.grad, layer.bias.grad

    same(trained)


@pytest.mark.parametrize("sizes", [((2, 3, 0), (5, 0), (5,)), ((2, 3, 4), (0, 4), (0,)), ((2, 4), (5, 4), (1, 5)),
                                   ((2, 3, 4), (5, 4), (1,)), ((2, 4), (5, 4), (2, 1))], ids=str)  # fmt: skip
def test_sizes_that_are_odd(same, sizes):
    def product(device):
        inputs = [filled(device, *size) for size in sizes]
        made = functional.linear(*inputs)
        return made, torch.autograd.grad(made.square().sum(), inputs)

    same(product)


def test_a_weight_that_lies_the_other_way(same):
    def product(device):
        x, weight = filled(device, 2, 3, 4), filled(device, 4, 5)
        found = torch.autograd.grad(functional.linear(x, weight.t()).square().sum(), (x, weight))
        return found, [one.stride() for one in found]

    same(product)


def test_only_what_the_gradients_need_is_kept(same):
    """Of a weight that does not learn the input may change, or go, before the backward pass."""

    def product(device):
        x, weight, bias = given(device, learns=(True, False, True))
        held = x * 2
        made = functional.linear(held, weight, bias)
        with torch.no_grad():
            held.zero_()
        only_bias = functional.linear(filled(device, 2, 4, learns=False), weight, bias)
        with torch.no_grad():
            other = weight.clone()
        made.square().sum().backward()
        only_bias.sum().backward()
        return x.grad, bias.grad, other

    same(product)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_in_the_same_precision_again(cuda, reentrant):
    layer, x = torch.nn.Linear(4, 4).to(cuda), filled(cuda, 2, 3, 4)

    def twice(x):
        return layer(layer(x))

    def gradients(run):
        with torch.autocast(cuda, torch.bfloat16):
            assert torch.is_autocast_enabled(cuda) and torch.is_autocast_enabled()
            assert torch.get_autocast_dtype(cuda) == torch.get_autocast_gpu_dtype() == torch.bfloat16
            made = run()
        x.grad = layer.weight.grad = None
        made.float().square().sum().backward()
        return x.grad, layer.weight.grad

    plain = gradients(lambda: twice(x))
    assert all(map(torch.equal, gradients(lambda: checkpoint(twice, x, use_reentrant=reentrant)), plain))
    assert not torch.is_autocast_enabled(cuda)


def test_what_was_changed_since_is_an_error(cuda):
    x, weight, bias = given(cuda)
    made = functional.linear(x, weight, bias)
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.sum().backward()


@pytest.mark.parametrize("sizes", [((2, 3), (5, 4)), ((2, 4), (5, 4, 1))], ids=str)
def test_sizes_that_do_not_fit_are_an_error_at_once(cuda, sizes):
    with pytest.raises(RuntimeError):
        functional.linear(*(torch.ones(size, device=cuda) for size in sizes))
