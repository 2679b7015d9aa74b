"""Standing leases: room that the leader finds for them, pods that come to use them, what is left when that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.convert import gpu_lease_of
from tessera.model import names
from tessera.model.assignment import decode
from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease, lease_name
from tessera.model.quantities import GIB
from tessera.scheduler.lease_rooms import lease_charge
from tessera.simulator.apiserver import ApiServer
from tests.integration.scheduler.test_leases import Pool, remote, serving
from tests.integration.scheduler.test_service import Json, until

MEM = "requests.tessera.io/gpu-mem"


class Standing(Pool):
    """With the lease ``mine`` of 8 GiB."""

    async def begin(self) -> None:
        await self.add_node("g", 24)
        await self.add_client("c")

    async def make(self, gib: int = 8, name: str = "mine") -> None:
        wanted = {"memoryBytes": gib * GIB, "corePercent": 0}
        body = {"apiVersion": "tessera.io/v1alpha1", "kind": "GPULease", "metadata": {"name": name},
                "spec": {"standing": True, "wanted": wanted}}  # fmt: skip
        url = f"{self.api.url}/apis/tessera.io/v1alpha1/namespaces/default/gpuleases"
        async with self.http.post(url, json=body) as answer:
            assert answer.status == 201, await answer.text()

    async def placed(self, gib: int = 8) -> None:
        """As the pool's controller has it once it has room."""
        await self.make(gib)
        await until(lambda: self.mine.target, "room for it")
        target = self.spec["target"]
        self.has(slice=target, target=None)
        await self.settled()

    @property
    def spec(self) -> Json:
        [lease] = self.leases()
        return dict(lease["spec"])

    @property
    def mine(self) -> GpuLease:
        [lease] = self.leases()
        return gpu_lease_of(msgspec.convert(lease, wire.GpuLease))

    def has(self, **changed: Any) -> None:
        [lease] = self.leases()
        spec = {**lease["spec"], **changed}
        self.api.store.put("gpuleases", {**lease, "spec": {k: v for k, v in spec.items() if v is not None}})

    async def user(self, name: str) -> Json:
        body = remote(name, "8Gi")
        body["metadata"]["annotations"][names.GPU_LEASE] = "mine"
        return await self.create(body)

    async def asked(self, name: str, mem: str = "8Gi") -> Json:
        created = await self.user(name)
        assert (await self.filter(created, "g", "c"))["NodeNames"] == ["c"]
        return created

    async def settled(self) -> None:
        await until(lambda: self.charges == self.facts(), f"{self.charges} to be what the objects say, {self.facts()}")

    def facts(self) -> dict[str, Charge]:
        rooms = super().facts()
        lease = self.mine
        if not lease.placed:
            del rooms[lease.hold]
        return rooms | ({lease.target_hold: lease_charge(lease, lease.target)} if lease.target else {})


@pytest.fixture
async def pool() -> AsyncIterator[Standing]:
    async with ApiServer() as api, aiohttp.ClientSession() as http:
        api.add_namespace("tessera-system")
        async with serving(api) as service:
            cluster = Standing(api, service, http)
            await cluster.begin()
            yield cluster


async def test_room_is_found_for_it_as_a_target(pool: Standing) -> None:
    await pool.make()
    await until(lambda: pool.mine.target, "room for it")
    assert pool.spec["target"] == {
        "node": "g", "gpuUUID": "GPU-g-0", "memoryBytes": 8 * GIB, "corePercent": 0, "trustDomain": "",
    }  # fmt: skip
    await pool.settled()
    assert int(pool.service.engine.ledger.free_bytes.sum()) == 16 * GIB


async def test_one_without_room_is_told_why_until_there_is_some(pool: Standing) -> None:
    await pool.make(gib=40)

    def why() -> str:
        [lease] = pool.leases()
        return str(lease.get("status", {}).get("unmoved", ""))

    await until(why, "why it has none")
    assert why().startswith("it has no slice yet: ")
    await pool.add_node("h", 80)
    await until(lambda: pool.mine.target, "room for it")
    assert pool.spec["target"]["node"] == "h"


