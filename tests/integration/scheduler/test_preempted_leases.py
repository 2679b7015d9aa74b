"""A pod of higher priority takes the room of a lease: its client leaves, the pool ends the executor, and nobody else
gets the room. Scheduler and pool controller are real, over one API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tessera.kube.resources import PODS
from tessera.model import names
from tessera.model.assignment import decode
from tests.integration.pool.stage import POOL, Stage, stage
from tests.integration.scheduler.test_leases import Pool, remote, serving
from tests.integration.scheduler.test_preemptor import SPARED, condition, important, leaving
from tests.integration.scheduler.test_service import Json, until


class Theatre(Pool):
    """With the pool's controller, and executors that the scheduler binds as any pod."""

    stage: Stage

    async def bind_executor(self, pod: Json) -> None:
        """As kube-scheduler would, which tries again."""
        if (await self.filter(pod, "g", "h"))["NodeNames"] == ["g"]:
            meta = pod["metadata"]
            await self.ask("bind", {"PodName": meta["name"], "PodNamespace": POOL, "PodUID": meta["uid"], "Node": "g"})

    async def run_away(self, name: str, mem: str, priority: int = 0, **meta: Any) -> Json:
        """A pod with a slice elsewhere; answers its lease once an executor serves it."""
        body = remote(name, mem)
        body["spec"]["priority"] = priority
        body["metadata"] |= meta
        created = await self.create(body)
        await until(lambda: not self.service.engine.waiting, "nothing to wait")
        assert (await self.filter(created, "g", "c"))["NodeNames"] == ["c"]
        assert await self.bind(created, "c") == ""
        await until(lambda: self.phase_of(name) == "Ready", "an executor to serve")
        return self.lease_of(name)

    def lease_of(self, pod: str) -> Json:
        return next((each for each in self.leases() if each["spec"]["client"]["pod"] == pod), {})

    def phase_of(self, pod: str) -> str:
        return str(self.lease_of(pod).get("status", {}).get("phase"))

    async def takes(self, asking: Json, node: str) -> None:
        """The pod is offered the node, and bound there."""
        async with asyncio.timeout(15):
            while (await self.filter(asking, "g", "h"))["NodeNames"] != [node]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await self.bind(asking, node) == ""

    def share(self, name: str) -> str:
        [found] = decode(self.stored(name)["metadata"]["annotations"][names.ASSIGNMENT]).shares
        return found.uuid


@asynccontextmanager
async def theatre(pool: Stage) -> AsyncIterator[Theatre]:
    async with aiohttp.ClientSession() as http, serving(pool.server) as service:
        found = Theatre(pool.server, service, http)
        found.stage, pool.kubelet.bind = pool, found.bind_executor
        try:
            yield found
        finally:
            pool.kubelet.bind = nobody_binds


async def nobody_binds(_: Json) -> None: ...


@pytest.fixture
async def cluster() -> AsyncIterator[Theatre]:
    async with stage() as pool, theatre(pool) as found:
        await found.add_node("g", 24)
        await found.add_client("c")
        yield found


async def quiet(cluster: Theatre, asked: Json, *nodes: str) -> None:
    assert (await cluster.filter(asked, *nodes))["NodeNames"] == []
    await cluster.service.preemptor.idle()


async def test_the_client_leaves_its_executor_ends_and_the_room_is_the_preemptors(cluster: Theatre) -> None:
    await cluster.run_away("far", "20Gi", 10)
    asking = await cluster.create(important("high", "20Gi"))
    await quiet(cluster, asking, "g")
    assert leaving(cluster) == ["far"], "not the executor"
    told = condition(cluster, "far")
    assert told and told["reason"] == "PreemptionByScheduler" and "default/high" in told["message"]
    assert cluster.stored("high")["status"]["nominatedNodeName"] == "g", "where the room is, not where the victim runs"
    await quiet(cluster, asking, "g")
    late = await cluster.create(important("late", "20Gi", 99))
    await cluster.stage.end("far")
    offered = []

    async def greedy() -> None:
        while cluster.stored("high")["spec"].get("nodeName") is None:
            offered.extend((await cluster.filter(late, "g"))["NodeNames"])
            await asyncio.sleep(0)

    trying = asyncio.create_task(greedy())
    await until(lambda: not cluster.leases() and not cluster.stage.executors(), "lease and executor to be gone")
    await cluster.takes(asking, "g")
    await trying
    assert offered == [] and cluster.share("high") == "GPU-g-0"
    await until(lambda: not cluster.service.engine.promises(), "the reservation to become a fact")
    assert not cluster.service.engine.ledger.over_committed() and len(cluster.charges) == 1
    await cluster.service.recorder.flush()
    events = [entry.object for entry in cluster.api.store.entries("events")]
    [event] = [each for each in events if each["reason"] == "Preempted"]
    assert (
        event["involvedObject"]["name"] == "far"
        and "by default/high" in event["message"]
        and "on g" in event["message"]
    )


