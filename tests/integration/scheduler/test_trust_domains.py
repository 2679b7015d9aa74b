"""Trust domains by a namespace's label, over real HTTP: read, written with the Binding, and known after a restart."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tessera.model import names
from tessera.model.assignment import decode
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.apiserver import ApiServer
from tests.integration.scheduler.test_service import Cluster, Json, pod, until


def settings(api: ApiServer, trust_domain: str = "label:team") -> SchedulerSettings:
    return SchedulerSettings(server=api.url, port=0, webhook_port=0, log_level="error", trust_domain=trust_domain)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with ApiServer() as api, aiohttp.ClientSession() as http:
        for name in ("tessera-system", "one", "two", "three"):
            api.add_namespace(name)
        label(api, "one", "x")
        label(api, "two", "x")
        service = Service(settings(api))
        await service.start()
        try:
            await asyncio.wait_for(service.wait_ready(), 15)
            yield Cluster(api, service, http)
        finally:
            await service.stop()


def label(api: ApiServer, name: str, team: str) -> None:
    meta = {"name": name, "labels": {"team": team}}
    api.store.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})


async def create(cluster: Cluster, namespace: str, name: str) -> Json:
    body = pod(name, "4Gi")
    body["metadata"]["namespace"] = namespace
    async with cluster.http.post(f"{cluster.api.url}/api/v1/namespaces/{namespace}/pods", json=body) as answer:
        assert answer.status == 201, await answer.text()
        created: Json = await answer.json()
        return created


async def bind(cluster: Cluster, body: Json) -> Json:
    """Filter and bind; answers the pod as stored."""
    meta = body["metadata"]
    assert (await cluster.filter(body, "a"))["NodeNames"] == ["a"]
    wanted = {"PodName": meta["name"], "PodNamespace": meta["namespace"], "PodUID": meta["uid"], "Node": "a"}
    assert (await cluster.ask("bind", wanted))["Error"] == ""
    await until(lambda: not cluster.service.engine.promises(), "the reservation to become a fact")
    found: Json | None = cluster.api.store.get("pods", meta["namespace"], meta["name"])
    assert found is not None
    return found


async def test_one_value_shares_and_others_are_told_why_not(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    stored = await bind(cluster, await create(cluster, "one", "p"))
    assert decode(stored["metadata"]["annotations"][names.ASSIGNMENT]).domain == "label/team=x"
    await bind(cluster, await create(cluster, "two", "q"))
    refused = await cluster.filter(await create(cluster, "three", "r"), "a")
    assert refused["FailedNodes"] == {"a": "GPU another trust domain's"}


async def test_a_namespace_is_waited_for_and_its_label_followed(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    await bind(cluster, await create(cluster, "one", "p"))
    late = pod("late", "4Gi")
    late["metadata"] |= {"namespace": "late", "uid": "uid-late"}
    refused = await cluster.filter(late, "a")
    assert "namespace late is not known yet" in refused["FailedAndUnresolvableNodes"]["a"]
    label(cluster.api, "late", "x")
    await until(lambda: cluster.service.engine.domains.of("late") == "label/team=x", "the namespace")
    assert (await cluster.filter(late, "a"))["NodeNames"] == ["a"]


async def test_after_a_restart_placed_pods_are_what_they_were_whatever_the_labels_say_now(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    await bind(cluster, await create(cluster, "one", "p"))
    label(cluster.api, "one", "y")
    label(cluster.api, "three", "y")
    await cluster.service.stop()
    again = Service(settings(cluster.api))
    await again.start()
    try:
        await asyncio.wait_for(again.wait_ready(), 30)
        after = Cluster(cluster.api, again, cluster.http)
        assert dict(again.engine.ledger.charges()) == dict(cluster.service.engine.ledger.charges())
        for namespace in ("one", "three"):
            assert (await after.filter(await create(after, namespace, "r"), "a"))["NodeNames"] == []
        assert (await after.filter(await create(after, "two", "q"), "a"))["NodeNames"] == ["a"]
    finally:
        await again.stop()


async def test_it_is_not_ready_before_it_has_read_the_namespaces_and_reads_none_where_no_label_decides() -> None:
    for trust_domain, ready in (("label:team", False), ("namespace", True), ("cluster", True)):
        async with ApiServer() as api:
            api.add_namespace("tessera-system")
            service = Service(settings(api, trust_domain), compiling=lambda *_: None)
            await service.gateway.__aenter__()
            others = (service._pods, service._nodes, service._hosts)
            tasks = [asyncio.create_task(each.run()) for each in others]
            try:
                for each in others:
                    await asyncio.wait_for(each.wait_synced(), 15)
                reason = service.gate()
                assert reason is not None
                assert ("namespaces" not in reason.text) is ready
            finally:
                for task in tasks:
                    task.cancel()
                await service.gateway.__aexit__(None, None, None)


def test_another_setting_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"trust_domain: found 'team'; allowed: cluster, namespace, or label:KEY"):
        SchedulerSettings(trust_domain="team")
