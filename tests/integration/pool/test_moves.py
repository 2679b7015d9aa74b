"""A lease moves to the slice that is kept beside its first; real gates, real executors, no sessions to bring."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tessera.kube.resources import PODS
from tessera.model import names
from tessera.model.gpu_leases import GpuLease
from tests.integration.pool.process import ControllerProcess
from tests.integration.pool.stage import POOL, TARGET, Plain, Stage, stage, until


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        yield found


async def moved(pool: Stage, lease: GpuLease, before: Plain) -> Plain:
    """Once nothing of the move is left to do."""

    def there() -> Plain:
        spec, status = pool.spec(lease), pool.status(lease)
        done = spec["slice"]["gpuUUID"] == TARGET.share.uuid and "target" not in spec and "next" not in status
        return status if done and status["phase"] == "Active" else {}

    after: Plain = await until(there, f"a lease that has moved; found {pool.status(lease)}")
    await until(lambda: len(pool.executors()) == 1, "the former executor to be gone")
    assert after["executor"]["name"] != before["executor"]["name"] and after["endpoint"] != before["endpoint"]
    assert after["attached"] == before["attached"], "the container has not started anew"
    return after


def told(pool: Stage) -> list[str]:
    return [event["reason"] for event in pool.server.store.list("events", "default")]


async def test_the_next_executor_serves_in_the_next_epoch_and_the_slice_is_its(pool: Stage) -> None:
    lease = await pool.serving()
    before = pool.status(lease)
    await pool.target(lease)
    after = await moved(pool, lease, before)
    assert after["epoch"] == before["epoch"] + 1
    (executor,) = pool.executors()
    assert executor["metadata"]["annotations"][names.LEASE_SLICE] == names.TARGET
    limits = executor["spec"]["containers"][0]["resources"]["limits"]
    assert (limits[names.GPU_MEM], limits[names.GPU_CORE]) == (str(TARGET.share.mem_bytes), "40")
    assert pool.spec(lease)["slice"]["node"] == TARGET.node
    assert "SliceMoved" in told(pool) and "SliceLost" not in told(pool)
    _, refused = await pool.hello(lease, pool.token("train"))
    assert refused.reason == "Torch", "clients are let in there"


async def test_a_container_that_starts_anew_meanwhile_starts_in_the_target(pool: Stage) -> None:
    """Its former sessions are over: nothing is to be brought there."""
    lease = await pool.serving()
    before = pool.status(lease)
    pool.kubelet.held = True
    await pool.target(lease)
    await pool.phase(lease, "Migrating")
    await pool.attach(lease, "slot-1", "c0ffee")
    again = {"device": "slot-1", "after": "c0ffee"}
    await until(lambda: pool.spec(lease)["slice"]["gpuUUID"] == TARGET.share.uuid, "the target to be the slice")
    pool.kubelet.held = False
    after = await pool.phase(lease, "Active", attached=again)
    assert after["endpoint"] != before["endpoint"]


async def test_an_executor_that_ends_in_mid_move_is_lost_and_the_next_is_in_the_target(pool: Stage) -> None:
    lease = await pool.serving()
    before = pool.status(lease)
    pool.kubelet.with_gates = lambda: False
    await pool.target(lease)
    await pool.phase(lease, "Migrating")
    await pool.kubelet.kill(before["executor"]["name"])
    await until(lambda: pool.spec(lease)["slice"]["node"] == TARGET.node, "the target to be the slice")
    assert "SliceLost" in told(pool)


async def test_a_next_executor_that_ends_is_tried_again_and_the_sessions_stay(pool: Stage) -> None:
    lease = await pool.serving()
    before = pool.status(lease)
    pool.kubelet.with_gates = lambda: False
    await pool.target(lease)
    status = await until(lambda: (pool.status(lease).get("next") or {}).get("uid") and pool.status(lease), "the next")
    await pool.kubelet.kill(status["next"]["name"])
    stays = await pool.phase(lease, "Active", epoch=before["epoch"], endpoint=before["endpoint"])
    assert "container executor ended" in stays["message"] and stays["executor"] == before["executor"]
    pool.kubelet.with_gates = lambda: True
    await moved(pool, lease, before)
    assert "SliceStays" in told(pool) and "SliceLost" not in told(pool)


async def test_a_target_that_is_not_wanted_any_more_leaves_all_as_it_was(pool: Stage) -> None:
    lease = await pool.serving()
    before = pool.status(lease)
    pool.kubelet.with_gates = lambda: False
    await pool.target(lease)
    await pool.phase(lease, "Migrating")
    await pool.target(lease, None)
    after = await pool.phase(lease, "Active", endpoint=before["endpoint"])
    await until(lambda: len(pool.executors()) == 1, "one executor")
    assert after["epoch"] == before["epoch"] and "next" not in after


async def test_a_pod_that_ends_in_mid_move_leaves_nothing(pool: Stage) -> None:
    lease = await pool.serving()
    pool.kubelet.with_gates = lambda: False
    await pool.target(lease)
    await until(lambda: len(pool.executors()) == 2, "the next executor")
    await pool.end("train")
    await until(pool.nothing_left, "nothing left")


async def test_a_lost_lease_is_served_in_the_target_though_its_former_node_does_not_answer(pool: Stage) -> None:
    lease = await pool.serving()
    before = pool.status(lease)
    pool.kubelet.away = "gpu-node"
    await pool.gateway.delete(PODS, before["executor"]["name"], namespace=POOL)
    await pool.phase(lease, "Lost")
    await asyncio.sleep(0)
    assert len(pool.executors()) == 1, "its room is not free"
    await pool.target(lease)
    after = await pool.phase(lease, "Active", epoch=before["epoch"] + 1)
    assert pool.spec(lease)["slice"]["node"] == TARGET.node and after["endpoint"] != before["endpoint"]
    pool.kubelet.away = ""
    await until(lambda: len(pool.executors()) == 1, "the former executor to be gone")


@pytest.mark.parametrize("verb", ["create", "patch", "delete"])
@pytest.mark.parametrize("how", ["lose", "fail"])
async def test_answers_that_are_lost_and_requests_that_fail(pool: Stage, verb: str, how: str) -> None:
    lease = await pool.serving()
    before, faults = pool.status(lease), pool.server.faults
    await pool.target(lease)
    await pool.phase(lease, "Migrating")
    for plural in ("pods", "gpuleases"):
        if how == "lose":
            faults.lose_answers(2, verb=verb, plural=plural)
        else:
            faults.fail_next(2, 503, verb=verb, plural=plural)
    await moved(pool, lease, before)


@pytest.mark.parametrize("delay_s", [0.02, 0.1, 0.2, 0.4])
async def test_a_controller_that_is_killed_in_mid_move_is_followed_by_one_that_ends_it(
    pool: Stage, delay_s: float
) -> None:
    await pool.stop()
    async with ControllerProcess(pool.settings) as controller:
        lease = await pool.serving()
        before = pool.status(lease)
        await pool.target(lease)
        await asyncio.sleep(delay_s)  # wherever it is by then
        await controller.kill()
        await controller.start()
        await moved(pool, lease, before)
