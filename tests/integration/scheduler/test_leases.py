"""Slices on other nodes: the GPULeases that the binder makes, and what is left when anything fails on the way."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.convert import gpu_lease_of, pod_of
from tessera.model import names
from tessera.model.assignment import decode
from tessera.model.charges import Charge, Totals
from tessera.model.quantities import GIB
from tessera.scheduler.binder import Binder
from tessera.scheduler.engine import Engine
from tessera.scheduler.lease_rooms import lease_charge
from tessera.scheduler.left_leases import LeftLeases
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.apiserver import ApiServer
from tests.integration.scheduler.test_service import Cluster, Json, gpu_node, pod, until


def remote(name: str, mem: str) -> Json:
    body = pod(name, mem)
    body["metadata"]["annotations"] = {names.REMOTE: "required"}
    return body


class Pool(Cluster):
    def leases(self) -> list[Json]:
        return [entry.object for entry in self.api.store.entries("gpuleases")]

    @property
    def charges(self) -> dict[str, Charge]:
        return dict(self.service.engine.ledger.charges())

    async def add_host(self, name: str) -> None:
        status = {"allocatable": {"cpu": "8", "memory": "32Gi"}}
        self.api.store.put("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status})
        await until(lambda: name in self.service.engine.ledger.hosts(), f"the host {name}")

    async def add_node(self, name: str, *gib: int) -> None:
        await self.add_host(name)
        self.api.store.put("gpunodes", gpu_node(name, *gib))
        await until(lambda: self.service.engine.ledger.node(name), f"GPUs of {name}")

    async def add_client(self, name: str, slots: int = 4) -> None:
        await self.add_host(name)
        self.api.store.put("gpunodes", gpu_node(name) | {"status": {"clientSlots": slots}})
        await until(lambda: self.service.engine.ledger.node(name), f"slots of {name}")

    async def asked(self, name: str, mem: str) -> Json:
        """A pod that filter has sent to the client node."""
        created = await self.create(remote(name, mem))
        assert (await self.filter(created, "g", "c"))["NodeNames"] == ["c"]
        return created

    def facts(self) -> dict[str, Charge]:
        """What a new leader would charge, as long as no executor runs."""
        found = {}
        for each in map(_lease, self.leases()):
            found[each.hold] = lease_charge(each)
        for entry in self.api.store.entries("pods"):
            seen = pod_of(msgspec.convert(entry.object, wire.Pod))
            if seen.node:
                assignment = decode(seen.annotations[names.ASSIGNMENT])
                found[seen.uid] = Charge(seen.node, Totals(slots=len(assignment.leases)), assignment, seen.namespace)
        return found


def _lease(body: Json) -> Any:
    return gpu_lease_of(msgspec.convert(body, wire.GpuLease))


@asynccontextmanager
async def serving(api: ApiServer) -> AsyncIterator[Service]:
    service = Service(
        SchedulerSettings(server=api.url, port=0, webhook_port=0, log_level="error", pool_enabled=True, hold_s=2.0)
    )
    await service.start()
    try:
        await asyncio.wait_for(service.wait_ready(), 30)
        yield service
    finally:
        await service.stop()


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with ApiServer() as api, aiohttp.ClientSession() as http:
        api.add_namespace("tessera-system")
        async with serving(api) as service:
            cluster = Pool(api, service, http)
            await cluster.add_node("g", 24)
            await cluster.add_client("c")
            yield cluster


async def test_a_pod_is_bound_with_a_lease_that_is_there_before(pool: Pool) -> None:
    created = await pool.asked("web", "4Gi")
    assert await pool.bind(created, "c") == ""
    [lease] = pool.leases()
    assert lease["spec"]["slice"] == {
        "node": "g", "gpuUUID": "GPU-g-0", "memoryBytes": 4 * GIB, "corePercent": 0, "trustDomain": "",
    }  # fmt: skip
    uid = created["metadata"]["uid"]
    assert lease["spec"]["client"] == {"pod": "web", "podUID": uid, "container": "main", "node": "c"}
    assert lease["metadata"]["finalizers"] == [names.LEASE_FINALIZER]
    assert [owner["uid"] for owner in lease["metadata"]["ownerReferences"]] == [uid]
    stored = pool.stored("web")
    assert stored["spec"]["nodeName"] == "c"
    assert decode(stored["metadata"]["annotations"][names.ASSIGNMENT]).leases == (("main", lease["metadata"]["name"]),)
    await until(lambda: not pool.service.engine.promises(), "the reservation to become a fact")
    assert pool.charges == pool.facts()
    assert int(pool.service.engine.ledger.free_bytes.sum()) == 20 * GIB


async def test_a_refused_binding_leaves_no_lease_and_no_charge(pool: Pool) -> None:
    created = await pool.asked("web", "20Gi")
    pool.api.faults.fail_next(1, status=409, verb="bind")
    assert "refused the Binding" in await pool.bind(created, "c")
    await until(lambda: not pool.leases() and not pool.charges, "the lease to be removed and its room to be free")
    assert not pool.service.binder.in_doubt
    assert (await pool.filter(created, "g", "c"))["NodeNames"] == ["c"]
    assert await pool.bind(created, "c") == ""
    assert len(pool.leases()) == 1


async def test_a_lease_that_may_not_be_made_is_no_binding(pool: Pool) -> None:
    created = await pool.asked("web", "4Gi")
    pool.api.faults.fail_next(1, status=403, verb="create", plural="gpuleases")
    assert "refused the Binding" in await pool.bind(created, "c")
    await until(lambda: not pool.charges, "the room to be free")
    assert "nodeName" not in pool.stored("web")["spec"]


async def test_room_stays_charged_until_its_lease_could_be_removed(pool: Pool) -> None:
    created = await pool.asked("web", "20Gi")
    pool.api.faults.fail_next(1, status=409, verb="bind")
    pool.api.faults.fail_next(2, status=500, verb="delete", plural="gpuleases")
    await pool.bind(created, "c")
    other = await pool.create(remote("other", "20Gi"))
    assert (await pool.filter(other, "g", "c"))["NodeNames"] == []
    assert pool.leases()
    await until(lambda: not pool.leases() and not pool.charges, "the lease to be removed at last")
    assert (await pool.filter(other, "g", "c"))["NodeNames"] == ["c"]


async def test_a_lost_answer_to_the_binding_is_looked_up(pool: Pool) -> None:
    created = await pool.asked("web", "4Gi")
    pool.api.faults.lose_answers(1, verb="bind")
    assert "was lost" in await pool.bind(created, "c")
    await until(lambda: not pool.service.binder.in_doubt, "the look-up to end")
    assert len(pool.leases()) == 1 and pool.charges == pool.facts()
    await until(lambda: not pool.service.engine.promises(), "the reservation to become a fact")
    assert pool.charges == pool.facts()


async def test_a_lost_answer_to_a_lease_removes_it_before_its_room_is_free(pool: Pool) -> None:
    created = await pool.create(remote("web", "4Gi"))
    service, uid = pool.service, created["metadata"]["uid"]
    engine = Engine(time.monotonic, service.engine.options)
    engine.replace_nodes(service.engine.ledger.nodes())
    assert engine.filter(pod_of(msgspec.convert(created, wire.Pod)), ["c"]).nodes == ["c"]
    seen: list[bool] = []

    async def passes(_: float) -> None:
        seen.append(bool(engine.ledger.charges()) or not pool.leases())
        await asyncio.sleep(0)

    binder = Binder(engine, service.gateway, service.lease, service.recorder, sleep=passes)
    pool.api.faults.lose_answers(1, verb="create", plural="gpuleases")
    assert "was lost" in str(await binder.bind("default", "web", uid, "c"))
    assert len(pool.leases()) == 1
    await until(lambda: not binder.in_doubt, "the look-up to end")
    assert not pool.leases() and not engine.ledger.charges() and all(seen)
    await binder.close()


async def test_kube_scheduler_may_make_room_for_a_client_of_what_it_counts(pool: Pool) -> None:
    """CPU on the client's node, say; not where the slice could not be had anyway, nor on nodes that take no clients."""

    async def viable(body: Json) -> set[str]:
        victims = {"Pods": [{"UID": "plain"}], "NumPDBViolations": 0}
        asked = {"Pod": body, "NodeNameToMetaVictims": {"c": victims, "g": victims}}
        return set((await pool.ask("preempt", asked))["NodeNameToMetaVictims"])

    assert await viable(await pool.create(remote("fits", "4Gi"))) == {"c"}
    assert await viable(await pool.create(remote("large", "40Gi"))) == set()


