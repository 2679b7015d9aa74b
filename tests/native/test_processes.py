"""Several processes of one container, and what the driver and the slice count together."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.native.container import Container
from tests.native.slices import LIMIT
from tests.native.threads import STEP, THREADS

OUT_OF_MEMORY = 2


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
