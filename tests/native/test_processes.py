"""Several processes of one container, and what the driver and the slice count together."""

import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tessera.node_agent.enforcement.limits_files import pace_page
from tessera.node_agent.enforcement.pacing import PERIOD_US, Turn
from tests.native.container import Container
from tests.native.slices import LIMIT
from tests.native.threads import STEP, THREADS

OUT_OF_MEMORY = 2


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


@pytest.fixture
def truth(container: Container, tmp_path: Path) -> Path:
    """The file in which the fake driver counts what all processes hold."""
    path = tmp_path / "truth"
    path.write_bytes(bytes(65536))
    container.environment["TESSERA_FAKE_CUDA_TRUTH"] = str(path)
    return path


def peak(truth: Path) -> int:
    (most,) = struct.unpack_from("<Q", truth.read_bytes())
    return int(most)


@contextmanager
def holding(container: Container, size: int) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A program with memory, and the code that it got for it."""
    process = container.start([sys.executable, "-m", "tests.native.holding", str(size)], stdin=subprocess.PIPE)
    assert process.stdout
    with process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield process, int(line)
        finally:
            process.kill()


def test_all_processes_share_the_limit(container: Container, truth: Path):
    with holding(container, LIMIT // 2) as (_, first), holding(container, LIMIT // 2) as (_, second):
        assert (first, second) == (0, 0)
        with holding(container, 1) as (_, third):
            assert third == OUT_OF_MEMORY
        assert container.ledger.held() == LIMIT
    assert peak(truth) == LIMIT


def test_a_killed_process_holds_nothing(container: Container, truth: Path):
    for _ in range(3):
        with holding(container, LIMIT) as (process, code):
            assert code == 0
            process.kill()
            process.wait()
    assert peak(truth) == LIMIT
    with holding(container, LIMIT // 2) as (_, first), holding(container, LIMIT // 2) as (_, second):
        assert (first, second) == (0, 0)
    assert peak(truth) == LIMIT


def test_threads_at_once(container: Container, truth: Path):
    failure = container.run_as_it_is("tests.native.threads", "all_at_once")
    assert not failure, failure
    assert peak(truth) <= LIMIT


def test_threads_with_pools_that_grow_in_steps(container: Container, truth: Path):
    """The driver takes a step before anybody can refuse it: each thread may be ahead by one for a moment."""
    failure = container.run_as_it_is("tests.native.threads", "all_at_once_in_steps", f"poolstep={STEP}")
    assert not failure, failure
    assert peak(truth) <= LIMIT + THREADS * STEP


CONTEXT = """
import ctypes, time
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
assert not cuda.cuInit(0) and not cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
assert not cuda.cuCtxSetCurrent(context)
"""


LAUNCHES = """
at = []
end = time.monotonic() + 1.5
while time.monotonic() < end:
    assert not cuda.cuLaunch(0)
    at.append(time.monotonic_ns())
print(*at)
"""


def test_launches_keep_to_the_turn(container: Container):
    """Two processes of the slice, each of which launches all the time."""
    turn = Turn(20_000, 30_000)
    container.pace_file.write_bytes(pace_page({0: turn}))
    pair = [container.start([sys.executable, "-c", CONTEXT + LAUNCHES]) for _ in range(2)]
    for process in pair:
        out, errors = process.communicate(timeout=60)
        assert not errors
        phases = [int(at) // 1000 % PERIOD_US - turn.start_us for at in out.split()]
        inside = sum(0 <= phase <= turn.length_us for phase in phases)
        # One that was let through at the end may be held up before it looks at the clock.
        assert inside >= 0.95 * len(phases) > 100


@pytest.mark.parametrize("call", ["cuEventCreate", "cuEventRecord"])
def test_launches_that_cannot_be_timed_go_on(container: Container, call: str):
    container.pace_file.write_bytes(pace_page({0: Turn(0, PERIOD_US - 1)}))
    settings = "fail=" + ";".join(f"{call}:{number}:999" for number in range(1, 33))
    code = "began = time.monotonic()\nfor _ in range(30): assert not cuda.cuLaunch(0)\nprint(time.monotonic() - began)"
    process = container.start([sys.executable, "-c", CONTEXT + code], settings)
    out, errors = process.communicate(timeout=60)
    assert not errors and float(out) < 2, "no launch waits for what nobody will tell"


def test_who_has_no_turn_at_all_is_let_through_in_the_end(container: Container):
    """Whatever stands in the page: two seconds are the longest wait."""
    container.pace_file.write_bytes(pace_page({0: Turn(0, 1)}))
    code = "began = time.monotonic()\nassert not cuda.cuLaunch(0)\nassert not cuda.cuLaunch(0)\n"
    process = container.start([sys.executable, "-c", f"{CONTEXT}{code}print(time.monotonic() - began)"])
    out, errors = process.communicate(timeout=60)
    assert not errors and float(out) < 20


def test_stream_ordered_memory_is_charged_where_the_stream_is(container: Container):
    code = """
here, stream, p = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
assert not cuda.cuDevicePrimaryCtxRetain(ctypes.byref(here), 1) and not cuda.cuCtxSetCurrent(here)
assert not cuda.cuStreamCreate(ctypes.byref(stream), 0) and not cuda.cuCtxSetCurrent(context)
assert not cuda.cuMemAllocAsync(ctypes.byref(p), ctypes.c_size_t(4096), stream)
input()
"""
    with container.start([sys.executable, "-c", CONTEXT + code], stdin=subprocess.PIPE) as process:
        until(lambda: container.ledger.held(1) or process.poll() is not None)
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert (container.ledger.held(0), container.ledger.held(1)) == (0, 4096)
        process.communicate("\n", timeout=60)
