"""A ``tessera serve`` on loopback for as long as a block runs, and the training that benchmarks have there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.remote.wire.served import sessions_of

_TESSERA = str(Path(sys.executable).with_name("tessera"))
Step = Callable[[], Any]


class Served(NamedTuple):
    address: str
    pid: int

    def sessions(self) -> list[int]:
        """Their processes."""
        return sorted(sessions_of(self.pid))


@contextmanager
def serving(device: str) -> Iterator[Served]:
    command = [_TESSERA, "serve", "--device", device, "--port", "0", "--insecure-loopback", "-o", "json"]
    given = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=given)
    try:
        assert server.stdout is not None
        yield Served(json.loads(server.stdout.readline())["address"], server.pid)
    finally:
        server.terminate()
        server.wait()


def training(device: str) -> Step:
    """One that gives its loss, and the same losses wherever it runs."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layers = torch.nn.Linear(32, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)
    model = torch.nn.Sequential(*layers).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)

    def step() -> Any:
        x = torch.randn(64, 32, generator=draw).to(device)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def use(address: str) -> None:
    """From now on ``cuda`` of this process is the device there."""
    os.environ["TESSERA_POOL"] = address
    from tessera.remote.client.start import start

    torch.set_num_threads(1)
    start(alias=True)
