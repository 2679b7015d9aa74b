"""A sample of PyTorch's operators, forward and gradients; ``make test-remote-full`` tries them all."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

SAMPLE = Path(__file__).with_name("sample.txt").read_text().split()


@pytest.mark.parametrize("name", SAMPLE)
def test_an_operator_computes_what_it_computes_here(cuda, name):
    from tests.remote.opinfo.compare import compare, operators  # the database keeps torch's functions as it finds them

    outcome = compare(operators()[name], cuda)
    assert outcome.forward and not outcome.forward_error and not outcome.gradient_error, outcome
