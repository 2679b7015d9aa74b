"""The fake driver alone, without the shim: what the other tests take for the truth."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.simulator.fakes.cuda import build
from tests.native.container import ROOT

PROGRAM = """
import os
from ctypes import *
cuda = CDLL("libcuda.so.1")
used, everywhere = cuda.tessera_fake_cuda_used, cuda.tessera_fake_cuda_total_used
used.restype = everywhere.restype = c_uint64
free, total, one, two = c_size_t(), c_size_t(), c_uint64(), c_uint64()
def alloc(out, size): return cuda.cuMemAlloc_v2(byref(out), c_size_t(size))
def start():
    assert cuda.cuInit(0) == 0
    assert cuda.cuCtxCreate_v2(byref(c_void_p()), 0, 0) == 0
"""


def run(machine: tuple[Path, list[str]], program: str, settings: str = "", **extra: str) -> None:
    around = {"LD_LIBRARY_PATH": str(build.library_dir()), "TESSERA_FAKE_NVML_STATE": str(machine[0])}
    environment = {**os.environ, **around, "TESSERA_FAKE_CUDA": settings, **extra}
    command = [sys.executable, "-c", PROGRAM + program]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


PROGRAMS = {
    "not initialized": "assert alloc(one, 1) == 3",
    "no context": "assert cuda.cuInit(0) == 0 and alloc(one, 1) == 201",
    "no more than there is": """
start()
assert cuda.cuMemGetInfo_v2(byref(free), byref(total)) == 0 and free.value == total.value
assert alloc(one, total.value) == 0 and alloc(two, 1) == 2
assert cuda.cuMemGetInfo_v2(byref(free), byref(total)) == 0 and free.value == 0
assert cuda.cuMemFree_v2(one) == 0 and cuda.cuMemFree_v2(one) == 1 and used(0) == 0
""",
    "the same pointer again": """
start()
assert alloc(one, 1) == alloc(two, 2) == 0 and one.value != two.value
before = one.value
assert cuda.cuMemFree_v2(one) == 0 and alloc(one, 12345) == 0 and one.value == before
""",
    "a child has no driver": """
start()
assert alloc(one, 5) == 0
if not os.fork():
    os._exit(alloc(two, 1) != 3 or cuda.cuInit(0) != 3)
assert os.wait()[1] == 0 and used(0) == 5
""",
    "a pool lets go when somebody waits": """
start()
assert cuda.cuMemAllocAsync(byref(one), c_size_t(100), None) == cuda.cuMemFreeAsync(one, None) == 0 and used(0) == 100
assert cuda.cuStreamSynchronize(None) == 0 and used(0) == 0
""",
    "calls are counted": """
assert cuda.tessera_fake_cuda_calls(b"cuMemAlloc_v2") == 0
start(), alloc(one, 1), alloc(two, 1)
assert cuda.tessera_fake_cuda_calls(b"cuMemAlloc_v2") == 2
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(machine: tuple[Path, list[str]], name: str):
    run(machine, PROGRAMS[name])


def test_failures_on_request(machine: tuple[Path, list[str]]):
    program = "start(); assert [alloc(one, 1) for _ in range(4)] == [0, 0, 2, 0] and cuda.cuMemFree_v2(one) == 999"
    run(machine, program, "fail=cuMemAlloc_v2:3:2;cuMemFree_v2:1:999")


def test_the_dead_hold_nothing_and_the_peak_stays(machine: tuple[Path, list[str]], tmp_path: Path):
    truth = tmp_path / "truth"
    truth.write_bytes(bytes(65536))
    for size in (7, 5):
        program = f"start(); assert alloc(one, {size}) == 0 and everywhere(0) == {size}; os.kill(os.getpid(), 9)"
        with pytest.raises(AssertionError, match=r"^\s*$|assert"):
            run(machine, program, TESSERA_FAKE_CUDA_TRUTH=str(truth))
    assert struct.unpack_from("<Q", truth.read_bytes()) == (7,)


def test_no_header(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(build.INCLUDE_ENV, str(tmp_path))
    with pytest.raises(build.BuildError, match=r"no cuda\.h: install nvidia-cuda-runtime, or set TESSERA_CUDA_INCLUDE"):
        build.library_dir()
