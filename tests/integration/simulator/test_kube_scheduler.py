"""The stand-in for kube-scheduler against an API server in process, with an extender that the test scripts."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import NODES, PODS, untyped
from tessera.simulator.apiserver import ApiServer
from tessera.simulator.kube_scheduler import KubeScheduler, Settings
from tessera.simulator.kube_scheduler.extenders import ExtenderError, Verdict

Plain = dict[str, Any]


@dataclass
class Scripted:
    """Answers what it is told to, and binds for real."""

    gateway: Gateway
    room: set[str]
    best: str = ""
    bind_errors: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def filter(self, pod: Plain, nodes: Sequence[str]) -> Verdict:
        self.calls.append(f"filter {pod['metadata']['name']}")
        kept = tuple(node for node in nodes if node in self.room)
        return Verdict(kept, {node: "2 GPUs: 2 full" for node in nodes if node not in self.room})

    async def prioritize(self, pod: Plain, nodes: Sequence[str]) -> Mapping[str, int]:
        self.calls.append(f"prioritize {pod['metadata']['name']}")
        return {node: 10 if node == self.best else 0 for node in nodes}

    async def bind(self, pod: Plain, node: str) -> None:
        self.calls.append(f"bind {pod['metadata']['name']}")
        if self.bind_errors:
            raise ExtenderError(self.bind_errors.pop(0))
        meta = pod["metadata"]
        await self.gateway.bind(meta["namespace"], meta["name"], meta["uid"], node, {})


@dataclass
class Stage:
    server: ApiServer
    gateway: Gateway
    extender: Scripted

    async def pod(self, name: str, **spec: Any) -> None:
        limits = {"tessera.io/gpu-mem": "4Gi", "tessera.io/slice": "1"}
        containers = [{"name": "main", "resources": {"limits": limits}}]
        body = {"metadata": {"name": name}, "spec": {"schedulerName": "tessera", "containers": containers, **spec}}
        await self.gateway.create(untyped(PODS), body, namespace="default")

    async def sees(self, name: str, node: str = "", text: str = "", *, bound: bool = False) -> None:
        """Waits until the pod is on ``node`` or (``bound``) on any, or until its condition says ``text``."""
        async with asyncio.timeout(10):
            while True:
                pod = self.server.store.get("pods", "default", name) or {"spec": {}}
                said = [c.get("message", "") for c in (pod.get("status") or {}).get("conditions") or []]
                on = pod["spec"].get("nodeName", "")
                if (on and (bound or on == node)) or (text and any(text in each for each in said)):
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(room: set[str], best: str = "") -> AsyncIterator[Stage]:
    async with ApiServer() as server, Gateway(plain(server.url)) as gateway:
        for name in ("n1", "n2", "n3"):
            await gateway.create(untyped(NODES), {"metadata": {"name": name}})
            allocatable = {"pods": "10", "tessera.io/slice": "64" if name != "n3" else "0"}
            status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
            await gateway.merge_patch(NODES, name, {"status": status}, subresource="status")
        extender = Scripted(gateway, room, best)
        running = asyncio.create_task(KubeScheduler(gateway, extender, Settings(seed=1)).run())
        try:
            yield Stage(server, gateway, extender)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_the_extender_decides_among_several_nodes() -> None:
    async with stage({"n1", "n2"}, best="n2") as it:
        await it.pod("p")
        await it.sees("p", "n2")
        assert it.extender.calls == ["filter p", "prioritize p", "bind p"]


async def test_prioritize_is_left_out_where_one_node_is_left() -> None:
    async with stage({"n1"}) as it:
        await it.pod("p")
        await it.sees("p", "n1")
        assert it.extender.calls == ["filter p", "bind p"]


async def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_a_node_changes() -> None:
    async with stage(set()) as it:
        await it.pod("p")
        await it.sees("p", text="0/3 nodes are available: 1 Insufficient tessera.io/slice, 2 2 GPUs: 2 full.")
        it.extender.room = {"n1"}
        await it.gateway.merge_patch(NODES, "n1", {"metadata": {"annotations": {"state.tessera.io/room": "1"}}})
        await it.sees("p", "n1")


async def test_a_refused_bind_is_tried_again() -> None:
    async with stage({"n1"}) as it:
        it.extender.bind_errors = ["no room any more"]
        await it.pod("p")
        await it.sees("p", text="binding rejected: no room any more")
        await it.sees("p", "n1")
        assert it.extender.calls.count("bind p") == 2


async def test_a_pod_without_a_slice_is_bound_without_the_extender() -> None:
    async with stage(set()) as it:
        containers = [{"name": "main"}]
        await it.pod("p", containers=containers, schedulerName="default-scheduler", nodeSelector={})
        await it.sees("p", bound=True)
        assert not it.extender.calls


async def test_gates_and_other_schedulers_are_respected() -> None:
    async with stage({"n1"}) as it:
        await it.pod("gated", schedulingGates=[{"name": "g"}])
        await it.pod("foreign", schedulerName="volcano")
        await it.pod("p")
        await it.sees("p", "n1")
        await it.gateway.merge_patch(PODS, "gated", {"spec": {"schedulingGates": []}}, namespace="default")
        await it.sees("gated", "n1")
        assert not any("foreign" in call for call in it.extender.calls)
