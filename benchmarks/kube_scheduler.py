"""Pods a second through the real kube-scheduler, with the extender and without, in one run."""

import asyncio
import ssl
import time
from typing import Any

from benchmarks import population
from benchmarks.connection import Target
from benchmarks.control_plane import ControlPlane
from benchmarks.extender_process import Extender
from tessera.kube.connection import Connection, FixedToken
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS, Resource
from tessera.model import names

Plain = dict[str, Any]
LIMIT_S = 300.0
_VERBS = {"filterVerb": "filter", "prioritizeVerb": "prioritize", "preemptVerb": "preempt", "bindVerb": "bind"}
_IGNORED = (names.GPU_MEM, names.GPU_CORE, names.GPU_COUNT, names.GPU)


def configuration(profile: str, extender: Target | None) -> Plain:
    """As in the chart, without leader election and TLS."""
    config: Plain = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "percentageOfNodesToScore": 100,
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 1,
        "profiles": [{"schedulerName": profile}],
    }
    if extender is not None:
        managed = [{"name": name, "ignoredByScheduler": True} for name in _IGNORED]
        managed.append({"name": names.SLICE, "ignoredByScheduler": False})
        options = {"weight": 160, "nodeCacheCapable": True, "ignorable": False, "httpTimeout": "15s"}
        config["extenders"] = [{"urlPrefix": extender.url, **_VERBS, **options, "managedResources": managed}]
    return config


async def measure(plane: ControlPlane, extender: Extender | None, name: str, count: int, seed: int) -> Plain | None:
    """``count`` waiting pods, then kube-scheduler starts: the rate from the first Binding to the last."""
    config = configuration(name, extender.target if extender else None)
    process = plane.kube_scheduler(config, f"kube-scheduler-{name}")
    if process is None:
        return None
    pods = await population.create(plane.api, population.waiting_pods(name, count, seed, name))
    cpu = extender.cpu_s() if extender else 0.0
    watching = asyncio.create_task(_bindings(plane.api, name, count))
    try:
        process.start()
        async with asyncio.timeout(LIMIT_S):
            times = await watching
    finally:
        process.stop()
    found = {"pods": count, "pods_per_s": round((count - 1) / (times[-1] - times[0]), 1)}
    if extender:
        found["extender_cpu_ms_per_pod"] = round((extender.cpu_s() - cpu) / count * 1000, 2)
    await population.delete(plane.api, pods)
    return found


async def _bindings(api: Target, prefix: str, count: int) -> list[float]:
    """When each of ``count`` pods was seen bound."""
    tls = ssl.create_default_context(cafile=str(api.ca)) if api.ca else None
    resource: Resource[Any] = PODS
    seen: dict[str, float] = {}
    async with Gateway(Connection(api.url, tls, FixedToken(api.token))) as gateway:
        page = await gateway.list_page(resource, limit=1)
        async with gateway.watch(resource, page.resource_version, namespace="default") as lines:
            async for line in lines:
                if b'"nodeName":"' in line:
                    name = line.partition(b'"name":"')[2].partition(b'"')[0].decode()
                    if name.startswith(f"{prefix}-"):
                        seen.setdefault(name, time.monotonic())
                if len(seen) == count:
                    break
    return sorted(seen.values())
