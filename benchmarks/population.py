"""Puts nodes, GPUNodes and pods into an API server over HTTP, many at once."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from benchmarks.connection import Connection, HttpError, Target, open_connection
from benchmarks.control_plane import NAMESPACE
from tessera.model import names
from tessera.simulator.hosts import HostPlan
from tessera.simulator.light_hosts import GIB, Shape, bound_pod, gpu_node, gpu_node_plain, node_object, pod_object

AT_ONCE = 24
CRD = Path(__file__).parents[1] / "charts/tessera/crds/gpunodes.yaml"
GPU_NODES = "/apis/tessera.io/v1alpha1/gpunodes"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
SIZES_GIB = (4, 8, 10, 16, 20, 24, 40)
_JSON = "application/json"
_KINDS = {"PATCH": "application/merge-patch+json"}
Plain = dict[str, Any]
Step = tuple[str, str, Plain]


def node_names(first: int, last: int) -> list[str]:
    return [f"gpu-{index:05}" for index in range(first, last)]


async def prepare(api: Target) -> None:
    """On a real API server: the namespace, the service account that no controller makes here, and the CRD, served."""
    connection = await open_connection(api)
    await _post(connection, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    await _post(connection, "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    for crd in yaml.safe_load_all(CRD.read_text()):
        await _post(connection, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    while True:
        try:
            await connection.send("GET", GPU_NODES)
            break
        except HttpError:
            await asyncio.sleep(0.1)
    connection.close()


async def add_nodes(api: Target, wanted: Sequence[str], gpus: int) -> None:
    """Ready nodes with ``gpus`` GPUs each and their GPUNodes."""
    at, shape = datetime.now(UTC), Shape()

    def steps(name: str) -> Iterator[Step]:
        plan = HostPlan(name, ("light",) * gpus)
        node = node_object(plan, shape, at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        yield "POST", NODES, node
        # Admission taints every new node, and only a controller would take that away.
        yield "PATCH", f"{NODES}/{name}", {"spec": {"taints": None}}
        published = gpu_node_plain(gpu_node(plan, shape), {}, at)
        yield "POST", GPU_NODES, published
        yield "PATCH", f"{GPU_NODES}/{name}/status", {"status": published["status"]}

    await each(api, wanted, steps)


async def add_bound_pods(api: Target, nodes: Sequence[str], gpus: int, count: int) -> None:
    """``count`` pods with slices, dealt out over ``nodes``."""
    made = {name: gpu_node(HostPlan(name, ("light",) * gpus), Shape()) for name in nodes}

    def steps(index: int) -> Iterator[Step]:
        node = made[nodes[index % len(nodes)]]
        yield "POST", PODS, bound_pod(node, index // len(nodes), "2026-01-01T00:00:00Z")

    await each(api, range(count), steps)


def waiting_pods(prefix: str, count: int, seed: int, scheduler: str = names.SCHEDULER) -> list[Plain]:
    """Pods with slices of several sizes, as the webhook leaves them."""
    rng, pods = random.Random(seed), []
    for index in range(count):
        mem = rng.choice(SIZES_GIB)
        pod = pod_object(f"{prefix}-{index}", mem * GIB, mem, "2026-01-01T00:00:00Z")
        del pod["metadata"]["uid"], pod["status"]
        pod["spec"] |= {"schedulerName": scheduler, "terminationGracePeriodSeconds": 0}
        pods.append(pod)
    return pods


async def create(api: Target, pods: Sequence[Plain]) -> list[Plain]:
    """Creates pods; answers them as stored, in order."""
    stored: dict[str, Plain] = {}

    def steps(pod: Plain) -> Iterator[Step]:
        yield "POST", PODS, pod

    await each(api, pods, steps, lambda answer: stored.update({answer["metadata"]["name"]: answer}))
    return [stored[pod["metadata"]["name"]] for pod in pods]


async def delete(api: Target, pods: Iterable[Plain]) -> None:
    """Deletes pods at once; what is gone already is no error."""

    def steps(pod: Plain) -> Iterator[Step]:
        yield "DELETE", f"{PODS}/{pod['metadata']['name']}?gracePeriodSeconds=0", {}

    await each(api, list(pods), steps)


async def stored_pods(api: Target, prefix: str) -> list[Plain]:
    """The pods whose names begin so."""
    connection = await open_connection(api)
    found: Plain = msgspec.json.decode(await connection.send("GET", PODS))
    connection.close()
    return [pod for pod in found["items"] if pod["metadata"]["name"].startswith(prefix)]


async def each(
    api: Target,
    items: Sequence[Any],
    steps: Callable[[Any], Iterator[Step]],
    heard: Callable[[Plain], None] | None = None,
) -> None:
    """The requests of ``steps`` for each of ``items``, several items at once; ``heard`` gets every answer."""
    waiting = iter(items)

    async def work() -> None:
        connection = await open_connection(api)
        for item in waiting:
            for method, path, body in steps(item):
                answer = await _sent(connection, method, path, body)
                if heard is not None:
                    heard(msgspec.json.decode(answer))
        connection.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _post(connection: Connection, path: str, body: Plain) -> None:
    await _sent(connection, "POST", path, body)


async def _sent(connection: Connection, method: str, path: str, body: Plain) -> bytes:
    """What is there already, or gone already, is no error."""
    try:
        return await connection.send(method, path, msgspec.json.encode(body), _KINDS.get(method, _JSON))
    except HttpError as error:
        if (method, error.status) in (("POST", 409), ("DELETE", 404)):
            return b"{}"
        raise
