"""Settings of torch are the executor's too: what operators give goes by them."""

import pytest
import torch
from torch import nn

from tessera.remote import settings
from tessera.remote.client.tensor import RemoteTensor

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def as_before():
    with getattr(torch.backends, "__allow_nonbracketed_mutation")():  # other tests of the process may have forbidden it
        yield
        reset()


def reset():
    torch.set_default_dtype(torch.float32)
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32"
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.deterministic = False


def given(device):
    """What operators make of the default dtype, asked for before and after it is another."""
    x = torch.arange(3, device=device)
    return x * 1.5, x / 2, x.sqrt(), torch.linspace(0, 1, 3, device=device), torch.arange(0, 1, 0.5, device=device)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_default_dtype(same, dtype):
    def program(device):
        before = given(device)
        torch.set_default_dtype(dtype)
        between = given(device), nn.Linear(2, 1).to(device).weight.dtype == dtype
        torch.set_default_dtype(torch.float32)
        return before, between, given(device)

    before, between, after = same(program)
    assert {one.dtype for one in between[0]} == {dtype} and {one.dtype for one in (*before, *after)} == {torch.float32}


def test_another_default_dtype_forgets_nothing(cuda, monkeypatch):
    """Some trainers set it at each step."""
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        given(cuda)
    monkeypatch.setattr(RemoteTensor.remote.plans, "_make", None)
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        assert {one.dtype for one in given(cuda)} == {dtype}


def test_memory_is_filled_where_operators_are_to_be_deterministic(cuda):
    torch.use_deterministic_algorithms(True)
    filled = torch.empty(4, device=cuda).isnan().all().item()
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.empty(4, device=cuda).fill_(1.0)
    assert filled and not torch.empty(4, device=cuda).isnan().all().item()


def test_an_operator_that_cannot_be_deterministic_is_an_error_or_not(cuda):
    """Of the executor's torch: here a CPU's, which has such an operator too."""
    target, index = torch.zeros(3, device=cuda), torch.tensor([0, 0], device=cuda)
    put = lambda: target.put_(index, torch.ones(2, device=cuda), accumulate=False)  # noqa: E731
    put()
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        put().sum().item()
    torch.use_deterministic_algorithms(True, warn_only=True)
    put()
    torch.use_deterministic_algorithms(False)
    assert put().sum().item() == 1.0


@pytest.mark.parametrize(("change", "number", "place"), [
    (lambda: torch.set_float32_matmul_precision("high"), 4, 1),
    (lambda: torch.set_float32_matmul_precision("medium"), 4, 1),
    (lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"), 4, 1),
    (lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"), 5, 1),
    (lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True), 4, 1),
    (lambda: setattr(torch.backends.cudnn, "allow_tf32", False), 5, 1),
    (lambda: setattr(torch.backends.cudnn, "deterministic", True), 6, 1),
    (lambda: setattr(torch.backends.cudnn, "benchmark", True), 7, 1),
    (lambda: torch.set_deterministic_debug_mode("warn"), 2, 1),
], ids=[
    "high", "medium", "matmul", "conv", "tf32", "cudnn tf32", "cudnn deterministic", "cudnn benchmark", "debug mode",
])  # fmt: skip
def test_each_way_to_set_one_is_sent_once(cuda, monkeypatch, change, number, place):
    torch.ones(1, device=cuda)
    sent = []
    monkeypatch.setattr(RemoteTensor.remote, "put", sent.append)
    change()
    change()
    monkeypatch.undo()
    RemoteTensor.remote.put(sent[0])
    assert [tuple(record) for record in sent] == [(number, place)]
    assert torch.ones(2, 2, device=cuda).mm(torch.ones(2, 2, device=cuda)).sum().item() == 8.0


def test_for_a_while(cuda, monkeypatch):
    torch.ones(1, device=cuda)
    sent = []
    monkeypatch.setattr(RemoteTensor.remote, "put", sent.append)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        assert sorted(map(tuple, sent)) == [(5, 1), (6, 1)]
        sent.clear()
    assert sorted(map(tuple, sent)) == [(5, 0), (6, 0)]


def test_every_setting_starts_as_the_first_of_what_it_may_be():
    assert [one.place() for one in settings.SETTINGS.values()] == [0] * len(settings.SETTINGS)