async def test_quotas_are_asked(pool: Standing) -> None:
    quota = {"metadata": {"name": "team", "namespace": "default"}, "spec": {"hard": {MEM: "10Gi"}},
             "status": {"used": {MEM: "4Gi"}}}  # fmt: skip
    pool.api.store.put("resourcequotas", quota)
    await pool.make()

    def why() -> str:
        [lease] = pool.leases()
        return str(lease.get("status", {}).get("unmoved", ""))

    await until(why, "why it has none")
    assert "ResourceQuota team: requests.tessera.io/gpu-mem: found 12Gi with this growth; allowed: 10Gi" in why()
    pool.api.store.put("resourcequotas", {**quota, "spec": {"hard": {MEM: "12Gi"}}})
    await until(lambda: pool.mine.target, "room for it")


async def test_pods_beside_it_and_the_one_that_uses_it_keep_to_the_quota(pool: Standing) -> None:
    """Kubernetes counts the pods, which a quota has let in before; the lease is ours to count."""
    await pool.placed()

    def used(text: str) -> None:
        quota = {"metadata": {"name": "team", "namespace": "default"}, "spec": {"hard": {MEM: "10Gi"}},
                 "status": {"used": {MEM: text}}}  # fmt: skip
        pool.api.store.put("resourcequotas", quota)

    used("3Gi")
    beside = await pool.create(remote("beside", "3Gi"))
    assert (await pool.filter(beside, "g", "c"))["NodeNames"] == ["c"]
    text = (
        "ResourceQuota team: requests.tessera.io/gpu-mem: found 11Gi with what leases have beyond their pods' requests"
    )
    assert text in await pool.bind(beside, "c") and "nodeName" not in pool.stored("beside")["spec"]
    used("2Gi")
    assert await pool.bind(beside, "c") == ""
    used("10Gi")
    user = await pool.asked("web")
    assert await pool.bind(user, "c") == "", "it pays for what it asks for of the lease"


