"""Embeddings with sparse gradients, and the optimizers that take them."""

import copy
import io
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch

ULPS = {"rtol": 1e-6, "atol": 1e-6}
WORDS = torch.tensor([[1, 3, 3], [2, 0, 3]])


def trained(device: str, optimizer: Any, embedding: nn.Module, **options: Any) -> list[torch.Tensor]:
    """Gradients, in whatever form, and weights of three steps of two passes each."""
    embedding.to(device)
    head, words = nn.Linear(3, 2).to(device), WORDS.to(device)
    chosen, kept = optimizer(embedding.parameters(), **options), []
    for _ in range(3):
        chosen.zero_grad()
        for _ in range(2):
            head(embedding(words)).square().sum().backward()
        grad = embedding.weight.grad
        assert grad.is_sparse and not grad.is_coalesced() and grad.device.type == device
        chosen.step()
        coalesced = grad.coalesce()
        kept += [coalesced.indices(), coalesced.values(), grad.to_dense(), grad.cpu().to_dense()]
        kept.append(embedding.weight.detach().clone())
    return kept


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"lr": 0.1}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.SparseAdam, {"lr": 0.1}),
        (torch.optim.SparseAdam, {"lr": 0.1, "maximize": True}),
        (torch.optim.Adagrad, {"lr": 0.1}),
    ],
)
def test_optimizers_take_them(same, optimizer, options):
    same(lambda device: trained(device, optimizer, nn.Embedding(7, 3, sparse=True), **options), **ULPS)


def test_padding_has_none(same):
    def program(device):
        return trained(device, torch.optim.SGD, nn.Embedding(7, 3, sparse=True, padding_idx=3), lr=1.0)

    found = same(program, **ULPS)
    assert found[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("last", [False, True])
def test_bags_of_embeddings(same, mode, last):
    def program(device):
        bag = nn.EmbeddingBag(7, 3, mode=mode, sparse=True, include_last_offset=last).to(device)
        offsets = torch.tensor([0, 2, 2, 6][: None if last else 3]).to(device)
        bag(WORDS.flatten().to(device), offsets).square().sum().backward()
        return bag.weight.grad.coalesce().indices(), bag.weight.grad.to_dense()

    found = same(program)
    assert found[0].tolist() == [[0, 1, 2, 3]]


def test_a_gradient_is_scaled_measured_and_set_to_nothing(same):
    def program(device):
        embedding, words = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device)
        embedding.weight.register_hook(lambda grad: grad * 0.5)
        embedding(words).square().sum().backward()
        norm = embedding.weight.grad.norm()
        clipped = embedding.weight.grad.mul_(0.1 / norm).to_dense()
        embedding.zero_grad(set_to_none=False)
        nothing = embedding.weight.grad.to_dense()
        embedding(words).sum().backward()
        (embedding.weight * 2).sum().backward()
        assert not embedding.weight.grad.is_sparse
        return norm, clipped, nothing, embedding.weight.grad

    same(program, **ULPS)


def test_a_scaler_takes_its_scale_off(same):
    def program(device):
        embedding, words = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device)
        scaler, optimizer = torch.amp.GradScaler(device), torch.optim.SGD(embedding.parameters(), lr=0.1)
        scaler.scale(embedding(words).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        return embedding.weight

    same(program)


def test_places_of_several_dimensions(same):
    def program(device):
        weight = nn.Parameter(torch.zeros(2, 2, 3, device=device))
        places = torch.tensor([[0, 1, 0], [1, 0, 1]], device=device)
        values = torch.arange(9.0, device=device).reshape(3, 3)
        weight.grad = torch.sparse_coo_tensor(places, values, weight.shape)
        torch.optim.SGD([weight], lr=1.0).step()
        coalesced = weight.grad.coalesce()
        masked = torch.ones(2, 2, 3, device=device).sparse_mask(coalesced)
        return weight, coalesced.indices(), coalesced.values(), masked.values()

    same(program)


def test_it_looks_as_on_a_gpu(cuda):
    embedding = nn.Embedding(7, 3, sparse=True).to(cuda)
    embedding(WORDS.to(cuda)).sum().backward()
    grad = embedding.weight.grad
    assert (grad.layout, grad.is_cuda, grad.shape, grad._nnz()) == (torch.sparse_coo, True, (7, 3), 6)
    assert (grad.sparse_dim(), grad.dense_dim(), grad.dtype) == (1, 1, torch.float32)
    shown = repr(grad)
    assert "indices=tensor([[1, 3, 3, 2, 0, 3]])" in shown
    assert shown.endswith("layout=torch.sparse_coo, device='cuda:0')")
    with pytest.raises(RuntimeError, match="Cannot get values on an uncoalesced tensor"):
        grad.values()


def test_a_copied_module_has_no_gradient(same):
    def program(device):
        embedding, words = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device)
        embedding(words).sum().backward()
        copied = copy.deepcopy(embedding)
        assert copied.weight.grad is None
        copied(words).sum().backward()
        return copied.weight.grad.to_dense(), copy.deepcopy(embedding.weight.grad).to_dense()

    same(program)


