"""What users ask of standing leases while the system writes the same objects."""

from collections.abc import Callable
from typing import Any

import pytest

from tessera.kube import wire
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_new, ask_no_user, ask_stopped, ask_user
from tessera.kube.resources import GPU_LEASES, PODS
from tessera.model.gpu_leases import Size
from tessera.model.quantities import GIB
from tessera.reasons import Reason
from tessera.simulator.apiserver import ApiServer

Make = Callable[..., dict[str, Any]]
CLIENT = {"pod": "train", "podUID": "u1", "container": "c", "node": "cpu-1"}
LIMITS = {"tessera.io/gpu-mem": "4Gi", "tessera.io/slice": "1"}


async def standing(gateway: Gateway, client: dict[str, Any] | None = None) -> wire.GpuLease:
    made = await ask_new(gateway, "default", "mine", Size(8 * GIB, 30), {})
    return await given(gateway, client) if client else made


async def given(gateway: Gateway, client: dict[str, Any] | None, name: str = "mine") -> wire.GpuLease:
    return await gateway.merge_patch(GPU_LEASES, name, {"spec": {"client": client}}, namespace="default")


async def told(gateway: Gateway, message: str) -> None:
    """As the controller writes while users ask."""
    await gateway.merge_patch(
        GPU_LEASES, "mine", {"status": {"message": message}}, namespace="default", subresource="status"
    )


def waits(make: Make, name: str = "next", **more: Any) -> dict[str, Any]:
    built = make(name, limits=LIMITS, **more)
    built["metadata"]["annotations"] = {"tessera.io/remote": "required"}
    return built


async def test_a_pod_is_taken_off_though_the_lease_has_changed_since(gateway: Gateway) -> None:
    found = await standing(gateway, CLIENT)
    await told(gateway, "something new")
    left = await ask_no_user(gateway, found)
    assert isinstance(left, wire.GpuLease) and left.spec.client is None and left.status.message == "something new"


async def test_the_next_pod_is_not_taken_off_for_the_former(gateway: Gateway) -> None:
    found = await standing(gateway, CLIENT)
    await given(gateway, None)
    other = CLIENT | {"pod": "next", "podUID": "u2"}
    await given(gateway, other)
    left = await ask_no_user(gateway, found)
    assert isinstance(left, wire.GpuLease) and left.spec.client is not None and left.spec.client.pod == "next"


async def test_another_lease_of_that_name_is_left_alone(gateway: Gateway) -> None:
    found = await standing(gateway, CLIENT)
    await gateway.delete(GPU_LEASES, "mine", namespace="default")
    with pytest.raises(ApiError) as gone:
        await ask_no_user(gateway, found)
    assert gone.value.not_found
    again = await standing(gateway, CLIENT)
    for answer in (await ask_no_user(gateway, found), await ask_stopped(gateway, found, stopped=False)):
        assert isinstance(answer, Reason) and "one that is gone by now" in answer.text
    assert (await gateway.get(GPU_LEASES, "mine", namespace="default")) == again


async def test_a_conflict_that_does_not_end_is_told(gateway: Gateway, server: ApiServer) -> None:
    found = await standing(gateway, CLIENT)
    server.faults.fail_next(100, status=409, verb="patch", plural="gpuleases")
    with pytest.raises(ApiError):
        await ask_no_user(gateway, found)
    server.faults.clear()


async def test_a_pod_that_changes_meanwhile_is_told_all_the_same(
    gateway: Gateway, server: ApiServer, pod: Make
) -> None:
    found = await standing(gateway)
    gates = [{"name": "tessera.io/gpu-lease"}]
    await gateway.create(PODS, waits(pod, schedulingGates=gates), namespace="default")
    server.faults.fail_next(1, status=409, verb="patch", plural="pods")
    answer = await ask_user(gateway, found, "next")
    assert isinstance(answer, wire.Pod)
    assert answer.metadata.annotations["tessera.io/gpu-lease"] == "mine" and not answer.spec.scheduling_gates
    again = await ask_user(gateway, found, "next")
    assert isinstance(again, wire.Pod), "to ask again is no error"


async def test_who_cannot_use_a_lease_is_told_why(gateway: Gateway, pod: Make) -> None:
    found = await standing(gateway)
    two = waits(pod, "two")
    two["spec"]["containers"].append({**two["spec"]["containers"][0], "name": "d"})
    none, odd = waits(pod, "none"), waits(pod, "odd")
    none["spec"]["containers"][0]["resources"] = {}
    odd["metadata"]["annotations"]["tessera.io/qos"] = "fast"
    for made in (two, none, odd):
        await gateway.create(PODS, made, namespace="default")
    for name, says in (
        ("two", "pod default/two: spec.containers: found 'c, d'; allowed: one that asks for a slice"),
        ("none", "pod default/none: spec.containers: found 'none that asks for a slice'; allowed: one that asks"),
        ("odd", "metadata.annotations[tessera.io/qos]: found 'fast'; allowed: guaranteed"),
    ):
        answer = await ask_user(gateway, found, name)
        assert isinstance(answer, Reason) and answer.text.startswith(says), answer
    ends = wire.GpuLease(
        metadata=wire.ObjectMeta(name="mine", namespace="default", deletion_timestamp="2026-01-01T00:00:00Z"),
        spec=found.spec,
    )
    answer = await ask_user(gateway, ends, "two")
    assert isinstance(answer, Reason) and "found 'one that ends'" in answer.text


async def test_a_pod_that_comes_between_keeps_a_lease_from_being_stopped(gateway: Gateway) -> None:
    found = await standing(gateway)
    await given(gateway, CLIENT)
    with pytest.raises(ApiError, match="found a pod that uses it"):
        await ask_stopped(gateway, found, stopped=True)