async def test_a_lease_that_is_going_is_not_used(pool: Standing) -> None:
    await pool.placed()
    created = await pool.asked("web")
    [lease] = pool.leases()
    meta = {**lease["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [names.LEASE_FINALIZER]}
    pool.api.store.put("gpuleases", {**lease, "metadata": meta})
    assert "is being deleted" in await pool.bind(created, "c")
    assert "nodeName" not in pool.stored("web")["spec"]
    await until(lambda: not pool.service.binder.in_doubt and "client" not in pool.spec, "the pod to be taken off")


async def test_a_pod_is_bound_with_it_and_no_other_is_made(pool: Standing) -> None:
    await pool.placed()
    created = await pool.asked("web")
    assert await pool.bind(created, "c") == ""
    uid = created["metadata"]["uid"]
    assert pool.spec["client"] == {"pod": "web", "podUID": uid, "container": "main", "node": "c"}
    assert decode(pool.stored("web")["metadata"]["annotations"][names.ASSIGNMENT]).leases == (("main", "mine"),)
    await until(lambda: not pool.service.engine.promises(), "the reservation to become a fact")
    await pool.settled()
    assert int(pool.service.engine.ledger.free_bytes.sum()) == 16 * GIB
    second = await pool.user("second")
    refused = await pool.filter(second, "g", "c")
    assert refused["NodeNames"] == [] and "is used by pod web" in str(refused)


async def test_a_refused_binding_takes_the_pod_off_it(pool: Standing) -> None:
    await pool.placed()
    created = await pool.asked("web")
    pool.api.faults.fail_next(1, status=409, verb="bind")
    assert "refused the Binding" in await pool.bind(created, "c")
    await until(lambda: "client" not in pool.spec, "the pod to be taken off")
    await until(lambda: not pool.service.binder.in_doubt, "the look-up to end")
    await pool.settled()
    assert pool.mine.placed, "it keeps its room"
    other = await pool.asked("other")
    assert await pool.bind(other, "c") == "" and pool.spec["client"]["pod"] == "other"


@pytest.mark.parametrize("lost", [True, False])
async def test_what_cannot_be_written_is_no_binding(pool: Standing, lost: bool) -> None:
    await pool.placed()
    created = await pool.asked("web")
    if lost:
        pool.api.faults.lose_answers(1, verb="patch", plural="gpuleases")
    else:
        pool.api.faults.fail_next(1, status=403, verb="patch", plural="gpuleases")
    assert await pool.bind(created, "c") != ""
    assert "nodeName" not in pool.stored("web")["spec"]
    await until(lambda: not pool.service.binder.in_doubt, "the look-up to end", 30)
    assert "client" not in pool.spec
    await pool.settled()


async def test_one_that_was_stopped_meanwhile_is_not_used(pool: Standing) -> None:
    await pool.placed()
    created = await pool.asked("web")
    [lease] = pool.leases()
    pool.api.store.put("gpuleases", {**lease, "spec": {**lease["spec"], "stopped": True}})
    assert await pool.bind(created, "c") != ""
    assert "nodeName" not in pool.stored("web")["spec"] and "client" not in pool.spec


async def test_a_client_of_a_former_leader_that_was_not_bound_is_taken_off(pool: Standing) -> None:
    await pool.placed()
    created = await pool.asked("web")
    pool.api.faults.delay_next(1, 60.0, verb="bind")
    asking = asyncio.create_task(pool.bind(created, "c"))
    await until(lambda: "client" in pool.spec, "the client to be written")
    await pool.service.stop()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    pool.api.faults.clear()
    async with serving(pool.api) as second:
        after = Standing(pool.api, second, pool.http)
        await until(lambda: "client" not in after.spec, "the pod to be taken off")
        await after.settled()
        other = await after.asked("other")
        assert await after.bind(other, "c") == "" and after.spec["client"]["pod"] == "other"


async def test_a_client_that_is_being_taken_off_is_not_written_anew_meanwhile(pool: Standing) -> None:
    """To the API server the same client again is no change, and the pod would be bound with a lease without one."""
    await pool.placed()
    created = await pool.user("web")
    pool.api.faults.delay_next(1, 2.0, verb="patch", plural="gpuleases")
    uid = created["metadata"]["uid"]
    pool.has(client={"pod": "web", "podUID": uid, "container": "main", "node": "c"})
    await until(lambda: not pool.api.faults.planned, "the pod to be about to be taken off")
    refused = await pool.filter(created, "g", "c")
    assert refused["NodeNames"] == [] and "names the pod from an earlier try to bind it" in str(refused)
    await until(lambda: not pool.service.engine.leases.user(pool.mine), "the pod to be taken off")
    assert (await pool.filter(created, "g", "c"))["NodeNames"] == ["c"]
    assert await pool.bind(created, "c") == "" and pool.spec["client"]["podUID"] == uid


async def test_one_that_has_the_name_of_a_pods_lease_is_not_taken_for_it(pool: Standing) -> None:
    """Users choose the names of theirs, after the pod is there too; that pod alone is not bound."""
    created = await pool.create(remote("web", "4Gi"))
    assert (await pool.filter(created, "g", "c"))["NodeNames"] == ["c"]
    taken = lease_name("web", created["metadata"]["uid"], "main")
    await pool.make(name=taken)
    await until(lambda: pool.mine.target, "room for it")
    pool.has(slice=pool.spec["target"], target=None)
    [lease] = pool.leases()
    pool.api.store.put("gpuleases", {**lease, "metadata": {**lease["metadata"], "finalizers": [names.LEASE_FINALIZER]}})
    assert "already exists" in await pool.bind(created, "c")
    await until(lambda: not pool.service.binder.in_doubt, "the look-up to end")
    assert pool.mine.name == taken and pool.mine.placed and not pool.mine.deleting
    await pool.settled()
    assert int(pool.service.engine.ledger.free_bytes.sum()) == 16 * GIB


async def test_a_new_leader_knows_the_same(pool: Standing) -> None:
    await pool.placed()
    assert await pool.bind(await pool.asked("web"), "c") == ""
    await until(lambda: not pool.service.engine.promises(), "the reservation to become a fact")
    await pool.settled()
    charges, since = pool.charges, time.monotonic()
    await pool.service.stop()
    async with serving(pool.api) as second:
        after = Standing(pool.api, second, pool.http)
        assert after.charges == charges, f"after {time.monotonic() - since:.1f} s"
        assert "client" in after.spec


async def test_one_that_stops_gives_up_what_it_was_to_have(pool: Standing) -> None:
    await pool.make()
    await until(lambda: pool.mine.target, "room for it")
    pool.has(stopped=True)
    await until(lambda: pool.mine.target is None, "the target to be withdrawn")
    await pool.settled()
    assert not pool.charges
    pool.has(stopped=None)
    await until(lambda: pool.mine.target, "room for it again")
