"""A GPU in MIG mode in the embedded cluster: from the driver's answer to the pod."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tessera.kube.gateway import Gateway
from tessera.kube.resources import EVENTS, GPU_NODES, NODES, PODS, untyped
from tessera.simulator.cluster import ClusterPlan, EmbeddedCluster
from tessera.simulator.fakes.nvml.presets import mig_devices
from tessera.simulator.hosts import HostPlan, SimHost

Plain = dict[str, Any]
NODE, DEADLINE_S = "mig-1", 60.0
SMALL, BIG = "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H100 80GB HBM3 MIG 3g.40gb"


def pod(name: str, limits: Plain, **annotations: str) -> Plain:
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"limits": limits}}]}
    found = {f"tessera.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": found}, "spec": spec}


async def until(gateway: Gateway, resource: Any, condition: Callable[[list[Plain]], Any]) -> Any:
    """What the condition answers of the objects, once it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition(await gateway.list(untyped(resource)))):
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.1)
    return found


def running(name: str) -> Callable[[list[Plain]], bool]:
    return lambda pods: any(one["metadata"]["name"] == name and one["status"].get("phase") == "Running" for one in pods)


def allocatable(resource: str, value: str) -> Callable[[list[Plain]], bool]:
    return lambda nodes: nodes[0]["status"]["allocatable"].get(f"tessera.io/{resource}") == value


def no_room(pod: str) -> Callable[[list[Plain]], str]:
    return lambda events: next(
        (one["message"] for one in events if (one["reason"], one["involvedObject"]["name"]) == ("NoRoom", pod)), ""
    )


async def test_a_pod_gets_the_mig_device_that_it_names_and_no_slice_lies_on_one() -> None:
    plan = ClusterPlan(hosts=(HostPlan(NODE, ("H100",)),), dashboard_port=None)
    async with EmbeddedCluster(plan) as cluster:
        await cluster.ready()
        (host,), gateway = cluster.hosts, cluster.gateway
        assert isinstance(host, SimHost)
        gpu = host.machine.nvml.gpus[0]
        small, big = mig_devices(gpu, ["1g.10gb", "3g.40gb"])
        host.machine.nvml.change(gpu.uuid, mig=True)
        host.machine.nvml.migs = [big, small]
        host.machine.nvml.write(host.machine.state_path)
        await until(gateway, NODES, allocatable("gpu", "2"))
        for resource in ("gpu-mem", "gpu-core"):
            await until(gateway, NODES, allocatable(resource, "0"))
        (published,) = await gateway.list(GPU_NODES)
        assert sorted((one.uuid, one.model, one.enforcement_level) for one in published.status.gpus) == sorted(
            [(small.uuid, SMALL, -1), (big.uuid, BIG, -1)]
        )

        await gateway.create(untyped(PODS), pod("small", {"gpu": 1}, gpu_model=SMALL), namespace="default")
        await until(gateway, PODS, running("small"))
        (view,) = host.views()
        assert [(share.uuid, share.core_percent) for share in view.shares] == [(small.uuid, 100)]

        await gateway.create(untyped(PODS), pod("sliced", {"gpu-mem": "1Gi"}), namespace="default")
        await gateway.create(untyped(PODS), pod("second", {"gpu": 1}, gpu_model=SMALL), namespace="default")
        assert "2 below the enforcement level asked" in await until(gateway, EVENTS, no_room("sliced"))
        assert "1 of another model" in await until(gateway, EVENTS, no_room("second"))
        await gateway.create(untyped(PODS), pod("big", {"gpu": 1}), namespace="default")
        await until(gateway, PODS, running("big"))
        assert {share.uuid for view in host.views() for share in view.shares} == {small.uuid, big.uuid}