def test_an_optimizer_that_holds_one_is_saved_and_goes_on(same):
    def program(device):
        embedding, words, file = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device), io.BytesIO()
        first = torch.optim.SGD(embedding.parameters(), lr=0.1, momentum=0.9)
        embedding(words).square().sum().backward()
        first.step()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = torch.optim.SGD(embedding.parameters(), lr=0.1, momentum=0.9)
        second.load_state_dict(torch.load(file, weights_only=False))
        second.step()
        return embedding.weight

    same(program, **ULPS)


def test_a_saved_one_is_of_torchs_own_types(cuda, tmp_path):
    torch.save(torch.eye(3).to_sparse().to(cuda), tmp_path / "it")
    code = "import sys, torch; print(torch.load(sys.argv[1], map_location='cpu').to_dense().tolist())"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TESSERA_POOL")}
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "it")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.stdout == f"{torch.eye(3).tolist()}\n", found.stderr


def test_norms_of_all_of_it(same):
    def program(device):
        embedding, words = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device)
        embedding(words).square().sum().backward()
        grad = embedding.weight.grad
        return [grad.norm(p) for p in (1, 2, float("inf"))], torch.norm(grad, 2), grad.sum()

    same(program, **ULPS)


def test_norms_of_several_of_which_some_are_sparse(cuda):
    several = torch._foreach_norm([torch.eye(4).to_sparse().to(cuda), torch.ones(9, device=cuda)], 2)
    assert [norm.item() for norm in several] == [2, 3]


def test_it_is_as_exact_as_the_wider_of_two(same, cuda):
    def program(device):
        embedding, words = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device)
        (embedding(words) * 0.3).sum().backward()
        grad = embedding.weight.grad
        found = torch.ones(7, 3, device=device).int() + grad, torch.ones(7, 3, device=device).half() + grad
        half = grad.half().add_(grad)
        assert half._values().dtype == half.dtype == torch.float16
        return *found, half.float().to_dense()

    same(program, rtol=1e-3, atol=1e-3)
    with pytest.raises(RuntimeError, match=r"result type torch.float32 can't be cast to .* torch.int32"):
        torch.ones(3, 3, device=cuda).int().add_(torch.eye(3).to_sparse().to(cuda))


def test_it_does_not_grow_for_ever(same):
    def program(device):
        embedding, words = nn.Embedding(7, 3, sparse=True).to(device), WORDS.to(device)
        for _ in range(20):
            embedding(words).sum().backward()
        coalesced = embedding.weight.grad.coalesce()
        assert embedding.weight.grad._nnz() <= 7 * 3 and (coalesced + coalesced).is_coalesced()
        return embedding.weight.grad.to_dense()

    same(program)


def test_its_elements_are_asked_for_twice(same):
    def program(device):
        coalesced = torch.eye(3).to_sparse().to(device).coalesce()
        return coalesced.values(), coalesced.values(), coalesced.indices(), coalesced.indices()

    same(program)


def test_a_place_outside_is_told(cuda):
    outside = torch.sparse_coo_tensor(torch.tensor([[9]], device=cuda), torch.ones(1, 3, device=cuda), (7, 3))
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        outside.to_dense().sum().item()


def test_what_a_sparse_tensor_cannot_do_is_told(cuda):
    sparse = torch.eye(3).to_sparse().to(cuda)
    with pytest.raises(RuntimeError, match=r"add\(sparse, dense\) is not supported"):
        sparse + torch.eye(3, device=cuda)
    with pytest.raises(NotImplementedError, match=r"aten.exp.default: not supported on sparse tensors"):
        sparse.exp()
    for other in (torch.eye(2).to_sparse().to(cuda), torch.eye(4, device=cuda)):
        with pytest.raises(RuntimeError, match="expected tensors of the same size"):
            other.add_(sparse)
    with pytest.raises(RuntimeError, match="expected tensors of the same size"):
        torch.eye(4, device=cuda).sparse_mask(sparse)
    with pytest.raises(NotImplementedError, match=r"aten._to_sparse.default: not supported on a remote device"):
        torch.eye(3, device=cuda).to_sparse()
