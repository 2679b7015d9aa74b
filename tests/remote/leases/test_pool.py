"""Real programs through the pool: controller, gate, executor, and the files that a client node writes."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import tessera
from tessera.model.gpu_leases import GpuLease
from tests.integration.pool.stage import Plain, Stage, stage, until
from tests.remote.server import ONE_THREAD, PATIENCE_S, TESSERA

pytestmark = pytest.mark.torch
PACKAGE = Path(tessera.__file__).parent
TRAIN = textwrap.dedent("""
    import torch
    torch.manual_seed(1)
    x = torch.arange(12.0).reshape(3, 4).to("cuda")
    w = torch.ones(4, 2, device="cuda", requires_grad=True)
    (x @ w).sum().backward()
    print(w.grad.cpu().tolist())
""")
GRADIENTS = "[[12.0, 12.0], [15.0, 15.0], [18.0, 18.0], [21.0, 21.0]]"
STAYS = textwrap.dedent("""
    import sys, torch
    x = torch.ones(3, device="cuda")
    print(x.sum().item(), flush=True)
    sys.stdin.readline()
    try:
        print((x + 1).sum().item())
    except Exception as error:
        print(type(error).__name__, error)
""")


class Served:
    """``tessera serve --socket`` as the executor's container runs it."""

    def __init__(self, path: Path) -> None:
        command = [TESSERA, "serve", "--device", "cpu", "--socket", str(path)]
        self._child = subprocess.Popen(command, env={**os.environ, **ONE_THREAD})

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait(30)


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        found.kubelet.make_executor = Served
        yield found


async def started(pool: Stage, folder: Path, lease: GpuLease, after: str = "") -> None:
    """The client node's part of a start: ``attach``, and the files once that is served."""
    await pool.attach(lease, f"slot{after}", after)
    attached = {"device": f"slot{after}", "after": after}
    async with asyncio.timeout(PATIENCE_S):
        while (status := pool.status(lease)).get("attached") != attached or status["phase"] != "Active":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    written(folder, status, lease, pool.kubelet.authority, pool.token(lease.client.pod))


def written(folder: Path, status: Plain, lease: GpuLease, authority: bytes, token: str) -> None:
    folder.mkdir(exist_ok=True)
    said = {"endpoint": status["endpoint"], "epoch": status["epoch"], "server_name": status["serverName"]}
    (folder / "lease.json").write_text(json.dumps({**said, "lease": lease.key, "container": "main"}))
    (folder / "ca.crt").write_bytes(authority)
    (folder / "token").write_text(token)


def container(folder: Path) -> dict[str, Any]:
    return {
        **os.environ, **ONE_THREAD, "TESSERA_LEASE_DIR": str(folder), "TESSERA_TOKEN_FILE": str(folder / "token"),
        "TESSERA_ALIAS_CUDA": "1", "TESSERA_REMOTE_HOME": str(PACKAGE), "PYTHONPATH": str(PACKAGE / "remote" / "hook"),
    }  # fmt: skip


def begun(folder: Path, code: str) -> "subprocess.Popen[str]":
    pipe, command = subprocess.PIPE, [sys.executable, "-u", "-c", code]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=container(folder))


async def run(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_S, env=container(folder), check=False
    )


@pytest.mark.timeout(600)
async def test_a_program_trains_and_a_new_start_ends_the_former(pool: Stage, tmp_path: Path) -> None:
    lease = await pool.client("train")
    folder = tmp_path / "lease"
    await started(pool, folder, lease)
    done = await run(folder, TRAIN)
    assert done.stdout.strip() == GRADIENTS, done.stderr

    former = begun(folder, STAYS)
    assert former.stdin and former.stdout
    try:
        assert await asyncio.to_thread(former.stdout.readline) == "3.0\n"
        await started(pool, folder, lease, "c0ffee")
        said, _ = await asyncio.to_thread(former.communicate, "\n", PATIENCE_S)
        assert said.startswith("DeviceLostError"), said
    finally:
        former.kill()
        former.wait()

    again = await run(folder, TRAIN)
    assert again.stdout.strip() == GRADIENTS, again.stderr


@pytest.mark.timeout(600)
async def test_a_pod_that_has_ended_computes_no_more(pool: Stage, tmp_path: Path) -> None:
    lease = await pool.client("train")
    folder = tmp_path / "lease"
    await started(pool, folder, lease)
    await pool.end("train")
    await until(pool.nothing_left, "nothing left", 60)
    refused = await run(folder, TRAIN)
    assert refused.returncode and GRADIENTS not in refused.stdout
