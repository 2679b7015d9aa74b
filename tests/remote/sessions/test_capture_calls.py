"""What a captured module may be called with, and what it may give."""

import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch.utils import _pytree

import tessera.remote
from tests.remote.sessions.captures import assert_same, said, tensor, warned_once
from tests.remote.sessions.modules import Of, mlp

pytestmark = pytest.mark.torch


class ModelOutput(OrderedDict):
    """As that of transformers: a dict whose items are attributes too, and that torch takes apart."""

    def __getattr__(self, name):
        return self[name]


_pytree.register_pytree_node(
    ModelOutput,
    lambda output: (list(output.values()), list(output)),
    lambda values, names: ModelOutput(zip(names, values, strict=True)),
    serialized_type_name="tests.ModelOutput",
)
Pair = namedtuple("Pair", "first second")


@dataclass
class Unknown:
    x: torch.Tensor


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        yield


def test_arguments_of_any_kind_are_part_of_the_signature(cuda, no_warnings):
    def forward(self, x, *, scale=1.0, flip=False, more=()):
        return {"sum": sum(more, x) * scale, "flip": flip, "none": None}

    module, x = Of(forward).to(cuda), tensor(cuda, 2, 3)
    numbers = [{"scale": scale} for scale in (0.0, -0.0, 1, 1.0, True, float("nan"), float("inf"))]
    more = [{"more": [x + 1, x + 2]}, {"more": (x + 1, x + 2)}, {"more": []}]
    both = [{"flip": True}, {"flip": True, "scale": 2.0}, {"scale": 2.0, "flip": True}]
    for options in (numbers, [{}, *more, *both]):
        fast = tessera.remote.capture(module)
        for given in (*options, *options):
            found, expected = fast(x, **given), module(x, **given)
            torch.testing.assert_close(found["sum"].cpu(), expected["sum"].cpu(), rtol=0, atol=0, equal_nan=True)
            assert torch.equal(found["sum"].signbit(), expected["sum"].signbit())
            assert (found["flip"], found["none"]) == (expected["flip"], None)


@pytest.mark.parametrize("values", [2.0, [3.0], [3.0, 4.0, 5.0]])
def test_a_constant_of_this_machine(cuda, sent, no_warnings, values):
    module = Of(lambda self, x: x * torch.tensor(values).to(x.device) + torch.tensor(values, device=x.device)).to(cuda)
    assert said(module, tensor(cuda, 2, 3), calls=3) == [] and sent.count(15) == 2


def test_by_name_or_by_place(cuda, sent, no_warnings):
    module, x, y = Of(lambda self, x, y: x - y).to(cuda), tensor(cuda, 2, 3), tensor(cuda, 3)
    fast = tessera.remote.capture(module)
    for _ in range(2):
        assert_same(fast(x, y), x - y)
        assert_same(fast(x, y=y), x - y)
        assert_same(fast(y=y, x=x), x - y)
        assert_same(fast(x=y, y=x), y - x)
    assert sent.count(15) == 4


NESTED = {
    "dict": lambda x: {"b": x, "a": [x * 2, {"c": x * 3}]},
    "tuple": lambda x: (x, (x * 2,), [], ()),
    "named tuple": lambda x: Pair(x, {"second": x * 2}),
    "values and places": lambda x: (x, torch.max(x, 1)),
    "model output": lambda x: ModelOutput(logits=x, hidden=(x * 2, x * 3)),
    "one twice": lambda x: (x, [x]),
    "size": lambda x: (x, x.shape, x.stride()),
    "complex": lambda x: torch.complex(x, x).conj(),
    "nothing": lambda x: None,
}


@pytest.mark.parametrize("name", NESTED)
def test_results_come_back_in_what_held_them(cuda, sent, no_warnings, name):
    module = Of(lambda self, x: NESTED[name](x + 1)).to(cuda)
    assert said(module, tensor(cuda, 2, 3), calls=3) == [] and sent.count(15) == 2


def test_one_result_in_two_places_is_one(cuda, no_warnings):
    fast = tessera.remote.capture(Of(lambda self, x: (made := x + 1, [made])).to(cuda))
    for _ in range(2):
        one, (other,) = fast(tensor(cuda, 2, 3))
        assert one is other


def test_a_result_that_torch_does_not_take_apart_runs_as_always(cuda):
    module = Of(lambda self, x: Unknown(x * 2)).to(cuda)
    fast = tessera.remote.capture(module)
    with warned_once("torch.export: "):
        for times in (1, 3):
            x = tensor(cuda, 2, 3) * times
            assert_same(fast(x).x, module(x).x)


def test_a_batch_of_any_size(cuda, sent, no_warnings):
    module = mlp().to(cuda).eval()
    fast = tessera.remote.capture(module)
    for rows in (5, 1, 0, 5, 2, 1, 0, 2, 5):
        x = tensor(cuda, rows, 6)
        assert_same(fast(x), module(x))
    assert (sent.count(14), sent.count(15)) == (4, 5)


def test_how_an_argument_lies_in_memory_is_part_of_the_signature(cuda, sent, no_warnings):
    module = torch.nn.Conv2d(3, 4, 1).to(cuda)
    fast, x = tessera.remote.capture(module), tensor(cuda, 2, 3, 4, 4)
    ways = (x, x.contiguous(memory_format=torch.channels_last), x[:1].expand(2, -1, -1, -1), x.transpose(2, 3))
    for _ in range(2):
        for way in ways:
            assert_same(fast(way), module(way))
    assert (sent.count(14), sent.count(15)) == (4, 4)


@pytest.mark.parametrize("first", [(0, 0, 0), (0, 1, 2)])
def test_one_tensor_given_twice(cuda, sent, no_warnings, first):
    """As attention is called; which places have the same is part of the signature."""
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True).to(cuda).eval()
    fast, given = tessera.remote.capture(module), [tensor(cuda, 2, 3, 8) * times for times in (1, 2, 3)]
    for places in (first, (0, 0, 0), (0, 1, 2), (0, 1, 1), (1, 1, 1), (0, 0, 1), (2, 1, 0)):
        q, k, v = (given[at] for at in places)
        assert_same(fast(q, k, v), module(q, k, v))
    assert (sent.count(14), sent.count(15)) == (4, 3)


def test_a_parameter_as_an_argument(cuda, no_warnings):
    module, x = Of(lambda self, x: x * self.weight).to(cuda), tensor(cuda, 3)
    fast = tessera.remote.capture(module)
    for given in (module.weight, x, module.weight, x):
        assert_same(fast(given), module(given))


def test_in_inference_mode_and_without_gradients_by_turns(cuda, sent, no_warnings):
    module, x = mlp().to(cuda).eval(), tensor(cuda, 5, 6)
    fast = tessera.remote.capture(module)
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with mode():
            assert_same(fast(x), module(x))
    with torch.inference_mode():
        y = x * 2
    assert_same(fast(y), module(y))
    assert (sent.count(14), sent.count(15)) == (1, 3)


def test_a_default_device_is_part_of_the_signature(cuda, sent, no_warnings):
    module, x = Of(lambda self, x: x + torch.arange(3).sum().to(x.device)).to(cuda), tensor(cuda, 2, 3)
    fast = tessera.remote.capture(module)
    for device in ("cpu", cuda, "cpu", cuda):
        with torch.device(device):
            assert_same(fast(x), module(x))
    assert (sent.count(14), sent.count(15)) == (2, 2)
