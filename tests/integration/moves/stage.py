"""A whole control plane in process: API server, controllers, kube-scheduler and Tessera's scheduler.

Two hosts of one GPU each hold a small and a middling pod, both of ReplicaSets, so that a large one has to wait. Pods
end at once when they are evicted: the waiting pod and the successor then run for the same room.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client import generate_latest

from tessera.kube.connection import plain
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import DISRUPTION_BUDGETS, NODES, PODS, REPLICA_SETS, untyped
from tessera.model import names
from tessera.scheduler.service import Service
from tessera.scheduler.settings import SchedulerSettings
from tessera.simulator.apiserver import ApiServer
from tessera.simulator.controllers import Controllers
from tessera.simulator.kube_scheduler import KubeScheduler
from tessera.simulator.kube_scheduler.extenders import HttpExtender
from tests.integration.scheduler.test_service import gpu_node, until

Plain = dict[str, Any]


@dataclass
class Stage:
    server: ApiServer
    gateway: Gateway
    service: Service

    async def host(self, name: str, *gib: int) -> None:
        await self.gateway.create(untyped(NODES), {"metadata": {"name": name}})
        status = {"allocatable": {"pods": "50", "tessera.io/slice": "64", "cpu": "64", "memory": "256Gi"},
                  "conditions": [{"type": "Ready", "status": "True"}]}  # fmt: skip
        await self.gateway.merge_patch(NODES, name, {"status": status}, subresource="status")
        self.server.store.put("gpunodes", gpu_node(name, *gib))
        await until(lambda: self.service.engine.ledger.node(name), f"GPUs of {name}")

    async def replica_set(self, name: str, mem: str, node: str = "") -> Plain:
        """One pod of it, bound to ``node`` while all other nodes are closed; answers the pod."""
        for each in self.server.store.list("nodes"):
            closed = {"spec": {"unschedulable": bool(node) and each["metadata"]["name"] != node}}
            await self.gateway.merge_patch(NODES, each["metadata"]["name"], closed)
        labels, meta = {"app": name}, {"labels": {"app": name}, "annotations": {names.PLACEMENT: "spread"}}
        template = {"metadata": meta, "spec": spec(mem)}
        body = {"metadata": {"name": name}, "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                                                     "template": template}}  # fmt: skip
        await self.gateway.create(REPLICA_SETS, body, namespace="default")
        await until(lambda: self.running(name), f"{name} to run")
        return self.running(name)[0]

    async def budget(self, app: str, allowed: int) -> None:
        """As the disruption controller would write it."""
        body = {"metadata": {"name": f"{app}-budget"}, "spec": {"selector": {"matchLabels": {"app": app}}}}
        await self.gateway.create(DISRUPTION_BUDGETS, body, namespace="default")
        await self.allow(app, allowed)

    async def allow(self, app: str, allowed: int) -> None:
        status = {"disruptionsAllowed": allowed, "desiredHealthy": 1, "currentHealthy": 1}
        await self.gateway.merge_patch(
            DISRUPTION_BUDGETS, f"{app}-budget", {"status": status}, namespace="default", subresource="status"
        )

    async def waiting(self, name: str, mem: str) -> None:
        """A bare pod that finds no room."""
        body = {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec(mem)}
        made = await self.gateway.create(untyped(PODS), body, namespace="default")
        await until(lambda: made["metadata"]["uid"] in self.service.engine.waiting, f"{name} to wait")
        await until(lambda: self.stored("pods", name)["status"].get("conditions"), f"{name} to be told why")

    def running(self, app: str) -> list[Plain]:
        pods = self.server.store.list("pods", "default")
        mine = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get("app") == app]
        return [pod for pod in mine if (pod.get("status") or {}).get("phase") == "Running"]

    def stored(self, plural: str, name: str) -> Plain:
        found = self.server.store.get(plural, "default", name)
        assert found is not None
        return found

    def metrics(self) -> str:
        return generate_latest(self.service.metrics.registry).decode()

    def nodes(self, app: str) -> list[str]:
        return [pod["spec"]["nodeName"] for pod in self.running(app)]

    async def fragmented(self) -> None:
        await self.host("a", 24)
        await self.host("b", 24)
        await self.replica_set("small", "6Gi", "a")
        await self.replica_set("middling", "10Gi", "b")
        for name in ("a", "b"):
            await self.gateway.merge_patch(NODES, name, {"spec": {"unschedulable": False}})
        await self.waiting("large", "20Gi")


def spec(mem: str) -> Plain:
    limits = {names.GPU_MEM: mem, names.SLICE: "1"}
    container = {"name": "main", "image": "x", "resources": {"limits": limits}}
    return {"schedulerName": "tessera", "terminationGracePeriodSeconds": 0, "containers": [container]}


@asynccontextmanager
async def stage(**settings: Any) -> AsyncIterator[Stage]:
    async with ApiServer() as server, Gateway(plain(server.url)) as gateway, aiohttp.ClientSession() as http:
        server.add_namespace("tessera-system")
        service = Service(SchedulerSettings(server=server.url, port=0, webhook_port=0, log_level="error", **settings))
        await service.start()
        await asyncio.wait_for(service.wait_ready(), 15)
        parts = [Controllers(gateway).run(), KubeScheduler(gateway, HttpExtender(http, service.url)).run(),
                 _start_containers(server, gateway)]  # fmt: skip
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            yield Stage(server, gateway, service)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.stop()


async def _start_containers(server: ApiServer, gateway: Gateway) -> None:
    """The kubelets: what is bound runs."""
    running: Callable[[Plain], bool] = lambda pod: (pod.get("status") or {}).get("phase") == "Pending"  # noqa: E731
    while True:
        for pod in server.store.list("pods", "default"):
            if pod["spec"].get("nodeName") and running(pod):
                status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                with suppress(ApiError):
                    await gateway.merge_patch(
                        PODS, pod["metadata"]["name"], {"status": status}, namespace="default", subresource="status"
                    )
        await asyncio.sleep(0.05)
