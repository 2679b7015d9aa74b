"""Preemption against an API server: who is asked to leave, who gets the room, and that a crash costs no more."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.connection import connect
from tessera.kube.convert import pod_of, preemption_message
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.model.quantities import GIB
from tessera.scheduler.service import Service
from tests.integration.scheduler.test_service import Cluster, cluster, pod, until
from tests.integration.scheduler.test_trouble import delete, scrape, settings

__all__ = ["cluster"]
Json = dict[str, Any]


SPARED: Json = {
    "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "default"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}, "status": {"disruptionsAllowed": 0},
}  # fmt: skip
"""No pod ``app=web`` may go."""


def important(name: str, mem: str, priority: int = 100, policy: str = "PreemptLowerPriority") -> Json:
    body = pod(name, mem)
    body["spec"] |= {"priority": priority, "preemptionPolicy": policy}
    return body


async def run(cluster: Cluster, name: str, mem: str, node: str, priority: int = 0, **meta: Any) -> Json:
    body = important(name, mem, priority)
    body["metadata"] |= meta
    created = await cluster.create(body)
    assert (await cluster.filter(created, node))["NodeNames"] == [node]
    assert await cluster.bind(created, node) == ""
    uid = created["metadata"]["uid"]
    await until(lambda: uid not in cluster.service.engine.promises(), "the reservation to become a fact")
    return created


def leaving(cluster: Cluster) -> list[str]:
    found = [entry.object["metadata"] for entry in cluster.api.store.entries("pods")]
    return sorted(meta["name"] for meta in found if "deletionTimestamp" in meta)


def condition(cluster: Cluster, name: str) -> Json | None:
    conditions = cluster.stored(name)["status"].get("conditions", ())
    return next((each for each in conditions if each["type"] == "DisruptionTarget"), None)


async def quiet(cluster: Cluster, asked: Json, *nodes: str) -> None:
    """A refusal has been thought about to the end."""
    assert (await cluster.filter(asked, *nodes))["NodeNames"] == []
    await cluster.service.preemptor.idle()


async def test_the_lowest_pod_gives_way_and_its_room_is_kept(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    await cluster.add_node("b", 24)
    await run(cluster, "ten", "20Gi", "a", 10)
    await run(cluster, "five", "20Gi", "b", 5)
    asking = await cluster.create(important("high", "20Gi"))
    await quiet(cluster, asking, "a", "b")
    assert leaving(cluster) == ["five"]
    told = condition(cluster, "five")
    assert told and (told["status"], told["reason"]) == ("True", "PreemptionByScheduler")
    since = datetime.now(UTC) - datetime.fromisoformat(told["lastTransitionTime"])
    assert abs(since) < timedelta(seconds=100), "one that is older, or of no time, is taken back by Kubernetes"
    assert cluster.stored("high")["status"]["nominatedNodeName"] == "b"

    late = await cluster.create(important("late", "20Gi"))
    await delete(cluster, "five")
    await until(lambda: cluster.service.engine.promises(), "the room to be kept")
    await quiet(cluster, late, "b")
    assert (await cluster.filter(asking, "b"))["NodeNames"] == ["b"]
    assert await cluster.bind(asking, "b") == ""
    assert leaving(cluster) == []
    figures = await scrape(cluster)
    assert "tessera_preemptions_total 1.0" in figures and "tessera_preemption_victims_total 1.0" in figures
    await cluster.service.recorder.flush()
    events = [entry.object for entry in cluster.api.store.entries("events")]
    reasons = {(event["involvedObject"]["name"], event["reason"]) for event in events}
    assert {("five", "Preempted"), ("high", "Preempting")} <= reasons


@pytest.mark.parametrize(("priority", "policy"), [(5, "PreemptLowerPriority"), (100, "Never")])
async def test_nobody_gives_way_to_an_equal_or_to_one_that_must_not_preempt(
    cluster: Cluster, priority: int, policy: str
) -> None:
    await cluster.add_node("a", 24)
    await run(cluster, "five", "20Gi", "a", 5)
    await quiet(cluster, await cluster.create(important("asking", "20Gi", priority, policy)), "a")
    assert leaving(cluster) == []


async def test_a_pod_that_does_not_exist_pushes_nobody_out(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    await run(cluster, "low", "20Gi", "a")
    ghost = important("ghost", "20Gi")
    ghost["metadata"]["uid"] = "nobody"
    await quiet(cluster, ghost, "a")
    assert leaving(cluster) == []


async def test_asking_again_while_victims_leave_pushes_out_no_others(cluster: Cluster) -> None:
    await cluster.add_node("a", 24, 24)
    await run(cluster, "x", "20Gi", "a")
    await run(cluster, "y", "20Gi", "a")
    asking = await cluster.create(important("high", "20Gi"))
    for _ in range(3):
        await quiet(cluster, asking, "a")
    assert len(leaving(cluster)) == 1
    await quiet(cluster, await cluster.create(important("second", "20Gi")), "a")
    assert leaving(cluster) == ["x", "y"]


async def test_a_covered_pod_is_spared_where_another_choice_exists(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    await cluster.add_node("b", 24)
    await run(cluster, "web", "20Gi", "a", 1, labels={"app": "web"})
    await run(cluster, "job", "20Gi", "b", 50)
    cluster.api.store.put("poddisruptionbudgets", SPARED)
    await quiet(cluster, await cluster.create(important("high", "20Gi")), "a", "b")
    assert leaving(cluster) == ["job"]


async def test_kube_schedulers_own_preemption_waits_for_ours(cluster: Cluster) -> None:
    await cluster.add_node("a", 24)
    await cluster.add_node("b", 24)
    first = await run(cluster, "x", "20Gi", "a")
    await run(cluster, "y", "20Gi", "b")
    asking = await cluster.create(important("high", "20Gi"))
    assert (await cluster.filter(asking, "b"))["NodeNames"] == []
    uid = first["metadata"]["uid"]
    answer = await cluster.ask(
        "preempt", {"Pod": asking, "NodeNameToMetaVictims": {"a": {"Pods": [{"UID": uid}], "NumPDBViolations": 0}}}
    )
    assert answer["NodeNameToMetaVictims"] == {}
    assert leaving(cluster) == ["y"]


@pytest.mark.parametrize(
    ("told", "deleted", "gone", "expected"),
    [("", "", "", ["z"]), ("x", "", "", ["x", "y"]), ("xy", "", "", ["x", "y"]), ("xy", "x", "", ["x", "y"]),
     ("xy", "xy", "", ["x", "y"]), ("xy", "xy", "x", ["y"]), ("xy", "x", "x", ["y"])],
)  # fmt: skip
async def test_a_new_leader_goes_on_with_the_same_victims(
    cluster: Cluster, told: str, deleted: str, gone: str, expected: list[str]
) -> None:
    """The former one died after it had told and deleted some. ``z`` would be the cheapest choice by now."""
    await cluster.add_node("a", 24)
    await run(cluster, "x", "12Gi", "a", 5)
    await run(cluster, "y", "12Gi", "a", 5)
    asking = await cluster.create(important("high", "24Gi"))
    await cluster.service.stop()
    await leave_behind(cluster, asking, told, deleted, gone)
    new = cluster.service = Service(settings(cluster.api))
    await new.start()
    try:
        await asyncio.wait_for(new.wait_ready(), 20)
        await cluster.add_node("b", 24)
        await run(cluster, "z", "24Gi", "b", 4)
        await quiet(cluster, asking, "a", "b")
        assert leaving(cluster) == expected
        for name in expected:
            await delete(cluster, name)
        node = "b" if expected == ["z"] else "a"
        await until(lambda: room_kept(cluster, asking, node), "the room to be kept")
        assert (await cluster.filter(asking, "a", "b"))["NodeNames"] == [node]
        assert await cluster.bind(asking, node) == ""
        assert not new.engine.ledger.over_committed()
    finally:
        await new.stop()


async def test_after_a_crash_the_freed_room_is_not_given_to_a_newcomer(cluster: Cluster) -> None:
    await cluster.add_node("a", 24, 24)
    await run(cluster, "stays", "11Gi", "a", 500)
    for name in "xy":
        await run(cluster, name, "12Gi", "a", 5)
    asking = await cluster.create(important("high", "24Gi"))
    await quiet(cluster, asking, "a")
    assert leaving(cluster) == ["x", "y"] or len(leaving(cluster)) == 1
    await cluster.service.stop()
    new = cluster.service = Service(settings(cluster.api))
    await new.start()
    try:
        await asyncio.wait_for(new.wait_ready(), 20)
        await until(lambda: all(claim.room for claim in new.nominations.claims()), "the GPUs to be known")
        for name in leaving(cluster):
            await delete(cluster, name)
            newcomer = await cluster.create(important(f"after-{name}", "12Gi", 50))
            await until(lambda: new.engine.ledger.charge_of(asking["metadata"]["uid"]), "room to be kept")
            await cluster.filter(newcomer, "a")
        await until(lambda: room_kept(cluster, asking, "a"), "the room to be kept")
        assert (await cluster.filter(asking, "a"))["NodeNames"] == ["a"]
    finally:
        await new.stop()


def room_kept(cluster: Cluster, asking: Json, node: str) -> bool:
    charge = cluster.service.engine.ledger.charge_of(asking["metadata"]["uid"])
    return charge is not None and charge.node == node and charge.totals.mem_bytes == 24 * GIB


async def leave_behind(cluster: Cluster, asking: Json, told: str, deleted: str, gone: str) -> None:
    """Writes what a leader had written when it died."""
    message = preemption_message(pod_of(msgspec.convert(asking, wire.Pod)))
    mark = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message}
    async with Gateway(connect(settings(cluster.api))) as gateway:
        await gateway.merge_patch(
            PODS, "high", {"status": {"nominatedNodeName": "a"}}, namespace="default", subresource="status"
        )
        for name in told:
            await gateway.strategic_patch(
                PODS, name, {"status": {"conditions": [mark]}}, namespace="default", subresource="status"
            )
        for name in deleted:
            await gateway.delete(PODS, name, namespace="default")
    for name in gone:
        await delete(cluster, name)
