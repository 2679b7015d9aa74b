"""A lease from its Binding to its end, over real gRPC and real TLS."""

from collections.abc import AsyncIterator

import pytest

from tessera.model import names
from tessera.remote.protocol.frames import Kind
from tests.integration.pool.stage import POOL, SHARE, TORCH, Stage, stage, until


@pytest.fixture
async def pool() -> AsyncIterator[Stage]:
    async with stage() as found:
        yield found


async def test_a_bound_pod_gets_an_executor_that_serves_each_of_its_starts(pool: Stage) -> None:
    lease = await pool.client("train", annotations={names.QOS: "best-effort"})
    ready = await pool.phase(lease, "Ready", epoch=1)
    (executor,) = pool.executors()
    meta, spec = executor["metadata"], executor["spec"]
    assert ready["executor"] == {"namespace": POOL, "name": meta["name"], "uid": meta["uid"]}
    assert ready["serverName"] == lease.server_name
    assert meta["labels"][names.LEASE_UID] == lease.uid
    assert meta["annotations"][names.LEASE] == lease.key and meta["annotations"][names.LEASE_EPOCH] == "1"
    assert meta["annotations"][names.QOS] == "best-effort"
    limits = [c["resources"]["limits"] for c in spec["containers"] if names.SLICE in c["resources"]["limits"]]
    assert limits == [
        {names.GPU_MEM: str(SHARE.mem_bytes), names.GPU_CORE: "30", names.SLICE: "1", "memory": limits[0]["memory"]}
    ]
    await pool.attach(lease, "slot-1-a")
    first = await pool.phase(lease, "Active", epoch=2)
    assert first["attached"] == {"device": "slot-1-a", "after": ""}
    await pool.attach(lease, "slot-1-b", "c0ffee")
    second = await pool.phase(lease, "Active", epoch=3)
    assert second["attached"] == {"device": "slot-1-b", "after": "c0ffee"}
    assert second["endpoint"] == ready["endpoint"], "the executor stays"


async def test_who_is_let_in_talks_to_the_executor(pool: Stage) -> None:
    lease = await pool.client("train")
    await pool.attach(lease, "slot-1-a")
    await pool.phase(lease, "Active")
    kind, refused = await pool.hello(lease, pool.token("train"))
    assert kind is Kind.REFUSED and refused.reason == "Torch" and TORCH in refused.text


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", ""])
async def test_the_end_of_a_pod_leaves_nothing(pool: Stage, phase: str) -> None:
    lease = await pool.client("train")
    await pool.phase(lease, "Ready")
    await pool.end("train", phase=phase)
    await until(pool.nothing_left, "nothing left")
