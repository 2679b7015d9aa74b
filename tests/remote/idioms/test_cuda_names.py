"""What ``torch.cuda`` and ``torch.accelerator`` answer: every public name does something or says that it cannot."""

import pytest
import torch

from tests.remote.idioms.cuda_names import ANSWERS, KEPT, NOTHING, REFUSED

pytestmark = pytest.mark.torch


def test_every_public_name_is_in_the_table(cuda):
    table = sorted([*ANSWERS, *KEPT, *NOTHING, *REFUSED])
    assert sorted(torch.cuda.__all__) == [name for name in table if name in torch.cuda.__all__]


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_name_that_answers(cuda, name):
    found = ANSWERS[name](getattr(torch.cuda, name))
    assert found is True, f"torch.cuda.{name}: {found}"


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_a_name_with_nothing_to_do(cuda, name):
    assert getattr(torch.cuda, name)() is None


@pytest.mark.parametrize("name", sorted(REFUSED & {*torch.cuda.__all__}))
def test_a_name_that_is_refused(cuda, name):
    with pytest.raises(NotImplementedError, match=f"torch.cuda.{name}: not supported on a remote device"):
        getattr(torch.cuda, name)()


def test_a_name_is_the_same_in_the_module_that_it_comes_from(cuda):
    for module in (torch.cuda.graphs, torch.cuda.memory, torch.cuda.random, torch.cuda.streams):
        for name in {*vars(module), *torch.cuda.__all__} - KEPT:
            if not name.startswith("_") and hasattr(module, name) and hasattr(torch.cuda, name):
                assert getattr(module, name) is getattr(torch.cuda, name), name


def test_a_class_that_is_refused_is_a_class(cuda):
    assert str(torch.cuda.CUDAGraph | None) == "torch.cuda.CUDAGraph | None"
    assert not isinstance(torch.ones(1, device=cuda), torch.cuda.CUDAGraph)


def test_default_generators_are_refused(cuda):
    with pytest.raises(NotImplementedError, match="default_generators: not supported"):
        torch.cuda.default_generators[0]


def test_streams_and_events(cuda):
    stream, start, end = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    with torch.cuda.stream(stream):
        x = torch.ones(8, device=cuda) * 2
        stream.wait_stream(torch.cuda.current_stream())
    end.record(stream)
    end.synchronize()
    assert x.sum().item() == 16 and start.elapsed_time(end) >= 0 and end.query()


def test_an_event_that_was_not_recorded_has_no_time(cuda):
    with pytest.raises(RuntimeError, match="was not recorded"):
        torch.cuda.Event(enable_timing=True).elapsed_time(torch.cuda.Event(enable_timing=True))


def test_the_accelerator_is_the_device(cuda):
    assert torch.accelerator.is_available() and torch.accelerator.device_count() == 1
    torch.accelerator.synchronize()
    assert torch.ones(2, device=torch.accelerator.current_accelerator()).is_cuda


def test_memory_is_counted(cuda):
    before = torch.cuda.memory_allocated()
    held = torch.zeros(1 << 20, device=cuda)
    assert torch.cuda.memory_allocated() - before >= 4 << 20 and torch.cuda.max_memory_allocated() >= 4 << 20
    del held
    assert torch.cuda.memory_allocated() <= before
    free, total = torch.cuda.mem_get_info()
    assert 0 <= free <= total


def test_another_index_does_not_exist(cuda):
    with pytest.raises(RuntimeError, match="found index 1; allowed: 0"):
        torch.ones(1, device="cuda:1")


def test_the_accelerator_is_cuda(cuda):
    assert torch.accelerator.is_available() and torch.accelerator.device_count() == 1
    device = torch.accelerator.current_accelerator(check_available=True)
    assert (device.type, torch.ones(2).to(device).device) == ("cuda", torch.device("cuda", 0))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert torch.nn.Linear(2, 1).to(device)(torch.ones(1, 2, device=device)).dtype == torch.bfloat16
