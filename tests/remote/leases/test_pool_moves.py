"""A program in mid-training while its lease moves: by the controller, from one executor to another."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tessera.model.assignment import Share
from tessera.model.gpu_leases import GpuLease
from tests.integration.pool.stage import TARGET, Stage, stage, until
from tests.remote.leases.test_pool import Served, begun, started, written
from tests.remote.moves.test_moves import FILLING, TRAINING
from tests.remote.server import ONE_THREAD, PATIENCE_S

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
MIB = 1 << 20


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        found.kubelet.make_executor = Served
        yield found


class Running:
    """A program that is told a line and answers one."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    async def __aenter__(self) -> "Running":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._child.kill()
        await asyncio.to_thread(self._child.wait)

    async def says(self, line: str = "step") -> str:
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()
        answer = await asyncio.wait_for(asyncio.to_thread(self._child.stdout.readline), PATIENCE_S)
        assert answer, "it ended"
        return answer.strip()


def at_home(steps: int) -> list[str]:
    """The losses of the same training on this machine's processor."""
    code = TRAINING.replace('"cuda"', '"cpu"')
    done = subprocess.run(
        [sys.executable, "-c", code], input="step\n" * steps + "\n", capture_output=True, text=True, env=ONE_THREAD,
        timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    return done.stdout.split()


def moved(pool: Stage, lease: GpuLease) -> bool:
    status = pool.status(lease)
    here = pool.spec(lease)["slice"]["gpuUUID"] == TARGET.share.uuid
    return here and "next" not in status and status["phase"] == "Active" and len(pool.executors()) == 1


async def test_losses_of_a_training_that_moves_are_those_of_one_that_does_not(pool: Stage, tmp_path: Path) -> None:
    lease, folder = await pool.client("train"), tmp_path / "lease"
    await started(pool, folder, lease)
    before = pool.status(lease)
    async with Running(begun(folder, TRAINING)) as program:
        losses = [await program.says() for _ in range(5)]
        await pool.target(lease)
        while not moved(pool, lease):
            losses.append(await program.says())
        losses += [await program.says() for _ in range(3)]
        written(folder, pool.status(lease), lease, pool.kubelet.authority, pool.token("train"))
        losses += [await program.says() for _ in range(3)]
    assert pool.status(lease)["epoch"] == before["epoch"] + 1 and len(losses) > 11
    assert losses == at_home(len(losses)), "to the bit"


async def test_a_slice_that_would_be_smaller_than_what_is_in_use_is_refused_and_the_program_goes_on(
    pool: Stage, tmp_path: Path
) -> None:
    lease, folder = await pool.client("train"), tmp_path / "lease"
    await started(pool, folder, lease)
    small = replace(TARGET, share=Share(TARGET.share.uuid, 8 * MIB, 30))
    async with Running(begun(folder, textwrap.dedent(FILLING))) as program:
        assert await program.says("16") == "16.0"
        await pool.target(lease, small)
        said = await until(lambda: "the slice has" in pool.status(lease).get("message", ""), "a refusal", 60)
        assert said and pool.status(lease)["phase"] in ("Active", "Migrating")
        await pool.target(lease, None)
        assert await program.says("4") == "20.0"
        await until(lambda: len(pool.executors()) == 1 and pool.status(lease)["phase"] == "Active", "rest", 60)
        assert await program.says("4") == "24.0"


async def test_a_larger_slice_holds_more(pool: Stage, tmp_path: Path) -> None:
    share = Share("GPU-1", 32 * MIB, 30)
    pool.share = share
    lease, folder = await pool.client("train"), tmp_path / "lease"
    await started(pool, folder, lease)
    async with Running(begun(folder, textwrap.dedent(FILLING))) as program:
        assert await program.says("24") == "24.0"
        assert (await program.says("24")).startswith("OutOfMemoryError")
        await pool.target(lease, replace(TARGET, share=Share(TARGET.share.uuid, 64 * MIB, 30)))
        await until(lambda: moved(pool, lease), "the move", 60)
        assert await program.says("24") == "48.0"
        assert (await program.says("24")).startswith("OutOfMemoryError")
