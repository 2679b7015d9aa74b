"""A sample of PyTorch's operators, forward and gradients; ``make test-remote-full`` tries them all."""

from pathlib import Path

import pytest

from tests.remote.opinfo.compare import compare, operators

pytestmark = pytest.mark.torch

SAMPLE = Path(__file__).with_name("sample.txt").read_text().split()


@pytest.mark.parametrize("name", SAMPLE)
def test_an_operator_computes_what_it_computes_here(cuda, name):
    outcome = compare(operators()[name], cuda)
    assert outcome.forward and not outcome.forward_error and not outcome.gradient_error, outcome
