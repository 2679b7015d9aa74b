"""``torch.inference_mode``, in which torch hands on also what it takes apart where gradients are kept."""

import pytest
import torch

pytestmark = pytest.mark.torch


def test_views_of_ordinary_tensors_are_ordinary_and_results_are_not(same):
    def program(device):
        weight = torch.nn.Parameter(torch.arange(4.0, device=device).view(1, 1, 4))
        with torch.inference_mode():
            made = weight + 1
            views = [
                weight.expand(2, -1, -1), weight.transpose(0, 2), weight[0, 0, 1:], *weight.split(2, -1),
                weight.detach(), weight.view(4), weight.half(), made.view(4), weight.reshape(4),
            ]  # fmt: skip
        return [(view, view.is_inference()) for view in views]

    found = same(program)
    assert {inference for _, inference in found} == {True, False}


def test_what_is_written_through_a_view_is_in_its_base(same):
    def program(device):
        base = torch.zeros(2, 3, device=device)
        with torch.inference_mode():
            base[0].add_(1)
            base.t()[1:].mul_(2)
        return base

    same(program)


def test_a_reshape_that_copies_keeps_what_it_copied(same):
    def program(device):
        base = torch.arange(6.0, device=device).view(2, 3)
        with torch.inference_mode():
            copies = [base.t().reshape(6), base.t().contiguous(), base.t().flatten(), base.to(torch.float64)]
            views = [base.reshape(6), base.contiguous(), base.flatten(), base.to(torch.float32)]
            base.add_(1)
        return copies, views

    same(program)


def test_a_model_answers_as_it_does_here(same):
    def program(device):
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        model = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(24, 2)).to(device).eval()
        with torch.inference_mode():
            return model(torch.linspace(0, 1, 48).view(2, 3, 8).to(device))

    same(program)
