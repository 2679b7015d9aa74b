"""Leases that move: what the leader writes of them, and what is left when anything fails on the way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import generate_latest

from tessera.kube import wire
from tessera.kube.convert import gpu_lease_of, gpu_node_of
from tessera.kube.errors import ApiError, UnknownOutcome
from tessera.kube.resources import GPU_LEASES
from tessera.model.assignment import Share
from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.gpus import GpuNode
from tessera.model.quantities import GIB
from tessera.scheduler.engine import Engine
from tessera.scheduler.lease_rooms import lease_charge
from tessera.scheduler.relocator import Relocator
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.scheduler.targets import Targets
from tessera.scheduler.watching import held_lease_of
from tessera.simulator.apiserver import ApiServer
from tests.integration.scheduler.test_leases import Pool, serving
from tests.integration.scheduler.test_service import Json, gpu_node, until

MEM = "requests.tessera.io/gpu-mem"


class Moving(Pool):
    """A lease of 8 GiB on node ``g`` that is in use."""

    async def begin(self) -> None:
        await self.add_node("g", 24)
        await self.add_client("c")
        created = await self.asked("web", "8Gi")
        assert await self.bind(created, "c") == ""
        await until(lambda: not self.service.engine.promises(), "the reservation to become a fact")
        self.has("status", phase="Active", epoch=1, endpoint="10.0.0.1:9")

    @property
    def lease(self) -> Json:
        [found] = self.leases()
        return found

    @property
    def read(self) -> GpuLease:
        return gpu_lease_of(msgspec.convert(self.lease, wire.GpuLease))

    def has(self, part: str, **changed: Any) -> None:
        lease = self.lease
        merged = {**lease.get(part, {}), **changed}
        self.api.store.put("gpuleases", {**lease, part: {k: v for k, v in merged.items() if v is not None}})

    def wants(self, gib: int) -> None:
        self.has("spec", wanted={"memoryBytes": gib * GIB, "corePercent": 0})

    def cordon(self, name: str, cordoned: bool = True) -> None:
        node = self.api.store.get("nodes", "", name)
        assert node is not None
        self.api.store.put("nodes", {**node, "spec": {"unschedulable": cordoned}})

    def quota(self, hard: str, used: str) -> None:
        body = {"metadata": {"name": "team", "namespace": "default"}, "spec": {"hard": {MEM: hard}},
                "status": {"used": {MEM: used}}}  # fmt: skip
        self.api.store.put("resourcequotas", body)

    @property
    def unmoved(self) -> str:
        return str(self.lease.get("status", {}).get("unmoved", ""))

    async def target(self) -> Slice:
        await until(lambda: self.read.target, "a target")
        found = self.read.target
        assert found is not None
        return found

    async def told(self) -> str:
        await until(lambda: self.unmoved, "why it stays")
        return self.unmoved

    async def events(self, reason: str) -> list[str]:
        def said() -> list[str]:
            events = (entry.object for entry in self.api.store.entries("events"))
            return [each["message"] for each in events if each["reason"] == reason]

        await until(said, f"the event {reason}")
        return said()

    async def settled(self) -> None:
        """The ledger is what the objects say."""
        await until(lambda: self.charges == self.moving_facts(), "the ledger to be what the objects say")

    def moving_facts(self) -> dict[str, Charge]:
        lease = self.read
        return self.facts() | ({lease.target_hold: lease_charge(lease, lease.target)} if lease.target else {})

    def counted(self, cause: str, outcome: str) -> float:
        text = generate_latest(self.service.metrics.registry).decode()
        label = f'tessera_relocations_total{{cause="{cause}",outcome="{outcome}"}} '
        return next((float(line.removeprefix(label)) for line in text.splitlines() if line.startswith(label)), 0.0)


@pytest.fixture
async def pool() -> AsyncIterator[Moving]:
    async with ApiServer() as api, aiohttp.ClientSession() as http:
        api.add_namespace("tessera-system")
        async with serving(api) as service:
            cluster = Moving(api, service, http)
            await cluster.begin()
            yield cluster


async def test_a_cordon_begins_a_move_and_its_end_takes_it_back(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.cordon("g")
    assert await pool.target() == Slice("h", Share("GPU-h-0", 8 * GIB))
    assert pool.lease["spec"]["target"]["trustDomain"] == ""
    await pool.settled()
    [told] = await pool.events("SliceMoves")
    assert told == "main: from 8Gi of GPU-g-0 on g to 8Gi of GPU-h-0 on h: node g is cordoned"
    pool.cordon("g", cordoned=False)
    await until(lambda: pool.read.target is None, "the target to be withdrawn")
    await pool.settled()
    await until(lambda: pool.counted("cordon", "withdrawn") == 1, "it to be counted, which comes after the write")
    assert pool.counted("cordon", "aimed") == 1


async def test_what_has_begun_is_not_touched(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.cordon("g")
    target = await pool.target()
    pool.has("status", phase="Migrating", next={"namespace": "pool", "name": "x", "uid": "y"})
    pool.cordon("g", cordoned=False)
    await until(lambda: not pool.service.engine.ledger.hosts()["g"].closed, "the news")
    relocator = pool.service.relocator
    assert relocator is not None
    for _ in range(3):
        await relocator.step()
    assert pool.read.target == target
    pool.has("status", next=None)
    await until(lambda: pool.read.target is None, "the target to be withdrawn")


async def test_a_wish_is_granted_and_carried_out_once(pool: Moving) -> None:
    pool.wants(12)
    assert await pool.target() == Slice("g", Share("GPU-g-0", 12 * GIB))
    await pool.settled()
    assert int(pool.service.engine.ledger.free_bytes.sum()) == 4 * GIB
    pool.has("spec", slice=pool.lease["spec"]["target"], target=None)  # as the controller does
    await pool.settled()
    relocator = pool.service.relocator
    assert relocator is not None
    await relocator.step()
    assert pool.read.target is None and pool.read.size == pool.read.wanted
    assert int(pool.service.engine.ledger.free_bytes.sum()) == 12 * GIB


async def test_a_quota_forbids_growth_until_it_is_larger(pool: Moving) -> None:
    pool.quota("10Gi", "8Gi")
    pool.wants(12)
    found = "found 12Gi with this growth; allowed: 10Gi"
    assert await pool.told() == f"12Gi is wanted: ResourceQuota team: {MEM}: {found}"
    await until(lambda: pool.counted("resize", "stays") == 1, "it to be counted, which comes after the write")
    assert pool.read.target is None
    [told] = await pool.events("SliceStays")
    assert told.endswith(found)
    pool.quota("12Gi", "8Gi")
    assert (await pool.target()).size.mem_bytes == 12 * GIB
    await until(lambda: not pool.unmoved, "the word to be taken back")


async def test_no_room_is_said_and_room_that_comes_is_taken(pool: Moving) -> None:
    pool.cordon("g")
    assert (await pool.told()).startswith("node g is cordoned: 1 GPU: 1 on nodes")
    await pool.add_node("h", 24)
    assert (await pool.target()).node == "h"
    await until(lambda: not pool.unmoved, "the word to be taken back")
    await pool.settled()


async def test_a_word_that_is_moot_is_taken_back_by_a_new_leader_too(pool: Moving) -> None:
    pool.cordon("g")
    await pool.told()
    await pool.service.stop()
    pool.cordon("g", cordoned=False)
    async with serving(pool.api):
        await until(lambda: not pool.unmoved, "the word to be taken back")
    assert pool.read.target is None


async def test_a_lost_lease_leaves_a_node_that_is_gone(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.api.store.remove("nodes", "", "g")
    await until(lambda: "g" not in pool.service.engine.ledger.hosts(), "the news")
    relocator = pool.service.relocator
    assert relocator is not None
    await relocator.step()
    assert pool.read.target is None, "as far as is known its executor serves"
    pool.has("status", phase="Lost", endpoint=None)
    assert (await pool.target()).node == "h"
    [told] = await pool.events("SliceMoves")
    assert told.endswith("node g is gone")


async def test_the_pod_that_is_gone_is_not_moved(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.api.store.remove("pods", "default", "web")
    pool.cordon("g")
    await until(lambda: pool.service.engine.ledger.hosts()["g"].closed, "the news")
    relocator = pool.service.relocator
    assert relocator is not None
    await relocator.step()
    assert pool.read.target is None and not pool.unmoved


async def test_a_conflict_gives_the_room_back_and_is_tried_again(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.api.faults.fail_next(1, status=409, verb="patch", plural="gpuleases")
    pool.cordon("g")
    await pool.target()
    await pool.settled()
    await until(lambda: pool.counted("cordon", "aimed") == 1, "it to be counted, which comes after the write")


async def test_a_lost_answer_doubles_nothing(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.api.faults.lose_answers(1, verb="patch", plural="gpuleases")
    pool.cordon("g")
    await pool.target()
    await pool.settled()
    relocator = pool.service.relocator
    assert relocator is not None
    await until(lambda: not relocator.in_doubt, "the look-up")
    assert pool.charges == pool.moving_facts()


async def test_a_new_leader_keeps_both_rooms(pool: Moving) -> None:
    await pool.add_node("h", 24)
    pool.cordon("g")
    target = await pool.target()
    await pool.settled()
    before = pool.charges
    await pool.service.stop()
    async with serving(pool.api) as second:
        after = Moving(pool.api, second, pool.http)
        assert after.charges == before
        relocator = second.relocator
        assert relocator is not None
        await relocator.step()
        assert after.read.target == target and after.charges == before


class Doubtful:
    """Targets over an engine to which no watch tells anything but what the test does; time passes as the test says."""

    def __init__(self, pool: Moving, engine: Engine) -> None:
        self.pool, self.engine, self.now = pool, engine, 0.0
        self.targets = Targets(engine.leases, pool.service.gateway, pool.service.lease, lambda: self.now)

    @property
    def free(self) -> int:
        """GiB of ``h``."""
        ledger = self.engine.ledger
        return int(ledger.free_bytes[ledger.rows()["h"]].sum()) // GIB

    async def aim(self) -> None:
        found = await self.pool.service.gateway.get(GPU_LEASES, self.pool.read.name, namespace="default")
        self.engine.leases.observe(held_lease_of(found))
        await self.targets.aim(found, Slice("h", Share("GPU-h-0", 8 * GIB)))


@pytest.fixture
def doubtful(pool: Moving) -> Doubtful:
    engine = Engine(lambda: 0.0, pool.service.engine.options)
    for name in ("g", "h"):
        engine.observe_node(_node(name))
    return Doubtful(pool, engine)


def _node(name: str) -> GpuNode:
    return gpu_node_of(msgspec.convert(gpu_node(name, 24), wire.GpuNode))


async def test_a_write_that_came_true_unheard_keeps_its_room_until_the_watch_shows_it(doubtful: Doubtful) -> None:
    doubtful.pool.api.faults.lose_answers(1, verb="patch", plural="gpuleases")
    with pytest.raises(UnknownOutcome):
        await doubtful.aim()
    assert doubtful.targets.in_doubt and doubtful.free == 16
    doubtful.now = 20.0
    await doubtful.targets.look_up()
    assert not doubtful.targets.in_doubt and doubtful.free == 16
    doubtful.engine.leases.observe(doubtful.pool.read)
    await doubtful.targets.look_up()
    assert doubtful.free == 16


async def test_a_write_that_never_came_true_gives_its_room_back_once_that_is_sure(doubtful: Doubtful) -> None:
    doubtful.pool.api.faults.fail_next(1, status=500, verb="patch", plural="gpuleases")
    with pytest.raises(UnknownOutcome):
        await doubtful.aim()
    doubtful.now = 9.0
    await doubtful.targets.look_up()
    assert doubtful.targets.in_doubt and doubtful.free == 16, "it may be on its way"
    doubtful.pool.has("status", message="another write")
    await doubtful.targets.look_up()
    assert not doubtful.targets.in_doubt and doubtful.free == 24, "its fence has fallen"
    doubtful.pool.api.faults.fail_next(1, status=500, verb="patch", plural="gpuleases")
    with pytest.raises(UnknownOutcome):
        await doubtful.aim()
    doubtful.now = 20.0
    await doubtful.targets.look_up()
    assert not doubtful.targets.in_doubt and doubtful.free == 24, "it has had its time"


async def test_a_refused_write_gives_its_room_back_at_once(doubtful: Doubtful) -> None:
    doubtful.pool.api.faults.fail_next(1, status=403, verb="patch", plural="gpuleases")
    with pytest.raises(ApiError):
        await doubtful.aim()
    assert not doubtful.targets.in_doubt and doubtful.free == 24


async def test_the_room_of_a_lease_that_is_gone_goes_with_the_watchs_news(doubtful: Doubtful) -> None:
    """Which may tell of the target first, and would charge it again though it was given away."""
    doubtful.pool.api.faults.lose_answers(1, verb="patch", plural="gpuleases")
    with pytest.raises(UnknownOutcome):
        await doubtful.aim()
    last = doubtful.pool.read
    doubtful.pool.api.store.remove("gpuleases", "default", last.name)
    doubtful.now = 20.0
    await doubtful.targets.look_up()
    assert not doubtful.targets.in_doubt and doubtful.free == 16
    doubtful.engine.leases.observe(last)
    doubtful.engine.leases.forget(last)
    assert doubtful.free == 24


async def test_a_target_that_another_leader_took_back_gives_its_room_back(doubtful: Doubtful) -> None:
    await doubtful.aim()
    assert not doubtful.targets.in_doubt and doubtful.free == 16
    doubtful.pool.has("spec", target=None)
    doubtful.now = 3.0
    await doubtful.targets.look_up()
    assert doubtful.free == 24


async def test_two_that_take_themselves_for_the_leader_write_one_target(pool: Moving) -> None:
    settings = SchedulerSettings(server=pool.api.url, port=0, webhook_port=0, log_level="error", pool_enabled=True)
    other = Service(settings)
    await other.start()
    try:
        await asyncio.wait_for(other.wait_synced(), 15)
        assert other.engine.relocations is not None
        second = Relocator(
            other.engine.relocations, other.engine.leases, other.gateway, pool.service.lease, other.recorder,
            lambda: True, other.metrics.relocations,
        )  # fmt: skip
        await pool.add_node("h", 24)
        await until(lambda: other.engine.ledger.node("h"), "the other one's news")
        pool.cordon("g")
        async with asyncio.timeout(15):
            while pool.read.target is None:
                await second.step()
        await pool.settled()
        await until(lambda: dict(other.engine.ledger.charges()) == pool.moving_facts(), "the other one's ledger")
        both = pool, Moving(pool.api, other, pool.http)
        await until(lambda: sum(each.counted("cordon", "aimed") for each in both) == 1, "one of them to count it")
    finally:
        await other.stop()
