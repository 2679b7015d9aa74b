"""Events: counted on one object, silent when the server is away, never in the caller's way."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tessera.kube import events
from tessera.kube.events import EventRecorder, reference
from tessera.kube.gateway import Gateway
from tessera.kube.resources import NODES, PODS
from tessera.kube.wire import ObjectMeta, Pod
from tessera.simulator.apiserver import ApiServer

POD = reference(PODS, Pod(metadata=ObjectMeta(name="a", namespace="default", uid="u")))


@pytest.fixture
async def recorder(gateway: Gateway) -> AsyncIterator[EventRecorder]:
    made = EventRecorder(gateway, "tessera-scheduler", host="h")
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_repeats_are_counted_on_one_event(recorder: EventRecorder, server: ApiServer) -> None:
    for _ in range(3):
        recorder.record(POD, "Warning", "NoRoom", "412 GPUs: 380 not enough memory")
    recorder.record(POD, "Normal", "SliceAssigned", "on n1")
    await asyncio.wait_for(recorder.flush(), 10)
    found = {event["reason"]: event for event in server.store.list("events", "default")}
    assert {reason: event["count"] for reason, event in found.items()} == {"NoRoom": 3, "SliceAssigned": 1}
    assert found["NoRoom"]["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "default",
        "name": "a",
        "uid": "u",
    }


async def test_another_process_counts_on_after_a_restart(gateway: Gateway, server: ApiServer) -> None:
    for _ in range(2):
        recorder = EventRecorder(gateway, "agent", host="h")
        task = asyncio.create_task(recorder.run())
        recorder.record(reference(NODES, {"metadata": {"name": "n"}}), "Normal", "Ready", "text")
        await asyncio.wait_for(recorder.flush(), 10)
        task.cancel()
    (event,) = server.store.list("events")
    assert (event["count"], event["metadata"]["namespace"]) == (2, "default")


async def test_an_expired_event_is_made_anew(recorder: EventRecorder, server: ApiServer) -> None:
    recorder.record(POD, "Normal", "Ready", "text")
    await asyncio.wait_for(recorder.flush(), 10)
    (event,) = server.store.list("events")
    server.store.remove("events", "default", event["metadata"]["name"])
    recorder.record(POD, "Normal", "Ready", "text")
    await asyncio.wait_for(recorder.flush(), 10)
    assert server.store.list("events")[0]["count"] == 1


async def test_refusals_and_floods_are_dropped_and_counted(recorder: EventRecorder, server: ApiServer) -> None:
    server.faults.fail_next(1, 403, plural="events")
    for number in range(100):
        recorder.record(POD, "Normal", "Chatter", f"text {number}")
    await asyncio.wait_for(recorder.flush(), 10)
    kept = int(events.BURST) - 1
    assert server.store.count("events") == kept
    assert recorder.dropped == 100 - kept


async def test_a_rush_is_sent_slowly_and_completely(gateway: Gateway, server: ApiServer) -> None:
    passed = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    recorder = EventRecorder(gateway, "agent", host="h", clock=lambda: passed, sleep=sleep)
    task = asyncio.create_task(recorder.run())
    for index in range(int(events.RUSH) + 40):
        recorder.record(reference(NODES, {"metadata": {"name": f"n{index}"}}), "Normal", "Ready", "text")
    await asyncio.wait_for(recorder.flush(), 20)
    task.cancel()
    assert passed == pytest.approx(40 / events.SENT_PER_S)
    assert server.store.count("events") == events.RUSH + 40