async def test_while_lease_and_executor_go_nobody_else_is_asked_to_leave(cluster: Theatre) -> None:
    await cluster.run_away("far", "20Gi", 10)
    await cluster.add_node("h", 24)
    other = await cluster.create(important("other", "20Gi", 20))
    await cluster.takes(other, "h")
    asking = await cluster.create(important("high", "20Gi"))
    await quiet(cluster, asking, "g", "h")
    assert leaving(cluster) == ["far"]
    await cluster.stage.stop()  # the pool ends nothing now
    await cluster.stage.end("far")
    await until(lambda: cluster.api.store.get("pods", "default", "far") is None, "the client to be gone")
    for _ in range(3):
        await quiet(cluster, asking, "g", "h")
    assert leaving(cluster) == [] and cluster.leases()
    await cluster.stage.start()
    await cluster.takes(asking, "g")
    assert not cluster.service.engine.ledger.over_committed()


@pytest.mark.parametrize("gone", [False, True])
async def test_a_new_leader_goes_on_with_the_same_client(gone: bool) -> None:
    async with stage() as pool:
        async with theatre(pool) as cluster:
            await cluster.add_node("g", 24)
            await cluster.add_client("c")
            await cluster.run_away("far", "20Gi", 10)
            await cluster.add_node("h", 24)
            asking = await cluster.create(important("high", "20Gi"))
            other = await cluster.create(important("other", "20Gi", 20))
            await cluster.takes(other, "h")
            await quiet(cluster, asking, "g", "h")
            assert leaving(cluster) == ["far"]
            await pool.stop()
        if gone:
            await pool.end("far")
        async with theatre(pool) as cluster:
            for _ in range(2):
                await quiet(cluster, asking, "g", "h")
            assert leaving(cluster) == ([] if gone else ["far"])
            if not gone:
                await pool.end("far")
            await pool.start()
            await cluster.takes(asking, "g")
            assert not cluster.service.engine.ledger.over_committed() and not cluster.leases()


async def test_a_budget_of_the_client_spares_it_where_another_choice_exists(cluster: Theatre) -> None:
    await cluster.run_away("far", "20Gi", 10, labels={"app": "web"})
    await cluster.add_node("h", 24)
    other = await cluster.create(important("other", "20Gi", 20))
    await cluster.takes(other, "h")
    cluster.api.store.put("poddisruptionbudgets", SPARED)
    await quiet(cluster, await cluster.create(important("high", "20Gi")), "g", "h")
    assert leaving(cluster) == ["other"]


async def preempted_by_kube_scheduler(cluster: Theatre, executor: str) -> None:
    """What kube-scheduler writes of a victim, and that it deletes it."""
    mark = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": "kube-scheduler: preempting to accommodate a higher priority pod"}  # fmt: skip
    gateway = cluster.stage.gateway
    await gateway.strategic_patch(
        PODS, executor, {"status": {"conditions": [mark]}}, namespace=POOL, subresource="status"
    )
    await gateway.delete(PODS, executor, namespace=POOL)


async def test_where_kube_scheduler_chooses_the_executor_the_client_goes_with_it(cluster: Theatre) -> None:
    lease = await cluster.run_away("far", "20Gi", 10)
    await preempted_by_kube_scheduler(cluster, lease["status"]["executor"]["name"])
    await until(lambda: leaving(cluster) == ["far"], "the client to be asked to leave")
    told = condition(cluster, "far")
    assert told and told["message"].endswith("on g was preempted")
    await cluster.stage.end("far")
    await until(lambda: not cluster.leases() and not cluster.stage.executors(), "nothing to be left")
    assert not cluster.charges


async def test_a_client_whose_executor_is_merely_deleted_stays(cluster: Theatre) -> None:
    lease = await cluster.run_away("far", "8Gi", 10)
    await cluster.stage.gateway.delete(PODS, lease["status"]["executor"]["name"], namespace=POOL)
    await until(lambda: cluster.lease_of("far")["status"]["epoch"] > lease["status"]["epoch"], "another executor")
    await until(lambda: cluster.phase_of("far") == "Ready", "it to serve")
    assert condition(cluster, "far") is None and "deletionTimestamp" not in cluster.stored("far")["metadata"]
