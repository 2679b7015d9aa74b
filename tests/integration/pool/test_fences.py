"""What a controller that knows less than others have written may not do."""

from datetime import UTC, datetime

from tessera.kube.events import EventRecorder
from tessera.kube.resources import GPU_LEASES, PODS
from tessera.model.gpu_leases import GpuLease
from tessera.remote.controller.acting import Acting
from tessera.remote.controller.deciding import next_step
from tessera.remote.controller.reading import record_of
from tessera.remote.controller.records import Record
from tessera.remote.controller.steps import Delete
from tests.integration.pool.stage import POOL, Stage, stage, until


async def stored(pool: Stage, lease: GpuLease) -> Record:
    return record_of(await pool.gateway.get(GPU_LEASES, lease.name, namespace=lease.namespace))


async def test_a_new_leader_whose_watch_of_leases_is_behind_ends_no_executor_that_serves() -> None:
    """It sees the executor that the former leader has made, and not yet that the lease is that one's."""
    async with stage() as pool:
        lease = await pool.client("train")
        await pool.phase(lease, "Ready")
        behind = await stored(pool, lease)
        await pool.kubelet.kill(behind.status.executor)
        current = await pool.phase(lease, "Ready", epoch=behind.status.epoch + 1)
        await until(lambda: len(pool.executors()) == 1, "the former one to be gone")
        await pool.stop()
        recorder = EventRecorder(pool.gateway, "tessera-pool")
        acting = Acting(pool.gateway, pool.settings.options(), recorder, lambda: datetime.now(UTC))
        step = next_step(behind, await acting.executors(behind), await acting.client(behind))
        assert isinstance(step, Delete) and step.executor.name == current["executor"]["name"]
        await acting.carry_out(behind, step)
        (left,) = pool.executors()
        assert "deletionTimestamp" not in left["metadata"], "the lease is its"
        await acting.carry_out(await stored(pool, lease), step)
        ended = await pool.gateway.list(PODS, namespace=POOL)
        assert all(pod.metadata.deletion_timestamp for pod in ended), "who knows the lease as it is may"
