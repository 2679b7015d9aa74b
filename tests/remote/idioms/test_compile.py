"""What there is nothing of for a remote device says so: ``torch.compile`` runs as it is, NCCL is an error."""

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch

SAID = r"torch\.compile: runs as it is.*tessera\.remote\.capture"


def test_a_compiled_module_runs_as_it_is_and_says_so(same):
    def program(device):
        model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 1)).to(device)
        with pytest.warns(UserWarning, match=SAID):
            compiled = torch.compile(model)
        x = torch.ones(2, 3, device=device)
        loss = compiled(x).square().sum()
        loss.backward()
        return loss, [parameter.grad for parameter in model.parameters()]

    same(program)


@pytest.mark.parametrize("options", [{}, {"fullgraph": True}, {"mode": "reduce-overhead"}, {"dynamic": True}], ids=str)
def test_as_a_decorator_with_any_options(cuda, options):
    with pytest.warns(UserWarning, match=SAID):

        @torch.compile(**options)
        def doubled(x):
            return x * 2 if x.sum() > 0 else x

    assert doubled(torch.ones(2, device=cuda)).tolist() == [2.0, 2.0]


def test_the_method_of_a_module(cuda):
    model = nn.Linear(2, 1).to(cuda)
    with pytest.warns(UserWarning, match=SAID):
        model.compile()
    assert model(torch.ones(1, 2, device=cuda)).shape == (1, 1)


def test_nccl_is_a_clear_error(cuda, tmp_path):
    with pytest.raises(RuntimeError, match="NCCL"):
        torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
