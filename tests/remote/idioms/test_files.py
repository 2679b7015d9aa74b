"""``torch.save`` and ``torch.load``: what was on ``cuda`` is there again, what was not is not."""

import collections
import copy
import io

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch

Pair = collections.namedtuple("Pair", "first second")


def again(value, *, legacy=False, **options):
    """``value``, saved and loaded."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    file.seek(0)
    return torch.load(file, weights_only=False, **options)


def on_cuda(*tensors):
    return [tensor.device.type == "cuda" for tensor in tensors]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_each_tensor_is_where_it_was(cuda, legacy):
    there, here = torch.arange(6.0, device=cuda), torch.ones(2)
    loaded = again({"there": there, "inner": [here, (there, 3)], "pair": Pair(there, here)}, legacy=legacy)
    assert on_cuda(loaded["there"], loaded["inner"][0], loaded["inner"][1][0], *loaded["pair"]) == [
        True, False, True, True, False,
    ]  # fmt: skip
    torch.testing.assert_close(loaded["there"].cpu(), there.cpu())
    torch.testing.assert_close(loaded["inner"][0], here)
    assert loaded["inner"][1][1] == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64, torch.bool, torch.int64, torch.float64])
def test_types_and_shapes(cuda, dtype):
    for value in (torch.arange(6).to(dtype), torch.tensor(1).to(dtype), torch.empty(0, 3, dtype=dtype)):
        loaded = again(value.to(cuda))
        assert on_cuda(loaded) == [True]
        torch.testing.assert_close(loaded.cpu(), value)


@pytest.mark.parametrize(("location", "there"), [
    ("cpu", False), ("cuda", True), ("cuda:0", True), (torch.device("cuda"), True), ({"cuda:0": "cpu"}, False),
    ({"cuda:0": "cuda:0"}, True), ({"cpu": "cuda"}, True),
], ids=str)  # fmt: skip
def test_a_map_location_that_is_given_decides(cuda, location, there):
    assert on_cuda(again(torch.ones(2, device=cuda), map_location=location)) == [there]


def test_a_function_as_map_location_keeps_what_it_answers_here(cuda):
    assert on_cuda(again(torch.ones(2, device=cuda), map_location=lambda storage, location: storage)) == [False]


def test_a_file_of_this_machine_stays_here_unless_it_is_to_go(cuda):
    value = torch.ones(2)
    assert on_cuda(again(value), again(value, map_location="cuda"), again(value, map_location={"cpu": "cuda"})) == [
        False,
        True,
        True,
    ]


def test_another_device_than_the_one_of_the_slice_is_refused(cuda):
    with pytest.raises(RuntimeError, match="index 1"):
        again(torch.ones(2, device=cuda), map_location="cuda:1")
    with pytest.raises(NotImplementedError, match=r"UntypedStorage\.cuda.*map_location='cuda'"):
        again(torch.ones(2, device=cuda), map_location=lambda storage, location: storage.cuda())


def test_what_shared_memory_does_so_after_loading(cuda):
    whole = torch.arange(6.0)
    loaded, part, same, turned = again([whole, whole[2:4], whole, whole.view(2, 3).t()], map_location=cuda)
    loaded.mul_(2)
    assert same is loaded
    torch.testing.assert_close(part.cpu(), torch.tensor([4.0, 6.0]))
    torch.testing.assert_close(turned.cpu(), (whole * 2).view(2, 3).t())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(4, 3)
        self.out = nn.Linear(3, 4, bias=False)
        self.out.weight = self.words.weight
        self.register_buffer("buffer", torch.ones(1))

    def forward(self, words):
        return self.out(self.words(words))


@pytest.mark.parametrize("location", [None, "cuda"])
def test_a_whole_module(cuda, location):
    module = Tied().to(cuda)
    loaded = again(module if location is None else module.cpu(), map_location=location)
    assert loaded.out.weight is loaded.words.weight and isinstance(loaded.out.weight, nn.Parameter)
    assert on_cuda(loaded.out.weight, loaded.buffer) == [True, True]
    loaded(torch.tensor([1], device=cuda)).sum().backward()
    torch.testing.assert_close(loaded.buffer.cpu(), torch.ones(1))
    assert on_cuda(loaded.words.weight.grad) == [True]


class Kept:
    def __init__(self, tensor, other):
        self.tensor, self.other = tensor, other


def test_whatever_holds_them(cuda):
    there, here = torch.ones(2, device=cuda), torch.ones(2)
    first = Kept(there, here)
    first.other, ordered = Kept(here, first), collections.OrderedDict(state=there)
    ordered._metadata = {"version": 2}
    counted = collections.defaultdict(list, {"a": [there]})
    counts, keyed = collections.Counter({30: 1}), {there: here}
    loaded, state, lists, both, counts, keyed = again([first, ordered, counted, (first, there), counts, keyed])
    assert on_cuda(loaded.tensor, loaded.other.tensor, state["state"], lists["a"][0]) == [True, False, True, True]
    assert counts == {30: 1} and keyed[loaded.tensor].device.type == "cpu"
    assert loaded.other.other is loaded and both[0] is loaded and both[1] is loaded.tensor
    assert state._metadata == {"version": 2} and lists["b"] == []


def test_attributes_and_signs_are_kept(cuda):
    parameter, plain = nn.Parameter(torch.ones(2, device=cuda)), torch.ones(2, device=cuda)
    parameter.no_decay, plain.label = True, "mine"
    turned = torch.tensor([1 + 2j]).conj(), torch.complex(torch.ones(1), torch.ones(1)).conj().imag
    loaded, other, conjugate, negative = again([parameter, plain, *turned], map_location=cuda)
    assert loaded.no_decay and other.label == "mine" and isinstance(loaded, nn.Parameter)
    assert on_cuda(loaded, other, conjugate, negative) == [True] * 4
    assert (conjugate.tolist(), negative.tolist()) == ([1 - 2j], [-1.0])


def test_an_optimizer_and_its_model_belong_together_again(cuda):
    model = nn.Linear(2, 1).to(cuda)
    model.mask = torch.ones(2, device=cuda)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    model(model.mask).sum().backward()
    optimizer.step()
    loaded, stepper = again([model, optimizer])
    assert loaded.mask.device.type == "cuda" and stepper.param_groups[0]["params"][0] is loaded.weight
    assert on_cuda(stepper.state[loaded.weight]["momentum_buffer"]) == [True]
    before = loaded.weight.detach().clone()
    loaded(loaded.mask).sum().backward()
    stepper.step()
    assert not torch.equal(before, loaded.weight)


def test_scripts_of_this_machine_load_as_ever(cuda, tmp_path):
    path = str(tmp_path / "scripted.pt")
    torch.jit.script(nn.ReLU()).save(path)
    for options in ({}, {"map_location": "cpu"}):
        assert torch.load(f=path, weights_only=False, **options)(-torch.ones(1)).tolist() == [0.0]


def test_a_copy_has_the_same_memory(cuda):
    x = nn.Parameter(torch.ones(2, device=cuda))
    x.label = "mine"
    copied = copy.copy(x)
    with torch.no_grad():
        copied.mul_(2)
    assert isinstance(copied, nn.Parameter) and copied is not x and copied.label == "mine"
    assert x.tolist() == [2.0, 2.0]


def test_weights_only_which_is_what_torch_does_unless_told(cuda, tmp_path):
    model, path = nn.BatchNorm1d(2).to(cuda), tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    for options in ({}, {"mmap": True}, {"weights_only": True}):
        loaded = torch.load(path, **options)
        assert on_cuda(*loaded.values()) == [True] * 5 and loaded._metadata == model.state_dict()._metadata


def test_parameters_and_gradients(cuda):
    parameter, leaf = nn.Parameter(torch.ones(2, device=cuda)), torch.ones(2, device=cuda, requires_grad=True)
    loaded = again({"parameter": parameter, "leaf": leaf, "fixed": nn.Parameter(torch.ones(1), requires_grad=False)})
    assert isinstance(loaded["parameter"], nn.Parameter) and isinstance(loaded["fixed"], nn.Parameter)
    assert [value.requires_grad for value in loaded.values()] == [True, True, False]
    (loaded["parameter"] * loaded["leaf"]).sum().backward()
    torch.testing.assert_close(loaded["leaf"].grad.cpu(), torch.ones(2))


def test_a_training_goes_on_from_its_checkpoint(same):
    def started(device):
        model = nn.Linear(3, 2).to(device)
        return model, torch.optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimizer, device):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3, device=device)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    def program(device):
        model, optimizer = started(device)
        step(model, optimizer, device)
        saved = again({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        assert saved["model"]["weight"].device.type == device
        model, optimizer = started(device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        return step(model, optimizer, device), step(model, optimizer, device)

    same(program)
