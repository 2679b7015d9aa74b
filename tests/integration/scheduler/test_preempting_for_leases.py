"""A pod whose slice is to be on another node takes the place of pods of lower priority there, and gets a lease of it.
Scheduler and pool controller are real, over one API server."""

import asyncio

import pytest

from tessera.model import names
from tests.integration.pool.stage import stage
from tests.integration.scheduler.test_leases import remote
from tests.integration.scheduler.test_preempted_leases import Theatre, cluster, quiet, theatre
from tests.integration.scheduler.test_preemptor import condition, leaving, run
from tests.integration.scheduler.test_service import Json, until
from tests.integration.scheduler.test_trouble import delete

__all__ = ["cluster"]


async def wanted(cluster: Theatre, name: str = "high", priority: int = 100) -> Json:
    body = remote(name, "20Gi")
    body["spec"] |= {"priority": priority, "preemptionPolicy": "PreemptLowerPriority"}
    return await cluster.create(body)


async def served(cluster: Theatre, asking: Json) -> Json:
    """Its lease, once the client node takes it and an executor serves it."""
    async with asyncio.timeout(15):
        while (await cluster.filter(asking, "c"))["NodeNames"] != ["c"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await cluster.bind(asking, "c") == ""
    name = asking["metadata"]["name"]
    await until(lambda: cluster.phase_of(name) == "Ready", "an executor to serve")
    return cluster.lease_of(name)


async def test_a_local_pod_gives_way_and_its_room_becomes_the_lease(cluster: Theatre) -> None:
    await run(cluster, "low", "20Gi", "g", 5)
    asking = await wanted(cluster)
    await quiet(cluster, asking, "c")
    assert leaving(cluster) == ["low"]
    told = condition(cluster, "low")
    assert told and "default/high" in told["message"]
    assert not cluster.stored("high")["status"].get("nominatedNodeName"), "it will not run where the room is"
    await quiet(cluster, asking, "c")
    late = await wanted(cluster, "late", 99)
    offered = []

    async def greedy() -> None:
        while cluster.stored("high")["spec"].get("nodeName") is None:
            offered.extend((await cluster.filter(late, "c"))["NodeNames"])
            await asyncio.sleep(0)

    trying = asyncio.create_task(greedy())
    await delete(cluster, "low")
    lease = await served(cluster, asking)
    await trying
    assert offered == [] and lease["spec"]["slice"]["gpuUUID"] == "GPU-g-0"
    assert not cluster.service.engine.ledger.over_committed()


async def test_a_client_gives_way_to_a_client(cluster: Theatre) -> None:
    await cluster.run_away("far", "20Gi", 10)
    asking = await wanted(cluster)
    await quiet(cluster, asking, "c")
    assert leaving(cluster) == ["far"]
    await cluster.stage.end("far")
    await served(cluster, asking)
    assert len(cluster.leases()) == 1 and not cluster.service.engine.ledger.over_committed()


async def test_nobody_leaves_where_no_executor_would_find_its_cpu(cluster: Theatre) -> None:
    await run(cluster, "low", "20Gi", "g", 5)
    await cluster.add_node("h", 24)
    await run(cluster, "middle", "20Gi", "h", 50)
    busy = {"name": "busy", "image": "x", "resources": {"requests": {"cpu": "8"}}}
    await cluster.create({"metadata": {"name": "busy"}, "spec": {"nodeName": "g", "containers": [busy]}})
    await until(lambda: cluster.service.engine.ledger.free_cpu[cluster.service.engine.ledger.rows()["g"]] < 1, "no CPU")
    await quiet(cluster, await wanted(cluster), "c")
    assert leaving(cluster) == ["middle"]


async def test_nobody_leaves_for_a_pod_that_finds_no_slot(cluster: Theatre) -> None:
    await run(cluster, "low", "20Gi", "g", 5)
    cluster.api.store.put("gpunodes", {"apiVersion": "tessera.io/v1alpha1", "kind": "GPUNode",
                                       "metadata": {"name": "c"}, "status": {"clientSlots": 0}})  # fmt: skip
    await until(lambda: not cluster.service.engine.ledger.client.any(), "no client node")
    await quiet(cluster, await wanted(cluster), "c")
    assert leaving(cluster) == []


@pytest.mark.parametrize("gone", [False, True])
async def test_a_new_leader_goes_on_with_the_same_pod(gone: bool) -> None:
    async with stage() as pool:
        async with theatre(pool) as cluster:
            await cluster.add_node("g", 24)
            await cluster.add_client("c")
            await run(cluster, "low", "20Gi", "g", 10)
            await cluster.add_node("h", 24)
            await run(cluster, "other", "20Gi", "h", 20)
            asking = await wanted(cluster)
            await quiet(cluster, asking, "c")
            assert leaving(cluster) == ["low"]
        if gone:
            await pool.end("low")
        async with theatre(pool) as cluster:
            if not gone:
                await quiet(cluster, asking, "c")
                assert leaving(cluster) == ["low"]
                await delete(cluster, "low")
            lease = await served(cluster, asking)
            assert lease["spec"]["slice"]["node"] == "g" and leaving(cluster) == []
            assert names.ASSIGNMENT in cluster.stored("other")["metadata"]["annotations"]