async def test_the_event_says_where_the_slice_is(pool: Pool) -> None:
    created = await pool.asked("web", "4Gi")
    await pool.bind(created, "c")

    def told() -> list[str]:
        events = (entry.object for entry in pool.api.store.entries("events"))
        return [event["message"] for event in events if event["reason"] == "SliceAssigned"]

    await until(told, "the event")
    assert told() == ["c: main: 4Gi of GPU-g-0 on g"]


async def test_a_new_leader_knows_the_same_at_every_point(pool: Pool) -> None:
    """One pod bound; of one only the lease was made when its leader went; an executor holds the first one's slice."""
    bound = await pool.asked("bound", "4Gi")
    assert await pool.bind(bound, "c") == ""
    torn = await pool.asked("torn", "5Gi")
    pool.api.faults.delay_next(1, 60.0, verb="bind")
    asking = asyncio.create_task(pool.bind(torn, "c"))
    await until(lambda: len(pool.leases()) == 2, "the lease of the second")
    await pool.service.stop()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    pool.api.faults.clear()
    pool.api.faults.delay_next(1, 2.0, verb="delete", plural="gpuleases")
    async with serving(pool.api) as second:
        after = Pool(pool.api, second, pool.http)
        assert after.charges == after.facts() and len(after.charges) == 3
        assert int(second.engine.ledger.free_bytes.sum()) == 15 * GIB
        assert "is not gone yet" in str((await after.filter(torn, "g", "c"))["FailedAndUnresolvableNodes"])
        await until(lambda: len(after.charges) == 2, "the lease that nobody was bound with to be removed")
        [kept] = after.leases()
        assert kept["spec"]["client"]["pod"] == "bound" and after.charges == after.facts()
        assert (await after.filter(torn, "g", "c"))["NodeNames"] == ["c"]
        assert await after.bind(torn, "c") == ""


async def test_a_lease_is_not_removed_because_the_news_of_its_pod_are_late(pool: Pool) -> None:
    created = await pool.asked("web", "4Gi")
    assert await pool.bind(created, "c") == ""
    engine = Engine(time.monotonic, pool.service.engine.options)
    engine.leases.replace(map(_lease, pool.leases()))
    now = [0.0]
    left = LeftLeases(engine, pool.service.gateway, lambda: True, lambda: now[0])
    await left.remove()
    assert len(pool.leases()) == 1
    stored = pool.stored("web")
    stored["spec"] = {key: value for key, value in stored["spec"].items() if key != "nodeName"}
    pool.api.store.put("pods", stored)
    await left.remove()
    assert len(pool.leases()) == 1, "it is not asked again at once"
    now[0] = 2.0
    await left.remove()
    assert not pool.leases() and not engine.ledger.charges()
