"""The scheduler process over real HTTP: kube-scheduler's protocol on one side, an API server on the other."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tessera.model import names
from tessera.model.assignment import decode
from tessera.model.quantities import GIB
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.apiserver import ApiServer

Json = dict[str, Any]


async def until(condition: Callable[[], object], what: str, deadline_s: float = 15) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - any state of the cluster may be awaited
            await asyncio.sleep(0.01)


def gpu_node(name: str, *gib: int) -> Json:
    gpus = [
        {"uuid": f"GPU-{name}-{i}", "model": "NVIDIA L4", "memoryBytes": size * GIB, "memoryTotalBytes": size * GIB,
         "health": {"state": "Healthy"}, "enforcementLevel": 0}
        for i, size in enumerate(gib)
    ]  # fmt: skip
    return {
        "apiVersion": "tessera.io/v1alpha1",
        "kind": "GPUNode",
        "metadata": {"name": name},
        "status": {"gpus": gpus},
    }


def pod(name: str, mem: str) -> Json:
    limits = {names.GPU_MEM: mem, names.SLICE: "1"}
    container = {"name": "main", "image": "x", "resources": {"limits": limits}}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {"schedulerName": "tessera", "containers": [container]}}  # fmt: skip


class Cluster:
    def __init__(self, api: ApiServer, service: Service, http: aiohttp.ClientSession) -> None:
        self.api, self.service, self.http = api, service, http

    async def add_node(self, name: str, *gib: int) -> None:
        self.api.store.put("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        self.api.store.put("gpunodes", gpu_node(name, *gib))
        await until(lambda: self.service.engine.ledger.node(name), f"GPUs of {name}")

    async def create(self, body: Json) -> Json:
        async with self.http.post(f"{self.api.url}/api/v1/namespaces/default/pods", json=body) as answer:
            assert answer.status == 201, await answer.text()
            created: Json = await answer.json()
            return created

    async def ask(self, verb: str, body: Json) -> Any:
        async with self.http.post(f"{self.service.url}/{verb}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return json.loads(await answer.read())

    async def filter(self, body: Json, *nodes: str) -> Json:
        answer: Json = await self.ask("filter", {"Pod": body, "NodeNames": list(nodes)})
        return answer

    async def bind(self, body: Json, node: str) -> str:
        meta = body["metadata"]
        answer = await self.ask("bind", {"PodName": meta["name"], "PodNamespace": "default", "PodUID": meta["uid"],
                                         "Node": node})  # fmt: skip
        error: str = answer["Error"]
        return error

    def stored(self, name: str) -> Json:
        found: Json | None = self.api.store.get("pods", "default", name)
        assert found is not None
        return found


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with ApiServer() as api, aiohttp.ClientSession() as http:
        api.add_namespace("tessera-system")
        service = Service(SchedulerSettings(server=api.url, port=0, webhook_port=0, log_level="error"))
        await service.start()
        try:
            await asyncio.wait_for(service.wait_ready(), 15)
            yield Cluster(api, service, http)
        finally:
            await service.stop()


async def test_a_pod_is_bound_and_carries_its_assignment_in_the_same_write(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "4Gi"))
    assert (await cluster.filter(created, "a", "bare"))["NodeNames"] == ["a"]
    assert await cluster.ask("prioritize", {"Pod": created, "NodeNames": ["a"]}) == [{"Host": "a", "Score": 10}]
    assert await cluster.bind(created, "a") == ""
    stored = cluster.stored("web")
    assert stored["spec"]["nodeName"] == "a"
    share = decode(stored["metadata"]["annotations"][names.ASSIGNMENT]).shares[0]
    assert (share.uuid, share.mem_bytes) == ("GPU-a-0", 4 * GIB)
    await until(lambda: not cluster.service.engine.promises(), "the reservation to become a fact")
    assert int(cluster.service.engine.ledger.free_bytes.sum()) == 20 * GIB


async def test_nobody_waits_for_a_compiler_within_a_request() -> None:
    may_end, asked = threading.Event(), []

    def compiling(*policies: str) -> None:
        asked.extend(policies)
        assert may_end.wait(15)

    async with ApiServer() as api, aiohttp.ClientSession() as http:
        api.add_namespace("tessera-system")
        settings = SchedulerSettings(server=api.url, port=0, webhook_port=0, log_level="error", placement="fgd")
        service = Service(settings, compiling=compiling)
        await service.start()
        try:
            await asyncio.wait_for(service.wait_synced(), 15)
            await asyncio.wait_for(service.lease.wait_leading(), 15)
            async with http.post(f"{service.url}/filter", json={"Pod": pod("p", "1Gi"), "NodeNames": []}) as answer:
                assert "still compiling its placement policies" in await answer.text()
            may_end.set()
            await asyncio.wait_for(service.wait_ready(), 15)
            assert service.gate() is None and asked == ["fgd", "fragmentation", "pack", "spread"]
        finally:
            may_end.set()
            await service.stop()


async def test_the_host_of_every_pod_is_known(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    ledger = cluster.service.engine.ledger
    labels = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/rack": "r"}
    changed = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "labels": labels},
               "status": {"allocatable": {"cpu": "7910m", "memory": "30Gi"}}}  # fmt: skip
    cluster.api.store.put("nodes", changed)
    await until(lambda: ledger.free_cpu[ledger.rows()["a"]] == 7910, "the host's CPU")
    asks = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": "default"},
             "spec": {"nodeName": "a", "containers": [{"name": "main", "image": "x", "resources": asks}]}}  # fmt: skip
    await cluster.create(plain)
    await until(lambda: ledger.free_cpu[ledger.rows()["a"]] == 7410, "the pod's CPU")
    assert int(ledger.free_memory[ledger.rows()["a"]]) == 29 * GIB
    assert ledger.zone[ledger.rows()["a"]] == ledger.zones()["z"] and ledger.racks()["z", "r"]


async def test_a_binding_that_is_refused_is_undone(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "4Gi"))
    await cluster.filter(created, "a")
    cluster.api.faults.fail_next(1, status=409, verb="bind")
    assert "refused the Binding" in await cluster.bind(created, "a")
    assert int(cluster.service.engine.ledger.free_bytes.sum()) == 24 * GIB


async def test_a_binding_whose_answer_is_lost_is_looked_up_and_kept(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "20Gi"))
    other = await cluster.create(pod("late", "20Gi"))
    await cluster.filter(created, "a")
    cluster.api.faults.lose_answers(1, verb="bind")
    await cluster.bind(created, "a")
    assert (await cluster.filter(other, "a"))["NodeNames"] == []
    await until(lambda: not cluster.service.engine.promises(), "the outcome to be known")
    assert cluster.stored("web")["spec"]["nodeName"] == "a"
    assert int(cluster.service.engine.ledger.free_bytes.sum()) == 4 * GIB


async def test_freed_room_is_told_by_a_change_of_the_node(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    first, late = await cluster.create(pod("first", "20Gi")), await cluster.create(pod("late", "20Gi"))
    await cluster.filter(first, "a")
    assert await cluster.bind(first, "a") == ""
    await until(lambda: not cluster.service.engine.promises(), "the reservation to become a fact")
    refused = await cluster.filter(late, "a")
    assert refused["FailedNodes"] == {"a": "GPU not enough memory"}
    async with cluster.http.delete(
        f"{cluster.api.url}/api/v1/namespaces/default/pods/first", json={"gracePeriodSeconds": 0}
    ) as answer:
        assert answer.status == 200

    def told() -> object:
        node = cluster.api.store.get("nodes", "", "a")
        return node and names.ROOM in node["metadata"].get("annotations", {})

    await until(told, "the annotation")
    assert (await cluster.filter(late, "a"))["NodeNames"] == ["a"]


async def test_a_restart_rebuilds_the_same_ledger(cluster: Cluster) -> None:
    await cluster.add_node("a", 24, 24)
    for i in range(4):
        created = await cluster.create(pod(f"p{i}", "7Gi"))
        await cluster.filter(created, "a")
        assert await cluster.bind(created, "a") == ""
    await until(lambda: not cluster.service.engine.promises(), "facts")
    again = Service(SchedulerSettings(server=cluster.api.url, port=0, webhook_port=0, lease_name="other"))
    await again.start()
    try:
        await asyncio.wait_for(again.wait_ready(), 15)
        assert dict(again.engine.ledger.charges()) == dict(cluster.service.engine.ledger.charges())
        assert (again.engine.ledger.free_bytes == cluster.service.engine.ledger.free_bytes).all()
    finally:
        await again.stop()


async def test_a_second_scheduler_answers_nothing_until_the_first_has_stopped(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    created = await cluster.create(pod("web", "4Gi"))
    second = Service(SchedulerSettings(server=cluster.api.url, port=0, webhook_port=0))
    await second.start()
    try:
        waiting = Cluster(cluster.api, second, cluster.http)
        await until(lambda: second.engine.ledger.node("a"), "the second to read the cluster")
        assert "does not lead" in (await waiting.filter(created, "a"))["Error"]
        await cluster.service.stop()
        await asyncio.wait_for(second.wait_ready(), 30)
        assert (await waiting.filter(created, "a"))["NodeNames"] == ["a"]
    finally:
        await second.stop()


async def test_the_webhook_and_the_gauges_are_served(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
              "request": {"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "object": {
                  "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                  "spec": {"containers": [{"name": "c", "resources": {"limits": {"gpu-mem": "4Gi"}}}]}}}}  # fmt: skip
    async with cluster.http.post(cluster.service.webhook_url, json=review) as answer:
        assert (await answer.json())["response"]["patchType"] == "JSONPatch"
    base = cluster.service.webhook_url.removesuffix("/mutate")
    async with cluster.http.get(f"{base}/metrics") as answer:
        assert f'tessera_gpu_memory_bytes{{state="allocatable"}} {24 * GIB:.1e}'[:40] in await answer.text()
    async with cluster.http.get(f"{base}/readyz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Pod": 3}', b'{"NodeNames": []}'])
async def test_a_body_that_is_not_the_protocol_gets_one_sentence(cluster: Cluster, body: bytes) -> None:
    async with cluster.http.post(f"{cluster.service.url}/filter", data=body) as answer:
        assert answer.status == 400
        assert "extender/v1" in json.loads(await answer.read())["Error"]
