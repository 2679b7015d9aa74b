"""A million allocations and frees at random: 8 processes of 64 threads on one slice, with faults of the driver; and
processes that are killed in the middle of it."""

import subprocess
import time
from pathlib import Path

import pytest

from tessera.node_agent.enforcement.limits_files import pace_page
from tessera.node_agent.enforcement.pacing import ALWAYS
from tests.native.conftest import ZIG
from tests.native.container import Container
from tests.native.slices import LIMIT
from tests.native.test_processes import holding, peak, truth

__all__ = ["truth"]

PROCESSES, THREADS, OPERATIONS = 8, 64, 1_000_000
UNKNOWN_ERROR = 999
FAULTS = {"cuMemAlloc_v2": 40, "cuMemCreate": 30, "cuMemFree_v2": 50, "cuMemAllocAsync": 60, "cuArrayCreate_v2": 20,
          "cuMemRelease": 70, "cuMemAllocPitch_v2": 10, "cuMemFreeAsync": 90, "cuArrayDestroy": 80}  # fmt: skip
"""Which call of a process fails."""
SETTINGS = "fail=" + ";".join(f"{symbol}:{number}:{UNKNOWN_ERROR}" for symbol, number in FAULTS.items())


def built(name: str, include: Path, folder: Path) -> Path:
    """A program of this folder."""
    out, source = folder / name, Path(__file__).with_name(f"{name}.c")
    subprocess.run([*ZIG, "-O2", "-isystem", str(include), "-o", str(out), str(source), "-lpthread"], check=True)
    return out


@pytest.fixture(scope="session")
def stress(include: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return built("stress", include, tmp_path_factory.mktemp("stress"))


def start(container: Container, stress: Path, seed: int, operations: int) -> "subprocess.Popen[str]":
    return container.start([str(stress), str(THREADS), str(operations), str(seed)], SETTINGS)


def nothing_is_left(container: Container) -> None:
    """A new process gets the whole slice."""
    with holding(container, LIMIT) as (_, code):
        assert code == 0
        assert container.ledger.held() == LIMIT


def test_the_limit_holds_at_every_step(container: Container, truth: Path, stress: Path) -> None:
    running = [start(container, stress, seed, OPERATIONS // PROCESSES) for seed in range(PROCESSES)]
    granted = refused = 0
    for process in running:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        granted, refused = granted + int(out.split()[0]), refused + int(out.split()[1])
    assert granted > 5_000 and refused > 100_000
    assert 0.9 * LIMIT < peak(truth) <= LIMIT
    nothing_is_left(container)


def test_who_is_killed_leaves_nothing(container: Container, truth: Path, stress: Path) -> None:
    for round_ in range(5):
        running = [start(container, stress, 100 * round_ + seed, 4_000_000) for seed in range(4)]
        deadline = time.monotonic() + 30
        while container.ledger.held() < LIMIT // 2:
            assert time.monotonic() < deadline, "nobody allocates"
            assert all(process.poll() is None for process in running)
        for process in running:
            process.kill()
        for process in running:
            process.communicate(timeout=60)
        nothing_is_left(container)
    assert peak(truth) <= LIMIT


def test_a_primary_context_is_charged_once_while_anybody_uses_it(
    container: Container, include: Path, tmp_path: Path
) -> None:
    """There is no room for a second: who would charge it twice is refused."""
    container.pace_file.write_bytes(pace_page({0: ALWAYS}, LIMIT))
    program = built("primary", include, tmp_path)
    process = container.start([str(program), "3", "100000", "/run/tessera-usage/ledger", str(LIMIT)])
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
