"""Attention is one operator on the wire, and gives what it gives on this machine."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional

from tests.remote.server import run

pytestmark = pytest.mark.torch

PROGRAM = """
import torch
from torch.nn.functional import scaled_dot_product_attention
query, key, value = (torch.zeros(2, 4, 8, 16, device="cuda", requires_grad=True) for _ in range(3))
grad = torch.zeros(2, 4, 8, 16, device="cuda")
counts = [torch.cuda.memory_allocated()]
made = scaled_dot_product_attention(query, key, value, is_causal=True)
counts.append(torch.cuda.memory_allocated())
torch.autograd.grad(made, (query, key, value), grad)
counts.append(torch.cuda.memory_allocated())
with torch.inference_mode():
    scaled_dot_product_attention(query, key, value)
counts.append(torch.cuda.memory_allocated())
made = scaled_dot_product_attention(query, key, value, dropout_p=0.5)
counts.append(torch.cuda.memory_allocated())
torch.autograd.grad(made, (query, key, value), grad)
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
    assert found.stdout == "[1, 1, 1, 1, 1]\n", found.stderr


def inputs(device, heads=4, words=6, width=8):
    made = torch.arange(2.0 * heads * words * width).reshape(2, heads, words, width).sin()
    return made.to(device).requires_grad_()


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"mask": "bool"}, {"mask": "float"}, {"mask": "learns"}],
    ids=str,
)
def test_forward_and_gradients(same, options):
    def attend(device):
        given = dict(options)
        query, key, value = (inputs(device, words=words) for words in (6, 5, 5))
        kind, learnt = given.pop("mask", None), ()
        if kind:
            mask = torch.arange(30.0).reshape(6, 5).cos().to(device)
            given["attn_mask"] = mask > -0.5 if kind == "bool" else mask
        if kind == "learns":
            learnt = (mask.requires_grad_(),)
        made = functional.scaled_dot_product_attention(query, key, value, **given)
        return made, torch.autograd.grad(made.square().sum(), (query, key, value, *learnt))

    same(attend, rtol=1e-5, atol=1e-6)


def test_fewer_heads_of_keys_than_of_queries(same):
    def attend(device):
        query, key = inputs(device), inputs(device, heads=2)
        return torch.autograd.grad(
            functional.scaled_dot_product_attention(query, key, key, enable_gqa=True).sum(), (query, key)
        )

    same(attend, rtol=1e-5, atol=1e-6)


def test_under_transforms_of_functions(same):
    def attend(device):
        def loss(query):
            return functional.scaled_dot_product_attention(query, query, query).square().sum()

        query = inputs(device).detach()
        return torch.func.grad(loss)(query), torch.func.vmap(loss)(query)

    same(attend, rtol=1e-5, atol=1e-6)


def test_dropout_draws(cuda):
    query = inputs(cuda)
    one, other = (functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5) for _ in range(2))
    assert not torch.equal(one, other)
    with torch.inference_mode():
        assert not torch.equal(functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5), one)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"mask": True}], ids=str)
def test_dropout_gives_what_it_gives_here(same, options):
    def attend(device):
        given = dict(options)
        query, key, value = (inputs(device, words=words) for words in (6, 5, 5))
        if given.pop("mask", False):
            given["attn_mask"] = torch.arange(30.0).reshape(6, 5).cos().to(device) > -0.5
        torch.manual_seed(7)
        made = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.3, **given)
        between = torch.rand(3, device=device)
        found = torch.autograd.grad(made.square().sum(), (query, key, value))
        return made, between, found, torch.rand(3, device=device)

    same(attend, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_differentiated_twice_it_is_an_error(cuda, dropout_p):
    """As the kernels of a GPU say."""
    query = inputs(cuda)
    made = functional.scaled_dot_product_attention(query, query, query, dropout_p=dropout_p)
    (gradient,) = torch.autograd.grad(made.sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="attention: its gradients cannot be differentiated again"):
        gradient.square().sum().backward()


def test_forward_mode_with_dropout(cuda):
    query = inputs(cuda).detach()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(query, query.cos())
        made = functional.scaled_dot_product_attention(dual, query, query, dropout_p=0.3)
        assert forward_ad.unpack_dual(made).tangent.shape == query.shape


def test_wrong_sizes_are_an_error_at_once(cuda):
    query, key = inputs(cuda), inputs(cuda, width=4)
    with pytest.raises(RuntimeError):
        functional.scaled_dot_product_attention(query, key, key)
