"""The stand-ins for the workload controllers against an API server in process; the test plays the kubelet."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import DEPLOYMENTS, JOBS, PODS, Resource, untyped
from tessera.simulator.apiserver import ApiServer
from tessera.simulator.controllers import Controllers

Plain = dict[str, Any]


@dataclass
class Stage:
    server: ApiServer
    gateway: Gateway

    async def make(self, resource: Resource[Plain], **spec: Any) -> None:
        template = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c"}]}}
        body = {"metadata": {"name": "w"}, "spec": {"template": template, **spec}}
        await self.gateway.create(resource, body, namespace="default")

    async def pods(self, wanted: Callable[[list[Plain]], bool]) -> list[Plain]:
        """The pods, once ``wanted`` says that they are right."""
        async with asyncio.timeout(10):
            while True:
                found = self.server.store.list("pods", "default")
                if wanted(found):
                    return found
                await asyncio.sleep(0.01)

    async def phase(self, pod: Plain, phase: str) -> None:
        patch = {"status": {"phase": phase}}
        name = pod["metadata"]["name"]
        await self.gateway.merge_patch(untyped(PODS), name, patch, namespace="default", subresource="status")


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with ApiServer() as server, Gateway(plain(server.url)) as gateway:
        running = asyncio.create_task(Controllers(gateway).run())
        try:
            yield Stage(server, gateway)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def living(pods: list[Plain]) -> list[Plain]:
    return [pod for pod in pods if (pod.get("status") or {}).get("phase", "Pending") in ("Pending", "Running")]


def complete(job: Plain | None) -> bool:
    conditions = ((job or {}).get("status") or {}).get("conditions") or []
    return [c["type"] for c in conditions] == ["Complete"]


async def test_a_deployment_has_its_pods_replaces_failed_ones_and_takes_them_along() -> None:
    selector = {"matchLabels": {"app": "w"}}
    async with stage() as it:
        await it.make(DEPLOYMENTS, replicas=3, selector=selector)
        first = await it.pods(lambda pods: len(pods) == 3)
        await it.phase(first[0], "Failed")
        await it.pods(lambda pods: len(living(pods)) == 3 and len(pods) == 4)
        await it.gateway.delete(DEPLOYMENTS, "w", namespace="default")
        await it.pods(lambda pods: not pods)


async def test_nothing_is_made_twice_while_the_watch_lags() -> None:
    async with stage() as it:
        it.server.faults.delay_next(2, 0.2, verb="create", plural="pods")
        await it.make(JOBS, completions=2, parallelism=2)
        await it.pods(lambda pods: len(pods) == 2)
        it.server.faults.drop_watches()
        for _ in range(5):
            await it.gateway.merge_patch(JOBS, "w", {"metadata": {"annotations": {"a": str(_)}}}, namespace="default")
        status = await it.gateway.get(JOBS, "w", namespace="default")
        assert status["metadata"]["annotations"] == {"a": "4"}
        assert len(await it.pods(lambda pods: True)) == 2


async def test_a_job_goes_on_to_its_end() -> None:
    async with stage() as it:
        await it.make(JOBS, completions=3, parallelism=2)
        for done in range(3):
            pods = await it.pods(lambda pods, done=done: len(pods) - done == min(2, 3 - done))  # type: ignore[misc]
            await it.phase(living(pods)[0], "Succeeded")
        await it.pods(lambda pods: complete(it.server.store.get("jobs", "default", "w")))
        assert len(await it.pods(lambda pods: True)) == 3
