"""The scheduler process when answers are lost, leaders change and questions are odd."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeVar

import aiohttp
import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.connection import connect
from tessera.kube.convert import pod_of
from tessera.kube.gateway import Gateway
from tessera.kube.resources import Resource
from tessera.model import names
from tessera.model.quantities import GIB
from tessera.scheduler.binder import Binder
from tessera.scheduler.engine import Engine
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.apiserver import ApiServer
from tests.integration.scheduler.test_service import Cluster, cluster, pod, until

__all__ = ["cluster"]
T = TypeVar("T")


def settings(api: ApiServer, **others: object) -> SchedulerSettings:
    return SchedulerSettings(server=api.url, port=0, webhook_port=0, log_level="error", **others)  # type: ignore[arg-type]


async def scrape(cluster: Cluster) -> str:
    url = cluster.service.webhook_url.removesuffix("/mutate")
    async with cluster.http.get(f"{url}/metrics") as answer:
        return await answer.text()


async def delete(cluster: Cluster, name: str) -> None:
    url = f"{cluster.api.url}/api/v1/namespaces/default/pods/{name}"
    async with cluster.http.delete(url, json={"gracePeriodSeconds": 0}) as answer:
        assert answer.status == 200


class LateAnswers(Gateway):
    """Reads at once and hands the answer over when told to."""

    def __init__(self, api: ApiServer) -> None:
        super().__init__(connect(settings(api)))
        self.read, self.go = asyncio.Event(), asyncio.Event()

    async def get(self, resource: Resource[T], name: str, *, namespace: str = "") -> T:
        found = await super().get(resource, name, namespace=namespace)
        self.read.set()
        await self.go.wait()
        return found


async def test_a_look_up_that_is_older_than_the_events_decides_nothing(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "20Gi"))
    uid = created["metadata"]["uid"]
    engine = Engine(time.monotonic)
    engine.replace(cluster.service.engine.ledger.nodes(), ())
    assert engine.filter(pod_of(msgspec.convert(created, wire.Pod)), ["a"]).nodes == ["a"]
    async with LateAnswers(cluster.api) as gateway:
        binder = Binder(engine, gateway, cluster.service.lease, cluster.service.recorder)
        cluster.api.faults.lose_answers(1, verb="bind")
        assert await binder.bind("default", "web", uid, "a") is not None
        await asyncio.wait_for(gateway.read.wait(), 15)
        await delete(cluster, "web")
        engine.forget_pod(uid)  # the event of the deletion is here before the older answer
        gateway.go.set()
        await until(lambda: not binder.in_doubt, "the look-up to end")
        assert not engine.ledger.charges()
        await binder.close()


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        server.add_namespace("tessera-system")
        yield server


async def test_bindings_are_counted_by_outcome(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    first, second = await cluster.create(pod("one", "4Gi")), await cluster.create(pod("two", "4Gi"))
    for body in (first, second):
        await cluster.filter(body, "a")
    assert await cluster.bind(first, "a") == ""
    cluster.api.faults.fail_next(1, status=409, verb="bind")
    assert await cluster.bind(second, "a") != ""
    text = await scrape(cluster)
    assert 'tessera_bindings_total{outcome="Bound"} 1.0' in text
    assert 'tessera_bindings_total{outcome="BindingRefused"} 1.0' in text


async def test_a_new_leader_wakes_the_pods_that_the_former_one_refused(api: ApiServer) -> None:
    async with aiohttp.ClientSession() as http:
        first = Service(settings(api))
        await first.start()
        try:
            await asyncio.wait_for(first.wait_ready(), 15)
            cluster = Cluster(api, first, http)
            await cluster.add_node("a", 24)
            await until(lambda: names.ROOM in _annotations(api, "a"), "the first leader's own word")
            told = _annotations(api, "a")[names.ROOM]
        finally:
            await first.stop()
        second = Service(settings(api))
        await second.start()
        try:
            await asyncio.wait_for(second.wait_ready(), 30)
            await until(lambda: _annotations(api, "a")[names.ROOM] != told, "the second leader's word")
        finally:
            await second.stop()


async def test_a_lease_is_kept_to_its_end_while_a_binding_is_in_doubt(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "20Gi"))
    await cluster.filter(created, "a")
    cluster.api.faults.delay_next(1, 60.0, verb="bind")
    asked = asyncio.create_task(cluster.bind(created, "a"))
    await until(lambda: cluster.service.binder.in_doubt, "the Binding to be sent")
    await cluster.service.stop()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    lease = cluster.api.store.get("leases", "tessera-system", "tessera-scheduler")
    assert lease is not None and lease["spec"]["holderIdentity"]


async def test_a_lost_answer_is_told_on_the_pod_once_it_is_known(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "4Gi"))
    await cluster.filter(created, "a")
    cluster.api.faults.lose_answers(1, verb="bind")
    await cluster.bind(created, "a")

    def told() -> bool:
        return any(event["reason"] == "SliceAssigned" for event in cluster.api.store.list("events"))

    await until(told, "the event")
    await until(lambda: not cluster.service.binder.in_doubt, "the outcome")


async def test_a_stale_filter_of_a_bound_pod_leaves_its_room_alone(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "20Gi"))
    await cluster.filter(created, "a")
    assert await cluster.bind(created, "a") == ""
    await until(lambda: not cluster.service.engine.promises(), "the reservation to become a fact")
    assert (await cluster.filter(created, "a"))["NodeNames"] == []
    assert "bound already" in await cluster.bind(created, "a")
    assert int(cluster.service.engine.ledger.free_bytes.sum()) == 4 * GIB


async def test_whole_nodes_instead_of_names_are_a_mistake_in_the_configuration(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "4Gi"))
    answer = await cluster.ask("filter", {"Pod": created, "Nodes": {"items": []}, "NodeNames": None})
    assert "nodeCacheCapable: true" in answer["Error"]


async def test_a_nominated_node_that_is_full_is_no_news_yet(cluster: Cluster) -> None:
    """kube-scheduler asks about the nominated node alone, and about all of them if that one will not do."""
    await cluster.add_node("small", 4)
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "8Gi"))
    nominated = {**created, "status": {"nominatedNodeName": "small"}}
    assert (await cluster.filter(nominated, "small"))["NodeNames"] == []
    assert "tessera_refusals_total{" not in await scrape(cluster)
    assert (await cluster.filter(nominated, "small", "a"))["NodeNames"] == ["a"]


async def test_preemption_is_answered_in_one_form_for_both_questions(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    victim, created = await cluster.create(pod("low", "20Gi")), await cluster.create(pod("high", "20Gi"))
    await cluster.filter(victim, "a")
    assert await cluster.bind(victim, "a") == ""
    uid = victim["metadata"]["uid"]
    short = {"Pod": created, "NodeNameToMetaVictims": {"a": {"Pods": [{"UID": uid}], "NumPDBViolations": 1}},
             "NodeNameToVictims": None}  # fmt: skip
    full = {"Pod": created, "NodeNameToMetaVictims": None,
            "NodeNameToVictims": {"a": {"Pods": [victim], "NumPDBViolations": 1}}}  # fmt: skip
    expected = {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": uid}], "NumPDBViolations": 1}}}
    assert await cluster.ask("preempt", short) == await cluster.ask("preempt", full) == expected


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(cluster: Cluster, api: ApiServer) -> None:
    taken = int(cluster.service.url.rsplit(":", 1)[1])
    service = Service(SchedulerSettings(server=api.url, port=taken, webhook_port=0, log_level="error"))
    with pytest.raises(OSError, match=str(taken)):
        await service.start()
    assert sum(task.get_name() == "expiry" for task in asyncio.all_tasks()) == 1  # the other service's


def _annotations(api: ApiServer, node: str) -> dict[str, str]:
    found = api.store.get("nodes", "", node)
    assert found is not None
    annotations: dict[str, str] = found["metadata"].get("annotations", {})
    return annotations
