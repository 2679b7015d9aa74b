"""What Python and other packages ask of a tensor: its words, its memory, its subclasses."""

import numpy
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch


def test_numbers_are_formatted(cuda):
    loss = torch.tensor(1.25, device=cuda, requires_grad=True)
    count = torch.tensor(7, device=cuda)
    assert f"{loss:.3f} {loss * 2:>6.1f} {count:04d}" == "1.250    2.5 0007"
    assert f"{torch.ones(2, device=cuda)}" == "tensor([1., 1.], device='cuda:0')"
    with pytest.raises(TypeError, match="unsupported format string"):
        format(torch.ones(2, device=cuda), ".2f")


@pytest.mark.parametrize("ask", [lambda x: x.numpy(), numpy.asarray, numpy.array], ids=["numpy", "asarray", "array"])
def test_memory_is_refused_as_cuda_refuses_it(cuda, ask):
    with pytest.raises(TypeError, match=r"can't convert cuda:0 device type tensor to numpy\. Use Tensor\.cpu\(\)"):
        ask(torch.ones(2, device=cuda))


def test_memory_is_had_by_way_of_this_machine(cuda):
    x = torch.arange(3.0, device=cuda, requires_grad=True)
    assert x.numpy(force=True).tolist() == x.detach().cpu().numpy().tolist() == [0.0, 1.0, 2.0]


def test_what_cannot_be_says_so(cuda):
    class Mine(torch.Tensor):
        pass

    x = torch.ones(2, device=cuda)
    with pytest.raises(BufferError, match="remote device"):
        torch.from_dlpack(x)
    with pytest.raises(NotImplementedError, match="as_subclass"):
        x.as_subclass(Mine)


def test_sharing_memory_does_nothing_as_on_a_gpu(cuda):
    model = nn.Linear(2, 1).to(cuda).share_memory()
    assert model.weight.is_shared() and model(torch.ones(1, 2, device=cuda)).shape == (1, 1)
    model.weight.record_stream(torch.cuda.current_stream())


def doubled_or_less(x: torch.Tensor):
    if x.sum().item() > 0:
        return x * 2
    return x - torch.ones(2, device=x.device)


def test_a_scripted_function(same):
    scripted = torch.jit.script(doubled_or_less)
    same(lambda device: (scripted(torch.ones(2, device=device)), scripted(-torch.ones(2, device=device))))


def profiled(device):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        torch.ones(2, device=device).sum().item()
    return profiler


def test_the_profiler_records_this_machine_and_says_so(cuda, capfd):
    with pytest.warns(UserWarning, match="only what this machine does is recorded"):
        profiler = profiled(cuda)
    assert "aten::" in profiler.key_averages().table(sort_by="cuda_time_total")
    assert "Failed to record" not in capfd.readouterr().err
