"""What who looks sees of a real lease, from its making to the end that its user asks for."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tessera.cli.kubectl import app
from tessera.dashboard.service import Service
from tests.integration.dashboard.objects import client_node, dashboard, gpu_node
from tests.integration.pool.stage import POOL, SHARE, Stage, stage, until


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        found.server.store.put("gpunodes", gpu_node("gpu-node", SHARE.uuid))
        found.server.store.put("gpunodes", client_node("cpu-node"))
        yield found


@pytest.fixture
async def shown(pool: Stage) -> AsyncIterator[Service]:
    async with dashboard(pool.server) as running:
        await until(lambda: running.feed.synced, "the first snapshot")
        yield running


async def kubectl(pool: Stage, *argv: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [*argv, "--server", pool.server.url])


def held(shown: Service) -> list[tuple[str, str, int]]:
    """Whose the GPU's slices are: client, executor, bytes."""
    return [(t.pod, t.executor, t.mem_bytes) for t in shown.feed.snapshot.gpus[SHARE.uuid].tenants]


def reason(shown: Service) -> str | None:
    """Of the pod ``train``, once it is shown."""
    pod = shown.feed.snapshot.pods.get("default/train")
    return pod.reason if pod else None


async def test_a_lease_is_seen_from_its_making_to_its_use(pool: Stage, shown: Service) -> None:
    pool.kubelet.held = True
    lease = await pool.client("train")
    await until(lambda: held(shown) == [("train", "", SHARE.mem_bytes)], "the room that the lease keeps")
    await until(lambda: reason(shown) == "LeaseReserved", "its pod says what it waits for")
    pool.kubelet.held = False
    status = await pool.phase(lease, "Ready")
    executor = f"{POOL}/{status['executor']['name']}"
    await until(lambda: held(shown) == [("train", executor, SHARE.mem_bytes)], "its executor, and the slice once")
    await pool.attach(lease, "slot-1-a")
    await pool.phase(lease, "Active")
    await until(lambda: shown.feed.snapshot.leases[lease.key].phase == "Active", "it is in use")
    state = shown.feed.snapshot.leases[lease.key]
    assert (state.executor, state.endpoint, state.epoch) == (executor, status["endpoint"], 2)
    assert reason(shown) == ""
    assert (shown.feed.snapshot.nodes["cpu-node"].used_slots, shown.feed.snapshot.totals.pods) == (1, 1)
    listed: list[dict[str, Any]] = json.loads((await kubectl(pool, "lease", "list", "-A", "-o", "json")).stdout)[
        "items"
    ]
    assert [(x["pod"], x["phase"], x["executor"]) for x in listed] == [("train", "Active", executor)]


async def test_a_lease_that_its_user_ends_is_not_made_again(pool: Stage, shown: Service) -> None:
    lease = await pool.client("train")
    await pool.attach(lease, "slot-1-a")
    executor = (await pool.phase(lease, "Active"))["executor"]["name"]
    await until(lambda: held(shown) == [("train", f"{POOL}/{executor}", SHARE.mem_bytes)], "it is shown")
    token = pool.token("train")
    done = await kubectl(pool, "lease", "delete", lease.name)
    assert done.exit_code == 0, done.output
    await until(pool.nothing_left, "its executor and then the lease to be gone")
    with pytest.raises((OSError, KeyError)):
        await pool.hello(lease, token)
    pod = pool.server.store.get("pods", "default", "train")
    assert pod is not None and "deletionTimestamp" not in pod["metadata"], "the pod stays"
    await until(lambda: reason(shown) == "NoLease", "the pod says what it lacks")
    await until(lambda: held(shown) == [], "its room to be free")
    other = await pool.client("other")
    await pool.phase(other, "Ready")
    assert len(pool.executors()) == 1, "the controller went on, and made none for the lease that was deleted"
