"""Draws on the remote device: the executor's device draws as this machine's does."""

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch


def test_seeded_draws_and_dropout(same):
    def program(device):
        torch.manual_seed(7)
        drawn = torch.randn(5, device=device), torch.randint(9, (4,), device=device), torch.randperm(6, device=device)
        return (
            drawn,
            nn.functional.dropout(torch.ones(20, device=device), 0.5),
            torch.bernoulli(torch.full((8,), 0.5, device=device)),
        )

    same(program)


def test_draws_on_this_machine_stay_here(cuda):
    def drawn(*devices):
        torch.manual_seed(3)
        return [torch.rand(3, device=device).cpu() for device in devices]

    torch.testing.assert_close(drawn("cpu", cuda, "cpu")[::2], drawn("cpu", "cpu"), rtol=0, atol=0)


def test_a_generator_of_its_own(same):
    def program(device):
        generator = torch.Generator(device).manual_seed(11)
        first = torch.randn(3, device=device, generator=generator)
        torch.rand(2, device=device)
        second = torch.empty(3, device=device).uniform_(generator=generator)
        generator.manual_seed(11)
        return first, second, torch.randn(3, device=device, generator=generator), generator.initial_seed()

    same(program)


def test_the_state_of_a_generator_goes_back(same):
    def program(device):
        generator = torch.Generator(device=device)
        torch.rand(3, device=device, generator=generator)
        state = generator.get_state()
        once = torch.randperm(9, device=device, generator=generator)
        generator.set_state(state)
        other = torch.Generator(device=device)
        other.set_state(state)
        again = torch.randperm(9, device=device, generator=generator)
        return (
            once,
            again,
            torch.multinomial(torch.ones(5, device=device), 2, generator=other),
            generator.device.type == device,
        )

    same(program)


def test_the_state_of_the_device_goes_back(cuda):
    state = torch.cuda.get_rng_state()
    once = torch.rand(4, device=cuda)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.rand(4, device=cuda), once)


def test_a_generator_of_this_machine_is_refused(cuda):
    with pytest.raises(RuntimeError, match="generator: found one of this machine"):
        torch.rand(3, device=cuda, generator=torch.Generator())


def test_generators_are_generators(cuda):
    assert isinstance(torch.Generator(cuda), torch.Generator) and isinstance(torch.Generator(), torch.Generator)
    assert torch.Generator().device.type == "cpu"
