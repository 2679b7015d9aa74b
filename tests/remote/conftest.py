"""One served device for all tests here, and ``cuda`` of this process is that device."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.remote.server import DEVICE, serving

if importlib.util.find_spec("torch") is None:
    collect_ignore = ["idioms", "leases", "moves", "opinfo", "programs", "sessions", "wire"]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Of a ``tessera serve`` that all share."""
    with serving() as found:
        yield found.address


@pytest.fixture(scope="session")
def cuda(address: str) -> str:
    """The name of the device. It is turned on once and stays on, as in a program."""
    import torch

    from tessera.remote.client.start import start

    os.environ["TESSERA_POOL"] = address
    torch.set_num_threads(1)
    start(alias=True)
    return "cuda"


Program = Callable[[str], Any]


@pytest.fixture
def same(cuda: str) -> Callable[[Program], Any]:
    """Runs a program on both devices, and asserts that it gives the same; answers what it gave on the remote one."""
    import torch
    from torch.utils._pytree import tree_map_only

    def run(program: Program, device: str) -> Any:
        torch.manual_seed(0)
        return tree_map_only(torch.Tensor, lambda tensor: tensor.detach().cpu(), program(device))

    def compare(program: Program, **tolerance: float) -> Any:
        expected, found = run(program, "cpu"), run(program, cuda)
        exact = {"rtol": 0, "atol": 0} if DEVICE == "cpu" else {"rtol": 1e-3, "atol": 1e-3}
        torch.testing.assert_close(found, expected, **(tolerance or exact), equal_nan=True)
        return found

    return compare
