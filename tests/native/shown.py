"""What NVML tells a program of the GPU, through the real nvidia-ml-py."""

import ctypes
import os

import pynvml

from tests.native.driver import Driver
from tests.native.rows import UNIT
from tests.native.slices import LIMIT


def device(index: int = 0) -> pynvml.c_nvmlDevice_t:
    """A GPU's handle."""
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def memory_of_the_slice(d: Driver) -> None:
    """Both versions of the call: the slice's bytes, and what is left of them."""
    for held in (0, UNIT, LIMIT):
        address = d.new("cuMemAlloc_v2", held) if held else 0
        for version in (None, pynvml.nvmlMemory_v2):
            memory = pynvml.nvmlDeviceGetMemoryInfo(device(), version)
            assert (memory.total, memory.used, memory.free) == (LIMIT, held, LIMIT - held)
            assert version is None or memory.reserved == 0
        d.ok("cuMemFree_v2", address)
    assert pynvml.nvmlDeviceGetMemoryInfo(device(1)).used == 0


def processes_of_the_slice(d: Driver) -> None:
    """This process by the number that it knows itself, and nobody else."""
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(device()) == []
    address = d.new("cuMemAlloc_v2", UNIT)
    found = pynvml.nvmlDeviceGetComputeRunningProcesses(device())
    assert [(process.pid, process.usedGpuMemory) for process in found] == [(os.getpid(), UNIT)]
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(device(1)) == []
    d.ok("cuMemFree_v2", address)
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(device()) == []


def names_without_the_library(d: Driver) -> None:
    """The symbols that a program links are the shim's too."""
    handle, memory = device(), (ctypes.c_ulonglong * 3)()
    program = ctypes.CDLL(None)
    assert program.nvmlDeviceGetMemoryInfo(handle, memory) == 0
    assert memory[0] == LIMIT


def run(name: str, driver: Driver) -> None:
    """One of the above."""
    globals()[name](driver)
