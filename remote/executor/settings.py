"""Settings of a session, which are those of its process."""

import contextlib
import os

import torch

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.records import Setting
from tessera.remote.settings import SETTINGS

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def start(device: torch.device) -> None:
    """Each has its first value, whatever this process was started with."""
    for setting in SETTINGS.values():
        if setting.place():
            setting.put(setting.allowed[0])
    if device.type == "cuda":
        _let_cublas_be_deterministic(device)


def _let_cublas_be_deterministic(device: torch.device) -> None:
    """torch asks the environment at the first product whether cuBLAS can be, and as long as the variable is there takes
    it apart at every product, for longer than the product itself takes to launch."""
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    with contextlib.suppress(RuntimeError):  # where the GPU is full by now, the client is told at its first operator
        one = torch.ones(1, 1, device=device)
        torch.mm(one, one)
        del os.environ[_WORKSPACE]


def take(record: Setting) -> None:
    """Raises ``ProtocolError`` for one that is none."""
    number, place = record
    if number not in SETTINGS:
        raise ProtocolError(f"setting: found {number}; allowed: 1 to {max(SETTINGS)}")
    setting = SETTINGS[number]
    if place >= len(setting.allowed):
        raise ProtocolError(f"setting {setting.name}: found {place}; allowed: 0 to {len(setting.allowed) - 1}")
    setting.put(setting.allowed[place])
