"""``tessera run`` as a user starts it, on a simulated GPU."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tessera.node_agent.kernel import STATE_FIELD, HostKernel, stat_field

ROOT = Path(__file__).resolve().parents[3]
RUN = (sys.executable, "-m", "tessera.cli.tessera", "run")
PATIENCE_S = 60.0
CUDA = """
import ctypes, sys
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
assert not cuda.cuInit(0) and not cuda.cuDeviceGet(ctypes.byref(device), 0)
assert not cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device)
def take(mib):
    return cuda.cuMemAlloc_v2(ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(mib << 20))
def told():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert not cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    return free.value >> 20, total.value >> 20
"""


class Commands:
    """``environment``: of every command that is started. ``who``: what starts it as another user."""

    def __init__(self, environment: dict[str, str], who: Sequence[str] = ()) -> None:
        self.environment = {**os.environ, **environment}
        self._run = (*who, *RUN)

    def run(self, options: Sequence[str], command: Sequence[str], **more: Any) -> "subprocess.CompletedProcess[str]":
        """To its end."""
        return subprocess.run(
            [*self._run, *options, "--", *command], env=self.environment, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False, **more,
        )  # fmt: skip

    def start(self, options: Sequence[str], command: Sequence[str], **more: Any) -> "subprocess.Popen[str]":
        """Not to its end."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen([*self._run, *options, "--", *command], env=self.environment, text=True, **pipes)


def python(code: str) -> list[str]:
    """A command."""
    return [sys.executable, "-c", code]


def until(met: Callable[[], object]) -> None:
    """Waits for what has to become true."""
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return stat_field(HostKernel().read(pid, "stat"), STATE_FIELD) not in "ZX"
    except OSError:
        return False
